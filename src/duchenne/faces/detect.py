"""Face detectors behind one small interface."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import ClassVar, Protocol

import cv2
import numpy as np

from duchenne.errors import UserError
from duchenne.extras import require_extra
from duchenne.faces.settings import Faces
from duchenne.files import unusable
from duchenne.media.images import resized

Found = tuple[np.ndarray, np.ndarray]
"""Boxes float (N, 4) as x0, y0, x1, y1 in px, and scores float (N,); larger is more confident."""


class Detector(Protocol):
    """Finds the faces of an image."""

    threshold: float
    """The detector's own threshold: a face with a lower score is doubtful."""
    clear: float
    """From this score on, the picture is not tested for being turned."""

    def __call__(self, image: np.ndarray, faint: bool = True, small: bool = False) -> Found:
        """Detect faces in an image, uint8 (H, W, 3) RGB: boxes and scores; empty arrays when there is no face.

        Args:
            faint: also look for doubtful faces if there is no other.
            small: also look for small faces if there is a larger one.
        """
        ...


class DlibDetector:
    """dlib's frontal detector: HOG features, five poses, faces of 80 px and more (King 2009, built into dlib).

    Up to four passes run until one finds a face: at a longest side of 240 px, which takes 60 % of the time of 320 px
    and finds as many portraits; at 320 px and at 640 px, for faces that are a small part of the picture; and, for faint
    faces and faces that fill the frame, at a lower threshold, with the border repeated outwards by a quarter of the
    frame (a mirrored border contains mirrored faces) and ``upsample`` doublings. On 936 tight 350 px portraits of
    Labeled Faces in the Wild the pass at 240 px misses 31, the first three 17, and all four none; nor do they miss any
    of every fourth of these at 48 px.

    With ``landmarks: dlib68`` the first pass is left out: these points depend on the exact box, which is coarser at
    240 px. In clips of real faces warped to a smile, the still eyes seemed to move 5 % more against the mouth.

    Scores are the detector's margin: 0 is its own threshold, 1 and more a clear frontal face.

    Raises:
        MissingExtraError: dlib is not installed.
    """

    SHORTEST = 200
    LONGEST: ClassVar = {"mobilefacenet": (240, 320, 640), "dlib68": (320, 640)}
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
        self._longest = self.LONGEST[config.landmarks]
        self._detect = dlib.get_frontal_face_detector()

    def __call__(self, image: np.ndarray, faint: bool = True, small: bool = False) -> Found:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        side = max(grey.shape)
        sides = self._longest[-1:] if small else self._longest
        for size in dict.fromkeys(min(max(side, self.SHORTEST), longest) for longest in sides):
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
        UserError: The file does not exist or is not a YuNet model.
    """

    LONGEST = 640
    threshold = clear = 0.6

    def __init__(self, config: Faces) -> None:
        path = Path(config.detector_model or "")
        if reason := unusable(path):
            raise UserError(f"faces.detector_model: {path} {reason}; download face_detection_yunet from OpenCV Zoo")
        try:
            self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), score_threshold=self.threshold)
            self._net.detect(np.zeros((320, 320, 3), np.uint8))  # another network fails here
        except cv2.error as error:
            raise UserError(
                f"faces.detector_model: {path} is not a YuNet ONNX file: {' '.join(error.err.split())}"
            ) from None

    def __call__(self, image: np.ndarray, faint: bool = True, small: bool = False) -> Found:
        scale = min(1.0, self.LONGEST / max(image.shape[:2]))
        scaled = resized(image, scale)
        self._net.setInputSize((scaled.shape[1], scaled.shape[0]))
        rows = self._net.detect(cv2.cvtColor(scaled, cv2.COLOR_RGB2BGR))[1]
        rows = np.zeros((0, 15)) if rows is None else rows.astype(float)
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return boxes / scale, rows[:, -1]


DETECTORS: dict[str, Callable[[Faces], Detector]] = {"dlib": DlibDetector, "yunet": YunetDetector}


def detector(config: Faces) -> Detector:
    """Return the detector named in a configuration, one per thread: dlib's is not thread-safe.

    Raises:
        KeyError: The configuration names no detector.
        UserError: A package or file that the detector needs is missing.
    """
    return _made(config, threading.get_ident())


@cache
def _made(config: Faces, thread: int) -> Detector:
    return DETECTORS[config.detector](config)


def choose(boxes: np.ndarray, shape: tuple[int, ...]) -> int:
    """Choose one of several faces: the largest central one (rule chosen by us).

    The score is area times (1 - d / 2), where d is the distance between the centres of box and frame in units of half
    the frame's diagonal: a face in a corner must be twice as large as one in the middle.
    """
    height, width = shape[:2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - [width / 2, height / 2]
    away = np.linalg.norm(centres, axis=1) / (np.hypot(width, height) / 2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return int(np.argmax(area * (1 - away / 2)))
