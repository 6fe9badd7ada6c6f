"""The 68 landmarks of iBUG's 300-W mark-up as points on the head, and the five key points of alignment.

Each landmark is a weighted mean of up to three vertices of the head. Brows and the outer line of the lips follow the
person's texture; lids and the corners of eyes and mouth follow the mesh. The others were chosen on the template so
that on rendered neutral faces they agree on average with dlib's 68-point predictor, which was trained on that mark-up.
The exception is the jaw beside the ears: no landmark lies where hair grows. :data:`PLACES` gives the side of positive x
(the right half of an upright picture); the other side is its mirror image.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from duchenne.synth.head import SKIN, load_head
from duchenne.synth.paint import Look, brow_line, lip_edges

_MIRROR = {
    **{i: 16 - i for i in range(8)},
    **{17 + i: 26 - i for i in range(5)},
    31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46,
    48: 54, 49: 53, 50: 52, 60: 64, 61: 63, 59: 55, 58: 56, 67: 65,
}  # fmt: skip
"""Landmark of the left half of the picture -> its mirror image on the right."""

PLACES: dict[int, dict[int, float] | tuple[int, ...]] = {
    8: (732,), 9: (2942, 3703), 10: (2946, 3705), 11: (2939, 3707), 12: (2825,), 13: (2826, 3621), 14: (2409, 3619),
    15: (3616, 3619), 16: (3617,),
    27: (132,), 28: (131, 135), 29: (164,), 30: {1409: 0.72, 294: 0.28},
    33: (317, 343), 34: (2446, 2447), 35: (2452, 2465),
    # the lids seem to meet a little inside their corners
    42: {2221: 0.935, 3427: 0.065}, 43: {3437: 0.7, 3438: 0.3}, 44: (3420, 3060),
    45: {3427: 0.915, 2221: 0.085}, 46: (3432, 2195), 47: {3434: 0.7, 3435: 0.3},
    54: (2555, 3404),  # where the lips meet
    62: (474,), 63: (2598,), 64: (2567, 2568), 65: (2612,), 66: (493,),
}  # fmt: skip
"""Landmark (0-based) -> the vertices of the head that it is the mean of, or their weights."""

BROW = {22: (0.0, 0.1), 23: (0.26, 0.9), 24: (0.54, 0.9), 25: (0.8, 1.1), 26: (1.03, 0.0)}
"""Landmark -> position along the brow, 0 to 1 at the tail, and height above its middle line in half widths."""
LIPS = {
    51: (0.0, 0, -0.2), 52: (6.2, 0, 0.2), 53: (15.1, 0, 0.0),
    55: (15.5, 1, 0.0), 56: (5.8, 1, -0.5), 57: (0.0, 1, -0.7),
}  # fmt: skip
"""Landmark -> x in mm, whether it is on the upper or the lower edge of the lips' red, and height above it in mm.

dlib's predictor places the middle of both edges lower than they are painted, and the peaks higher.
"""

LEFT_EYE, RIGHT_EYE, NOSE_TIP, MOUTH_CORNERS = slice(36, 42), slice(42, 48), 30, (48, 54)

FRAMED = (
    (1580,), (2372,), *(PLACES[i] for i in range(9, 17)), (1409,), (2371, 2376), (2367,), (2374, 2375), (2394, 2401),
)  # fmt: skip
"""Landmarks that frame a picture, independent of a person's texture: chin, top of the brow, jaw, nose tip, brow."""


@dataclass(frozen=True)
class Anchors:
    """Landmarks as weighted means of vertices: both (N, 3)."""

    vertices: np.ndarray
    weights: np.ndarray

    def on(self, face: np.ndarray) -> np.ndarray:
        """Return the landmarks (N, 3) on a face (V, 3)."""
        return (face[self.vertices] * self.weights[..., None]).sum(axis=1)


def anchors(look: Look) -> Anchors:
    """Return the 68 landmarks of a person with this texture."""
    places = {name: _mean(place) for name, place in PLACES.items()}
    for name, (along, above) in BROW.items():
        x, z, half = brow_line(along, look)
        places[name] = _on_skin(x, z + above * half)
    for name, (x, edge, above) in LIPS.items():
        places[name] = _on_skin(x, lip_edges(x, look)[edge] + above)
    places |= {name: _mirrored(places[twin]) for name, twin in _MIRROR.items()}
    return _anchors(places[name] for name in range(68))


@functools.cache
def framed() -> Anchors:
    """Return :data:`FRAMED`, followed by its mirror image."""
    places = [_mean(place) for place in FRAMED]
    return _anchors([*places, *map(_mirrored, places)])


Place = tuple[np.ndarray, np.ndarray]  # three vertices and their weights


def _mean(place: tuple[int, ...] | dict[int, float]) -> Place:
    weights = place if isinstance(place, dict) else dict.fromkeys(place, 1 / len(place))
    unused = 3 - len(weights)
    return np.array([*weights, *[0] * unused]), np.array([*weights.values(), *[0.0] * unused])


def _mirrored(place: Place) -> Place:
    return _twins()[place[0]], place[1]


def _on_skin(x: float, z: float) -> Place:
    """The point of the front skin at x and z (mm) of the resting template's frontal plane."""
    head = load_head()
    cells = head.triangles[head.part == SKIN]
    a, b, c = (head.template[cells[:, i]][:, [0, 2]] for i in range(3))
    ab, ac, ap = b - a, c - a, np.array([x, z]) - a
    area = _cross(ab, ac)
    area[area == 0] = np.nan  # seen edge-on: no point is inside
    v, w = _cross(ap, ac) / area, _cross(ab, ap) / area
    weights = np.stack([1 - v - w, v, w], axis=1)
    inside = np.flatnonzero((weights >= -1e-6).all(axis=1))
    depth = (weights[inside] * head.template[cells[inside], 1]).sum(axis=1)
    hit = inside[depth.argmin()]
    return cells[hit], weights[hit]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


@functools.cache
def _twins() -> np.ndarray:
    """Vertex of the skin -> its counterpart on the other side."""
    head = load_head()
    skin = head.template[: head.shapes.shape[1]]
    return cKDTree(skin).query(skin * [-1.0, 1.0, 1.0])[1]


def _anchors(places: Iterable[Place]) -> Anchors:
    vertices, weights = zip(*places, strict=True)
    return Anchors(np.stack(vertices), np.stack(weights))


def key_points(points: np.ndarray) -> np.ndarray:
    """Return eye centres, nose tip and mouth corners (5, 2) of landmarks (68, 2), left to right in the picture."""
    eyes = points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0)
    return np.stack([*eyes, points[NOSE_TIP], points[MOUTH_CORNERS[0]], points[MOUTH_CORNERS[1]]])


def face_box(points: np.ndarray) -> np.ndarray:
    """Return the face box x0, y0, x1, y1: the box of the landmarks (68, 2), a quarter higher for the forehead."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([low[0], low[1] - 0.25 * (high[1] - low[1]), high[0], high[1]])
