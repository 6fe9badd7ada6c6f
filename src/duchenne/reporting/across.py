"""What the page shows of several runs together: sizes, depths, recalls, and pairs on the same samples."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import NamedTuple

import pandas as pd

from duchenne.config import Catalog
from duchenne.reporting import figures_across
from duchenne.reporting.basis import MARKS
from duchenne.reporting.compare import Runs, compare_runs
from duchenne.reporting.printed import printed_methods
from duchenne.reporting.runs import Run
from duchenne.reporting.wording import percent, points
from duchenne.workspace import Workspace

DEPTHS = {
    "poster_t": ("POSTER", "depth", 4),
    "poster_s": ("POSTER", "depth", 6),
    "poster_l": ("POSTER", "depth", 8),
    "poster_v2": ("POSTER++", "vit_depth", 2),
}
"""Network -> family, the option that sets its number of blocks, the number without it."""


class Drawn(NamedTuple):
    """A figure as SVG text, and its numbers in words."""

    svg: str
    words: str


def comparisons(runs: list[Run], workspace: Workspace, catalog: Catalog) -> tuple[list[Runs], dict[str, Drawn]]:
    """Runs on the same test samples, each against the first of them, and ``difference_<first>_<second>`` figures."""
    groups: dict[tuple[str, frozenset[str]], list[str]] = defaultdict(list)
    for run in runs:
        groups[run.config.dataset, frozenset(run.predictions["sample"])].append(run.name)
    found = [compare_runs(workspace, names, catalog.report.bootstrap) for names in groups.values() if len(names) > 1]
    drawn = {}
    for compared in found:
        for name, pair in compared.pairs.items():
            first = compared.frame.index[0]
            changes = "; ".join(f"{label} {points(row['difference'])}" for label, row in pair.per_class.iterrows())
            svg = figures_across.confusion_difference(pair.confusion)
            words = f"Confusion matrix of {name} minus that of {first}. Change of recall, points: {changes}."
            drawn[f"difference_{first}_{name}"] = Drawn(svg, words)
    return found, drawn


def sizes(runs: list[Run]) -> dict[str, Drawn]:
    """Dataset -> WAR against the sizes of networks, of our runs and of the methods that papers print.

    Drawn where there are networks of two or more sizes.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.sizes:
            groups[run.config.dataset].append(run)
    drawn = {}
    for dataset, own in groups.items():
        printed = _printed_sizes(dataset)
        if len({(run.sizes["params"], run.sizes["macs"]) for run in own}) > 1 or len(printed):
            table = pd.DataFrame([run.metrics | run.sizes for run in own], [_label(run) for run in own])
            each = [
                f"{_label(run)}: {run.sizes['params']:.1f} M parameters, {run.sizes['macs']:.2f} G MACs, "
                f"WAR {percent(run.metrics['war'])}"
                for run in own
            ]
            each += [
                f"{row.Index}, as printed: {row.params:.1f} M parameters, WAR {percent(row.war, 2)}"
                for row in printed.itertuples()
            ]
            drawn[dataset] = Drawn(figures_across.sizes(table, printed), "; ".join(each) + ".")
    return drawn


def recalls(runs: list[Run]) -> dict[str, Drawn]:
    """Dataset -> recall of each class by our runs and by the methods that a paper prints; two or more of them.

    Our runs are those with the highest UAR. The printed methods are those of the first table that has every class:
    first the ones that our variants reproduce, then those with the highest mean.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.config.dataset].append(run)
    drawn = {}
    for dataset, own in groups.items():
        present = [name for name in own[0].classes if any(name in run.present for run in own)]
        best = sorted(own, key=lambda run: -run.metrics["uar"])[: figures_across.SHOWN]
        ours = pd.DataFrame(
            [[run.metrics.get(f"recall_{name}", float("nan")) for name in present] for run in best],
            [_label(run) for run in best],
            present,
        )
        printed = _printed_recalls(dataset, present)
        if len(present) > 2 and len(ours) + len(printed) > 1:
            words = [
                f"{name}: " + ", ".join(f"{label} {percent(value)}" for label, value in row.dropna().items())
                for name, row in pd.concat([ours, printed.rename(index="{}, as printed".format)]).iterrows()
            ]
            drawn[dataset] = Drawn(
                figures_across.recalls(ours, printed), "Recall of each class. " + "; ".join(words) + "."
            )
    return drawn


def depths(runs: list[Run]) -> Drawn | None:
    """WAR against the number of blocks of runs that differ in nothing else; None where there are none."""
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.config.model.architecture in DEPTHS:
            family, option, _ = DEPTHS[run.config.model.architecture]
            plain = run.config.decides()
            plain["model"] |= {"architecture": family, "options": {**run.config.model.options, option: None}}
            groups[family, json.dumps(plain, sort_keys=True)].append(run)
    series = {}
    for (family, _), own in groups.items():
        rows = [{"depth": _depth(run), "printed": _printed_war(run)} | run.metrics for run in own]
        table = pd.DataFrame(rows).sort_values("depth")
        if table["depth"].nunique() > 1:
            series[f"{family} on {own[0].config.dataset}, as {_label(own[0])}"] = table
    if not series:
        return None
    each = (
        f"{label}: "
        + ", ".join(
            f"{row.depth} blocks {percent(row.war)}"
            + ("" if pd.isna(row.printed) else f" (printed {percent(row.printed, 2)})")
            for row in table.itertuples()
        )
        for label, table in series.items()
    )
    return Drawn(figures_across.depths(series), "WAR by depth. " + "; ".join(each) + ".")


def _label(run: Run) -> str:
    """A run's name with its marks: not public code, picked on the test part."""
    return f"{run.name}{MARKS[run.basis]}" + (" (optimistic)" if run.optimistic else "")


def _printed_war(run: Run) -> float:
    return run.printed["war"].value if "war" in run.printed else float("nan")


def _printed_sizes(dataset: str) -> pd.DataFrame:
    """Columns ``war`` and ``params`` by method, without the same values of other tables."""
    methods = [m for m in printed_methods(dataset) if {"war", "params"} <= m.values.keys()]
    table = pd.DataFrame([m.values for m in methods], [m.row.method for m in methods], ["war", "params"])
    alike = table.round({"war": 3, "params": 9}).duplicated()  # 66.86 in one table is 66.87 in another
    return table[~alike & ~table.index.duplicated()]


def _printed_recalls(dataset: str, present: list[str]) -> pd.DataFrame:
    """Recalls by method and class."""
    columns = [f"recall_{name}" for name in present]
    whole = [m for m in printed_methods(dataset) if set(columns) <= m.values.keys()]
    first = [method for method in whole if method.source == whole[0].source]
    first.sort(key=lambda method: (not method.row.run, -sum(method.values[name] for name in columns)))
    rows = {m.row.method: [m.values[name] for name in columns] for m in first[: figures_across.SHOWN]}
    return pd.DataFrame.from_dict(rows, orient="index", columns=present)


def _depth(run: Run) -> int:
    _, option, usual = DEPTHS[run.config.model.architecture]
    return run.config.model.options.get(option, usual)
