"""Pictures for the page as data URIs: the most confident mistakes, thumbnails of faces, sheets and maps."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from duchenne.evaluation.explained import PICTURES as PICTURES_OF_MAPS
from duchenne.faces.store import FaceStore
from duchenne.files import read_json
from duchenne.reporting.factors import Factor, conditions
from duchenne.sealed import check_listed

THUMBNAIL_SIDE = 160  # px; shown at half of that, sharp on dense screens
SHEET_SIZE = (1280, 2400)  # px
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
FACE_SIDE = 64  # px, side of a face in a sprite
MAX_FACES = 5000
"""Maximum number of faces in a sprite: more would add megabytes, and WebP is limited to 16,383 px."""


class Face(NamedTuple):
    """A picture as a data URI, with the name of its frame: ``onset``, ``apex`` or empty."""

    frame: str
    uri: str


class Mistake(NamedTuple):
    """A misclassified test sample.

    ``faces`` is empty if faces are not shown. ``known`` describes the sample by the factors of the dataset.
    """

    sample: str
    actual: str
    predicted: str
    confidence: float
    faces: list[Face]
    known: str


def mistakes(
    samples: pd.DataFrame, classes: list[str], count: int, factors: list[Factor], store: FaceStore | None = None
) -> list[Mistake]:
    """Return the ``count`` wrong predictions with the highest confidence.

    Args:
        samples: predictions with onset, apex and factors of the index; a clip with both shows these two frames
            (FRL-DGT, supplement, Figure 3), otherwise the middle one.
        factors: factors of the run; those of few values are named.
        store: face store, or None if faces are not shown.
    """
    wrong = samples[samples["label"] != samples["predicted"]]
    wrong = wrong.sort_values(["confidence", "sample"], ascending=[False, True]).head(count)
    return [
        Mistake(
            row.sample,
            classes[row.label],
            classes[row.predicted],
            float(row.confidence),
            [] if store is None else _faces(store, row),
            conditions(row.factors, factors),
        )
        for row in wrong.itertuples()
    ]


class Sprite(NamedTuple):
    """Many small faces in one picture: its data URI, the number of faces per line, and the position of each sample."""

    uri: str
    columns: int
    tiles: dict[str, int]


def sprite(store: FaceStore, samples: list[str]) -> Sprite:
    """Make a sprite of the faces of ``samples``, at most :data:`MAX_FACES`; clips show the middle frame."""
    shown = samples[:: math.ceil(len(samples) / MAX_FACES)]
    columns = math.ceil(math.sqrt(len(shown)))
    picture = Image.new("RGB", (FACE_SIDE * columns, FACE_SIDE * -(-len(shown) // columns)))
    for i, sample in enumerate(shown):
        face = _middle(store, sample).resize((FACE_SIDE, FACE_SIDE), Image.Resampling.LANCZOS)
        picture.paste(face, (FACE_SIDE * (i % columns), FACE_SIDE * (i // columns)))
    return Sprite(_data_uri(picture, quality=65), columns, {sample: i for i, sample in enumerate(shown)})


def maps(folder: Path, show_faces: bool = True) -> list[dict[str, Any]]:
    """List the pictures of the explain stage, with ``title``, ``caption``, ``alt``, ``uri``, ``width``, ``height``.

    Args:
        show_faces: False: only pictures without faces, independent of the setting when they were drawn.
    """
    hidden = set() if show_faces else pictures_with_faces(folder)
    return [
        item | dict(zip(("uri", "width", "height"), sheet(folder / item["file"]), strict=True))
        for item in _drawn(folder)
        if item["file"] not in hidden
    ]


def pictures_with_faces(folder: Path) -> set[str]:
    """Return the names of pictures in the explain stage's folder that may show a face: all not known to show none."""
    safe = {item["file"] for item in _drawn(folder) if not item.get("faces", True)}
    return {path.name for path in folder.glob("*") if path.suffix in PICTURES} - safe


def remove_pictures(folder: Path) -> None:
    """Delete the pictures below a folder; vector figures are kept, because they show no face."""
    for path in list(folder.rglob("*")):
        if path.suffix in PICTURES:
            path.unlink()


def _drawn(folder: Path) -> list[dict[str, Any]]:
    index = folder / "maps.json"
    if not index.exists():
        return []
    record = folder / PICTURES_OF_MAPS
    drawn = read_json(check_listed(index, record))
    for item in drawn:
        check_listed(folder / item["file"], record)
    return drawn


def sheet(path: Path) -> tuple[str, int, int]:
    """Shrink a contact sheet for the page: data URI, width and height in px."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail(SHEET_SIZE, Image.Resampling.LANCZOS)
        return _data_uri(image, quality=70), image.width, image.height


def _faces(store: FaceStore, row: Any) -> list[Face]:
    numbers = store.frame_numbers(row.sample)
    labelled = {"onset": row.onset, "apex": row.apex}
    frames = {name: numbers.index(frame) for name, frame in labelled.items() if pd.notna(frame) and frame in numbers}
    if len(frames) == 2:
        shown = {name: store.frame(row.sample, position) for name, position in frames.items()}
        return [Face(name, _thumbnail(Image.fromarray(np.asarray(face)))) for name, face in shown.items()]
    return [Face("", _thumbnail(_middle(store, row.sample)))]


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return _data_uri(image, quality=80)


def _middle(store: FaceStore, sample: str) -> Image.Image:
    return Image.fromarray(np.asarray(store.frame(sample, len(store.frame_numbers(sample)) // 2)))


def _data_uri(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
