"""Layout of a feature map: positions of its points, which the page needs to show their samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from duchenne.reporting.feature_map import Panel
from duchenne.reporting.style import WIDTH


class Layout(NamedTuple):
    """Sizes in inches, aspect ratio (height / width) of a map, and each map's left, bottom, width, height as shares."""

    width: float
    height: float
    shape: float
    boxes: list[tuple[float, float, float, float]]


def layout_of(panels: list[Panel], classes: list[str]) -> Layout:
    """Arrange the maps in rows of at most three, above a legend of the classes."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    rows = -(-len(panels) // columns)
    width = WIDTH if columns == 1 else 2 * WIDTH
    title = 0.25 if any(panel.title for panel in panels) else 0.0
    legend = 0.15 + 0.2 * -(-len(classes) // (4 * round(width / WIDTH)))
    extents = [np.ptp(panel.points, axis=0) for panel in panels]
    shape = float(np.clip(max(high / max(wide, 1e-9) for wide, high in extents), 0.55, 1))
    gap = 0.1 if len(panels) > 1 else 0.0
    map_width = width / columns - gap
    height = rows * (map_width * shape + title) + legend
    boxes = [
        (
            (i % columns / columns) + gap / 2 / width,
            1 - (i // columns + 1) * (map_width * shape + title) / height,
            map_width / width,
            map_width * shape / height,
        )
        for i in range(len(panels))
    ]
    return Layout(width, height, shape, boxes)


def places(panels: list[Panel], classes: list[str]) -> np.ndarray:
    """Return the positions of the points (N, 2), as shares of the figure's width and height from the upper left."""
    layout = layout_of(panels, classes)
    return np.concatenate(
        [
            (left, 1 - low) + on_map(panel.points, layout.shape) * (wide, -high / layout.shape)
            for panel, (left, low, wide, high) in zip(panels, layout.boxes, strict=True)
        ]
    )


def on_map(points: np.ndarray, shape: float) -> np.ndarray:
    """Shift and scale points, equally in both directions, into a map of width 1 and height ``shape``."""
    size = np.array([1, shape])
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return size / 2 + (points - middle) * 0.94 * np.min(size / np.maximum(np.ptp(points, axis=0), 1e-9))
