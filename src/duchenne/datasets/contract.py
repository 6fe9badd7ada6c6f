"""Contract of a dataset layout: two files of one name in ``duchenne/datasets/layouts``, which are found automatically.

``<name>.py``
    The code, a :class:`Reader`: ``read_listing(config) -> Listing`` lists the samples as the dataset's files name them,
    every cell as text. It raises :class:`~duchenne.datasets.problems.UnreadableError` when a file or folder is missing
    or does not fit the layout, and adds problems of single rows to ``Listing.problems``. Labels, types, files and
    frames are checked afterwards, in the same way for all datasets (:mod:`duchenne.datasets.checks`).
``<name>.yaml``
    The facts, a :class:`Layout`, for the configuration, the audit and other stages. They are read without importing
    the code, which needs pandas.

``tests/test_datasets_contract.py`` checks both for every layout.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from pydantic import Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from duchenne.blocks import Strict
from duchenne.datasets import layouts
from duchenne.errors import UserError

if TYPE_CHECKING:
    from duchenne.datasets.listing import Listing
    from duchenne.datasets.settings import Dataset


LayoutField = Literal["annotations", "apex", "manifest", "columns", "splits"]
"""Fields of a dataset's block that only some layouts read."""


class Reader(Protocol):
    """The module of a layout."""

    def read_listing(self, config: Dataset) -> Listing:
        """List the samples of a dataset, before any check.

        Args:
            config: the dataset's block of ``params.yaml``; ``config.root`` is a folder that is not empty.

        Raises:
            UnreadableError: Files are missing or do not fit the layout; the message says what to put where.
        """


class LabelSet(Strict):
    """Official classes of a dataset, selected by ``label_set`` in a block of ``params.yaml``."""

    source: str = Field(description="publication or list that defines them")
    classes: list[str] = Field(description="in the official order")
    labels: dict[str, str] = Field({}, description="label as the files spell it -> class; adjectives are understood")
    ignore: list[str] = Field([], description="classes (after renaming) that the protocol leaves out; they are counted")
    relabel: dict[str, str] = Field({}, description="sample -> label that replaces the annotated one")
    needs_apex: bool = Field(False, description="leave out clips whose apex is missing or the onset itself")
    without: list[str] = Field([], description="samples that are always left out")


class Expected(Strict):
    """Contents of a complete dataset, counted in the owners' own lists unless ``source`` says otherwise."""

    source: str = ""
    about: bool = Field(False, description="numbers that no official list confirms: shown, but never an error")
    parts: dict[str, dict[str, int]] = Field({}, description="official part -> samples of each class")
    folds: dict[int, dict[str, int]] = Field(
        {}, description="fold -> training samples, and test samples of each class (or `test`, their sum)"
    )
    classes: dict[str, int] = Field({}, description="samples of each class, if there are no parts")
    subjects: int | None = None
    per_subject: dict[str, int] = Field({}, description="subject -> samples")
    factors: dict[str, dict[str, int]] = Field({}, description="factor -> value -> samples")
    counts: dict[str, int] = Field({}, description="other contents of the owners' lists -> number")
    digests: dict[str, str] = Field(
        {}, description="list -> first 16 hex digits of SHA-256 of its sorted lines (tab between fields, newline after)"
    )


class FrameRule(Strict):
    """Number of frames of a complete clip."""

    least: int | None = Field(None, description="frames of any clip")
    most: int | None = None
    annotated: bool = Field(False, description="every frame from onset to offset")
    short: list[str] = Field([], description="samples whose folders end before the offset in the owners' release")


class Layout(Strict):
    """Facts of a layout, the contents of its data file."""

    title: str = Field(description="the dataset's name, for messages")
    files: str = Field(description="what to put below the root, for the message when it is empty")
    fields: tuple[LayoutField, ...] = Field((), description="optional fields of a dataset's block that it reads")
    media: dict[str, str] = Field({}, description="form of the images or clips (field `media`) -> what it is")
    rendered: bool = Field(False, description="whether the synthesize stage renders it")
    parts: dict[str, str] = Field(
        {}, description="layout that it joins (samples' names begin with it) -> label set; also evaluated separately"
    )
    frames: dict[str, FrameRule] = Field({}, description="form of the clips, or `any` -> frames of a complete clip")
    label_sets: dict[str, LabelSet] = Field(
        {}, description="official classes by name; the default has the layout's name; none: the user gives `classes`"
    )
    expected: dict[str, Expected] = Field(
        {}, description="label set, or `<label set>/<edition>` where editions differ -> numbers of a complete dataset"
    )


def layout_names() -> list[str]:
    """List the names of all layouts, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(layouts.__path__))


@cache
def layout_facts(name: str) -> Layout:
    """Load the facts of a layout from its data file.

    Args:
        name: one of :func:`layout_names`.

    Raises:
        UserError: The file is missing or is not a :class:`Layout`.
    """
    folder = next(Path(path) for path in layouts.__path__ if Path(path, f"{name}.py").is_file())
    path = folder / f"{name}.yaml"
    try:
        return Layout.model_validate(YAML(typ="safe", pure=True).load(path.read_text("utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: it holds the facts of layout {name}") from None
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise UserError("\n  ".join([f"{path} cannot be used:", *problems])) from None


def layout_reader(name: str) -> Reader:
    """Import the module of a layout."""
    return cast("Reader", importlib.import_module(f"{layouts.__name__}.{name}"))
