"""Maps of networks for clips."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from duchenne.catalog import Recipe
from duchenne.evaluation.explain import CLIP, agreement, readings, striking
from duchenne.reporting.maps.drawing import CELL, bare, of_largest, overlay
from duchenne.reporting.maps.exhibit import RESULTS, Exhibit, Maps, Picture
from duchenne.reporting.style import BLUE, GRID, ORANGE

HALVES = {
    "dynamic": ("dynamic half", BLUE, "o-"),
    "static": ("static half", ORANGE, "s--"),
    "clip": ("clip", BLUE, "o-"),
}
"""Part of a clip, as a network reads it -> label, colour, marker and dashes."""

WORDS = {
    "attention_dynamic": "the dynamic half's attention",
    "attention_static": "the static half's",
    "attention_clip": "attention",
    "split": "belonging to the dynamic half",
}
"""Number of :func:`duchenne.evaluation.explain.agreement` -> what correlates with the expression."""


def clip_maps(exhibit: Exhibit, card: dict[str, Any]) -> Maps:
    """Gradient attention over frames and face (IFDD, https://arxiv.org/abs/2412.13168, Fig. 2a).

    Clips whose onset and offset are known are all looked at, for the numbers.
    """
    clip = Recipe.model_validate(card["variant"]["recipe"]).clip
    chosen = striking(exhibit.samples)
    known = exhibit.samples[exhibit.samples[["onset", "offset"]].notna().all(axis=1)]
    looked_at = pd.concat([known, chosen]).drop_duplicates(CLIP)
    read = pd.DataFrame([frame for view in exhibit.views(looked_at) for frame in readings(view, exhibit.store, clip)])
    numbers = agreement(read)
    found = [f"{words} {numbers[name]:+.2f}" for name, words in WORDS.items() if name in numbers]
    measured = f" Correlation with the expression in {numbers['clips']:.0f} clips: {'; '.join(found)}." if found else ""
    pictures = []
    for right, (name, adverb) in RESULTS.items():
        own = chosen[chosen["right"] == right]
        if own.empty:
            continue
        caption = (
            f"The most confident {name} answer of each class. Left: gradient attention in the frames that the network "
            "reads, one mark each, as a multiple of its mean in the clip; shaded: onset to offset, where known. Right: "
            "the frame with most attention and where in it, as a share of the largest value (Grad-CAM of the predicted "
            f"class, Selvaraju et al. 2017); white line: three quarters of it.{measured}"
        )
        alt = f"{len(own)} clips {adverb}: attention over time as curves, and over the face as maps."
        title = f"When and where it looks: clips {adverb}"
        pictures.append(Picture(f"looks_{name}.png", title, caption, alt, _draw(exhibit, own, read)))
    return pictures, numbers, read.drop(columns="map")


def _draw(exhibit: Exhibit, shown: pd.DataFrame, read: pd.DataFrame) -> Figure:
    halves = [half for half in HALVES if (read["half"] == half).any()]
    figure = Figure(figsize=(4.4 + (CELL + 0.2) * len(halves), 0.8 + (CELL + 0.3) * len(shown)))
    axes = figure.subplots(len(shown), 1 + len(halves), squeeze=False, width_ratios=[2.6, *[1] * len(halves)])
    for (curve, *places), sample in zip(axes, shown.itertuples(), strict=True):
        own = read[(read["sample"] == sample.sample) & (read["fold"] == sample.fold)]
        if own["inside"].notna().all():
            curve.axvspan(sample.onset, sample.offset, color=GRID, label="onset to offset", zorder=0)
        for half, place in zip(halves, places, strict=True):
            part = own[own["half"] == half]
            _curve(curve, half, part)
            most = part.loc[part["attention"].idxmax()]
            image = overlay(place, exhibit.face(sample.sample, most["position"]), of_largest(most["map"]), 1.0)
            bare(place)
            place.set_title(f"{HALVES[half][0]}, frame {most['frame']:.0f}", fontsize=7.5)
        numbers = exhibit.store.frame_numbers(sample.sample)
        curve.xaxis.set_major_locator(MaxNLocator(integer=True))
        curve.set(xlim=(numbers[0] - 0.5, numbers[-1] + 0.5), ylim=(0, None), ylabel="× mean")
        curve.set_title(exhibit.named(sample).replace("\n", ", "), loc="left", fontsize=8)
    axes[-1, 0].set_xlabel("frame")
    bar = figure.colorbar(image, ax=list(axes[:, -1]), label="of largest", aspect=14, pad=0.04)
    bar.outline.set_visible(False)
    labelled = {}  # the first row may lack the shading
    for curve in axes[:, 0]:
        labelled |= {label: handle for handle, label in zip(*curve.get_legend_handles_labels(), strict=True)}
    figure.legend(labelled.values(), labelled.keys(), loc="outside upper left", ncols=len(labelled))
    return figure


def _curve(axes: Axes, half: str, part: pd.DataFrame) -> None:
    """A line a window: attention over its mean, a mark at each frame that was read."""
    label, colour, dashes = HALVES[half]
    mean = part["attention"].mean() or 1.0
    for _, line in part.sort_values("frame").groupby("window"):
        axes.plot(line["frame"], line["attention"] / mean, dashes, color=colour, label=label, markersize=5)
