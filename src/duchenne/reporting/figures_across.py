"""Figures of several runs together, each as the text of an SVG file."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from duchenne.reporting.figures import star
from duchenne.reporting.style import BLUE, INK, MARKERS, ORANGE, PALETTE, PAPER, SOFT, WIDTH, rgb, svg

PRINTED = {
    "color": SOFT,
    "marker": "d",
    "markersize": 6,
    "fillstyle": "none",
    "markeredgewidth": 0.8,
    "linestyle": "none",
}
"""How a value that a paper prints is drawn."""
SHOWN = len(PALETTE)
"""Stars in a panel at most: each has a colour of its own."""


@svg(4.2)
def sizes(figure: Figure, runs: pd.DataFrame, printed: pd.DataFrame) -> None:
    """WAR against parameters and against MACs, with 95 % intervals, beside printed methods (POSTER++, Figure 1).

    Args:
        runs: by name: ``war``, ``war_low``, ``war_high``, ``params`` (millions), ``macs`` (billions).
        printed: by method: ``war`` and ``params``; operations are counted in too many ways to share an axis.
    """
    figure.set_size_inches(2 * WIDTH, 3.6 + 0.2 * -(-(len(runs) + len(printed)) // 3))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, label in zip(panels, ("params", "macs"), ("parameters, M", "MACs, G"), strict=True):
        for i, (name, run) in enumerate(runs.iterrows()):
            _point(axes, run[column], run, i, str(name) if axes is panels[0] else None)
        axes.set(xlabel=label, xlim=(0, 1.1 * max([*runs[column], *printed.get(column, [])])))
    handles, labels = panels[0].get_legend_handles_labels()
    for i, (name, method) in enumerate(printed.iterrows(), 1):
        number = PRINTED | {"marker": f"${i}$", "markersize": 6 if i < 10 else 9}
        handles += panels[0].plot(method["params"], method["war"], **number)
        labels.append(f"{name}, printed")
    panels[0].set_ylabel("WAR")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)


@svg(3.6)
def depths(figure: Figure, series: dict[str, pd.DataFrame]) -> None:
    """WAR against the number of blocks (POSTER, Figure 1; POSTER++, Figure 6), with 95 % intervals.

    Args:
        series: label -> columns ``depth``, ``war``, ``war_low``, ``war_high``, and ``printed``, the paper's WAR or NaN.
    """
    axes = figure.subplots()
    for i, (label, table) in enumerate(series.items()):
        axes.plot(table["depth"], table["war"], color=PALETTE[i % len(PALETTE)], linewidth=1.2)
        for k, (_, run) in enumerate(table.iterrows()):
            _point(axes, run["depth"], run, i, label if k == 0 else None)
        axes.plot(table["depth"], table["printed"], **PRINTED)
    axes.set(xlabel="blocks", ylabel="WAR")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(loc="outside upper center", ncols=1, fontsize=8)


@svg(5.0)
def recalls(figure: Figure, runs: pd.DataFrame, printed: pd.DataFrame) -> None:
    """Recall of each class by several runs, and by the methods of a paper, as stars (IFDD, Figure 4).

    The area of the first run is filled in both, for comparison.

    Args:
        runs: share by name and class, the best first, :data:`SHOWN` at most.
        printed: the same of the paper's methods, or empty.
    """
    groups = {"our runs": runs} | ({"as printed": printed} if len(printed) else {})
    lines = max(len(table) for table in groups.values())
    figure.set_size_inches(WIDTH * len(groups), 4.2 + 0.18 * -(-lines // 2))
    angle = np.linspace(0, 2 * np.pi, runs.shape[1] + 1)
    panels = figure.subplots(1, len(groups), subplot_kw={"projection": "polar"}, squeeze=False)[0]
    for axes, (title, table) in zip(panels, groups.items(), strict=True):
        best = runs.iloc[0].to_numpy(float)
        label = f"{runs.index[0]} (ours)" if table is printed else None
        axes.fill(angle[:-1], best, color=SOFT, alpha=0.18, linewidth=0, label=label)
        for i, (name, row) in enumerate(table.iterrows()):
            style = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
            axes.plot(angle, row.to_numpy(float)[[*range(len(row)), 0]], linewidth=1.4, label=name, **style)
        star(axes, angle[:-1], list(runs.columns))
        if len(groups) > 1:
            axes.set_title(title, pad=18, fontsize=9)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8)


@svg(4.4)
def confusion_difference(figure: Figure, difference: pd.DataFrame) -> None:
    """Second run's confusion matrix minus the first's, in points of the actual class.

    Args:
        difference: actual by predicted class, shares.
    """
    rows, columns = difference.shape
    grown = max(0.0, 0.5 * (columns - 7))
    figure.set_size_inches(WIDTH + grown, 4.4 + grown)
    axes = figure.subplots()
    ends = [(*rgb(ORANGE), 1), (*rgb(ORANGE), 0), (*rgb(BLUE), 0), (*rgb(BLUE), 1)]
    colours = LinearSegmentedColormap.from_list("difference", list(zip([0, 0.5, 0.5, 1], ends, strict=True)))
    values = difference.to_numpy()
    most = max(float(np.abs(values).max()), 0.01)
    axes.pcolormesh(values, cmap=colours, vmin=-most, vmax=most)
    for (row, column), value in np.ndenumerate(values):
        text = f"{100 * value:+.1f}".replace("-", "−") if value else "0"
        colour = PAPER if abs(value) > 0.7 * most else INK
        weight = "bold" if row == column else "normal"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=8.5, color=colour, weight=weight)
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if columns > 4 else {}
    axes.set_xticks(np.arange(columns) + 0.5, difference.columns, **slanted)
    axes.set_yticks(np.arange(rows) + 0.5, difference.index)
    axes.set(xlabel="predicted", ylabel="actual", aspect="equal")
    axes.invert_yaxis()
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_color(SOFT)


def _point(axes: Axes, place: float, run: pd.Series, i: int, label: str | None) -> None:
    reach = [[max(run["war"] - run["war_low"], 0)], [max(run["war_high"] - run["war"], 0)]]
    style = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "markersize": 6}
    axes.errorbar(place, run["war"], yerr=reach, capsize=3, linewidth=1.2, linestyle="none", label=label, **style)
