"""Pictures for the page: the most confident mistakes, and images as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from duchenne.faces import FaceStore

THUMBNAIL = 160  # px; shown at half of that, sharp on dense screens
SHEET = (1280, 2400)  # px


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


def sheet(path: Path) -> tuple[str, int, int]:
    """A contact sheet made small enough for the page: data URI, width and height in px."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail(SHEET, Image.Resampling.LANCZOS)
        return _data_uri(image, quality=70), image.width, image.height


def _face(store: FaceStore, sample: str) -> str:
    middle = len(store.row(sample)["frame_numbers"]) // 2
    image = Image.fromarray(np.asarray(store.frame(sample, middle)))
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return _data_uri(image, quality=80)


def _data_uri(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
