"""The six action-unit regions of FRL-DGT, located from the 68 points.

The meaning and the centre of each region are assumed by us: the supplement only numbers the regions.
"""

from __future__ import annotations

import numpy as np

REGIONS = {"eyes": 2, "brows": 2, "cheeks": 2, "nose": 1, "mouth": 1, "chin": 1}
"""Region -> number of boxes: left and right in the image, or one."""
BOX = 48
"""Side of a region's box in an aligned face of 224 px, in px."""


def centres(points: np.ndarray) -> np.ndarray:
    """Return the centres of the nine boxes in the order of :data:`REGIONS`: (..., 68, 2) -> (..., 9, 2).

    Eye: mean of its 6 points; brow: mean of its 5; cheek: midway between the eye's outer corner and the mouth corner;
    nose: mean of points 28-36 (counted from 1); mouth: mean of the 20; chin: midway between the lower lip's bottom
    and the chin tip.
    """

    def mean(*indices: int) -> np.ndarray:
        return points[..., list(indices), :].mean(-2)

    return np.stack(
        [
            mean(*range(36, 42)),
            mean(*range(42, 48)),
            mean(*range(17, 22)),
            mean(*range(22, 27)),
            mean(36, 48),
            mean(45, 54),
            mean(*range(27, 36)),
            mean(*range(48, 68)),
            mean(57, 8),
        ],
        axis=-2,
    )
