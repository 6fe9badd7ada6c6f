"""Finding faces, behind one small interface."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from duchenne.errors import UserError
from duchenne.extras import require_extra
from duchenne.faces.settings import Faces
from duchenne.files import unusable
from duchenne.media.images import resized

Found = tuple[np.ndarray, np.ndarray]
"""Boxes float (N, 4) as x0, y0, x1, y1 in px, and scores float (N,), larger is surer."""


class Detector(Protocol):
    """Finds the faces of an image."""

    threshold: float
    """Its own: a face with a lower score is doubtful."""
    clear: float
    """From this score on nobody asks whether the picture is turned."""

    def __call__(self, image: np.ndarray, faint: bool = True) -> Found:
        """Image uint8 (H, W, 3) RGB -> boxes and scores; empty arrays when there is no face.

        Args:
            faint: look for doubtful faces too where there is no other.
        """
        ...


class DlibDetector:
    """dlib's frontal detector: HOG features, five poses, faces of 80 px and more (King 2009, built into dlib).

    Up to three looks, until one finds a face: at a longest side of 320 px, where portraits cost half of what they cost
    at 640 px and their landmarks come out the same; at 640 px, for faces that are a small part of the picture; and for
    faint faces and faces that fill the frame at a lower threshold, with the border repeated outwards by a quarter of
    the frame (a mirrored one holds mirrored faces) and ``upsample`` doublings. On 936 tight 350 px portraits of
    Labeled Faces in the Wild a look at full size misses 31, one at 320 px 33, both 17, and all three none; nor do they
    miss any of every fourth of these at 48 px.

    Scores are the detector's margin: 0 its own threshold, 1 and more a clear frontal face.

    Raises:
        MissingExtraError: dlib is not installed.
    """

    SHORTEST, LONGEST = 200, (320, 640)
    LAST_LOOK = -0.5
    threshold, clear = 0.0, 0.5
    OTHERWISE = (
        "or set the dataset's faces to `detector: yunet` with its file as detector_model, to `mode: boxes` where the "
        "dataset has face boxes, or to `mode: aligned, detector: none` for faces that are aligned already"
    )

    def __init__(self, config: Faces) -> None:
        require_extra("the face detector dlib", "dlib", "dlib", otherwise=self.OTHERWISE)
        import dlib

        self.upsample = config.upsample
        self._detect = dlib.get_frontal_face_detector()

    def __call__(self, image: np.ndarray, faint: bool = True) -> Found:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        side = max(grey.shape)
        for size in dict.fromkeys(min(max(side, self.SHORTEST), longest) for longest in self.LONGEST):
            scale = size / side
            scaled = resized(grey, scale)
            boxes, scores = self._run(scaled, 0, 0.0, 0.0)
            if len(boxes):
                break
        else:
            if faint:
                boxes, scores = self._run(scaled, self.upsample, self.LAST_LOOK, 0.25)
        return boxes / scale, scores

    def _run(self, grey: np.ndarray, upsample: int, threshold: float, border: float) -> Found:
        pad = int(border * max(grey.shape))
        grey = cv2.copyMakeBorder(grey, pad, pad, pad, pad, cv2.BORDER_REPLICATE) if pad else grey
        found, scores, _ = self._detect.run(grey, upsample, threshold)
        boxes = [(box.left(), box.top(), box.right(), box.bottom()) for box in found]
        return np.array(boxes, dtype=float).reshape(-1, 4) - pad, np.array(scores, dtype=float)


class YunetDetector:
    """OpenCV's YuNet (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", 2023; MIT licence).

    Its ONNX file is in OpenCV Zoo (face_detection_yunet); give its path as ``faces.detector_model``.

    Raises:
        UserError: the file does not exist or is not a YuNet.
    """

    LONGEST = 640
    threshold = clear = 0.6

    def __init__(self, config: Faces) -> None:
        path = Path(config.detector_model or "")
        if reason := unusable(path):
            raise UserError(f"faces.detector_model: {path} {reason}; OpenCV Zoo has face_detection_yunet")
        try:
            self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), score_threshold=self.threshold)
        except cv2.error as error:
            raise UserError(f"faces.detector_model: {path} is not a YuNet ONNX file: {error.err}") from None

    def __call__(self, image: np.ndarray, faint: bool = True) -> Found:
        scale = min(1.0, self.LONGEST / max(image.shape[:2]))
        small = resized(image, scale)
        self._net.setInputSize((small.shape[1], small.shape[0]))
        rows = self._net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        rows = np.zeros((0, 15)) if rows is None else rows.astype(float)
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return boxes / scale, rows[:, -1]


DETECTORS: dict[str, Callable[[Faces], Detector]] = {"dlib": DlibDetector, "yunet": YunetDetector}


def detector(config: Faces) -> Detector:
    """The detector that a configuration names, made once a thread: dlib's gives wrong boxes to two threads at once.

    Raises:
        KeyError: it names none.
        UserError: what the detector needs is missing.
    """
    return _made(config, threading.get_ident())


@cache
def _made(config: Faces, thread: int) -> Detector:
    return DETECTORS[config.detector](config)


def choose(boxes: np.ndarray, shape: tuple[int, ...]) -> int:
    """Which of several faces is meant: the largest central one (ours).

    Area times (1 - d / 2), d the distance of the box's centre from the frame's in halves of the frame's diagonal: a
    face in a corner must be twice as large as one in the middle.
    """
    height, width = shape[:2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - [width / 2, height / 2]
    away = np.linalg.norm(centres, axis=1) / (np.hypot(width, height) / 2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return int(np.argmax(area * (1 - away / 2)))
