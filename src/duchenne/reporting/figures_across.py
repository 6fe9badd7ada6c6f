"""Figures of several runs together, each as the text of an SVG file."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from duchenne.reporting.style import BLUE, INK, MARKERS, ORANGE, PALETTE, PAPER, SOFT, WIDTH, rgb, svg


@svg(4.2)
def sizes(figure: Figure, runs: pd.DataFrame) -> None:
    """WAR against parameters and against MACs (POSTER++, Figure 1), with 95 % intervals.

    Args:
        runs: by name: ``war``, ``war_low``, ``war_high``, ``params`` (millions), ``macs`` (thousands of millions).
    """
    figure.set_size_inches(2 * WIDTH, 3.6 + 0.2 * -(-len(runs) // 3))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, label in zip(panels, ("params", "macs"), ("parameters, M", "MACs, G"), strict=True):
        for i, (name, run) in enumerate(runs.iterrows()):
            _point(axes, run[column], run, i, str(name) if axes is panels[0] else None)
        axes.set(xlabel=label, xlim=(0, 1.1 * runs[column].max()))
    panels[0].set_ylabel("WAR")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)


@svg(3.6)
def depths(figure: Figure, series: dict[str, pd.DataFrame]) -> None:
    """WAR against the number of blocks (POSTER, Figure 1; POSTER++, Figure 6), with 95 % intervals.

    Args:
        series: label -> columns ``depth``, ``war``, ``war_low``, ``war_high``.
    """
    axes = figure.subplots()
    for i, (label, table) in enumerate(series.items()):
        axes.plot(table["depth"], table["war"], color=PALETTE[i % len(PALETTE)], linewidth=1.2)
        for k, (_, run) in enumerate(table.iterrows()):
            _point(axes, run["depth"], run, i, label if k == 0 else None)
    axes.set(xlabel="blocks", ylabel="WAR")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(loc="outside upper center", ncols=1, fontsize=8)


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
