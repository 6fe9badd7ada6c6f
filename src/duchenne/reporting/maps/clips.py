"""Maps of networks for clips."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from duchenne.evaluation.explain import CLIP, agreement, readings, striking
from duchenne.models.backbones.clip_stem import FRAMES
from duchenne.reporting.maps.drawing import CELL, bare, overlay
from duchenne.reporting.maps.exhibit import RESULTS, Exhibit, Maps, Picture
from duchenne.reporting.style import BLUE, GRID, ORANGE
from duchenne.training.settings import Recipe

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
            "each of these frames (of several windows, the one with the most attention) and where in it, as a share of "
            "the largest value in the half (Grad-CAM of the predicted class, Selvaraju et al. 2017); white line: three "
            f"quarters of it. Between two frames the network reads both; the nearer one is shown.{measured}"
        )
        alt = f"{len(own)} clips {adverb}: attention over time as curves, and over the face of each frame as maps."
        title = f"When and where it looks: clips {adverb}"
        pictures.append(Picture(f"looks_{name}.png", title, caption, alt, _draw(exhibit, own, read)))
    return pictures, numbers, read.drop(columns="map")


def _draw(exhibit: Exhibit, shown: pd.DataFrame, read: pd.DataFrame) -> Figure:
    strips = [_strips(read[(read["sample"] == row.sample) & (read["fold"] == row.fold)]) for row in shown.itertuples()]
    lines, columns = len(strips[0]), max(len(part) for _, part in strips[0])
    figure = Figure(figsize=(3.6 + CELL * columns, 0.8 + (CELL + 0.25) * lines * len(shown)))
    grid = figure.add_gridspec(lines * len(shown), 1 + columns, width_ratios=[2.2, *[1] * columns])
    faces = []
    for i, (sample, own) in enumerate(zip(shown.itertuples(), strips, strict=True)):
        curve = figure.add_subplot(grid[lines * i : lines * (i + 1), 0])
        _curves(curve, exhibit, sample, read)
        for k, (half, part) in enumerate(own):
            most = max(values.max() for name, other in own if name == half for values in other["map"]) or 1.0
            for column, frame in enumerate(part.itertuples()):
                place = figure.add_subplot(grid[lines * i + k, 1 + column])
                image = overlay(place, exhibit.face(sample.sample, frame.position), frame.map / most, 1.0)
                bare(place)
                place.set_title(f"frame {frame.frame:.3g}", fontsize=7, pad=2)
                if column == 0:
                    place.set_ylabel(HALVES[half][0], fontsize=7)
                faces.append(place)
    curve.set_xlabel("frame")
    bar = figure.colorbar(image, ax=faces, label="of largest", aspect=40, pad=0.02, shrink=0.5)
    bar.outline.set_visible(False)
    labelled = {}  # the first row may lack the shading
    for axes in figure.axes:
        labelled |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labelled.values(), labelled.keys(), loc="outside upper left", ncols=len(labelled))
    return figure


def _strips(own: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The frames of the window that holds the most attention: each half in order; eight of a whole clip in two lines.

    Args:
        own: readings of one clip by one network.
    """
    window = own[own["window"] == own.loc[own["attention"].idxmax(), "window"]]
    strips = []
    for half in HALVES:
        part = window[window["half"] == half].sort_values("frame", kind="stable")
        strips += [(half, part[i : i + FRAMES // 2]) for i in range(0, len(part), FRAMES // 2)]
    return strips


def _curves(axes: Axes, exhibit: Exhibit, sample: Any, read: pd.DataFrame) -> None:
    """Attention over time, by half, with the expression shaded where it is known."""
    own = read[(read["sample"] == sample.sample) & (read["fold"] == sample.fold)]
    if own["inside"].notna().all():
        axes.axvspan(sample.onset, sample.offset, color=GRID, label="onset to offset", zorder=0)
    for half in HALVES:
        if (own["half"] == half).any():
            _curve(axes, half, own[own["half"] == half])
    numbers = exhibit.store.frame_numbers(sample.sample)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(numbers[0] - 0.5, numbers[-1] + 0.5), ylim=(0, None), ylabel="× mean")
    axes.set_title(exhibit.named(sample).replace("\n", ", "), loc="left", fontsize=8)


def _curve(axes: Axes, half: str, part: pd.DataFrame) -> None:
    """A line a window: attention over its mean, a mark at each frame that was read."""
    label, colour, dashes = HALVES[half]
    mean = part["attention"].mean() or 1.0
    for _, line in part.sort_values("frame").groupby("window"):
        axes.plot(line["frame"], line["attention"] / mean, dashes, color=colour, label=label, markersize=5)
