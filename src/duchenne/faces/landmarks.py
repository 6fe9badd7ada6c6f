"""Models that place 68 points in a face, behind one small interface."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from duchenne.errors import UserError
from duchenne.faces.dlib68 import Dlib68
from duchenne.faces.mobilefacenet import MobileFaceNet68
from duchenne.faces.settings import Faces
from duchenne.files import file_digest, unusable


class Landmarker(Protocol):
    """Places 68 points in a face."""

    def __init__(self, config: Faces) -> None:
        """Load ``file(config)``.

        Raises:
            UserError: it is not what this model reads.
        """

    @staticmethod
    def file(config: Faces) -> Path:
        """The model's file: ``config.landmark_model``, or the one that comes with an installed package."""
        ...

    def __call__(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Image uint8 (H, W, 3) RGB and a face box (4,) -> points float (68, 2), x and y in px."""
        ...


LANDMARKERS: dict[str, type[Landmarker]] = {"mobilefacenet": MobileFaceNet68, "dlib68": Dlib68}


def model_file(config: Faces) -> Path:
    """The file of the landmark model that a configuration names.

    Raises:
        UserError: there is no such file, or it is a folder, a web page or a Git LFS pointer.
    """
    path = LANDMARKERS[config.landmarks].file(config)
    if reason := unusable(path):
        raise UserError(f"{path} {reason}: set faces.landmark_model to a file of {config.landmarks}")
    return path


@cache
def landmarker(config: Faces) -> Landmarker:
    """The landmark model that a configuration names, loaded once a process."""
    model_file(config)
    return LANDMARKERS[config.landmarks](config)


@cache
def model_digest(config: Faces) -> str:
    """SHA-256 of the landmark model's file."""
    return file_digest(model_file(config))
