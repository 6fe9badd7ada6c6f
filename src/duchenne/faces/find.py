"""The face that is meant in a frame, with its 68 points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from duchenne.faces.detect import Found, choose, detector
from duchenne.faces.landmarks import landmarker
from duchenne.faces.settings import Faces
from duchenne.media.images import resized

AROUND = 1.0
"""How far a clip's next face is looked for around the last one, in widths of it."""
FACE = 120
"""Width to which the last face is shrunk for that, px: dlib's smallest is 80."""
MARGIN = 0.3
"""By how much the score must be higher at another turn."""
TURNED = "seems to be "
TURNS = {2: "upside down", 1: "turned by 90 degrees clockwise", 3: "turned by 90 degrees counter-clockwise"}
"""Quarter turns counter-clockwise that make a picture upright -> how it is turned."""


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
    doubtful: bool = False
    """whether the score is below the detector's own threshold"""


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
    box, score = boxes[best], float(scores[best])
    return Face(landmarker(config)(image, box), box, score, count, score < detector(config).threshold)


def clear(face: Face | None, config: Faces) -> bool:
    """Whether a face, which may be None, leaves no question whether its picture is turned; given boxes do not."""
    return config.mode != "detect" or (face is not None and face.score >= detector(config).clear)


def turned(image: np.ndarray, face: Face | None, config: Faces) -> str | None:
    """How a picture without a clear face seems to be turned; None when it seems to be upright, or nobody can tell.

    dlib finds a face upside down in many an upside-down portrait, at a low score. So the other three right-angle turns
    are tried, and one counts where the detector is sure enough of a face there: its own threshold, and
    :data:`MARGIN` above the score of the picture as it is.

    Args:
        face: the one that was found in the picture as it is.
    """
    if clear(face, config):
        return None
    detect = detector(config)
    best = max(detect.threshold, face.score + MARGIN if face else -np.inf)
    how = None
    for turns, words in TURNS.items():
        _, scores = detect(np.ascontiguousarray(np.rot90(image, turns)), faint=False)
        if len(scores) and scores.max() >= best:
            best, how = scores.max(), words
    return how and f"{TURNED}{how}: turn the file, or set its orientation"


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
