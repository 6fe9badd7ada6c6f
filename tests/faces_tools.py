"""Rendered faces to detect, and rows of an index."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd

from duchenne.engines import Local
from duchenne.media.images import read_image
from duchenne.synth.generate import generate
from duchenne.synth.settings import Synth

COLUMNS = ("onset", "apex", "offset", "first", "last", "fps", "box")


def render(folder: Path) -> pd.DataFrame:
    """Four people, happy and angry, as a rendered set below ``folder``; returns its truth."""
    config = Synth(kind="image", classes=["happiness", "anger"], subjects=4, per_class=1, seed=4)
    generate(config, folder / "set", folder / "work", engine=Local(1))
    return pd.read_parquet(folder / "set" / "truth.parquet")


def rows(*samples: dict) -> pd.DataFrame:
    """Rows of an index, sorted, with the columns that face work reads."""
    table = pd.DataFrame([dict.fromkeys(COLUMNS) | {"kind": "image"} | sample for sample in samples])
    return table.sort_values("sample", ignore_index=True)


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])
    return path


def moved(image: np.ndarray, x: float, y: float, turn: float = 0.0) -> np.ndarray:
    """The image shifted by whole and part pixels, and turned by degrees about its middle."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1.0)
    matrix[:, 2] += x, y
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@cache
def picture(path: Path) -> np.ndarray:
    return read_image(path)


def video(path: Path, count: int = 12, codec: str = "mpeg4", times: list[int] | None = None, step: int = 20) -> Path:
    """Frame k is grey of ``step`` k; ``times`` are presentation times in 1/25 s."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), step * k % 256, np.uint8), format="rgb24")
            frame.pts = times[k] if times else k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class MarksDetector:
    """Stands for a detector: a face of 40 px below every mark that :func:`marked` put on the upper edge."""

    threshold, clear = 0.0, 0.5

    def __call__(self, image: np.ndarray, faint: bool = True, small: bool = False) -> tuple[np.ndarray, np.ndarray]:
        (columns,) = np.nonzero((image[0, :, :2] == 255).all(axis=1))
        scores = image[0, columns, 2] / 100.0 - 1
        kept = scores >= (0 if (scores >= 0).any() or not faint else -1)
        boxes = [(x, 10, x + 40, 50) for x in columns[kept]]
        return np.array(boxes, float).reshape(-1, 4), scores[kept]


def marked(path: Path, scores: dict[int, float], turned: dict[int, float] | None = None) -> Path:
    """A picture of 100 px in which :class:`MarksDetector` finds faces.

    Args:
        scores: column -> score (-1 to 1.5, in hundredths) of a face in the picture as it is.
        turned: quarter turns counter-clockwise -> score of a face that is found when the picture is turned so.
    """
    image = np.full((100, 100, 3), 50, np.uint8)
    for column, score in scores.items():
        image[0, column] = 255, 255, round(100 * score) + 100
    for turns, score in (turned or {}).items():
        image = np.rot90(image, turns).copy()
        image[0, 30] = 255, 255, round(100 * score) + 100
        image = np.rot90(image, -turns).copy()
    return write(path, image)
