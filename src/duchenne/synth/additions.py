"""Small meshes that anny's head lacks, in its coordinates: teeth, shoulders, long hair (shapes chosen by us)."""

from __future__ import annotations

from collections import Counter

import numpy as np

SHOULDER_RINGS = 6


def open_edge(faces: np.ndarray) -> np.ndarray:
    """The vertices of the open lower edge of the neck, in order around it."""
    sides = [tuple(side) for face in faces.tolist() for side in zip(face, face[1:] + face[:1], strict=True)]
    both = Counter(frozenset(side) for side in sides)
    after = {a: b for a, b in sides if both[frozenset((a, b))] == 1}
    loop = [min(after)]
    while (follower := after[loop[-1]]) != loop[0]:
        loop.append(follower)
    return np.array(loop)


def grid(rows: int, columns: int, closed: bool) -> np.ndarray:
    """Triangles over a grid of vertices stored row after row."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b = r * columns + c, r * columns + (c + 1) % columns
    return np.concatenate(
        [np.stack([a, b, b + columns], -1).reshape(-1, 3), np.stack([a, b + columns, a + columns], -1).reshape(-1, 3)]
    )


def teeth(front: float, top: float, bottom: float) -> tuple[np.ndarray, np.ndarray]:
    """Mesh of a dental arch: a parabola through the incisors and the molars, as high as the crowns and some gum."""
    x = np.linspace(-25.0, 25.0, 33)
    y = front + 30.0 * (x / 25.0) ** 2
    rows = [np.stack([x, y + 1.2 * k, np.full_like(x, z)], axis=1) for k, z in enumerate((top, bottom))]
    return np.concatenate(rows), grid(2, len(x), closed=False)


def shoulders(edge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The neck continued downwards from its open ``edge`` (N, 3), widening into shoulders."""
    centre = edge.mean(axis=0)
    rings = []
    for wide, deep, level, keep in (
        (1.0, 1.0, centre[2], 1.0), (1.05, 1.0, -135.0, 0.3), (1.3, 1.05, -152.0, 0.15),
        (2.6, 1.3, -170.0, 0.05), (3.7, 1.6, -200.0, 0.0), (4.0, 1.8, -420.0, 0.0),
    ):  # fmt: skip
        ring = centre + (edge - centre) * [wide, deep, keep]
        ring[:, 2] += level - centre[2]
        rings.append(ring)
    return np.concatenate(rings), grid(SHOULDER_RINGS, len(edge), closed=True)


def curtain() -> tuple[np.ndarray, np.ndarray]:
    """Mesh of long hair: it hangs around the sides and the back of the head down to the shoulders."""
    angle = np.radians(np.linspace(-112.0, 112.0, 41))
    rows = []
    for z, wide in (
        (88, 0.70),
        (70, 0.86),
        (45, 0.97),
        (15, 1.03),
        (-20, 1.05),
        (-60, 1.06),
        (-110, 1.08),
        (-165, 1.12),
    ):
        lift = 6.0 * np.sin(9 * angle + 0.02 * z)  # locks
        x = (82.0 * wide + 0.25 * lift) * np.sin(angle)
        y = 58.0 + (98.0 * wide + 0.25 * lift) * np.cos(angle)
        rows.append(np.stack([x, y, np.full_like(x, z)], axis=1))
    return np.concatenate(rows), grid(len(rows), len(angle), closed=False)
