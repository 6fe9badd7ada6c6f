"""Figures of several runs together, each a drawing function with an entry in the registry."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from duchenne.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from duchenne.evaluation.robustness import CLEAN
from duchenne.metrics import METRICS
from duchenne.reporting import across
from duchenne.reporting.across import MAX_STARS, Depths, Pair, Recalls, Sizes
from duchenne.reporting.colours import BLUE, INK, MARKERS, ORANGE, PALETTE, PAPER, SOFT, rgb
from duchenne.reporting.complexity import amount
from duchenne.reporting.figures import star
from duchenne.reporting.gap import TITLES, Gap, Interval, span
from duchenne.reporting.registry import across_figure
from duchenne.reporting.robustness import METRIC as DAMAGE_METRIC
from duchenne.reporting.robustness import Damaged, damaged
from duchenne.reporting.style import WIDTH
from duchenne.reporting.transfer import SHOWN as TRANSFER_METRICS
from duchenne.reporting.transfer import Transfers, cell
from duchenne.reporting.wording import percent, points

PRINTED_STYLE = {
    "color": SOFT,
    "marker": "d",
    "markersize": 6,
    "fillstyle": "none",
    "markeredgewidth": 0.8,
    "linestyle": "none",
}
"""Style of printed values."""


def _sizes_alt(sizes: Sizes) -> str:
    each = [
        f"{row.Index}: {amount(row.params, 1)} M parameters, {amount(row.macs)} G MACs, WAR {percent(row.war)}"
        for row in sizes.runs.itertuples()
    ]
    each += [
        f"{row.Index}, as printed: {row.params:.1f} M parameters, WAR {percent(row.war, 2)}"
        for row in sizes.printed.itertuples()
    ]
    return "; ".join(each) + "."


@across_figure(
    "sizes",
    lambda sizes: f"Accuracy and size on {sizes.dataset}",
    question="Is a larger network more accurate?",
    caption="Bars are 95 % intervals; operations of one sample. Numbers, where there are any: values that papers "
    "print, with parameters as each paper counts them.",
    alt=_sizes_alt,
    broad=True,
    sources=across.sizes,
)
def sizes(figure: Figure, sizes: Sizes) -> None:
    """Draw WAR against parameters and MACs, with 95 % intervals and printed methods (POSTER++, Figure 1)."""
    runs, printed = sizes.runs, sizes.printed
    figure.set_size_inches(2 * WIDTH, 3.6 + 0.2 * -(-(len(runs) + len(printed)) // 3))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, label in zip(panels, ("params", "macs"), ("parameters, M", "MACs, G"), strict=True):
        for i, (name, run) in enumerate(runs.iterrows()):
            _point(axes, run[column], run, i, str(name) if axes is panels[0] else None)
        axes.set(xlabel=label, xlim=(0, 1.1 * max([*runs[column], *printed.get(column, [])])))
    handles, labels = panels[0].get_legend_handles_labels()
    for i, (name, method) in enumerate(printed.iterrows(), 1):
        number = PRINTED_STYLE | {"marker": f"${i}$", "markersize": 6 if i < 10 else 9}
        handles += panels[0].plot(method["params"], method["war"], **number)
        labels.append(f"{name}, printed")
    panels[0].set_ylabel("WAR")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)


def _recalls_alt(recalls: Recalls) -> str:
    rows = pd.concat([recalls.runs, recalls.printed.rename(index="{}, as printed".format)])
    each = (
        f"{name}: " + ", ".join(f"{label} {percent(value)}" for label, value in row.dropna().items())
        for name, row in rows.iterrows()
    )
    return f"Recall of each class. {'; '.join(each)}."


@across_figure(
    "recalls",
    lambda recalls: f"Recall of each class on {recalls.dataset}",
    question="In which classes do they differ?",
    caption=f"At most {MAX_STARS} of our runs, those with the highest UAR, and, where a paper prints its values by "
    "class, as many of its methods: those that a variant here reproduces first, then those with the highest UAR. "
    "Filled: the first of our runs.",
    alt=_recalls_alt,
    broad=lambda recalls: len(recalls.printed) > 0,
    sources=across.recalls,
)
def recalls(figure: Figure, recalls: Recalls) -> None:
    """Draw the recall of each class as stars, for several runs and the methods of a paper (IFDD, Figure 4).

    The area of the first run is filled in both, for comparison.
    """
    runs, printed = recalls.runs, recalls.printed
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


def _depths_alt(series: Depths) -> str:
    each = (
        f"{label}: "
        + ", ".join(
            f"{row.depth} blocks {percent(row.war)}"
            + ("" if pd.isna(row.printed) else f" (printed {percent(row.printed, 2)})")
            for row in table.itertuples()
        )
        for label, table in series.items()
    )
    return f"WAR by depth. {'; '.join(each)}."


@across_figure(
    "depths",
    "Depth",
    question="Is a deeper network more accurate?",
    caption="Runs that differ in their number of blocks alone; bars are 95 % intervals, open diamonds are the values "
    "that papers print.",
    alt=_depths_alt,
    height=3.6,
    sources=across.depths,
)
def depths(figure: Figure, series: Depths) -> None:
    """Draw WAR against the number of blocks (POSTER, Figure 1; POSTER++, Figure 6), with 95 % intervals."""
    axes = figure.subplots()
    for i, (label, table) in enumerate(series.items()):
        axes.plot(table["depth"], table["war"], color=PALETTE[i % len(PALETTE)], linewidth=1.2)
        for k, (_, run) in enumerate(table.iterrows()):
            _point(axes, run["depth"], run, i, label if k == 0 else None)
        axes.plot(table["depth"], table["printed"], **PRINTED_STYLE)
    axes.set(xlabel="blocks", ylabel="WAR")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(loc="outside upper center", ncols=1, fontsize=8)


def _difference_alt(pair: Pair) -> str:
    changes = "; ".join(f"{label} {points(row['difference'])}" for label, row in pair.recalls.iterrows())
    return f"Confusion matrix of {pair.second} minus that of {pair.first}. Change of recall, points: {changes}."


@across_figure(
    "difference",
    "Difference of the confusion matrices",
    question="Which mistakes does one make more often than the other?",
    caption=lambda pair: (
        f"{pair.second} minus {pair.first}, points of the actual class: blue is more, orange is less, "
        "and on the diagonal more is better."
    ),
    alt=_difference_alt,
    sources=across.pairs,
    section="pairs",
)
def confusion_difference(figure: Figure, pair: Pair) -> None:
    """Draw the second run's confusion matrix minus the first's, in points of the actual class."""
    difference = pair.confusion
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


def _damage_alt(source: Damaged) -> str:
    each = []
    for name, table in source.runs.items():
        values = table.set_index(["corruption", "severity"])[DAMAGE_METRIC]
        last = {kind.title: values[key, STRENGTHS[-1]] for key, kind in CORRUPTIONS.items()}
        ends = ", ".join(f"{title} {percent(value)}" for title, value in last.items())
        each.append(f"{name}: clean {percent(values[CLEAN, 0])}; in the greatest strength {ends}")
    return f"UAR under damage. {'. '.join(each)}. Guessing: {percent(source.guess)}."


@across_figure(
    "robustness",
    lambda source: f"Damaged faces of {source.dataset}",
    question="How much damage of the picture does a network bear?",
    caption="UAR on the same test faces, undamaged (0) and in five strengths; bands are 95 % intervals, dotted is "
    "guessing. A band that is suddenly wide at guessing: every face is given the same class, and the interval is the "
    "exact one of the recalls. docs/robustness.md has the settings, and which of them are those of RAF-DB-C.",
    alt=_damage_alt,
    broad=True,
    sources=damaged,
)
def robustness(figure: Figure, source: Damaged) -> None:
    """Draw UAR against the strength of each kind of damage, a panel each, with the runs side by side."""
    lines = 2
    columns = -(-(len(CORRUPTIONS) + 1) // lines)
    figure.set_size_inches(2 * WIDTH, 2.5 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True)
    *shown, last = panels.flat
    for axes, (key, kind) in zip(shown, CORRUPTIONS.items(), strict=True):
        for i, (name, table) in enumerate(source.runs.items()):
            own = table[table["corruption"].isin([CLEAN, key])].sort_values("severity")
            style = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
            axes.plot(own["severity"], own[DAMAGE_METRIC], linewidth=1.3, label=name, **style)
            ends = own[f"{DAMAGE_METRIC}_low"], own[f"{DAMAGE_METRIC}_high"]
            axes.fill_between(own["severity"], *ends, color=style["color"], alpha=0.12, linewidth=0)
        axes.axhline(source.guess, color=SOFT, linestyle=":", linewidth=1.2, label="guessing")
        axes.set_title(kind.title, fontsize=9)
        axes.set(xticks=[0, *STRENGTHS], ylim=(0, 1.02))
    for axes in panels[:, 0]:
        axes.set_ylabel("UAR")
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    for axes in panels[-1]:
        axes.set_xlabel("strength")
    panels[0, -1].tick_params(labelbottom=True)  # nothing is below it but the legend
    last.axis("off")
    last.legend(*shown[0].get_legend_handles_labels(), loc="center", fontsize=8)


def _transfer_alt(source: Transfers) -> str:
    each = (f"{record['network']} on {record['dataset']}: {', '.join(cell(record))}" for record in source.records)
    return f"Networks on datasets. {'. '.join(each)}."


@across_figure(
    "transfer",
    "Networks on other datasets",
    question="How well does a network do on faces of another origin?",
    caption="UAR with its 95 % interval, WAR, tested samples and classes; colour is UAR. Framed: its own dataset, by "
    "its own test predictions. The table below says what each value is based on.",
    alt=_transfer_alt,
    broad=lambda source: source.matrix(TRANSFER_METRICS[0]).shape[1] > 3,
    sources=across.transfers,
)
def transfer(figure: Figure, source: Transfers) -> None:
    """Draw the matrix of networks and datasets."""
    values = source.matrix(TRANSFER_METRICS[0])
    rows, columns = values.shape
    figure.set_size_inches(max(WIDTH, 1.6 + 1.9 * columns), 0.9 + 0.85 * rows)
    axes = figure.subplots()
    clear_to_blue = LinearSegmentedColormap.from_list("share", [(*rgb(BLUE), 0.04), (*rgb(BLUE), 1)])
    axes.pcolormesh(np.ma.masked_invalid(values.to_numpy()), cmap=clear_to_blue, vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        record = source.find(values.index[row], values.columns[column])
        lines = "\n".join(cell(record))
        colour = PAPER if value > 0.65 else INK
        axes.text(column + 0.5, row + 0.5, lines, ha="center", va="center", size=6.5, color=colour, linespacing=1.4)
        if record and record["own"]:
            axes.add_patch(
                Rectangle((column + 0.02, row + 0.02), 0.96, 0.96, fill=False, edgecolor=ORANGE, linewidth=2)
            )
    axes.set_xticks(np.arange(columns) + 0.5, values.columns)
    axes.set_yticks(np.arange(rows) + 0.5, values.index)
    axes.set(xlabel="tested on", ylabel="network")
    axes.invert_yaxis()
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _point(axes: Axes, place: float, run: pd.Series, i: int, label: str | None) -> None:
    reach = [[max(run["war"] - run["war_low"], 0)], [max(run["war_high"] - run["war"], 0)]]
    style = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "markersize": 6}
    axes.errorbar(place, run["war"], yerr=reach, capsize=3, linewidth=1.2, linestyle="none", label=label, **style)


GAP_LABEL = 62
"""Characters of a row's label, which must fit above its interval on half of the page."""


