"""Maps of networks for still images."""

from __future__ import annotations

from matplotlib.figure import Figure

from duchenne.evaluation.explained import Explained
from duchenne.reporting.colours import BLUE
from duchenne.reporting.maps.drawing import (
    RESULTS,
    Picture,
    Sample,
    draw_maps,
    grid,
    map_sentences,
    name_of,
    show,
    shown,
)

ATTENTION = "Attention: the share of each cell, averaged over heads and queries, as a multiple of an even share."
POINT = {"color": BLUE, "markersize": 2.2, "markeredgecolor": "white", "markeredgewidth": 0.4}
"""Style of a landmark."""


def image_pictures(explained: Explained) -> list[Picture]:
    """Draw landmarks, cross-fusion attention (POSTER++, https://arxiv.org/abs/2301.12149, Figs. 4, 13) and Grad-CAM."""
    pictures = []
    for right, (name, adverb) in RESULTS.items():
        own = shown(explained, right)
        maps = [key for key in explained.maps if own and key in own[0].arrays]
        if not maps:
            continue
        caption = f"The most confident {name} answer of each class. {map_sentences(explained, maps, ATTENTION)}"
        alt = f"{len(own)} faces {adverb}, each with {len(maps)} maps of where the network looks."
        title = f"Where it looks: faces {adverb}"
        pictures.append(Picture(f"looks_{name}.png", title, caption, alt, _draw(explained, own, maps)))
    return pictures


def _draw(explained: Explained, own: list[Sample], maps: list[str]) -> Figure:
    points = any("points" in sample.arrays for sample in own)
    heads = ["aligned\nface", *(["68 landmarks"] if points else [])]
    titles = [name_of(explained, sample.row) for sample in own]
    figure, axes, bars = grid(titles, heads + [explained.maps[name] for name in maps])
    faces = [sample.arrays.get("face") for sample in own]
    for k in range(len(heads)):
        for axis, face, sample in zip(axes[k], faces, own, strict=True):
            show(axis, face)
            if k == 1 and "points" in sample.arrays:
                axis.plot(*sample.arrays["points"].T, "o", **POINT)
    values = {
        name: [sample.arrays[name] * (sample.arrays[name].size if name in explained.own else 1) for sample in own]
        for name in maps
    }
    draw_maps(explained, axes[len(heads) :], bars[len(heads) :], faces, values)
    return figure
