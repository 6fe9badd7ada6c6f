"""Figures of one run, each a drawing function with an entry in the registry, in the order of the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from duchenne.evaluation.statistics import LEVEL, at_temperature, calibration
from duchenne.metrics import BINS, METRICS
from duchenne.reporting.colours import BLUE, GRID, INK, MARKERS, ORANGE, PALETTE, PAPER, SOFT, rgb
from duchenne.reporting.factors import Factor
from duchenne.reporting.map_layout import layout_of, on_map, places
from duchenne.reporting.registry import Point, run_figure
from duchenne.reporting.runs import Run
from duchenne.reporting.style import WIDTH
from duchenne.reporting.wording import chosen_by, interval, metric_label, percent, selection

BALANCE_BARS = {"train": ("#8a8f98", ""), "val": ("#56b4e9", "//"), "test": (BLUE, "")}
"""Part -> colour and hatch of its bars."""
PART_CURVES = {"train": ("training", SOFT, "--"), "val": ("validation", BLUE, "-"), "test": ("test", ORANGE, "-.")}
"""Part -> label, colour and dashes of its curves."""
ALWAYS_CURVES = ("loss", "war", "uar")
"""Columns of the history that always have a panel, besides the metric that picks the epoch."""
CHOICES = {
    "last": ("square", "s", SOFT, 1.04),
    "train": ("diamond", "D", INK, 1.1),
    "val": ("circle", "o", BLUE, 1.1),
    "test": ("triangle", "v", ORANGE, 1.16),
}
"""Rule -> name, marker and colour of its mark, and its height as a share of the panel."""
LEVELS = np.linspace(0, 1, 201)
"""Confidences at which a density is drawn."""
VECTOR_POINTS = 5000
"""A scatter plot of more points is drawn as pixels, because vector shapes would take megabytes."""


def all_folds(run: Run) -> str:
    """Return the words of a caption for predictions of several networks drawn together."""
    return ", all folds together" if len(run.cards) > 1 else ""


def _confusion_alt(run: Run) -> str:
    counts = pd.crosstab(run.predictions["label"], run.predictions["predicted"], normalize="index")
    sentences = []
    for label, row in counts.iterrows():
        sentence = f"{run.classes[label]}: {percent(row.get(label, 0))} correct"
        wrong = row.drop(label, errors="ignore")
        if wrong.max() > 0:
            sentence += f", most often taken for {run.classes[wrong.idxmax()]} ({percent(wrong.max())})"
        sentences.append(sentence)
    return f"Confusion matrix of {run.name}. {'; '.join(sentences)}."


@run_figure(
    "confusion",
    "Confusion matrix",
    question="Which classes are taken for which?",
    caption="Counts, and per cent of the actual class.",
    alt=_confusion_alt,
)
def confusion(figure: Figure, run: Run) -> None:
    """Draw counts, and per cent of each actual class, which also sets the colour."""
    predictions, classes = run.predictions, run.classes
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
    """List the columns of the history with a panel: loss, WAR, UAR, and the metric that picks the epoch."""
    return list(dict.fromkeys([*ALWAYS_CURVES, monitor]))


def _curves_caption(run: Run) -> str:
    _, *others, last = map(metric_label, shown_curves(run.config.monitor))
    folds, plural = ("Thin: one fold each; thick: their mean. ", "s") if len(run.cards) > 1 else ("", "")
    return (
        f"Loss, {', '.join(others)} and {last} of the parts after each epoch; of the training part over the augmented "
        f"samples during it. {folds}Dotted: the reported epoch{plural} ({selection(run)}).{_choices(run)}"
    )


def _choices(run: Run) -> str:
    """Say which epochs other rules would have reported, and that the test curve chose nothing."""
    others = [rule for rule in run.rules if rule != run.config.selection]
    if not others:
        return ""
    named = ", ".join(f"{CHOICES[rule][0]} {chosen_by(rule, run.config.monitor)}" for rule in others)
    unused = "" if run.optimistic else " The test part had no share in the training or the choice of the epoch."
    return f" At the top, epochs that other rules would report: {named}.{unused}"


def _curves_alt(run: Run) -> str:
    means = run.history.groupby("epoch").mean(numeric_only=True)
    ends = []
    for metric in shown_curves(run.config.monitor):
        for part, (name, *_) in PART_CURVES.items():
            values = means.get(f"{part}_{metric}", pd.Series(dtype=float)).dropna()
            if len(values):
                shares = metric in METRICS and METRICS[metric].percent
                first, last = (percent(v) if shares else f"{v:.3f}" for v in values.iloc[[0, -1]])
                ends.append(f"{name} {metric_label(metric)} from {first} to {last}")
    return f"Training of {run.name}. In {len(means)} epoch{'s' * (len(means) != 1)}: {', '.join(ends)}."


@run_figure(
    "curves",
    "Training",
    question="Has it converged, and does it overfit?",
    caption=_curves_caption,
    alt=_curves_alt,
)
def curves(figure: Figure, run: Run) -> None:
    """Draw loss, WAR, UAR and the monitored metric over the epochs, in a panel each, for all measured parts.

    Each fold is a thin line and their mean a thick one; the reported epochs are marked (POSTER++, Figures 8 to 11).
    """
    history, shown = run.history, shown_curves(run.config.monitor)
    figure.set_size_inches(WIDTH, 5.6 * len(shown) / len(ALWAYS_CURVES))
    panels = figure.subplots(len(shown), 1, sharex=True)
    folds, epochs = history["fold"].nunique(), pd.Series(run.selected).value_counts()
    handles = {}
    for axes, name in zip(panels, shown, strict=True):
        for part, (label, colour, dashes) in PART_CURVES.items():
            column = f"{part}_{name}"
            if column not in history or history[column].isna().all():
                continue
            table = history.pivot(index="epoch", columns="fold", values=column)
            if folds > 1:
                axes.plot(table, color=colour, linestyle=dashes, linewidth=0.7, alpha=0.45)
            style = {"color": colour, "linestyle": dashes, "linewidth": 1.9, "marker": "."}
            handles[label] = axes.plot(table.mean(axis=1), label=label, **style)[0]
        if axes is panels[0]:
            _mark_choices(axes, run)
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


def _mark_choices(axes: Axes, run: Run) -> None:
    """Mark the epochs that other rules than the reported one choose, at the upper edge."""
    for rule, frame in run.rules.items():
        if rule != run.config.selection:
            epochs = frame.groupby("fold")["epoch"].first().unique()
            _, marker, colour, height = CHOICES[rule]
            style = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 7, "clip_on": False}
            axes.plot(epochs, [height] * len(epochs), transform=axes.get_xaxis_transform(), zorder=5, **style)


def _recalls_in_words(run: Run) -> str:
    return "; ".join(
        f"{name} {percent(run.metrics[f'recall_{name}'])}, interval {interval(run.metrics, f'recall_{name}')}"
        for name in run.present
    )


@run_figure(
    "radar",
    "Recalls as a star",
    question="Is it equally good at all classes?",
    caption="Bands are 95 % intervals, the dotted ring is guessing.",
    alt=lambda run: f"Star of recalls with {LEVEL} % intervals: {_recalls_in_words(run)}.",
    height=4.0,
    applies=lambda run: len(run.present) > 2,
)
def radar(figure: Figure, run: Run) -> None:
    """Draw the recall of each class as a star; the band is its 95 % interval, the dotted ring is guessing."""
    metrics, present = run.metrics, run.present
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
    """Set up polar axes for a star: a class at each angle, shares from the centre."""
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_xticks(angle, present)
    axes.tick_params(axis="x", pad=4)
    for label, at in zip(axes.get_xticklabels(), angle, strict=True):  # a long name beside the star, not across it
        label.set_horizontalalignment("center" if abs(np.sin(at)) < 0.2 else "left" if np.sin(at) > 0 else "right")
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75, 1])
    axes.set_rlabel_position(180 / len(present))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.tick_params(axis="y", labelsize=7, labelcolor=SOFT)
    axes.spines["polar"].set_visible(False)


@run_figure(
    "recall",
    "Recall of each class",
    question="How well is each class recognised, and how certain is that?",
    caption="With 95 % intervals; their mean is UAR.",
    alt=lambda run: f"Recall of each class with {LEVEL} % intervals: {_recalls_in_words(run)}.",
)
def recalls(figure: Figure, run: Run) -> None:
    """Draw the recall of each class with test samples and its 95 % interval; their mean is UAR."""
    metrics, present = run.metrics, run.present
    figure.set_size_inches(WIDTH, 1.4 + 0.3 * len(present))
    value, low, high = (np.array([metrics[f"recall_{name}{end}"] for name in present]) for end in ("", "_low", "_high"))
    axes = figure.subplots()
    place = np.arange(len(present))
    # A percentile interval of a skewed distribution may leave its estimate outside.
    reach = np.maximum([value - low, high - value], 0)
    axes.errorbar(value, place, xerr=reach, fmt="o", color=BLUE, capsize=3, markersize=6)
    axes.axvline(metrics["uar"], color=ORANGE, label=f"UAR, {100 * metrics['uar']:.1f} %")
    axes.axvline(1 / len(present), color=SOFT, linestyle=":", label=f"guessing, {100 / len(present):.1f} %")
    axes.set_yticks(place, present)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(present) - 0.5, -0.5), xlabel="recall")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)


def _uncalibrated(run: Run) -> pd.DataFrame | None:
    """Return the predictions of a calibrated run as they were before, None of others."""
    temperatures = run.temperatures
    if not temperatures:
        return None
    return at_temperature(run.predictions, run.classes, run.predictions["fold"].map(temperatures).to_numpy(float))


def _temperatures_in_words(run: Run) -> str:
    """Return the temperature, or over folds the smallest and the largest one."""
    low, high = min(run.temperatures.values()), max(run.temperatures.values())
    return f"{low:.2f}" if len(run.temperatures) == 1 else f"{low:.2f} to {high:.2f}"


def _reliability_caption(run: Run) -> str:
    words = "Bars below the mark: more confident than correct. Below: how many samples have which confidence."
    if not run.temperatures:
        return words
    plural = "s" if len(run.temperatures) > 1 else ""
    before, after = (METRICS["nll"].number(run.metrics[name]) for name in ("nll_uncalibrated", "nll"))
    return (
        f"{words} Circles: accuracy before the temperature{plural} ({_temperatures_in_words(run)}, fitted on the "
        f"validation part); NLL of the test part {before} before, {after} after."
    )


def _shown(run: Run, name: str, predictions: pd.DataFrame | None = None) -> float:
    """Return WAR or ECE of the predictions that a figure shows: with several seeds those of the first.

    Args:
        name: its key in ``metrics.json``, which has the value where there is one seed.
        predictions: default: those of the run.
    """
    if "seeds" not in run.metrics:
        return run.metrics[name]
    frame = run.predictions if predictions is None else predictions
    if name == "war":
        return float((frame["label"] == frame["predicted"]).mean())
    bins = calibration(frame)
    return float((bins["n"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / bins["n"].sum())


def _reliability_alt(run: Run) -> str:
    words = (
        f"Reliability of {run.name}: mean confidence {percent(run.predictions['confidence'].mean())}, share correct "
        f"{percent(_shown(run, 'war'))}, calibration error {percent(_shown(run, 'ece'))}"
    )
    if (before := _uncalibrated(run)) is None:
        return f"{words}."
    return (
        f"{words}. Before temperature scaling: mean confidence {percent(before['confidence'].mean())}, calibration "
        f"error {percent(_shown(run, 'ece_uncalibrated', before))}."
    )


@run_figure(
    "reliability",
    "Reliability",
    question="Can its confidence be trusted?",
    caption=_reliability_caption,
    alt=_reliability_alt,
)
def reliability(figure: Figure, run: Run) -> None:
    """Draw accuracy against confidence (DeGroot and Fienberg 1983), and the histogram of confidences.

    Of a calibrated run also the accuracy against the confidence before calibration.
    """
    bins = calibration(run.predictions)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    title = f"ECE {100 * _shown(run, 'ece'):.1f} %"
    middle, wide = (bins["low"] + bins["high"]) / 2, 0.92 / BINS
    above.bar(middle, bins["accuracy"], wide, color=BLUE, alpha=0.75, label="accuracy")
    marks = {"color": ORANGE, "markersize": 13, "markeredgewidth": 2.2}
    above.plot(bins["confidence"], bins["confidence"], "_", label="confidence", **marks)
    above.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
    above.set(ylabel="accuracy", ylim=(0, 1.02))
    above.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    if (before := _uncalibrated(run)) is not None:
        earlier = calibration(before)
        hollow = {"color": INK, "markerfacecolor": "none", "markersize": 5}
        above.plot(earlier["confidence"], earlier["accuracy"], "o", label="accuracy, not calibrated", **hollow)
        title += f", not calibrated {100 * _shown(run, 'ece_uncalibrated', before):.1f} %"
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, title=title, title_fontsize=9)
    below.bar(middle, bins["n"], wide, color=SOFT)
    below.set(xlabel="confidence", ylabel="samples", xlim=(0, 1))
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))


def _densities_alt(run: Run) -> str:
    predictions = run.predictions
    correct = np.where(predictions["label"] == predictions["predicted"], "correct", "wrong")
    groups = predictions["confidence"].groupby(correct)
    medians = (f"Median of {len(own):,} {name} predictions: {percent(own.median())}." for name, own in groups)
    return f"Confidence of {run.name}. {' '.join(medians)}"


@run_figure(
    "densities",
    "Confidence of correct and wrong predictions",
    question="Are mistakes less confident than correct predictions?",
    caption="Each area is 1; the lines are the medians. The further apart, the more a threshold on confidence helps.",
    alt=_densities_alt,
    height=3.4,
)
def densities(figure: Figure, run: Run) -> None:
    """Draw densities of the confidence of right and of wrong predictions, and their medians."""
    predictions = run.predictions
    correct = predictions["label"] == predictions["predicted"]
    axes = figure.subplots()
    kinds = {"correct": (correct, BLUE, "-", ""), "wrong": (~correct, ORANGE, "--", "///")}
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


def _confidences_alt(run: Run) -> str:
    sentences = []
    for name in run.present:
        values, own = run.predictions[f"p_{name}"], positives(run, name)
        others = f", of the other samples {percent(values[~own].median())}" if (~own).any() else ""
        sentences.append(f"{name}: of its own samples {percent(values[own].median())}{others}")
    return f"Median confidence of {run.name} in each class. {'; '.join(sentences)}."


@run_figure(
    "confidences",
    "Confidence in each class",
    question="How well is each class separated from the others?",
    caption=lambda run: (
        "Left of each line the samples of other classes, right of it those of the class itself: a mark "
        f"each, their density, and a bar at the median{all_folds(run)}. The further apart, the better the class is "
        "separated from the others."
    ),
    alt=_confidences_alt,
    height=3.8,
)
def confidences(figure: Figure, run: Run) -> None:
    """Draw the confidence in each class, for samples of that class and for the others (IFDD, Figure 5).

    Samples of other classes are left of a class's line, its own samples right of it: a dot each, their kernel density,
    and a bar at their median.
    """
    predictions, present = run.predictions, run.present
    figure.set_size_inches(max(WIDTH, 0.8 + 0.62 * len(present)), 3.8)
    random = np.random.default_rng(0)
    axes = figure.subplots()
    for place, name in enumerate(present):
        values, own = predictions[f"p_{name}"].to_numpy(float), positives(run, name)
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


def positives(run: Run, name: str) -> np.ndarray:
    """Return which predictions are of samples of a class, bool (N,)."""
    return (run.predictions["label"] == run.classes.index(name)).to_numpy(bool)


def kernel_density(values: np.ndarray) -> np.ndarray | None:
    """Compute the Gaussian kernel density of shares at :data:`LEVELS`, by Scott's rule; None if they barely vary.

    Density below 0 or above 1 is reflected, so that a density that is high at an end is not halved there.
    """
    if np.ptp(values) < LEVELS[1]:
        return None
    from scipy.stats import gaussian_kde  # takes a second to import

    kernel = gaussian_kde(values)
    return kernel(LEVELS) + kernel(-LEVELS) + kernel(2 - LEVELS)


def _balance_alt(run: Run) -> str:
    sentences = []
    for part, own in run.parts.groupby("part"):
        shares = own["label"].value_counts(normalize=True)
        sentences.append(
            f"{part}: " + ", ".join(f"{run.classes[label]} {percent(shares[label])}" for label in shares.index)
        )
    return f"Share of each class by part. {'; '.join(sentences)}."


@run_figure(
    "balance",
    "Balance",
    question="Do the parts have the same shares of the classes?",
    caption=lambda run: f"Classes in each part{all_folds(run)}.",
    alt=_balance_alt,
    height=3.4,
)
def balance(figure: Figure, run: Run) -> None:
    """Draw the samples of each class by part, as a share of the part."""
    parts, classes = run.parts, run.classes
    figure.set_size_inches(WIDTH, 1.4 + 0.42 * len(classes))
    shares = parts.groupby("part")["label"].value_counts(normalize=True).unstack(fill_value=0)
    shown = [part for part in BALANCE_BARS if part in shares.index]
    axes = figure.subplots()
    thick = 0.8 / len(shown)
    for k, part in enumerate(shown):
        colour, hatch = BALANCE_BARS[part]
        place = np.arange(len(classes)) + (k - (len(shown) - 1) / 2) * thick
        values = shares.loc[part].reindex(range(len(classes)), fill_value=0)
        axes.barh(place, values, thick * 0.88, color=colour, hatch=hatch, edgecolor=PAPER, linewidth=0, label=part)
    axes.set_yticks(np.arange(len(classes)), classes)
    axes.set(xlabel="share of the part", ylim=(len(classes) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)


def _map_alt(run: Run) -> str:
    found = run.feature_map
    maps = "one map" if len(found.panels) == 1 else f"{len(found.panels)} maps"
    return f"{found.title}, of {run.name}: {len(found.samples):,} points in {maps}, grouped by class."


def map_points(run: Run) -> Sequence[Point]:
    """Return the points of the map with their samples."""
    found, names = run.feature_map, run.classes
    return [
        Point(
            round(float(x), 4),
            round(float(y), 4),
            row.sample,
            f"{row.sample}: {names[row.label]}, predicted {names[row.predicted]} ({percent(row.confidence, 0)})",
        )
        for (x, y), row in zip(places(found.panels, names), found.samples.itertuples(), strict=True)
    ]


@run_figure(
    "tsne",
    lambda run: run.feature_map.title,
    question="Which samples are similar to the network?",
    caption=lambda run: f"{run.feature_map.note} Point at a sample to see it.",
    alt=_map_alt,
    broad=lambda run: len(run.feature_map.panels) > 1,
    applies=lambda run: bool(run.feature_map.panels),
    otherwise=lambda run: run.feature_map.note,
    points=map_points,
)
def embedding(figure: Figure, run: Run) -> None:
    """Draw points in the plane at :func:`places`, with one colour and one marker per class."""
    panels, classes = run.feature_map.panels, run.classes
    layout, number = layout_of(panels, classes), sum(len(panel.points) for panel in panels)
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
        placed = on_map(panel.points, layout.shape)
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


def numeric_factors(run: Run) -> list[Factor]:
    """Return the numeric factors of a run."""
    return [factor for factor in run.factors if factor.numeric]


def _factors_alt(run: Run) -> str:
    spans = (
        f"{factor.name}: from {percent(factor.table['war'].min())} to {percent(factor.table['war'].max())}."
        for factor in numeric_factors(run)
    )
    return f"WAR of {run.name} against what is known of the samples. {' '.join(spans)}"


@run_figure(
    "factors",
    "WAR against what is known of the samples",
    question="Under which conditions is it less accurate?",
    caption="Bins of equally many samples, placed at their median; bands are 95 % intervals, the dotted line is the "
    "WAR of all. Several of many factors differ by chance.",
    alt=_factors_alt,
    height=2.2,
    broad=True,
    section="factors",
    applies=lambda run: bool(numeric_factors(run)),
)
def factors(figure: Figure, run: Run) -> None:
    """Draw WAR against each numeric factor, in bins of equally many samples, with 95 % intervals."""
    numeric, war = numeric_factors(run), _shown(run, "war")
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
