"""Displacements of a face as colours and arrows, with the truth if it is known."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duchenne.evaluation.explained import Explained
from duchenne.reporting.maps.drawing import Sample, grid, name_of, show
from duchenne.reporting.style import INK

STEP = 16
"""Distance between two arrows, and length of an arrow at full colour, px."""

NAMES = {"truth": "truth", "dgm": "learnt (DGM)", "farneback": "Farnebäck", "dis": "DIS", "zero": "no motion"}
"""Method of :func:`duchenne.evaluation.motion.estimates` -> its name; Farnebäck 2003, Kroeger et al. 2016."""


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


def draw_displacements(explained: Explained, own: list[Sample]) -> Figure:
    """Draw a column per pair: onset, apex and its displacements, all on the scale of the first one; and the wheel."""
    names = [name for name in NAMES if f"field_{name}" in own[0].arrays]
    fields = [{name: sample.arrays[f"field_{name}"] for name in names} for sample in own]
    reaches = [float(np.nanquantile(np.linalg.norm(each[names[0]], axis=2), 0.99)) for each in fields]
    titles = [f"{name_of(explained, pair.row)}\n{reach:.1f} px" for pair, reach in zip(own, reaches, strict=True)]
    figure, axes, legend = grid(titles, ["onset", "apex", *(NAMES[name] for name in names)], margin=0.8)
    for column, pair, each, reach in zip(axes.T, own, fields, reaches, strict=True):
        for axis, frame in zip(column[:2], pair.arrays.get("faces", (None, None)), strict=True):
            show(axis, frame)
        errors = _errors(explained, pair)
        for axis, name in zip(column[2:], names, strict=True):
            axis.imshow(coloured(each[name], reach))
            _arrows(axis, each[name], reach)
            if name in errors:
                axis.set_xlabel(f"{errors[name]:.2f} px off", fontsize=7, labelpad=2)
    _wheel(legend[2])
    return figure


def _errors(explained: Explained, pair: Sample) -> dict[str, float]:
    """End-point errors of a pair by method, px; empty if the truth is not known."""
    if explained.table is None:
        return {}
    table = explained.table
    (row,) = table[(table["sample"] == pair.row.sample) & (table["fold"] == pair.row.fold)].to_dict("records")
    return row


def _arrows(axes: Axes, field: np.ndarray, reach: float) -> None:
    y, x = np.mgrid[STEP // 2 : field.shape[0] : STEP, STEP // 2 : field.shape[1] : STEP]
    dx, dy = np.moveaxis(field[y, x], -1, 0) * STEP / reach
    moving = np.hypot(dx, dy) > STEP / 8  # NaN is not
    style = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.006, "color": INK}
    axes.quiver(x[moving], y[moving], dx[moving], dy[moving], **style)


def _wheel(axes: Axes) -> None:
    y, x = np.mgrid[-1:1:129j, -1:1:129j]
    disc = np.where((np.hypot(x, y) <= 1)[..., None], np.stack([x, y], axis=2), np.nan)
    rgb = coloured(disc, 1.0)
    rgb[np.isnan(disc[..., 0])] = 1
    axes.set_visible(True)
    axes.imshow(rgb)
    axes.set_xlabel("edge: px above\nthe column", fontsize=7, labelpad=2)
