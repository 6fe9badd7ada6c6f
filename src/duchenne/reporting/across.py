"""What the page shows of several runs together: sizes, depths, and pairs on the same samples."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import NamedTuple

import pandas as pd

from duchenne.catalog import Catalog
from duchenne.reporting import figures_across
from duchenne.reporting.compare import Runs, compare_runs
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
    """Dataset -> WAR against the sizes of networks, where runs have networks of two or more sizes."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.sizes:
            groups[run.config.dataset].append(run)
    drawn = {}
    for dataset, own in groups.items():
        if len({(run.sizes["params"], run.sizes["macs"]) for run in own}) > 1:
            table = pd.DataFrame([run.metrics | run.sizes for run in own], [run.name for run in own])
            each = (
                f"{run.name}: {run.sizes['params']:.1f} M parameters, {run.sizes['macs']:.2f} G MACs, "
                f"WAR {percent(run.metrics['war'])}"
                for run in own
            )
            drawn[dataset] = Drawn(figures_across.sizes(table), "; ".join(each) + ".")
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
        table = pd.DataFrame([{"depth": _depth(run)} | run.metrics for run in own]).sort_values("depth")
        if table["depth"].nunique() > 1:
            series[f"{family} on {own[0].config.dataset}, as {own[0].name}"] = table
    if not series:
        return None
    each = (
        f"{label}: " + ", ".join(f"{row.depth} blocks {percent(row.war)}" for row in table.itertuples())
        for label, table in series.items()
    )
    return Drawn(figures_across.depths(series), "WAR by depth. " + "; ".join(each) + ".")


def _depth(run: Run) -> int:
    _, option, usual = DEPTHS[run.config.model.architecture]
    return run.config.model.options.get(option, usual)
