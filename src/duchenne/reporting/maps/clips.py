"""Maps of networks for clips."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from duchenne.evaluation.explain import CLIP, agreement, readings, striking
from duchenne.networks import Facts
from duchenne.reporting.maps.drawing import CELL, bare, overlay
from duchenne.reporting.maps.exhibit import RESULTS, Exhibit, Maps, Picture
from duchenne.reporting.style import BLUE, GRID, ORANGE
from duchenne.training.settings import Recipe

STYLES = ((BLUE, "o-"), (ORANGE, "s--"))
"""Colour, marker and dashes of the parts of a clip, in order."""
COLUMNS = 4
"""Frames of a line."""


def clip_maps(exhibit: Exhibit, facts: Facts, card: dict[str, Any]) -> Maps:
    """Gradient attention over frames and face (IFDD, https://arxiv.org/abs/2412.13168, Fig. 2a).

    Clips whose onset and offset are known are all looked at, for the numbers.
    """
    clip = Recipe.model_validate(card["variant"]["recipe"]).clip
    halves = {name.removeprefix("attention_"): label for name, label in facts.maps.items()} | {"clip": "clip"}
    chosen = striking(exhibit.samples)
    known = exhibit.samples[exhibit.samples[["onset", "offset"]].notna().all(axis=1)]
    looked_at = pd.concat([known, chosen]).drop_duplicates(CLIP)
    read = pd.DataFrame([frame for view in exhibit.views(looked_at) for frame in readings(view, exhibit.store, clip)])
    if read.empty:
        return [], {}, None
    numbers = agreement(read)
    words = {f"attention_{half}": f"attention of the {label}" for half, label in halves.items()}
    words["split"] = f"belonging to the {halves.get('dynamic')}"
    found = [f"{said} {numbers[name]:+.2f}" for name, said in words.items() if name in numbers]
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
        pictures.append(Picture(f"looks_{name}.png", title, caption, alt, _draw(exhibit, own, read, halves)))
    return pictures, numbers, read.drop(columns="map")


def _draw(exhibit: Exhibit, shown: pd.DataFrame, read: pd.DataFrame, halves: dict[str, str]) -> Figure:
    clips = [read[(read["sample"] == row.sample) & (read["fold"] == row.fold)] for row in shown.itertuples()]
    strips = [_strips(own, halves) for own in clips]
    lines, columns = len(strips[0]), max(len(part) for _, part in strips[0])
    figure = Figure(figsize=(3.6 + CELL * columns, 0.8 + (CELL + 0.25) * lines * len(shown)))
    grid = figure.add_gridspec(lines * len(shown), 1 + columns, width_ratios=[2.2, *[1] * columns])
    faces = []
    for i, (sample, own) in enumerate(zip(shown.itertuples(), strips, strict=True)):
        curve = figure.add_subplot(grid[lines * i : lines * (i + 1), 0])
        _curves(curve, exhibit, sample, clips[i], halves)
        for k, (half, part) in enumerate(own):
            most = max(values.max() for name, other in own if name == half for values in other["map"]) or 1.0
            for column, frame in enumerate(part.itertuples()):
                place = figure.add_subplot(grid[lines * i + k, 1 + column])
                image = overlay(place, exhibit.face(sample.sample, frame.position), frame.map / most, 1.0)
                bare(place)
                place.set_title(f"frame {frame.frame:.3g}", fontsize=7, pad=2)
                if column == 0:
                    place.set_ylabel(halves[half], fontsize=7)
                faces.append(place)
    curve.set_xlabel("frame")
    bar = figure.colorbar(image, ax=faces, label="of largest", aspect=40, pad=0.02, shrink=0.5)
    bar.outline.set_visible(False)
    labelled = {}  # the first row may lack the shading
    for axes in figure.axes:
        labelled |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labelled.values(), labelled.keys(), loc="outside upper left", ncols=len(labelled))
    return figure


def _strips(own: pd.DataFrame, halves: Iterable[str]) -> list[tuple[str, pd.DataFrame]]:
    """The frames of the window that holds the most attention: each half in order, a line for every four.

    Args:
        own: readings of one clip by one network.
    """
    window = own[own["window"] == own.loc[own["attention"].idxmax(), "window"]]
    strips = []
    for half in halves:
        part = window[window["half"] == half].sort_values("frame", kind="stable")
        strips += [(half, part[i : i + COLUMNS]) for i in range(0, len(part), COLUMNS)]
    return strips


def _curves(axes: Axes, exhibit: Exhibit, sample: Any, own: pd.DataFrame, halves: dict[str, str]) -> None:
    """Attention over time, by half, with the expression shaded where it is known."""
    if own["inside"].notna().all():
        axes.axvspan(sample.onset, sample.offset, color=GRID, label="onset to offset", zorder=0)
    present = {half: label for half, label in halves.items() if (own["half"] == half).any()}
    for (half, label), style in zip(present.items(), cycle(STYLES)):
        _curve(axes, label, style, own[own["half"] == half])
    numbers = exhibit.store.frame_numbers(sample.sample)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(numbers[0] - 0.5, numbers[-1] + 0.5), ylim=(0, None), ylabel="× mean")
    axes.set_title(exhibit.named(sample).replace("\n", ", "), loc="left", fontsize=8)


def _curve(axes: Axes, label: str, style: tuple[str, str], part: pd.DataFrame) -> None:
    """A line a window: attention over its mean, a mark at each frame that was read."""
    colour, dashes = style
    mean = part["attention"].mean() or 1.0
    for _, line in part.sort_values("frame").groupby("window"):
        axes.plot(line["frame"], line["attention"] / mean, dashes, color=colour, label=label, markersize=5)
