"""Displacements of a face as colours and arrows, with the truth if it is known."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duchenne.evaluation.explained import Explained
from duchenne.reporting.colours import INK, coloured, wheel
from duchenne.reporting.maps.drawing import Sample, grid, name_of, show

STEP = 16
"""Distance between two arrows, and length of an arrow at full colour, px."""

NAMES = {"truth": "truth", "dgm": "learnt (DGM)", "farneback": "Farnebäck", "dis": "DIS", "zero": "no motion"}
"""Method of :func:`duchenne.evaluation.motion.estimates` -> its name; Farnebäck 2003, Kroeger et al. 2016."""


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
    axes.set_visible(True)
    axes.imshow(wheel())
    axes.set_xlabel("edge: px above\nthe column", fontsize=7, labelpad=2)
