"""Maps of networks for still images."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from duchenne.evaluation.explain import View, striking
from duchenne.networks import Facts
from duchenne.reporting.maps.drawing import grid, of_largest, overlay, scale, show
from duchenne.reporting.maps.exhibit import RESULTS, Exhibit, Maps, Picture
from duchenne.reporting.style import BLUE

ATTENTION = "Attention: the share of each cell, averaged over heads and queries, as a multiple of an even share."
GRAD_CAM = (
    "Grad-CAM (Selvaraju et al. 2017): of the predicted class, in the last map of the image branch, as a share of its "
    "largest value."
)
POINT = {"color": BLUE, "markersize": 2.2, "markeredgecolor": "white", "markeredgewidth": 0.4}
"""How a landmark is drawn."""


def image_maps(exhibit: Exhibit, facts: Facts, card: dict[str, Any]) -> Maps:
    """Landmarks, cross-fusion attention (POSTER++, https://arxiv.org/abs/2301.12149, Figs. 4 and 13) and Grad-CAM."""
    shown = sorted(exhibit.views(striking(exhibit.samples)), key=lambda view: view.sample.label)
    pictures = []
    for right, (name, adverb) in RESULTS.items():
        own = [view for view in shown if view.sample.right == right]
        if not own or not own[0].maps:
            continue
        sentences = [f"The most confident {name} answer of each class."]
        if own[0].maps.keys() & facts.maps:
            sentences += [ATTENTION, facts.caption]
        if "grad_cam" in own[0].maps:
            sentences.append(GRAD_CAM)
        caption = " ".join(filter(None, [*sentences, "White line: three quarters of the scale."]))
        alt = f"{len(own)} faces {adverb}, each with {len(own[0].maps)} maps of where the network looks."
        title = f"Where it looks: faces {adverb}"
        pictures.append(Picture(f"looks_{name}.png", title, caption, alt, _draw(exhibit, own, facts)))
    return pictures, {}, None


def _draw(exhibit: Exhibit, shown: list[View], facts: Facts) -> Figure:
    rows = {name: label for name, label in (facts.maps | {"grad_cam": "Grad-CAM"}).items() if name in shown[0].maps}
    points = exhibit.points([view.sample.sample for view in shown])
    heads = ["aligned\nface", *(["68 landmarks"] if points else [])]
    figure, axes, bars = grid([exhibit.named(view.sample) for view in shown], [*heads, *rows.values()])
    faces = [exhibit.face(view.sample.sample) for view in shown]
    for k in range(len(heads)):
        for axis, face, view in zip(axes[k], faces, shown, strict=True):
            show(axis, face)
            if k == 1 and view.sample.sample in points:
                axis.plot(*points[view.sample.sample].T, "o", **POINT)
    for row, bar, name in zip(axes[len(heads) :], bars[len(heads) :], rows, strict=True):
        maps = [view.maps[name] for view in shown]
        shares = name != "grad_cam"
        maps = [values * values.size if shares else of_largest(values) for values in maps]
        most = max(values.max() for values in maps)
        for axis, face, values in zip(row, faces, maps, strict=True):
            image = overlay(axis, face, values, most)
        scale(bar, image, "× even share" if shares else "of largest")
    return figure
