"""Pictures for the page as data URIs: the most confident mistakes, small faces to point at, sheets and maps."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from duchenne.faces import FaceStore

THUMBNAIL = 160  # px; shown at half of that, sharp on dense screens
SHEET = (1280, 2400)  # px
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
TILE = 64  # px, side of a face in a sprite
TILES = 5000
"""Faces in a sprite at most: it would weigh megabytes more, and WebP ends at 16,383 px."""


class Mistake(NamedTuple):
    """A test sample named wrong; ``face`` is a data URI, or None where faces are not shown."""

    sample: str
    actual: str
    predicted: str
    confidence: float
    face: str | None


def mistakes(
    predictions: pd.DataFrame, classes: list[str], count: int, store: FaceStore | None = None
) -> list[Mistake]:
    """The ``count`` wrong predictions with the highest confidence; of a clip with ``store``, the middle frame."""
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    wrong = wrong.sort_values(["confidence", "sample"], ascending=[False, True]).head(count)
    return [
        Mistake(
            row.sample,
            classes[row.label],
            classes[row.predicted],
            float(row.confidence),
            None if store is None else _face(store, row.sample),
        )
        for row in wrong.itertuples()
    ]


class Sprite(NamedTuple):
    """Many small faces in one picture: its data URI, faces in a line of it, and the position of each sample."""

    uri: str
    columns: int
    tiles: dict[str, int]


def sprite(store: FaceStore, samples: list[str]) -> Sprite:
    """The faces of ``samples``, or of :data:`TILES` evenly among more; of a clip the middle frame."""
    shown = samples[:: math.ceil(len(samples) / TILES)]
    columns = math.ceil(math.sqrt(len(shown)))
    picture = Image.new("RGB", (TILE * columns, TILE * -(-len(shown) // columns)))
    for i, sample in enumerate(shown):
        face = _middle(store, sample).resize((TILE, TILE), Image.Resampling.LANCZOS)
        picture.paste(face, (TILE * (i % columns), TILE * (i // columns)))
    return Sprite(_data_uri(picture, quality=65), columns, {sample: i for i, sample in enumerate(shown)})


def maps(folder: Path, show_faces: bool = True) -> list[dict[str, Any]]:
    """What the explain stage drew: of each picture ``title``, ``caption``, ``alt``, ``uri``, ``width``, ``height``.

    Args:
        show_faces: False: only the pictures without faces, whatever the setting was when they were drawn.
    """
    hidden = set() if show_faces else pictures_with_faces(folder)
    return [
        item | dict(zip(("uri", "width", "height"), sheet(folder / item["file"]), strict=True))
        for item in _drawn(folder)
        if item["file"] not in hidden
    ]


def pictures_with_faces(folder: Path) -> set[str]:
    """Names of the pictures in the explain stage's folder in which a face may be seen: all not known to be without."""
    safe = {item["file"] for item in _drawn(folder) if not item.get("faces", True)}
    return {path.name for path in folder.glob("*") if path.suffix in PICTURES} - safe


def _drawn(folder: Path) -> list[dict[str, Any]]:
    index = folder / "maps.json"
    return json.loads(index.read_text(encoding="utf-8")) if index.exists() else []


def sheet(path: Path) -> tuple[str, int, int]:
    """A contact sheet made small enough for the page: data URI, width and height in px."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail(SHEET, Image.Resampling.LANCZOS)
        return _data_uri(image, quality=70), image.width, image.height


def _face(store: FaceStore, sample: str) -> str:
    image = _middle(store, sample)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return _data_uri(image, quality=80)


def _middle(store: FaceStore, sample: str) -> Image.Image:
    return Image.fromarray(np.asarray(store.frame(sample, len(store.frame_numbers(sample)) // 2)))


def _data_uri(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
