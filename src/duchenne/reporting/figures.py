"""The figures of one run, each as the text of an SVG file, ready for print as it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import gaussian_kde

from duchenne.metrics import BINS, METRICS
from duchenne.reporting.factors import Factor
from duchenne.reporting.style import BLUE, GRID, INK, MARKERS, ORANGE, PALETTE, PAPER, SOFT, WIDTH, rgb, svg

PARTS = {"train": ("#8a8f98", ""), "val": ("#56b4e9", "//"), "test": (BLUE, "")}
CURVES = ("loss", "war", "uar")
"""Columns of the history that always have a panel; the metric that picks the epoch has one too."""
MEASURED_PARTS = {"train": ("training", SOFT, "--"), "val": ("validation", BLUE, "-"), "test": ("test", ORANGE, "-.")}
"""Part -> label, colour and dashes of its curves."""
LEVELS = np.linspace(0, 1, 201)
"""Confidences at which a density is drawn."""
VECTOR_POINTS = 5000
"""A scatter plot of more points is drawn as pixels: as shapes it would weigh megabytes."""


@svg(4.4)
def confusion(figure: Figure, predictions: pd.DataFrame, classes: list[str]) -> None:
    """Confusion matrix: counts, and per cent of each actual class, which also gives the colour."""
    number = len(classes)
    grown = max(0.0, 0.5 * (number - 7))  # a cell must hold "100 %"
    figure.set_size_inches(WIDTH + grown, 4.4 + grown)
    counts = np.zeros((number, number), int)
    np.add.at(counts, (predictions["label"].to_numpy(int), predictions["predicted"].to_numpy(int)), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    axes = figure.subplots()
    clear_to_blue = LinearSegmentedColormap.from_list("share", [(*rgb(BLUE), 0.04), (*rgb(BLUE), 1)])
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


def shown_curves(monitor: str) -> list[str]:
    """Columns of the history with a panel each: loss, WAR, UAR, and the metric that picks the epoch."""
    return list(dict.fromkeys([*CURVES, monitor]))


@svg(5.6)
def curves(figure: Figure, history: pd.DataFrame, selected: dict[int, int], monitor: str = "loss") -> None:
    """Loss, WAR, UAR and the monitored metric over the epochs, a panel each, of all parts that were measured.

    One thin line a fold, a thick one for their mean; the reported epochs are marked (POSTER++, Figures 8 to 11).
    """
    shown = shown_curves(monitor)
    figure.set_size_inches(WIDTH, 5.6 * len(shown) / len(CURVES))
    panels = figure.subplots(len(shown), 1, sharex=True)
    folds, epochs = history["fold"].nunique(), pd.Series(selected).value_counts()
    handles = {}
    for axes, name in zip(panels, shown, strict=True):
        for part, (label, colour, dashes) in MEASURED_PARTS.items():
            column = f"{part}_{name}"
            if column not in history or history[column].isna().all():
                continue
            table = history.pivot(index="epoch", columns="fold", values=column)
            if folds > 1:
                axes.plot(table, color=colour, linestyle=dashes, linewidth=0.7, alpha=0.45)
            style = {"color": colour, "linestyle": dashes, "linewidth": 1.9, "marker": "."}
            handles[label] = axes.plot(table.mean(axis=1), label=label, **style)[0]
        for epoch, count in epochs.items():
            axes.axvline(epoch, color=INK, linewidth=0.8, linestyle=":", alpha=max(0.35, count / folds), zorder=0)
        metric = METRICS.get(name)
        axes.set_ylabel(metric.label if metric else name)
        if metric and metric.bounded:
            axes.set_ylim(metric.low, metric.high + 0.02)
        else:
            axes.set_ylim(bottom=0)
        if metric and metric.percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    panels[-1].set_xlabel("epoch (dotted: reported)")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), fontsize=8)


@svg(3.4)
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


@svg(4.0)
def radar(figure: Figure, metrics: dict[str, float], present: list[str]) -> None:
    """Recall of each class as a star; the band is its 95 % interval, the dotted ring is guessing."""
    around = np.arange(len(present) + 1) % len(present)  # back to the first class
    value, low, high = (
        np.array([metrics[f"recall_{name}{end}"] for name in present])[around] for end in ("", "_low", "_high")
    )
    angle = np.linspace(0, 2 * np.pi, len(around))
    axes = figure.subplots(subplot_kw={"projection": "polar"})
    axes.fill_between(angle, low, high, color=BLUE, alpha=0.18, linewidth=0)
    axes.plot(angle, value, color=BLUE, marker="o", markersize=5, linewidth=1.8)
    axes.plot(np.linspace(0, 2 * np.pi, 100), np.full(100, 1 / len(present)), color=SOFT, linestyle=":")
    star(axes, angle[:-1], present)


def star(axes: Axes, angle: np.ndarray, present: list[str]) -> None:
    """Make polar axes those of a star: a class at each angle, shares from the centre."""
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_xticks(angle, present)
    axes.tick_params(axis="x", pad=8)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75, 1])
    axes.set_rlabel_position(180 / len(present))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.tick_params(axis="y", labelsize=7, labelcolor=SOFT)
    axes.spines["polar"].set_visible(False)


@svg(4.4)
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


@svg(3.4)
def densities(figure: Figure, predictions: pd.DataFrame) -> None:
    """How sure the network is where it is right and where it is wrong: densities over confidence, and their medians."""
    right = predictions["label"] == predictions["predicted"]
    axes = figure.subplots()
    kinds = {"right": (right, BLUE, "-", ""), "wrong": (~right, ORANGE, "--", "///")}
    for name, (chosen, colour, dashes, hatch) in kinds.items():
        values = predictions.loc[chosen, "confidence"]
        if values.empty:
            continue
        shown = {"bins": np.linspace(0, 1, 21), "density": True, "histtype": "stepfilled"}
        outline = {"edgecolor": colour, "linestyle": dashes, "linewidth": 1.6, "hatch": hatch}
        label = f"{name}: {len(values):,}, median {values.median():.0%}".replace("%", " %")
        axes.hist(values, **shown, **outline, facecolor=(*rgb(colour), 0.14), label=label)
        axes.axvline(values.median(), color=colour, linestyle=dashes, linewidth=1)
    axes.set(xlabel="confidence", ylabel="density", xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)


@svg(3.8)
def confidences(figure: Figure, predictions: pd.DataFrame, present: list[str]) -> None:
    """Confidence in each class, of the samples that are of it and of the others (IFDD, Figure 5).

    Left of a class's line the samples of other classes, right of it its own: a dot each, their kernel density, and a
    bar at their median.

    Args:
        predictions: columns ``label`` and ``p_<class>``.
        present: the classes that have a test sample.
    """
    figure.set_size_inches(max(WIDTH, 0.8 + 0.62 * len(present)), 3.8)
    random = np.random.default_rng(0)
    axes = figure.subplots()
    for place, name in enumerate(present):
        values, own = predictions[f"p_{name}"].to_numpy(float), positives(predictions, name)
        for side, chosen, colour, hatch, marker, label in (
            (-1, ~own, SOFT, "", ".", "other classes"),
            (1, own, ORANGE, "///", "x", "samples of the class"),
        ):
            if not chosen.any():
                continue
            dots = values[chosen]
            spread = place + side * (0.05 + 0.12 * random.random(len(dots)))
            raster = len(predictions) * len(present) > VECTOR_POINTS
            axes.scatter(spread, dots, s=7, color=colour, marker=marker, linewidths=0.6, alpha=0.55, rasterized=raster)
            if (density := kernel_density(dots)) is not None:
                outline = {"edgecolor": colour, "facecolor": (*rgb(colour), 0.18), "hatch": hatch, "linewidth": 1.2}
                width = 0.42 * density / density.max()
                axes.fill_betweenx(LEVELS, place, place + side * width, where=width > 0.002, **outline)
            marks = {"color": colour, "linewidth": 2.2, "label": label if place == 0 else None}
            axes.plot([place, place + side * 0.44], [np.median(dots)] * 2, **marks)
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len(present) > 4 else {}
    axes.set_xticks(range(len(present)), present, **slanted)
    axes.set(ylabel="confidence in the class", xlim=(-0.55, len(present) - 0.45), ylim=(-0.01, 1.01))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)


def positives(predictions: pd.DataFrame, name: str) -> np.ndarray:
    """Which predictions are of samples of a class, by the order of the columns ``p_<class>``."""
    classes = [column.removeprefix("p_") for column in predictions if column.startswith("p_")]
    return (predictions["label"] == classes.index(name)).to_numpy(bool)


def kernel_density(values: np.ndarray) -> np.ndarray | None:
    """Gaussian kernel density of shares at :data:`LEVELS`, by Scott's rule; None where they hardly vary.

    What would lie below 0 or above 1 is reflected, so that a density that is high at an end is not halved there.
    """
    if np.ptp(values) < LEVELS[1]:
        return None
    kernel = gaussian_kde(values)
    return kernel(LEVELS) + kernel(-LEVELS) + kernel(2 - LEVELS)


class Panel(NamedTuple):
    """A map of points: its title, or nothing, points (N, 2) and their labels (N,)."""

    title: str
    points: np.ndarray
    labels: np.ndarray


@svg(4.4)
def embedding(figure: Figure, panels: list[Panel], classes: list[str]) -> None:
    """Points in the plane, one colour and one marker a class; :func:`places` says where each is drawn."""
    layout, number = _layout(panels, classes), sum(len(panel.points) for panel in panels)
    figure.set_layout_engine("none")
    figure.set_size_inches(layout.width, layout.height)
    size = float(np.clip(4000 / number, 3, 26))
    shown = {}
    for panel, (left, low, wide, high) in zip(panels, layout.boxes, strict=True):
        axes = figure.add_axes((left, low, wide, high))
        axes.set(xlim=(0, 1), ylim=(0, layout.shape))
        axes.set_title(panel.title, fontsize=8, y=1.0, pad=3)
        axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
        axes.grid(False)
        axes.spines[:].set(visible=len(panels) > 1, color=GRID)
        placed = _on_map(panel.points, layout.shape)
        for i, name in enumerate(classes):
            if (own := panel.labels == i).any():
                shown[name] = axes.scatter(
                    *placed[own].T,
                    s=size,
                    color=PALETTE[i % len(PALETTE)],
                    marker=MARKERS[i % len(MARKERS)],
                    alpha=0.8,
                    linewidths=0,
                    label=name,
                    rasterized=number > VECTOR_POINTS,
                )
    names = [name for name in classes if name in shown]
    style = {"fontsize": 8, "markerscale": (40 / size) ** 0.5, "handletextpad": 0.2}
    columns = 4 * max(1, round(layout.width / WIDTH))
    figure.legend([shown[name] for name in names], names, loc="lower center", ncols=columns, **style)


def places(panels: list[Panel], classes: list[str]) -> np.ndarray:
    """Where :func:`embedding` draws its points: (N, 2), shares of the figure's width and height from above left."""
    layout = _layout(panels, classes)
    return np.concatenate(
        [
            (left, 1 - low) + _on_map(panel.points, layout.shape) * (wide, -high / layout.shape)
            for panel, (left, low, wide, high) in zip(panels, layout.boxes, strict=True)
        ]
    )