def _gap_rows(gap: Gap) -> list[tuple[str, Interval, str]]:
    """Rows of the figure: label, interval of the first metric, and ``whole``, ``counted``, ``alone`` or ``bounded``."""
    name = gap.metrics[0]
    rows = [(f"Difference from {gap.target}", gap.difference[name], "whole")] if gap.theirs else []
    for finding in gap.measured:
        if name in finding.changes:
            kind = "bounded" if finding.status == "bounded" else "counted" if finding.counted else "alone"
            rows.append((f"{TITLES[finding.part]}: {finding.instead}", finding.changes[name], kind))
    return [*rows, *([("Unexplained", gap.unexplained[name], "whole")] if gap.theirs else [])]


def _gap_alt(gap: Gap) -> str:
    name = gap.metrics[0]
    each = (f"{label}: {span(interval, name)}" for label, interval, _ in _gap_rows(gap))
    return f"Changes of the {METRICS[name].label} of {gap.run}. {'; '.join(each)}."


@across_figure(
    "gap",
    lambda gap: f"What changes the {METRICS[gap.metrics[0]].label} of {gap.run}",
    question="Which single change moves the number, and by how much?",
    caption="Changes from the run as it is, with paired 95 % intervals; dotted is no change. Filled circle: towards "
    "what it is compared with; open circle: another change; square: the whole difference, and what is left of it; a "
    "line without a mark: the lowest and the highest possible.",
    alt=_gap_alt,
    sources=across.gaps_of_runs,
    section="gaps",
)
def gap(figure: Figure, gap: Gap) -> None:
    """Draw a row for each change, its label above its interval."""
    rows = _gap_rows(gap)
    metric = METRICS[gap.metrics[0]]
    figure.set_size_inches(WIDTH, 0.75 + 0.42 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=SOFT, linestyle=":", linewidth=1)
    styles = {
        "whole": {"color": ORANGE, "marker": "s", "markersize": 5.5},
        "counted": {"color": BLUE, "marker": "o", "markersize": 6},
        "alone": {"color": BLUE, "marker": "o", "markersize": 6, "markerfacecolor": PAPER},
        "bounded": {"color": SOFT},
    }
    for row, (label, interval, kind) in enumerate(rows):
        value, low, high = (metric.scale * end for end in interval)
        color = styles[kind]["color"]
        axes.plot([low, high], [row, row], color=color, linewidth=1.8, linestyle="--" if kind == "bounded" else "-")
        if kind != "bounded":
            axes.plot(value, row, linestyle="none", **styles[kind])
        short = label if len(label) <= GAP_LABEL else f"{label[: GAP_LABEL - 1].rstrip(' ,')}…"
        axes.text(0.01, row - 0.28, short, transform=axes.get_yaxis_transform(), size=8, va="bottom", color=INK)
    axes.set(ylim=(len(rows) - 0.5, -0.85), yticks=[], xlabel="points" if metric.percent else metric.label)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
