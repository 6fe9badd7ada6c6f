"""The five key points of alignment, from the 68 points of iBUG's 300-W mark-up."""

from __future__ import annotations

import numpy as np

LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)


def key_points(points: np.ndarray) -> np.ndarray:
    """Return eye centres (left and right in the image), nose tip and mouth corners: (..., 68, 2) -> (..., 5, 2)."""
    left, right = points[..., LEFT_EYE, :].mean(-2), points[..., RIGHT_EYE, :].mean(-2)
    return np.stack([left, right, points[..., 30, :], points[..., 48, :], points[..., 54, :]], axis=-2)
