"""The figures of one run, each as the text of an SVG file.

Colours are told apart with any colour vision, and no figure needs them: markers, hatches and line styles say the same.
The colours of :data:`VARIABLES` become CSS variables in :func:`inline`, so that the page decides on light or dark.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from duchenne.evaluation.metrics import BINS

P = ParamSpec("P")

INK, SOFT, GRID, PAPER = "#1d242c", "#5d6772", "#d9dee3", "#ffffff"
BLUE, ORANGE = "#22598f", "#c2571a"
VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    BLUE: "var(--accent)",
    ORANGE: "var(--mark)",
}
# After Okabe and Ito 2008, with grey and wine for its black and yellow, which vanish on a dark or a light page.
PALETTE = ("#2f8bd0", "#e69f00", "#17a67c", "#d55e00", "#56b4e9", "#cc79a7", "#8a8f98", "#9c3a63")
MARKERS = "osD^vPX*<>p"
PARTS = {"train": ("#8a8f98", ""), "val": ("#56b4e9", "//"), "test": (BLUE, "")}
VECTOR_POINTS = 3000
"""A scatter plot of more points is drawn as pixels: as shapes it would weigh megabytes."""

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 200,
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same layout on every machine
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "duchenne",
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
}

WIDTH = 4.8  # inches, half of the page


def _svg(height: float) -> Callable[[Callable[Concatenate[Figure, P], None]], Callable[P, str]]:
    """Make a function that draws on a figure one that returns the SVG text of it."""

    def decorate(draw: Callable[Concatenate[Figure, P], None]) -> Callable[P, str]:
        @functools.wraps(draw)
        def drawn(*args: P.args, **kwargs: P.kwargs) -> str:
            with rc_context(STYLE):
                figure = Figure(figsize=(WIDTH, height))
                draw(figure, *args, **kwargs)
                text = io.StringIO()
                figure.savefig(text, format="svg", metadata={"Date": None})
            return text.getvalue()

        return drawn

    return decorate


def inline(svg: str, prefix: str, label: str) -> Markup:
    """An SVG file's text as an element of a page: ids unlike any other figure's, the page's colours, a label."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", element)
    for colour, variable in VARIABLES.items():
        element = element.replace(colour, variable)
    return Markup(element.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))


@_svg(4.4)
def confusion(figure: Figure, predictions: pd.DataFrame, classes: list[str]) -> None:
    """Confusion matrix: counts, and per cent of each actual class, which also gives the colour."""
    number = len(classes)
    grown = max(0.0, 0.5 * (number - 7))  # a cell must hold "100 %"
    figure.set_size_inches(WIDTH + grown, 4.4 + grown)
    counts = np.zeros((number, number), int)
    np.add.at(counts, (predictions["label"].to_numpy(int), predictions["predicted"].to_numpy(int)), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    axes = figure.subplots()
    clear_to_blue = LinearSegmentedColormap.from_list("share", [(*_rgb(BLUE), 0.04), (*_rgb(BLUE), 1)])
    axes.pcolormesh(share, cmap=clear_to_blue, vmin=0, vmax=1)
    for (row, column), n in np.ndenumerate(counts):
        part = share[row, column]
        style = {"color": PAPER if part > 0.65 else INK, "ha": "center"}
        axes.text(column + 0.5, row + 0.46, f"{n}", va="bottom", size=9, **style)
        axes.text(column + 0.5, row + 0.56, f"{part:.0%}".replace("%", " %"), va="top", size=7.5, **style)
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if number > 4 else {}
    axes.set_xticks(np.arange(number) + 0.5, classes, **slanted)
    axes.set_yticks(np.arange(number) + 0.5, classes)
    axes.set(xlabel="predicted", ylabel="actual", aspect="equal")
    axes.invert_yaxis()
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


@_svg(4.4)
def curves(figure: Figure, history: pd.DataFrame, selected: dict[int, int]) -> None:
    """Loss, WAR and UAR over the epochs: one thin line a fold, a thick one for the mean; the reported epochs marked."""
    above, below = figure.subplots(2, 1, sharex=True)
    lines = {  # column -> axes, colour, dashes, label
        "train_loss": (above, SOFT, "--", "training"),
        "val_loss": (above, BLUE, "-", "validation"),
        "test_loss": (above, ORANGE, "-.", "test"),
        "train_war": (below, SOFT, "--", "training, WAR"),
        "val_uar": (below, BLUE, "-", "validation, UAR"),
        "test_uar": (below, ORANGE, "-.", "test, UAR"),
    }
    folds = history["fold"].nunique()
    for column, (axes, colour, dashes, label) in lines.items():
        if column not in history or history[column].isna().all():
            continue
        table = history.pivot(index="epoch", columns="fold", values=column)
        if folds > 1:
            axes.plot(table, color=colour, linestyle=dashes, linewidth=0.7, alpha=0.45)
        axes.plot(table.mean(axis=1), color=colour, linestyle=dashes, linewidth=1.9, marker=".", label=label)
    epochs = pd.Series(selected).value_counts()
    for axes in (above, below):
        for epoch, count in epochs.items():
            axes.axvline(epoch, color=INK, linewidth=0.8, linestyle=":", alpha=max(0.35, count / folds), zorder=0)
        axes.legend(fontsize=8)
    above.set(ylabel="loss", ylim=(0, None))
    below.set(xlabel="epoch (dotted: reported)", ylabel="share right", ylim=(0, 1.02))
    below.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


@_svg(3.4)
def recalls(figure: Figure, metrics: dict[str, float], present: list[str]) -> None:
    """Recall of each class that has test samples, with its 95 % interval; the mean of them is UAR."""
    figure.set_size_inches(WIDTH, 1.4 + 0.3 * len(present))
    value, low, high = (np.array([metrics[f"recall_{name}{end}"] for name in present]) for end in ("", "_low", "_high"))
    axes = figure.subplots()
    place = np.arange(len(present))
    # A percentile interval of a lopsided distribution may leave its estimate outside.
    reach = np.maximum([value - low, high - value], 0)
    axes.errorbar(value, place, xerr=reach, fmt="o", color=BLUE, capsize=3, markersize=6)
    axes.axvline(metrics["uar"], color=ORANGE, label=f"UAR, {100 * metrics['uar']:.1f} %")
    axes.axvline(1 / len(present), color=SOFT, linestyle=":", label=f"guessing, {100 / len(present):.1f} %")
    axes.set_yticks(place, present)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(present) - 0.5, -0.5), xlabel="recall")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)


