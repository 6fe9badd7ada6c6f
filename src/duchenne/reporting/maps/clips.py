"""Maps of networks for clips."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from duchenne.evaluation.explained import Explained
from duchenne.reporting.colours import BLUE, GRID, ORANGE
from duchenne.reporting.maps.drawing import CELL, RESULTS, Picture, Sample, bare, name_of, overlay, shown

STYLES = ((BLUE, "o-"), (ORANGE, "s--"))
"""Colour, marker and dashes of the parts of a clip, in order."""
COLUMNS = 4
"""Number of frames per line."""


def clip_pictures(explained: Explained) -> list[Picture]:
    """Draw gradient attention over frames and face (IFDD, https://arxiv.org/abs/2412.13168, Fig. 2a)."""
    numbers = explained.numbers
    words = {f"attention_{part}": f"attention of the {label}" for part, label in explained.maps.items()}
    words["split"] = f"belonging to the {explained.maps.get('dynamic')}"
    found = [f"{said} {numbers[name]:+.2f}" for name, said in words.items() if name in numbers]
    measured = f" Correlation with the expression in {numbers['clips']:.0f} clips: {'; '.join(found)}." if found else ""
    pictures = []
    for right, (name, adverb) in RESULTS.items():
        own = shown(explained, right)
        if not own:
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
        pictures.append(Picture(f"looks_{name}.png", title, caption, alt, _draw(explained, own)))
    return pictures


def _draw(explained: Explained, own: list[Sample]) -> Figure:
    strips = [_strips(explained, sample) for sample in own]
    lines, columns = len(strips[0]), max(len(part) for _, part in strips[0])
    figure = Figure(figsize=(3.6 + CELL * columns, 0.8 + (CELL + 0.25) * lines * len(own)))
    grid = figure.add_gridspec(lines * len(own), 1 + columns, width_ratios=[2.2, *[1] * columns])
    panels = []
    for i, (sample, strip) in enumerate(zip(own, strips, strict=True)):
        curve = figure.add_subplot(grid[lines * i : lines * (i + 1), 0])
        curves(curve, explained, sample)
        for k, (half, part) in enumerate(strip):
            most = (
                max(sample.arrays["maps"][j].max() for name, other in strip if name == half for j in other["at"]) or 1.0
            )
            for column, frame in enumerate(part.itertuples()):
                panel = figure.add_subplot(grid[lines * i + k, 1 + column])
                face = sample.arrays["faces"][frame.at] if "faces" in sample.arrays else None
                image = overlay(panel, face, sample.arrays["maps"][frame.at] / most, 1.0)
                bare(panel)
                panel.set_title(f"frame {frame.frame:.3g}", fontsize=7, pad=2)
                if column == 0:
                    panel.set_ylabel(explained.maps[half], fontsize=7)
                panels.append(panel)
    curve.set_xlabel("frame")
    bar = figure.colorbar(image, ax=panels, label="of largest", aspect=40, pad=0.02, shrink=0.5)
    bar.outline.set_visible(False)
    labelled = {}  # the first row may lack the shading
    for axes in figure.axes:
        labelled |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(labelled.values(), labelled.keys(), loc="outside upper left", ncols=len(labelled))
    return figure


def _strips(explained: Explained, sample: Sample) -> list[tuple[str, pd.DataFrame]]:
    """The frames of the shown window: each part of the clip in order, four frames per line.

    The column ``at`` says which of the sample's maps is of a frame.
    """
    window = explained.table.loc[sample.arrays["rows"]].reset_index(names="row").rename_axis("at").reset_index()
    strips = []
    for half in explained.maps:
        part = window[window["half"] == half].sort_values("frame", kind="stable")
        strips += [(half, part[i : i + COLUMNS]) for i in range(0, len(part), COLUMNS)]
    return strips


def curves(axes: Axes, explained: Explained, sample: Sample) -> None:
    """Attention over time, by part, with the expression shaded where it is known."""
    table, row = explained.table, sample.row
    own = table[(table["sample"] == row.sample) & (table["fold"] == row.fold)]
    if own["inside"].notna().all():
        axes.axvspan(row.onset, row.offset, color=GRID, label="onset to offset", zorder=0)
    present = {half: label for half, label in explained.maps.items() if (own["half"] == half).any()}
    for (half, label), style in zip(present.items(), cycle(STYLES)):
        _curve(axes, label, style, own[own["half"] == half])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(row.first - 0.5, row.last + 0.5), ylim=(0, None), ylabel="× mean")
    axes.set_title(name_of(explained, row).replace("\n", ", "), loc="left", fontsize=8)


def _curve(axes: Axes, label: str, style: tuple[str, str], part: pd.DataFrame) -> None:
    """Draw a line per window: attention divided by its mean, with a mark at each frame that was read."""
    colour, dashes = style
    mean = part["attention"].mean() or 1.0
    for _, line in part.sort_values("frame").groupby("window"):
        axes.plot(line["frame"], line["attention"] / mean, dashes, color=colour, label=label, markersize=5)
