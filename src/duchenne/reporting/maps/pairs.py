"""Maps of networks for onset and apex."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from duchenne.evaluation.explained import SIDE, Explained
from duchenne.reporting.colours import BLUE, INK
from duchenne.reporting.maps.displacement import NAMES, STEP, draw_displacements
from duchenne.reporting.maps.drawing import RESULTS, Picture, Sample, draw_maps, grid, map_sentences, name_of, shown


def pair_pictures(explained: Explained) -> list[Picture]:
    """Draw errors if the truth is known, displacements, and fusion weights (FRL-DGT, supplement, Fig. 2)."""
    pictures = [] if explained.table is None else [_errors(explained)]
    for right, (name, adverb) in RESULTS.items():
        if own := shown(explained, right):
            pictures += _pictures(explained, own, name, adverb)
    return pictures


def _pictures(explained: Explained, own: list[Sample], name: str, adverb: str) -> Iterator[Picture]:
    who = f"The most confident {name} answer of each class."
    yield Picture(
        f"motion_{name}.png",
        f"The motion it sees: pairs {adverb}",
        f"{who} Colour: direction as in the wheel, the darker the longer, in full at the length above the column, in "
        f"px of a face of {SIDE} px; an arrow of {STEP} px has that length. Below each estimate, where the truth is "
        "known, is its mean distance from it inside the face. The learnt displacement is given where motion arrives, "
        "the others where it starts.",
        f"{len(own)} pairs of onset and apex {adverb}, with the displacement between them by several methods.",
        draw_displacements(explained, own),
    )
    if maps := [key for key in explained.maps if key in own[0].arrays]:
        yield Picture(
            f"looks_{name}.png",
            f"Where it looks: pairs {adverb}",
            f"{who} {map_sentences(explained, maps, '')}",
            f"{len(own)} faces {adverb}, each with {len(maps)} maps of where the network looks.",
            _draw_maps(explained, own, maps),
        )


def _methods(table: pd.DataFrame) -> list[str]:
    return [method for method in NAMES if method in table]


def _errors(explained: Explained) -> Picture:
    table, numbers = explained.table, explained.numbers
    methods = _methods(table)
    figure = Figure(figsize=(4.8, 0.9 + 0.35 * len(methods)))
    axes = figure.subplots()
    for place, method in enumerate(methods):
        mean = numbers[f"error_{method}"]
        axes.plot(table[method], np.full(len(table), place), "o", color=BLUE, alpha=0.35, markersize=5, linewidth=0)
        axes.plot(mean, place, "|", color=INK, markersize=16, markeredgewidth=2)
        axes.annotate(f"{mean:.2f}", (mean, place), (0, 9), textcoords="offset points", ha="center", fontsize=7.5)
    axes.set_yticks(range(len(methods)), [NAMES[method] for method in methods])
    axes.set(xlim=(0, None), ylim=(len(methods) - 0.4, -0.8), xlabel="mean end-point error inside the face, px")
    axes.grid(axis="x")
    said = ", ".join(f"{NAMES[method]} {numbers[f'error_{method}']:.2f}" for method in methods)
    caption = (
        f"Mean end-point error of the displacement from onset to apex, in px of a face of {SIDE} px, a dot for each of "
        f"{len(table)} rendered test pairs and a bar at their mean: {said}. Without motion it is the mean length of "
        "the true displacement."
    )
    return Picture("motion_errors.png", "How well it sees motion", caption, f"End-point errors in px: {said}.", figure)


def _draw_maps(explained: Explained, own: list[Sample], maps: list[str]) -> Figure:
    titles = [name_of(explained, sample.row) for sample in own]
    figure, axes, bars = grid(titles, [explained.maps[name] for name in maps])
    faces = [sample.arrays["faces"][1] if "faces" in sample.arrays else None for sample in own]
    draw_maps(
        explained, axes, bars, faces, {name: [sample.arrays[name] for sample in own] for name in maps}, clear=True
    )
    return figure
