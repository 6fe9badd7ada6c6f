"""A dataset: a block of ``datasets`` in ``params.yaml``, and the official classes of each layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from ruamel.yaml import YAML

from duchenne.blocks import Place, Strict, Word
from duchenne.emotions import EMOTIONS, is_emotion
from duchenne.errors import nearest
from duchenne.faces.settings import Faces
from duchenne.files import expanded


class LabelSet(Strict):
    """Official classes of a dataset: one entry of ``datasets/label_sets.yaml``."""

    layout: str
    source: str = Field(description="who says so")
    classes: list[str]
    labels: dict[str, str] = Field({})
    ignore: list[str] = Field([])
    relabel: dict[str, str] = Field({}, description="sample -> label that replaces the annotated one")
    needs_apex: bool = Field(False, description="leave out clips whose apex is missing or the onset itself")
    without: list[str] = Field([], description="samples that are left out whatever the files say of them")


LABEL_SETS = {
    name: LabelSet.model_validate(block)
    for name, block in YAML(typ="safe", pure=True).load(Path(__file__).with_name("label_sets.yaml")).items()
}
"""Name -> classes, what the labels of the files mean, and which of them are left out."""


MANIFEST_COLUMNS = (
    "sample", "path", "label", "subject", "source", "split", "fold", "onset", "apex", "offset", "fps", "aus",
    "x0", "y0", "x1", "y1",
)  # fmt: skip
"""Columns of a manifest that have a meaning, beside ``votes_<emotion>``; all others are kept as factors."""


class Dataset(Strict):
    """Where the samples are, which emotions they show and how their faces are aligned."""

    layout: Literal[
        "synth", "folder", "manifest",
        "raf_db", "affectnet", "caer_s", "dfew", "ferv39k", "mafw", "casme2", "samm", "smic", "megc2019",
        "fer2013", "casme3",
    ]  # fmt: skip
    root: Place
    label_set: str | None = Field(None, description="official classes and labels; default: the layout's, if it has one")
    classes: list[str] = Field(
        min_length=2, description="emotion names in class order, compound ones joined by _; default: of the label set"
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
        None, description="CSV with a column sample and one for each thing known of it, below root or anywhere"
    )
    media: str | None = Field(None, description="which of several forms to use, by folder name; default: see layout")
    apex: Literal["middle", "difference", "none"] = Field(
        "middle",
        description="where a micro-expression's apex is missing or outside the clip: the middle frame; the frame that "
        "differs most from onset and offset; or leave it missing",
    )
    limit: int | None = Field(None, ge=1, description="use about this many samples: whole subjects, stratified")
    bad_rows: Literal["stop", "skip"] = "stop"
    faces: Faces = Faces()

    @model_validator(mode="before")
    @classmethod
    def _fill_from_the_label_set(cls, block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        layout = block.get("layout")
        sets = [name for name, labels in LABEL_SETS.items() if labels.layout == layout]
        name = block.get("label_set") or (layout if layout in sets else None)
        if name is None and not sets:
            return block
        if name not in sets:
            given = "is missing" if name is None else f"{name!r} does not go with layout {layout}"
            known = f" (choose from {', '.join(sets)})" if sets else ": leave it out"
            raise ValueError(f"label_set {given}{known}")
        preset = LABEL_SETS[name]
        return {
            "classes": preset.classes,
            **block,
            "label_set": name,
            "labels": preset.labels | (block.get("labels") or {}),
            "ignore": [*preset.ignore, *(word for word in block.get("ignore") or [] if word not in preset.ignore)],
        }

    @field_validator("classes")
    @classmethod
    def _known_and_distinct(cls, classes: list[str]) -> list[str]:
        for name in classes:
            if not is_emotion(name):
                raise ValueError(f"{name!r} is not an emotion name{nearest(name, EMOTIONS)}")
        if len(set(classes)) != len(classes):
            raise ValueError("a class is named twice")
        return classes

    @model_validator(mode="after")
    def _labels_lead_to_emotions(self) -> Self:
        for word, name in self.labels.items():
            if not is_emotion(name) and name not in self.ignore:
                raise ValueError(f"labels.{word}: {name!r} is not an emotion name{nearest(name, EMOTIONS)}")
        return self

    @model_validator(mode="after")
    def _columns_are_those_of_a_manifest(self) -> Self:
        if self.layout != "manifest" and (given := [name for name in ("columns", "splits") if getattr(self, name)]):
            raise ValueError(f"{' and '.join(given)}: only layout manifest has such, this is {self.layout}")
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
