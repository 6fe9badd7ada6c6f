"""Registry of figures: one decorated function each, from which page, files and MLflow artifacts follow.

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
"""A text, or a function that makes it from the figure's data."""
Draw = Callable[["Figure", S], None]

Key = tuple[str, ...]
"""Key of a figure among those of one function: a dataset, a pair of runs, or empty if there is only one."""


class Point(NamedTuple):
    """A sample in a figure: position as shares of width and height from the upper left, name and description."""

    across: float
    down: float
    sample: str
    words: str


@dataclass(frozen=True)
class Entry(Generic[S]):
    """Facts of a figure; S is the type of its data.

    Attributes:
        name: name of the figure's file: lower-case letters, digits and underscores.
        title: title without a full stop.
        question: question that the figure answers, a sentence with a question mark.
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
            raise ValueError(f"figure {self.name!r}: a name may only have lower-case letters, digits and underscores")
        if not self.question.endswith("?"):
            raise ValueError(f"figure {self.name!r}: its question must end with a question mark")

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
        section: section of the page: ``results``, the first of a run, or ``factors``, below "Accuracy by condition".
        applies: whether a run has the data; the figure is left out for other runs.
        otherwise: sentence on the page if it does not apply; may be empty.
        points: samples in the figure that the page shows on demand.
    """

    section: Literal["results", "factors"] = "results"
    applies: Callable[[Run], bool] = lambda run: True
    otherwise: Callable[[Run], str] = lambda run: ""
    points: Callable[[Run], Sequence[Point]] = lambda run: ()


@dataclass(frozen=True)
class AcrossFigure(Entry[S]):
    """A figure of several runs.

    Attributes:
        sources: function that finds the data among all runs: key of a figure -> its data.
        section: ``runs``, at the start of the comparison; ``pairs``, with the pair of runs that is its key; or
            ``gaps``, with the run that is its key.
    """

    sources: Callable[[Together], dict[Key, S]] = lambda together: {}
    section: Literal["runs", "pairs", "gaps"] = "runs"


@dataclass(frozen=True)
class Drawn:
    """A drawn figure: its texts, and the text of an SVG file."""

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
        """Name of the figure's file."""
        return "_".join([self.figure.name, *self.key])

    @property
    def section(self) -> str:
        """Section of the page."""
        return self.figure.section

    def element(self, place: str) -> Markup:
        """Return the drawing for a page; ``place`` makes its ids unique."""
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
        ValueError: There is already a figure of this name, or a field is not valid.
    """
    return _registering(RUN_FIGURES, RunFigure, name, title, facts)


def across_figure(name: str, title: Text, **facts: Any) -> Callable[[Draw], Draw]:
    """Decorator that makes ``draw(figure, source)`` a figure of several runs; ``sources`` says of which.

    Args:
        name, title, facts: fields of :class:`AcrossFigure`.

    Raises:
        ValueError: There is already a figure of this name, or a field is not valid.
    """
    return _registering(ACROSS_FIGURES, AcrossFigure, name, title, facts)


def _registering(
    registry: dict[str, Any], kind: type[Entry[Any]], name: str, title: Text, facts: dict[str, Any]
) -> Callable[[Draw], Draw]:
    def add(draw: Draw) -> Draw:
        if name in registry:
            raise ValueError(f"there is already a figure {name!r}")
        registry[name] = kind(name=name, title=title, draw=draw, **facts)
        return draw

    return add


def draw_run(run: Run) -> tuple[list[Drawn], list[str]]:
    """Draw every figure that applies to a run; returns them and the page's sentences about the others."""
    drawn, left_out = [], []
    for figure in RUN_FIGURES.values():
        with _named(figure, run.name):
            if figure.applies(run):
                drawn.append(figure.drawn(run, points=figure.points(run)))
            elif words := figure.otherwise(run):
                left_out.append(words)
    return drawn, left_out


def draw_across(together: Together) -> list[Drawn]:
    """Draw every figure of several runs for which there is data."""
    drawn = []
    for figure in ACROSS_FIGURES.values():
        with _named(figure, "several runs"):
            drawn += [figure.drawn(source, key) for key, source in figure.sources(together).items()]
    return drawn


@contextmanager
def _named(figure: Entry[Any], what: str) -> Iterator[None]:
    """Add the name of the figure to an error, for the traceback."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while drawing the figure {figure.name!r} of {what}")
        raise
