"""Trained networks of the official code: their class orders and faces, from ``checkpoints.yaml``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from pydantic import Field
from ruamel.yaml import YAML

from duchenne.blocks import Strict
from duchenne.faces.settings import Faces


class Checkpoint(Strict):
    """A trained network that the owners publish, or that their scripts write."""

    variants: list[str] = Field(min_length=1, description="variants whose network it is; the first is the default")
    files: list[str] = Field([], description="names under which its owners publish it")
    classes: list[str] | None = Field(description="classes in the order of its outputs; null: not known")
    order: str = Field(description="evidence of that order, or why there is none")
    page: str | None = Field(None, description="where its owners publish it; null: they do not")
    licence: str


class FacesOf(Strict):
    """Faces of a dataset, as the official code takes them."""

    owners: str = Field(description="in words, how they were made")
    new: Faces = Field(description="alignment of a new picture or clip in their place")


class _Table(Strict):
    checkpoints: list[Checkpoint]
    faces: dict[str, FacesOf]


@cache
def _table() -> _Table:
    text = files(__package__).joinpath("checkpoints.yaml").read_text("utf-8")
    return _Table.model_validate(YAML(typ="safe", pure=True).load(text))


def checkpoints() -> list[Checkpoint]:
    """Return all known checkpoints."""
    return _table().checkpoints


def checkpoint_of(variant: str) -> Checkpoint | None:
    """Return the checkpoint of a variant; None if none is known."""
    return next((known for known in checkpoints() if variant in known.variants), None)


def published_as(file: str) -> Checkpoint | None:
    """Return the checkpoint that its owners publish under the name ``file``; None if none is known."""
    return next((known for known in checkpoints() if file in known.files), None)


def faces_of(dataset: str) -> FacesOf | None:
    """Return the faces of a dataset as the official code takes them; None if the table does not have it."""
    return _table().faces.get(dataset)
