"""Maps of networks for onset and apex."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from duchenne.evaluation.explain import CLIP, View, striking
from duchenne.evaluation.motion import errors, estimates, true_displacement
from duchenne.networks import Facts
from duchenne.reporting.maps.displacement import NAMES, STEP, Pair, draw_displacements
from duchenne.reporting.maps.drawing import grid, of_largest, overlay, scale
from duchenne.reporting.maps.exhibit import RESULTS, SIDE, Exhibit, Maps, Picture
from duchenne.reporting.style import BLUE, INK


def pair_maps(exhibit: Exhibit, facts: Facts, card: dict[str, Any]) -> Maps:
    """Displacements, their errors where the truth is known, and fusion weights (FRL-DGT, supplement, Fig. 2).

    With the truth all pairs are looked at, for the errors.
    """
    chosen = striking(exhibit.samples)
    right = chosen.set_index(CLIP)["right"].to_dict()
    shown: dict[bool, list[Pair]] = {True: [], False: []}
    rows = []
    for view in exhibit.views(chosen if exhibit.truth is None else exhibit.samples):
        pair = _pair(exhibit, view)
        key = view.sample.sample, view.sample.fold
        if pair.errors:
            rows.append(dict(zip(CLIP, key, strict=True)) | pair.errors)
        if key in right:
            shown[right[key]].append(pair)
    table = pd.DataFrame(rows) if rows else None
    numbers = {} if table is None else {f"error_{name}": float(table[name].mean()) for name in _methods(table)}
    pictures = [] if table is None else [_errors(table, numbers)]
    for correct, (name, adverb) in RESULTS.items():
        if own := sorted(shown[correct], key=lambda pair: pair.view.sample.label):
            pictures += _pictures(exhibit, own, facts, name, adverb)
    return pictures, numbers, table


def _pair(exhibit: Exhibit, view: View) -> Pair:
    learnt = view.maps.get("displacement") if len(view.x) == 2 else None  # else it is the flow of the input
    found = estimates(view.x, learnt)
    if exhibit.truth is None:
        return Pair(view, found, {})
    truth = true_displacement(exhibit.truth, exhibit.store, view.sample.sample, view.sample.onset)
    return Pair(view, {"truth": truth} | found, errors(found, truth))


def _pictures(exhibit: Exhibit, shown: list[Pair], facts: Facts, name: str, adverb: str) -> Iterator[Picture]:
    who = f"The most confident {name} answer of each class."
    yield Picture(
        f"motion_{name}.png",
        f"The motion it sees: pairs {adverb}",
        f"{who} Colour: direction as in the wheel, the darker the longer, in full at the length above the column, in "
        f"px of a face of {SIDE} px; an arrow of {STEP} px has that length. Below each estimate, where the truth is "
        "known, is its mean distance from it inside the face. The learnt displacement is given where motion arrives, "
        "the others where it starts.",
        f"{len(shown)} pairs of onset and apex {adverb}, with the displacement between them by several methods.",
        draw_displacements(exhibit, shown),
    )
    rows = {name: label for name, label in (facts.maps | {"grad_cam": "Grad-CAM"}).items() if name != "displacement"}
    rows = {name: label for name, label in rows.items() if name in shown[0].view.maps}
    if rows:
        sentences = [who, *([facts.caption] if rows.keys() & facts.maps else [])]
        if "grad_cam" in rows:
            sentences.append(
                "Grad-CAM (Selvaraju et al. 2017): of the predicted class, as a share of its largest value."
            )
        yield Picture(
            f"looks_{name}.png",
            f"Where it looks: pairs {adverb}",
            " ".join(filter(None, [*sentences, "White line: three quarters of the scale."])),
            f"{len(shown)} faces {adverb}, each with {len(rows)} maps of where the network looks.",
            _draw_maps(exhibit, [pair.view for pair in shown], rows),
        )


def _methods(table: pd.DataFrame) -> list[str]:
    return [method for method in NAMES if method in table]


def _errors(table: pd.DataFrame, numbers: dict[str, float]) -> Picture:
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


def _draw_maps(exhibit: Exhibit, shown: list[View], rows: dict[str, str]) -> Figure:
    figure, axes, bars = grid([exhibit.named(view.sample) for view in shown], list(rows.values()))
    for row, bar, name in zip(axes, bars, rows, strict=True):
        shares = [of_largest(view.maps[name]) if name == "grad_cam" else view.maps[name] for view in shown]
        most = max(share.max() for share in shares)
        for axis, view, share in zip(row, shown, shares, strict=True):
            face = (view.x[1] * 255).astype(np.uint8) if exhibit.show_faces else None
            image = overlay(axis, face, np.where(share > 0, share, np.nan), most)
        scale(bar, image, "of largest" if name == "grad_cam" else "× even share")
    return figure
