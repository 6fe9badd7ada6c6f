"""Maps of networks for still images."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from duchenne.evaluation.explain import View, striking
from duchenne.reporting.maps.drawing import grid, of_largest, overlay, scale, show
from duchenne.reporting.maps.exhibit import RESULTS, Exhibit, Maps, Picture

ROWS = {
    "scale1": "attention\n28 × 28",
    "scale2": "attention\n14 × 14",
    "scale3": "attention\n7 × 7",
    "landmarks": "attention to\nlandmarks\n7 × 7",
    "grad_cam": "Grad-CAM",
}
"""Map of a network -> what stands beside it."""


def image_maps(exhibit: Exhibit, card: dict[str, Any]) -> Maps:
    """Cross-fusion attention (POSTER++, https://arxiv.org/abs/2301.12149, Figs. 4 and 13) and Grad-CAM."""
    shown = sorted(exhibit.views(striking(exhibit.samples)), key=lambda view: view.sample.label)
    pictures = []
    for right, (name, adverb) in RESULTS.items():
        own = [view for view in shown if view.sample.right == right]
        if not own:
            continue
        attention = (
            "Attention: the share of each cell, averaged over heads and queries, as a multiple of an even share. "
        )
        caption = (
            f"The most confident {name} answer of each class. {attention if len(own[0].maps) > 1 else ''}"
            "Grad-CAM (Selvaraju et al. 2017): of the predicted class, in the last map of the image branch, as a share "
            "of its largest value. White line: three quarters of the scale."
        )
        alt = f"{len(own)} faces {adverb}, each with {len(own[0].maps)} maps of where the network looks."
        title = f"Where it looks: faces {adverb}"
        pictures.append(Picture(f"looks_{name}.png", title, caption, alt, _draw(exhibit, own)))
    return pictures, {}, None


def _draw(exhibit: Exhibit, shown: list[View]) -> Figure:
    names = list(shown[0].maps)
    columns, rows = [exhibit.named(view.sample) for view in shown], ["aligned\nface", *(ROWS[name] for name in names)]
    figure, axes, bars = grid(columns, rows)
    faces = [exhibit.face(view.sample.sample) for view in shown]
    for axis, face in zip(axes[0], faces, strict=True):
        show(axis, face)
    for row, bar, name in zip(axes[1:], bars[1:], names, strict=True):
        maps = [view.maps[name] for view in shown]
        shares = name != "grad_cam"
        maps = [values * values.size if shares else of_largest(values) for values in maps]
        most = max(values.max() for values in maps)
        for axis, face, values in zip(row, faces, maps, strict=True):
            image = overlay(axis, face, values, most)
        scale(bar, image, "× even share" if shares else "of largest")
    return figure
