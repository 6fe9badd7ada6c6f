"""The 68 landmarks of iBUG's 300-W mark-up as places on the head, and the five key points of alignment.

Each landmark is one vertex of the head, or the middle of two. Chosen once on the template, by eye and so that they
agree on average with dlib's 68-point predictor, which was trained on that mark-up; none lies where hair grows. The
table gives the side of positive x (the right half of an upright picture), and its mirror image follows.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.spatial import cKDTree

from duchenne.synth.head import load_head

_MIRROR = {
    **{i: 16 - i for i in range(8)},
    **{17 + i: 26 - i for i in range(5)},
    31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46,
    48: 54, 49: 53, 50: 52, 60: 64, 61: 63, 59: 55, 58: 56, 67: 65,
}  # fmt: skip
"""Landmark of the left half of the picture -> the one it mirrors."""

PLACES: dict[int, tuple[int, ...]] = {
    8: (1580,), 9: (2942, 3703), 10: (2946, 3705), 11: (2939, 3707), 12: (2825,), 13: (2826, 3621), 14: (2409, 3619),
    15: (3616, 3619), 16: (3617,),
    22: (2371, 2376), 23: (2367,), 24: (2372,), 25: (2374, 2375), 26: (2394, 2401),
    27: (132,), 28: (131, 135), 29: (164,), 30: (1409,),
    33: (343,), 34: (2447,), 35: (2465, 2485),
    42: (2221,), 43: (3437,), 44: (3420,), 45: (3427,), 46: (3432,), 47: (3434,),
    51: (466,), 52: (2590,), 53: (3758,), 54: (2553,), 55: (2609, 2536), 56: (2611, 2615), 57: (492, 496),
    62: (474,), 63: (2597, 2598), 64: (2574,), 65: (2606, 2612), 66: (493,),
}  # fmt: skip
"""Landmark (0-based) -> vertices of the head whose mean it is."""

LEFT_EYE, RIGHT_EYE, NOSE_TIP, MOUTH_CORNERS = slice(36, 42), slice(42, 48), 30, (48, 54)


@functools.cache
def _vertices() -> np.ndarray:
    """(68, 2) vertex numbers; one vertex is named twice."""
    head = load_head()
    skin = head.template[: head.shapes.shape[1]]
    mirrored = cKDTree(skin).query(skin * [-1.0, 1.0, 1.0])[1]
    table = np.zeros((68, 2), int)
    for landmark, vertices in PLACES.items():
        table[landmark] = vertices[0], vertices[-1]
    for landmark, twin in _MIRROR.items():
        table[landmark] = mirrored[table[twin]]
    return table


def landmarks(vertices: np.ndarray) -> np.ndarray:
    """The landmarks (68, 3) of a face (V, 3)."""
    return vertices[_vertices()].mean(axis=1)


def key_points(points: np.ndarray) -> np.ndarray:
    """Eye centres, nose tip and mouth corners (5, 2) in the order of the picture, from landmarks (68, 2)."""
    eyes = points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0)
    return np.stack([*eyes, points[NOSE_TIP], points[MOUTH_CORNERS[0]], points[MOUTH_CORNERS[1]]])


def face_box(points: np.ndarray) -> np.ndarray:
    """The face's box x0, y0, x1, y1: that of the landmarks (68, 2), a quarter higher for the forehead."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([low[0], low[1] - 0.25 * (high[1] - low[1]), high[0], high[1]])
