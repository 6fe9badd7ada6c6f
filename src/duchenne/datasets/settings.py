"""A dataset: a block of ``datasets`` in ``params.yaml``, and the official classes of each layout."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from duchenne.blocks import LONGEST, Place, Strict, Word
from duchenne.datasets.contract import Layout, LayoutField, layout_facts, layout_names
from duchenne.emotions import EMOTIONS, is_emotion, misspelt
from duchenne.errors import nearest, short
from duchenne.faces.settings import Faces
from duchenne.files import expanded

MANIFEST_COLUMNS = (
    "sample", "path", "label", "subject", "source", "split", "fold", "onset", "apex", "offset", "fps", "aus",
    "x0", "y0", "x1", "y1",
)  # fmt: skip
"""Columns of a manifest with a meaning, besides ``votes_<emotion>``; all others are kept as factors."""


ANSWERED = {"input": "long", "emotion": "string", "note": "string"} | dict.fromkeys(("x0", "y0", "x1", "y1"), "double")
"""Columns of a server's answers -> their types, before those of the classes, which cannot have these names."""


def _known_layout(name: str) -> str:
    if name not in (known := layout_names()):
        raise ValueError(f"{name!r} is not a layout{nearest(name, known)}: give one of {', '.join(known)}")
    return name


def distinct_names(classes: list[str]) -> list[str]:
    """Return the names of classes, in their order.

    Raises:
        ValueError: A name has other characters than lower-case letters, digits, _ and -, or too many, or stands twice.
    """
    for name in classes:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise ValueError(f"{short(name, 100)!r} is not a class name: use lower-case letters, digits, _ and -")
        if len(name) > LONGEST:
            raise ValueError(f"{short(name, 20)!r} has {len(name):,} characters: a class name has at most {LONGEST}")
    if len(set(classes)) != len(classes):
        raise ValueError("a class is named twice")
    return classes


def known_emotions(classes: list[str]) -> list[str]:
    """Return the names of classes, in their order; each is an emotion, or a word of its own.

    Raises:
        ValueError: as for :func:`distinct_names`, or a name is spelt nearly as an emotion.
    """
    for name in distinct_names(classes):
        if like := misspelt(name):
            raise ValueError(f"{name!r} is misspelt (did you mean {like!r}?)")
    return classes


