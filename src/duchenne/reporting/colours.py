"""Colours of all figures, and displacements as colours; needs no package that draws.

The palette is colour-blind safe, and no figure needs colour: markers, hatches, line styles and words carry the same
meaning.
"""

from __future__ import annotations

import cv2
import numpy as np

INK, SOFT, GRID, PAPER = "#1d242c", "#5d6772", "#d9dee3", "#ffffff"
BLUE, ORANGE = "#22598f", "#c2571a"
# After Okabe and Ito 2008, with grey and wine for its black and yellow, which vanish on a dark or a light page.
PALETTE = ("#2f8bd0", "#e69f00", "#17a67c", "#d55e00", "#56b4e9", "#cc79a7", "#8a8f98", "#9c3a63")
MARKERS = "osD^vPX*<>p"


def rgb(colour: str) -> tuple[float, ...]:
    """Return red, green and blue, 0 to 1, of a colour ``#rrggbb``."""
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def coloured(field: np.ndarray, reach: float) -> np.ndarray:
    """Colour a displacement (H, W, 2) as float (H, W, 3) RGB in [0, 1]: hue for direction, darker for longer.

    CIELAB with lightness from 97 to 47 and chroma from 0 to 40 at a length of ``reach`` px and above, so that length is
    visible without colour. Grey where the displacement is unknown (NaN).
    """
    known = np.isfinite(field[..., 0])
    x, y = np.nan_to_num(field).astype(np.float32).transpose(2, 0, 1)
    length = np.minimum(np.hypot(x, y) / reach, 1)
    angle = np.arctan2(y, x)
    lab = np.stack([97 - 50 * length, 40 * length * np.cos(angle), 40 * length * np.sin(angle)], axis=2)
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB).clip(0, 1)
    return np.where(known[..., None], rgb, 0.87)


def wheel(side: int = 129) -> np.ndarray:
    """Return the legend of :func:`coloured`, float (side, side, 3) RGB in [0, 1]: ``reach`` at the edge of a disc."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    outside = np.hypot(x, y) > 1
    return np.where(outside[..., None], 1.0, coloured(np.stack([x, y], axis=2), 1.0))
