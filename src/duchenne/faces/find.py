"""Finds the main face of a frame, with its 68 points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from duchenne.faces.detect import Found, choose, detector
from duchenne.faces.landmarks import landmarker
from duchenne.faces.settings import Faces
from duchenne.media.images import resized

AROUND = 0.35, 1.0
"""Distances around the last face of a clip in which the next one is searched, in widths of that face; the second only
if the first holds none."""
STAYED = 0.2
"""Difference of two boxes, in widths, up to which the points in the next frame are found from those in the last."""
FACE = 120
"""Width to which the last face is shrunk for that search, px; dlib's minimum is 80."""
MARGIN = 0.3
"""Minimum gain in score for another orientation to count."""
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
    """score of the detector; NaN for a given box"""
    count: int | None = None
    """number of faces detected; None if the whole frame was not searched"""
    doubtful: bool = False
    """whether the score is below the detector's own threshold"""


def find_face(image: np.ndarray, config: Faces, box: np.ndarray | None = None, last: Face | None = None) -> Face | None:
    """Find the main face of an image, uint8 (H, W, 3) RGB; None when there is none, or the given box lies outside.

    Args:
        box: (4,), the given face box (``config.mode`` boxes).
        last: the clip's face in the previous frame. Its neighbourhood is searched first, which is faster than the whole
            frame and does not jump to another person; if the face is there, its points are found from the last ones.
    """
    if config.mode == "boxes":
        box = np.asarray(box, dtype=float)
        if (box[:2] >= image.shape[1::-1]).any() or (box[2:] <= 0).any():
            return None  # it lies outside the image
        return Face(landmarker(config)(image, box), box, float("nan"))
    boxes, scores = near(image, config, last.box) if last else ((), ())
    count = None
    if not len(boxes):
        boxes, scores = detector(config)(image)
        count = len(boxes)
    if not len(boxes):
        return None
    best = choose(boxes, image.shape)
    return face_in(image, config, boxes[best], float(scores[best]), count, last)


def find_boxes(image: np.ndarray, config: Faces) -> Found:
    """Find the boxes of all faces of an image, uint8 (H, W, 3) RGB, also of small ones beside a large one."""
    return detector(config)(image, small=True)


def face_in(
    image: np.ndarray, config: Faces, box: np.ndarray, score: float, count: int | None = None, last: Face | None = None
) -> Face:
    """Place the points of the face in a detected box (4,).

    Args:
        count: number of faces detected in the image; None if only a part of it was searched.
        last: the same face in the previous frame of a clip; if it moved little, its points are where the search starts.
    """
    stayed = last is not None and np.abs(box - last.box).max() <= STAYED * (last.box[2] - last.box[0])
    points = landmarker(config)(image, box, last.points if stayed else None)
    return Face(points, box, score, count, score < detector(config).threshold)


def clear(face: Face | None, config: Faces) -> bool:
    """Whether a face (or None) is clear enough to rule out that its picture is turned; given boxes are not."""
    return config.mode != "detect" or (face is not None and face.score >= detector(config).clear)


def turned(image: np.ndarray, face: Face | None, config: Faces) -> str | None:
    """Return how a picture without a clear face seems to be turned; None when it seems upright or cannot be judged.

    dlib finds a face in many upside-down portraits, at a low score. So the other three right-angle turns are tried; one
    counts if the detector's score there reaches its own threshold and is :data:`MARGIN` above the score of the picture
    as it is.

    Args:
        face: the face found in the picture as it is, or None.
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


def near(image: np.ndarray, config: Faces, box: np.ndarray) -> Found:
    """Find the most likely face around a box (4,): one box and its score, or none.

    The box may lie outside the image: frames of a folder may differ in size.
    """
    width = box[2] - box[0]
    scale = min(1.0, FACE / width)
    for distance in AROUND:
        around = box + distance * width * np.array([-1, -1, 1, 1])
        x0, y0, x1, y1 = np.clip(around, 0, np.tile(image.shape[1::-1], 2)).astype(int)
        if x0 == x1 or y0 == y1:
            continue
        window = resized(image[y0:y1, x0:x1], scale)
        boxes, scores = detector(config)(window, faint=distance == AROUND[-1])
        if len(boxes):
            best = [choose(boxes, window.shape)]
            return boxes[best] / scale + np.tile([x0, y0], 2), scores[best]
    return np.zeros((0, 4)), np.zeros(0)
