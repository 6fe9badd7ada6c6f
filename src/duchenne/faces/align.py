"""Alignment of a face by five key points."""

from __future__ import annotations

import cv2
import numpy as np

from duchenne.media.images import resized

# Key points in units of the distance between the eye centres, from the midpoint between the eyes, y down: the mean of
# 65 upright frontal adults (Face Research Lab London Set, dlib's points). Chin tip at (0, 1.82), jaw at x = +-1.14.
MEAN_FACE = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.48), (-0.40, 1.085), (0.40, 1.085)])
EYES_AT = 0.32
"""Distance of the eyes from the top of an aligned face, as a share of its size; brows and an open jaw both fit."""
DETECTED_BOX = np.array([-1.21, -0.71, 1.21, 1.72])
"""dlib's box of the mean face in the same units, which its landmark model expects around an aligned face."""


def template(size: int, eye_distance: float) -> np.ndarray:
    """Return the five key points (5, 2) of an aligned face of ``size`` px, x and y in px."""
    return MEAN_FACE * (eye_distance * size) + [size / 2, EYES_AT * size]


def template_box(size: int, eye_distance: float) -> np.ndarray:
    """Return the box (4,) of an aligned face as x0, y0, x1, y1 in px."""
    return DETECTED_BOX * (eye_distance * size) + np.tile([size / 2, EYES_AT * size], 2)


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the rotation, scale and shift that map ``points`` to ``target`` with the least squared distance.

    Points are taken as complex numbers and the transform is ``a * z + b``: Umeyama 1991, two dimensions, no reflection.

    Args:
        points, target: float (N, 2), N at least 2.

    Returns:
        float (2, 3), for column vectors (x, y, 1).

    >>> eyes = np.array([[30.0, 40.0], [50.0, 40.0]])
    >>> matrix = similarity(eyes, np.array([[38.0, 50.0], [74.0, 50.0]]))
    >>> apply(matrix, np.array([40.0, 50.0])).round(6)
    array([56., 68.])
    """
    z, w = (array[:, 0] + 1j * array[:, 1] for array in (points, target))
    away = z - z.mean()
    a = np.vdot(away, w - w.mean()) / np.vdot(away, away).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def whole(image: np.ndarray, size: int) -> np.ndarray:
    """Return the transform of a whole frame (H, W, 3) into the aligned square: longest side to ``size``, centred."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    x, y = ((size - 1) - scale * (side - 1) for side in (width, height))  # pixel centres coincide
    return np.array([[scale, 0, x / 2], [0, scale, y / 2]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a transform (2, 3) to points (..., 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Return the aligned face, uint8 (size, size, 3); outside the image its border is repeated.

    A mirrored border would put a second mouth under the chin of a tightly cut portrait.

    A transform that shrinks averages the image down first, so that fine texture does not alias.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 1:
        image, matrix = _visible(image, matrix, size, 2 / scale)
        small = resized(image, scale)
        factors = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]])
        image = small
        # pixel centres are at whole numbers: x_small = (x + 0.5) * factor - 0.5
        matrix = np.column_stack([matrix[:, :2] / factors, matrix[:, 2] + matrix[:, :2] @ (0.5 / factors - 0.5)])
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _visible(image: np.ndarray, matrix: np.ndarray, size: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image that a transform shows, with ``margin`` px around it, and the transform of that part."""
    corners = apply(cv2.invertAffineTransform(matrix), np.array([(x, y) for x in (0, size) for y in (0, size)]))
    sides = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=0) - margin), 0, sides - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + margin), low + 1, sides).astype(int)
    return image[low[1] : high[1], low[0] : high[0]], np.column_stack([matrix[:, :2], apply(matrix, low)])


def smooth(key_points: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth the trajectory of a video's key points to remove detection noise.

    Frames without a face (NaN) are interpolated between their neighbours, then the trajectory is smoothed by a Gaussian
    over time. On rendered talking heads at 25 frames/s a sigma of one frame (0.04 s) jitters least: 0.26 px per
    frame instead of 0.56, and 0.4 px of drift. At 0.2 s the crop no longer follows the head: 1.6 px of drift.

    Args:
        key_points: (T, 5, 2), at least one frame of it known.
        sigma: frames.
    """
    flat = key_points.reshape(len(key_points), -1)
    known = ~np.isnan(flat[:, 0])
    times = np.arange(len(flat))
    filled = np.stack([np.interp(times, times[known], column[known]) for column in flat.T], axis=1)
    if sigma > 0:
        from scipy.ndimage import gaussian_filter1d  # slow to import, and only videos need it

        filled = gaussian_filter1d(filled, sigma, axis=0, mode="nearest")
    return filled.reshape(key_points.shape)
