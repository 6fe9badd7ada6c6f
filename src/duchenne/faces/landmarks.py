"""Landmark models, which place 68 points in a face, behind one small interface."""

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
            UserError: The file is not one of this model.
        """

    @staticmethod
    def file(config: Faces) -> Path:
        """Return the model's file: ``config.landmark_model``, or the one of an installed package."""
        ...

    def __call__(self, image: np.ndarray, box: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Place points, float (68, 2) x and y in px, in an image, uint8 (H, W, 3) RGB, with a face box (4,).

        Args:
            start: points of the same face in the previous frame of a clip, from which a model may start.
        """
        ...


LANDMARKERS: dict[str, type[Landmarker]] = {"mobilefacenet": MobileFaceNet68, "dlib68": Dlib68}


def model_file(config: Faces) -> Path:
    """Return the file of the landmark model named in a configuration.

    Raises:
        UserError: The file does not exist, or is a folder, a web page or a Git LFS pointer.
    """
    path = LANDMARKERS[config.landmarks].file(config)
    if reason := unusable(path):
        raise UserError(f"{path} {reason}: set faces.landmark_model to a file of {config.landmarks}")
    return path


@cache
def landmarker(config: Faces) -> Landmarker:
    """Return the landmark model named in a configuration, loaded once per process."""
    model_file(config)
    return LANDMARKERS[config.landmarks](config)


@cache
def model_digest(config: Faces) -> str:
    """Return the SHA-256 of the landmark model's file."""
    return file_digest(model_file(config))