class Dataset(Strict):
    """A dataset: the location of its samples, their classes, and the alignment of their faces."""

    layout: Annotated[str, AfterValidator(_known_layout)] = Field(
        description="layout of its files: one of datasets/layouts"
    )
    root: Place = Field(description="folder of its files; DVC does not know ~")
    label_set: str | None = Field(None, description="official classes and labels; default: the layout's, if it has one")
    classes: list[str] = Field(
        [],  # checked below: it is unknown whether a misspelt layout has a label set
        min_length=2,
        description="names in class order: emotions, compound ones joined by _, or words of your own; default: of the "
        "label set",
    )
    labels: dict[Word, str] = Field({}, description="label as the files spell it -> emotion name")
    ignore: list[Word] = Field([], description="labels left out on purpose (after renaming)")
    manifest: Annotated[str, AfterValidator(lambda name: str(expanded(name)))] = Field(
        "manifest.csv", description="table that names the samples: CSV, Excel or Parquet, below root or anywhere"
    )
    columns: dict[str, str] = Field({}, description="column as the manifest names it -> column of Duchenne")
    splits: dict[Word, Literal["train", "val", "test"]] = Field(
        {}, description="part as the manifest names it -> train, val or test"
    )
    annotations: Place | None = Field(None, description="file or folder of the annotation lists, if not below root")
    factors: Place | None = Field(
        None, description="CSV with a column sample and one for each factor, below root or anywhere"
    )
    media: str | None = Field(None, description="which of the layout's forms to use; default: the first that is there")
    apex: Literal["middle", "difference", "none"] = Field(
        "middle",
        description="where a micro-expression's apex is missing or outside the clip: the middle frame; the frame that "
        "differs most from onset and offset; or leave it missing",
    )
    limit: int | None = Field(None, ge=1, description="use about this many samples: whole subjects, stratified")
    bad_rows: Literal["stop", "skip"] = Field(
        "stop", description="for wrong rows: stop, or leave them out and count them"
    )
    faces: Faces = Faces()

    @model_validator(mode="before")
    @classmethod
    def _fill_from_the_label_set(cls, block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        layout = block.get("layout")
        kinds = ((block.get("label_set"), str), (block.get("labels"), dict), (block.get("ignore"), list))
        if layout not in layout_names() or not all(isinstance(value, kind | None) for value, kind in kinds):
            return block  # the fields say what is wrong
        sets = layout_facts(layout).label_sets
        name = block.get("label_set") or (layout if layout in sets else None)
        if name is None and not sets:
            return block
        if name not in sets:
            given = "is missing" if name is None else f"{name!r} does not go with layout {layout}"
            known = f" (choose from {', '.join(sets)})" if sets else ": leave it out"
            raise ValueError(f"label_set {given}{known}")
        preset = sets[name]
        return {
            "classes": preset.classes,
            **block,
            "label_set": name,
            "labels": preset.labels | (block.get("labels") or {}),
            "ignore": [*preset.ignore, *(word for word in block.get("ignore") or [] if word not in preset.ignore)],
        }

    @field_validator("classes")
    @classmethod
    def _distinct_names(cls, classes: list[str]) -> list[str]:
        if taken := [name for name in classes if name in ANSWERED]:
            raise ValueError(f"{taken[0]!r} is a column of a server's answers, which have one per class: rename it")
        return distinct_names(classes)

    @model_validator(mode="after")
    def _names_are_known_or_own(self) -> Self:
        """A class need not be a known emotion; but one that is spelt nearly as such is probably that."""
        if not self.classes:
            raise ValueError(f"classes is missing: layout {self.layout} has no label set, so name them in order")
        known = [*self.classes, *self.ignore]
        for name in self.classes:
            if name not in self.labels.values() and (like := misspelt(name)):
                raise ValueError(
                    f"classes: {name!r} is misspelt (did you mean {like!r}?); "
                    f"if it is a class of its own, add labels: {{{name}: {name}}}"
                )
        for word, name in self.labels.items():
            if not is_emotion(name) and name not in known:
                hint = nearest(name, [*self.classes, *EMOTIONS])
                raise ValueError(f"labels.{word}: {name!r} is neither an emotion name nor one of the classes{hint}")
        return self

    @model_validator(mode="after")
    def _words_are_distinct(self) -> Self:
        for field in ("labels", "splits") if self.label_set is None else ("splits",):
            words: dict[str, str] = {}
            for word, name in getattr(self, field).items():
                other = words.setdefault(word.strip().casefold(), word)
                if getattr(self, field)[other] != name:
                    raise ValueError(f"{field}: {other!r} and {word!r} are one word, case and blanks do not count")
        return self

    @model_validator(mode="after")
    def _fields_are_those_of_the_layout(self) -> Self:
        given = [name for name in get_args(LayoutField) if getattr(self, name) != type(self).model_fields[name].default]
        if others := [name for name in given if name not in self.facts.fields]:
            raise ValueError(f"{' and '.join(others)}: layout {self.layout} does not read this: leave it out")
        if self.media is not None and self.media not in self.facts.media:
            forms = list(self.facts.media)
            choice = f"{nearest(self.media, forms)}: give one of {', '.join(forms)}" if forms else ": leave it out"
            raise ValueError(f"media: {self.media!r} is not a form of layout {self.layout}{choice}")
        return self

    @model_validator(mode="after")
    def _columns_are_those_of_a_manifest(self) -> Self:
        for word, name in self.columns.items():
            if name in MANIFEST_COLUMNS or name.removeprefix("votes_") not in ("", name):
                continue
            if word in MANIFEST_COLUMNS:
                raise ValueError(f"columns.{word}: the file's name stands first: write {{{name}: {word}}}")
            known = f"{', '.join(MANIFEST_COLUMNS)}, votes_<emotion>"
            raise ValueError(f"columns.{word}: there is no column {name!r}{nearest(name, MANIFEST_COLUMNS)}: {known}")
        names = list(self.columns.values())
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"columns: {' and '.join(twice)} is given to more than one column of the manifest")
        return self

    @property
    def facts(self) -> Layout:
        """Facts of its layout."""
        return layout_facts(self.layout)
