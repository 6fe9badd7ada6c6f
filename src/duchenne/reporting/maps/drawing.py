"""Panels of faces with maps over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from duchenne.evaluation.explained import SIDE, Explained
from duchenne.reporting import style

CELL = 1.3
"""Side of a drawn face, inches."""
LINE = 0.75
"""Share of the scale at which a line is drawn; at one half, nearly even attention would be covered by lines."""
STYLE = style.STYLE | {
    "axes.grid": False,
    "font.size": 8,
    "savefig.facecolor": style.PAPER,
    "savefig.transparent": False,
}

RESULTS = {True: ("right", "correctly classified"), False: ("wrong", "misclassified")}
"""Whether a prediction is correct -> word in file names and captions, and in titles."""


class Picture(NamedTuple):
    """A drawn figure and its words."""

    file: str
    title: str
    caption: str
    alt: str
    figure: Figure


class Sample(NamedTuple):
    """A shown sample."""

    row: Any
    """row of ``Explained.samples``, by attribute"""
    arrays: Mapping[str, np.ndarray]


def shown(explained: Explained, right: bool) -> list[Sample]:
    """Return the samples that were classified correctly, or the others."""
    pairs = zip(explained.samples.itertuples(), explained.arrays, strict=True)
    return [Sample(row, arrays) for row, arrays in pairs if row.right == right]


def name_of(explained: Explained, row: Any) -> str:
    """Return a title: class, predicted class if different, and confidence."""
    lines = [explained.classes[row.label]]
    if row.label != row.predicted:
        lines.append(f"predicted {explained.classes[row.predicted]}")
    return "\n".join([*lines, f"{row.confidence:.0%}".replace("%", " %")])


def map_sentences(explained: Explained, maps: Sequence[str], own: str) -> str:
    """Return the sentences of a caption on maps; ``own`` describes the network's maps besides Grad-CAM."""
    sentences = [own, explained.caption] if set(maps) & set(explained.own) else []
    if "grad_cam" in maps:
        sentences.append(
            f"Grad-CAM (Selvaraju et al. 2017): of the predicted class, in the output of the layer {explained.layer}, "
            "as a share of its largest value."
        )
    return " ".join(filter(None, [*sentences, "White line: three quarters of the scale."]))


def grid(columns: list[str], rows: list[str], margin: float = 0.06) -> tuple[Figure, np.ndarray, np.ndarray]:
    """Make a figure of square panels with titles over its columns and labels beside its rows.

    Args:
        margin: width of the panels at the right end, in panels.

    Returns:
        The figure, its panels (rows, columns), and those at the right end (rows,), which are hidden.
    """
    size = (1.6 + CELL * (len(columns) + margin), 0.6 + CELL * len(rows))
    # "constrained" measures the words beside the panels before these are made square, and cuts them off
    figure = Figure(figsize=size, layout="compressed")
    widths = [*[1.0] * len(columns), margin]
    axes = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    for axis in axes.flat:
        bare(axis)
    for axis in axes[:, -1]:
        axis.set_visible(False)
    for axis, title in zip(axes[0, :-1], columns, strict=True):
        axis.set_title(title, fontsize=8)
    for axis, words in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(words, rotation=0, ha="right", va="center")
    return figure, axes[:, :-1], axes[:, -1]


def bare(axes: Axes) -> None:
    """Remove ticks and frame of a panel."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def show(axes: Axes, face: np.ndarray | None) -> None:
    """Show a face in grey (224, 224), or a white panel."""
    axes.imshow(np.full((SIDE, SIDE), 255, np.uint8) if face is None else face, cmap="gray", vmin=0, vmax=255)


def overlay(axes: Axes, face: np.ndarray | None, values: np.ndarray, most: float) -> AxesImage:
    """Draw a map (H, W) from 0 to ``most`` over a face, transparent where it is NaN."""
    show(axes, face)
    fine = cv2.resize(values.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    image = axes.imshow(fine, cmap="viridis", vmin=0, vmax=most, alpha=0.6)
    if np.nanmin(fine) < LINE * most < np.nanmax(fine):
        axes.contour(fine, levels=[LINE * most], colors="white", linewidths=1.0)
    return image


def scale(axes: Axes, image: AxesImage, words: str) -> None:
    """Turn a panel into the colour bar of a map."""
    axes.set_visible(True)
    axes.figure.colorbar(image, cax=axes, label=words).outline.set_visible(False)


def draw_maps(
    explained: Explained,
    axes: np.ndarray,
    bars: np.ndarray,
    faces: Sequence[np.ndarray | None],
    maps: Mapping[str, Sequence[np.ndarray]],
    clear: bool = False,
) -> None:
    """Draw each map as a row of panels over the faces, with its colour bar.

    Args:
        axes: panels (maps, faces).
        bars: panels at the right end (maps,).
        faces: faces in grey (224, 224); None: a white panel.
        maps: name -> map (H, W) of each face: the network's own as multiples of an even share, Grad-CAM in any unit.
        clear: whether zeros are transparent.
    """
    for row, bar, (name, values) in zip(axes, bars, maps.items(), strict=True):
        own = name in explained.own
        values = values if own else [of_largest(drawn) for drawn in values]
        most = max(drawn.max() for drawn in values)
        for axis, face, drawn in zip(row, faces, values, strict=True):
            image = overlay(axis, face, np.where(drawn > 0, drawn, np.nan) if clear else drawn, most)
        scale(bar, image, "× even share" if own else "of largest")


def of_largest(values: np.ndarray) -> np.ndarray:
    """Return a map as shares of its largest value; a map of zeros does not change."""
    return values / (values.max() or 1.0)