class _Layout(NamedTuple):
    """Sizes in inches, height over width of a map, and each map's left, low, width and height as shares."""

    width: float
    height: float
    shape: float
    boxes: list[tuple[float, float, float, float]]


def _layout(panels: list[Panel], classes: list[str]) -> _Layout:
    columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    rows = -(-len(panels) // columns)
    width = WIDTH if columns == 1 else 2 * WIDTH
    title = 0.25 if any(panel.title for panel in panels) else 0.0
    legend = 0.15 + 0.2 * -(-len(classes) // (4 * round(width / WIDTH)))
    extents = [np.ptp(panel.points, axis=0) for panel in panels]
    shape = float(np.clip(max(high / max(wide, 1e-9) for wide, high in extents), 0.55, 1))
    gap = 0.1 if len(panels) > 1 else 0.0
    map_width = width / columns - gap
    height = rows * (map_width * shape + title) + legend
    boxes = [
        (
            (i % columns / columns) + gap / 2 / width,
            1 - (i // columns + 1) * (map_width * shape + title) / height,
            map_width / width,
            map_width * shape / height,
        )
        for i in range(len(panels))
    ]
    return _Layout(width, height, shape, boxes)


def _on_map(points: np.ndarray, shape: float) -> np.ndarray:
    """Points moved and scaled, the same in both directions, into a map of width 1 and height ``shape``."""
    size = np.array([1, shape])
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return size / 2 + (points - middle) * 0.94 * np.min(size / np.maximum(np.ptp(points, axis=0), 1e-9))


@svg(3.4)
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


@svg(2.2)
def factors(figure: Figure, numeric: list[Factor], war: float) -> None:
    """WAR against each number that is known of the samples, in bins of as many samples, with 95 % intervals."""
    columns = min(4, len(numeric))
    rows = -(-len(numeric) // columns)
    figure.set_size_inches(2 * WIDTH, 0.3 + 1.75 * rows)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for panel, factor in zip(axes.flat, numeric, strict=False):
        table = factor.table
        panel.fill_between(table["middle"], table["low"], table["high"], color=BLUE, alpha=0.18, linewidth=0)
        panel.plot(table["middle"], table["war"], color=BLUE, marker="o", markersize=4)
        panel.axhline(war, color=SOFT, linestyle=":", linewidth=1)
        panel.set_xlabel(factor.name)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.set_ylim(0, 1.02)
    for panel in axes.flat[len(numeric) :]:
        panel.set_visible(False)
    for panel in axes[:, 0]:
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        panel.set_ylabel("WAR")
