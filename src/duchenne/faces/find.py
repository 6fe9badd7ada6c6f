"""The face that is meant in a frame, with its 68 points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from duchenne.catalog import Faces
from duchenne.faces.detect import Found, choose, detector
from duchenne.faces.images import resized
from duchenne.faces.landmarks import landmarker

AROUND = 1.0
"""How far a clip's next face is looked for around the last one, in widths of it."""
FACE = 120
"""Width to which the last face is shrunk for that, px: dlib's smallest is 80."""


class Face(NamedTuple):
    """One face in one frame."""

    points: np.ndarray
    """(68, 2), px"""
    box: np.ndarray
    """(4,) as x0, y0, x1, y1, px"""
    score: float
    """the detector's; NaN for a box that was given"""
    count: int | None = None
    """faces that the detector found; None where it did not search the whole frame"""


def find_face(image: np.ndarray, config: Faces, box: np.ndarray | None = None, last: Face | None = None) -> Face | None:
    """The face that is meant in an image, uint8 (H, W, 3) RGB; None when there is none.

    Args:
        box: (4,), where the face is (``config.mode`` boxes).
        last: the clip's face in the frame before. It is looked for near by first, which is three times as fast as
            the whole frame and does not jump to another person.
    """
    if config.mode == "boxes":
        box = np.asarray(box, dtype=float)
        return Face(landmarker(config)(image, box), box, float("nan"))
    boxes, scores = _near(image, config, last.box) if last else ((), ())
    count = None
    if not len(boxes):
        boxes, scores = detector(config)(image)
        count = len(boxes)
    if not len(boxes):
        return None
    best = choose(boxes, image.shape)
    return Face(landmarker(config)(image, boxes[best]), boxes[best], float(scores[best]), count)


def _near(image: np.ndarray, config: Faces, box: np.ndarray) -> Found:
    """The most likely face around a box, which may lie outside: frames in a folder need not be of one size."""
    width = box[2] - box[0]
    around = box + AROUND * width * np.array([-1, -1, 1, 1])
    x0, y0, x1, y1 = np.clip(around, 0, np.tile(image.shape[1::-1], 2)).astype(int)
    if x0 == x1 or y0 == y1:
        return np.zeros((0, 4)), np.zeros(0)
    scale = min(1.0, FACE / width)
    window = resized(image[y0:y1, x0:x1], scale)
    boxes, scores = detector(config)(window)
    best = [choose(boxes, window.shape)] if len(boxes) else []
    return boxes[best] / scale + np.tile([x0, y0], 2), scores[best]
