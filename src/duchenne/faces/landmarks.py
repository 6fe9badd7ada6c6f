"""68 facial points in iBUG order, and the five key points that alignment uses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import dlib
import numpy as np

from duchenne.catalog import Faces
from duchenne.errors import UserError

PACKAGED = "shape_predictor_68_face_landmarks.dat"

Landmarker = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Image uint8 (H, W, 3) RGB and a face box (4,) -> points float (68, 2), x and y in px."""


def model_file(config: Faces) -> Path:
    """The predictor's file: the configured one, or the one inside the package ``face_recognition_models``.

    That package is found without importing it, for its import needs a module that setuptools no longer has.

    Raises:
        UserError: there is no such file.
    """
    if config.landmark_model is not None:
        path = config.landmark_model
    else:
        spec = find_spec("face_recognition_models")
        places = spec.submodule_search_locations if spec else []
        path = next((Path(place) / "models" / PACKAGED for place in places or []), Path(PACKAGED))
    if not path.is_file():
        raise UserError(f"{path} does not exist: install face_recognition_models or set faces.landmark_model")
    return path


class Dlib68:
    """dlib's regression trees (Kazemi, Sullivan 2014), trained on iBUG 300-W: **not for commercial use**.

    The trees expect the box of dlib's own detector. They run twice (ours): the second time from the box where that
    detector would have put it around the points of the first. On the 65 neutral faces of the London set the mean
    error of pupils, mouth corners and chin falls from 3.6 to 3.3 % of the pupils' distance, and from 5.8 to 3.5 % when
    the box is up to 12 % out of place and 15 % out of size, so that boxes of other detectors serve as well.
    """

    BOX = np.array([-1.42, -1.53, 1.42, 1.31])
    """dlib's box around the mean of the 68 points, in units of their root mean square distance from it (London)."""

    def __init__(self, config: Faces) -> None:
        path = model_file(config)
        try:
            self._predict = dlib.shape_predictor(str(path))
        except RuntimeError as error:
            raise UserError(f"faces.landmark_model: {path} is no dlib shape predictor: {error}") from None

    def __call__(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        first = self._points(grey, box)
        middle = first.mean(axis=0)
        spread = np.sqrt(((first - middle) ** 2).sum(axis=1).mean())
        return self._points(grey, np.tile(middle, 2) + self.BOX * spread)

    def _points(self, grey: np.ndarray, box: np.ndarray) -> np.ndarray:
        shape = self._predict(grey, dlib.rectangle(*np.round(box).astype(int).tolist()))
        return np.array([(point.x, point.y) for point in shape.parts()], dtype=float)


LANDMARKERS: dict[str, Callable[[Faces], Landmarker]] = {"dlib68": Dlib68}


@cache
def landmarker(config: Faces) -> Landmarker:
    """The landmark model that a configuration names, loaded once a process."""
    return LANDMARKERS[config.landmarks](config)


@cache
def model_digest(config: Faces) -> str:
    """SHA-256 of the landmark model's file."""
    with model_file(config).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_points(points: np.ndarray) -> np.ndarray:
    """Eye centres (left and right in the image), nose tip and mouth corners: (..., 68, 2) -> (..., 5, 2)."""
    left, right = points[..., 36:42, :].mean(-2), points[..., 42:48, :].mean(-2)
    return np.stack([left, right, points[..., 30, :], points[..., 48, :], points[..., 54, :]], axis=-2)
