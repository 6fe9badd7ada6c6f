"""The registry of figures: each is one function with one decorator, and page, files and MLflow follow from it.

A figure says what it shows, what question it answers, for which runs it is drawn, and what it says in words to readers
who cannot see it. Figures of one run are in :mod:`duchenne.reporting.figures`, those of several runs in
:mod:`duchenne.reporting.figures_across`; on the page they stand in the order in which they are registered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from markupsafe import Markup

from duchenne.reporting.across import Together
from duchenne.reporting.runs import Run
from duchenne.reporting.style import inline, svg_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

S = TypeVar("S")
Text = str | Callable[[S], str]
"""A text, or a function that makes it from what is drawn."""
Draw = Callable[["Figure", S], None]

Key = tuple[str, ...]
"""Which of the figures of one function: a dataset, a pair of runs, or nothing where there is only one."""


class Point(NamedTuple):
    """A sample that can be pointed at: shares of the figure's width and height from above left, its name and words."""

    across: float
    down: float
    sample: str
    words: str


@dataclass(frozen=True)
class Entry(Generic[S]):
    """What every figure says of itself. S is what it is drawn from.

    Attributes:
        name: of its file: lower-case letters, digits and underscores.
        title: without a full stop.
        question: what a reader learns from it, a sentence with a question mark.
        caption: how to read it, in whole sentences.
        alt: its numbers as sentences, for readers who cannot see it.
        draw: draws it on an empty figure.
        height: in inches; the width is half of the page, and a function may set another size itself.
        broad: whether it takes the whole width of the page.
    """

    name: str
    title: Text
    question: str
    caption: Text
    alt: Callable[[S], str]
    draw: Draw
    height: float = 4.4
    broad: bool | Callable[[S], bool] = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"figure {self.name!r}: a name has lower-case letters, digits and underscores alone")
        if not self.question.endswith("?"):
            raise ValueError(f"figure {self.name!r}: its question ends with a question mark")

    def drawn(self, source: S, key: Key = (), points: Sequence[Point] = ()) -> Drawn:
        """Draw it."""
        title, caption, broad = (
            value(source) if callable(value) else value for value in (self.title, self.caption, self.broad)
        )
        svg = svg_text(self.draw, self.height, source)
        return Drawn(self, key, title, caption, self.alt(source), svg, broad, points)


@dataclass(frozen=True)
class RunFigure(Entry[Run]):
    """A figure of one run.

    Attributes:
        section: where it stands: ``results``, the first of a run, or ``factors``, below "Accuracy by condition".
        applies: whether a run has what it shows; it is left out of the others.
        otherwise: what the page says where it does not apply; may be empty.
        points: samples that a reader can point at.
    """

    section: Literal["results", "factors"] = "results"
    applies: Callable[[Run], bool] = lambda run: True
    otherwise: Callable[[Run], str] = lambda run: ""
    points: Callable[[Run], Sequence[Point]] = lambda run: ()


@dataclass(frozen=True)
class AcrossFigure(Entry[S]):
    """A figure of several runs.

    Attributes:
        sources: finds what is drawn among all runs: which figure -> its data.
        section: ``runs``, at the head of the comparison, or ``pairs``, beside the pair of runs that is its key.
    """

    sources: Callable[[Together], dict[Key, S]] = lambda together: {}
    section: Literal["runs", "pairs"] = "runs"


@dataclass(frozen=True)
class Drawn:
    """A figure as it is shown: texts, and the text of an SVG file."""

    figure: Entry[Any]
    key: Key
    title: str
    caption: str
    alt: str
    svg: str
    broad: bool
    points: Sequence[Point] = ()

    @property
    def name(self) -> str:
        """Of its file."""
        return "_".join([self.figure.name, *self.key])

    @property
    def section(self) -> str:
        """Where it stands on the page."""
        return self.figure.section

    def element(self, place: str) -> Markup:
        """The drawing for a page; ``place`` keeps its ids apart from those of other figures."""
        return inline(self.svg, f"{place}-{self.name}", self.alt)


RUN_FIGURES: dict[str, RunFigure] = {}
"""Every figure of one run by name, in the order of the page; filled by :func:`run_figure`."""

ACROSS_FIGURES: dict[str, AcrossFigure] = {}
"""Every figure of several runs by name, in the order of the page; filled by :func:`across_figure`."""


def run_figure(name: str, title: Text, **facts: Any) -> Callable[[Draw], Draw]:
    """Decorator that makes ``draw(figure, run)`` a figure of every run.

    Args:
        name, title, facts: fields of :class:`RunFigure`.

    Raises:
        ValueError: there is a figure of this name, or a field is not as it should be.
    """
    return _registering(RUN_FIGURES, RunFigure, name, title, facts)


def across_figure(name: str, title: Text, **facts: Any) -> Callable[[Draw], Draw]:
    """Decorator that makes ``draw(figure, source)`` a figure of several runs; ``sources`` says of which.

    Args:
        name, title, facts: fields of :class:`AcrossFigure`.

    Raises:
        ValueError: there is a figure of this name, or a field is not as it should be.
    """
    return _registering(ACROSS_FIGURES, AcrossFigure, name, title, facts)


def _registering(
    registry: dict[str, Any], kind: type[Entry[Any]], name: str, title: Text, facts: dict[str, Any]
) -> Callable[[Draw], Draw]:
    def add(draw: Draw) -> Draw:
        if name in registry:
            raise ValueError(f"there is a figure {name!r} already")
        registry[name] = kind(name=name, title=title, draw=draw, **facts)
        return draw

    return add


def draw_run(run: Run) -> tuple[list[Drawn], list[str]]:
    """Every figure that applies to a run, and what the page says of the others."""
    drawn, left_out = [], []
    for figure in RUN_FIGURES.values():
        with _named(figure, run.name):
            if figure.applies(run):
                drawn.append(figure.drawn(run, points=figure.points(run)))
            elif words := figure.otherwise(run):
                left_out.append(words)
    return drawn, left_out


def draw_across(together: Together) -> list[Drawn]:
    """Every figure of several runs that they have the data for."""
    drawn = []
    for figure in ACROSS_FIGURES.values():
        with _named(figure, "several runs"):
            drawn += [figure.drawn(source, key) for key, source in figure.sources(together).items()]
    return drawn


@contextmanager
def _named(figure: Entry[Any], what: str) -> Iterator[None]:
    """Add to an error which figure it arose in, for the traceback."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while drawing the figure {figure.name!r} of {what}")
        raise