@_svg(4.4)
def reliability(figure: Figure, bins: pd.DataFrame, ece: float) -> None:
    """Accuracy against confidence (DeGroot and Fienberg 1983), and how many samples have which confidence."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    middle, wide = (bins["low"] + bins["high"]) / 2, 0.92 / BINS
    above.bar(middle, bins["accuracy"], wide, color=BLUE, alpha=0.75, label="accuracy")
    marks = {"color": ORANGE, "markersize": 13, "markeredgewidth": 2.2}
    above.plot(bins["confidence"], bins["confidence"], "_", label="confidence", **marks)
    above.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
    above.set(ylabel="accuracy", ylim=(0, 1.02))
    above.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, title=f"ECE {100 * ece:.1f} %", title_fontsize=9)
    below.bar(middle, bins["n"], wide, color=SOFT)
    below.set(xlabel="confidence", ylabel="samples", xlim=(0, 1))
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))


@_svg(4.4)
def embedding(figure: Figure, points: np.ndarray, labels: np.ndarray, classes: list[str]) -> None:
    """Points in the plane (N, 2), one colour and one marker a class."""
    axes = figure.subplots()
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    size = float(np.clip(4000 / len(points), 3, 26))
    for i, name in enumerate(classes):
        if (own := labels == i).any():
            axes.scatter(
                *points[own].T,
                s=size,
                color=PALETTE[i % len(PALETTE)],
                marker=MARKERS[i % len(MARKERS)],
                alpha=0.8,
                linewidths=0,
                label=name,
                rasterized=len(points) > VECTOR_POINTS,
            )
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, markerscale=(40 / size) ** 0.5, handletextpad=0.2)


@_svg(3.4)
def balance(figure: Figure, parts: pd.DataFrame, classes: list[str]) -> None:
    """Samples of each class by part, as a share of the part: does the test part look like the training part?"""
    figure.set_size_inches(WIDTH, 1.4 + 0.42 * len(classes))
    shares = parts.groupby("part")["label"].value_counts(normalize=True).unstack(fill_value=0)
    shown = [part for part in PARTS if part in shares.index]
    axes = figure.subplots()
    thick = 0.8 / len(shown)
    for k, part in enumerate(shown):
        colour, hatch = PARTS[part]
        place = np.arange(len(classes)) + (k - (len(shown) - 1) / 2) * thick
        values = shares.loc[part].reindex(range(len(classes)), fill_value=0)
        axes.barh(place, values, thick * 0.88, color=colour, hatch=hatch, edgecolor=PAPER, linewidth=0, label=part)
    axes.set_yticks(np.arange(len(classes)), classes)
    axes.set(xlabel="share of the part", ylim=(len(classes) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
