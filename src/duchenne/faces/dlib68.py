"""68 points from dlib's regression trees."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from duchenne.errors import UserError
from duchenne.extras import require_extra
from duchenne.faces.settings import Faces

PACKAGED = "shape_predictor_68_face_landmarks.dat"


class Dlib68:
    """dlib's regression trees (Kazemi, Sullivan 2014), trained on iBUG 300-W: **not for commercial use**.

    The trees expect the box of dlib's own detector. They run twice (chosen by us): the second time from the box that
    detector would have put around the points of the first. On the 65 neutral faces of the London set the mean
    error of pupils, mouth corners and chin falls from 3.6 to 3.3 % of the pupils' distance, and from 5.8 to 3.5 % when
    the box is up to 12 % out of place and 15 % out of size, so that boxes of other detectors work as well.
    """

    BOX = np.array([-1.42, -1.53, 1.42, 1.31])
    """dlib's box around the mean of the 68 points, in units of their root mean square distance from it (London)."""

    @staticmethod
    def file(config: Faces) -> Path:
        """Path of the predictor: the configured file, or the one in the package ``face_recognition_models``.

        That package is located without importing it, because its import needs a module that setuptools no longer has.
        """
        if config.landmark_model is not None:
            return config.landmark_model
        require_extra(
            "faces.landmarks: dlib68", "dlib", "face_recognition_models",
            otherwise="or set faces.landmark_model to a file of dlib68, or faces.landmarks to mobilefacenet",
        )  # fmt: skip
        spec = find_spec("face_recognition_models")
        (place,) = spec.submodule_search_locations
        return Path(place) / "models" / PACKAGED

    def __init__(self, config: Faces) -> None:
        require_extra("faces.landmarks: dlib68", "dlib", "dlib", otherwise="or set faces.landmarks to mobilefacenet")
        import dlib

        path = self.file(config)
        try:
            self._predict = dlib.shape_predictor(str(path))
        except RuntimeError as error:
            raise UserError(f"faces.landmark_model: {path} is not a dlib shape predictor: {error}") from None

    def __call__(self, image: np.ndarray, box: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        first = self._points(grey, box)
        middle = first.mean(axis=0)
        spread = np.sqrt(((first - middle) ** 2).sum(axis=1).mean())
        return self._points(grey, np.tile(middle, 2) + self.BOX * spread)

    def _points(self, grey: np.ndarray, box: np.ndarray) -> np.ndarray:
        from dlib import rectangle

        shape = self._predict(grey, rectangle(*np.round(box).astype(int).tolist()))
        return np.array([(point.x, point.y) for point in shape.parts()], dtype=float)
