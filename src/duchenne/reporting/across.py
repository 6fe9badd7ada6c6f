"""Data of figures of several runs: sizes, depths, recalls, and pairs on the same samples."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from duchenne.config import Catalog
from duchenne.networks import facts_of
from duchenne.reporting.basis import MARKS
from duchenne.reporting.compare import ComparedRuns, compare_runs
from duchenne.reporting.gap import Gap, gaps
from duchenne.reporting.printed import printed_methods
from duchenne.reporting.runs import Run
from duchenne.reporting.transfer import Transfers, read_transfers

MAX_STARS = 8
"""Maximum number of runs in a star chart, so that each has its own colour."""


class Sizes(NamedTuple):
    """Accuracy and size of the networks on one dataset.

    ``runs``: ``war``, ``war_low``, ``war_high``, ``params`` (millions) and ``macs`` (billions, 1e9) by name.
    ``printed``: ``war`` and ``params`` by method; operations are counted in too many ways to share an axis.
    """

    dataset: str
    runs: pd.DataFrame
    printed: pd.DataFrame


class Recalls(NamedTuple):
    """Recall of each class on one dataset.

    ``runs``: shares by name and class, the best first, :data:`MAX_STARS` at most. ``printed``: the same of the paper's
    methods, or empty.
    """

    dataset: str
    runs: pd.DataFrame
    printed: pd.DataFrame


Depths = dict[str, pd.DataFrame]
"""Label -> ``depth``, increasing, ``war``, ``war_low``, ``war_high``, and ``printed``, the paper's WAR or NaN."""


class Pair(NamedTuple):
    """Two runs on the same samples.

    ``confusion``: share of the actual class by actual and predicted class, the second run's minus the first's.
    ``recalls``: ``difference`` of the recalls by class.
    """

    first: str
    second: str
    confusion: pd.DataFrame
    recalls: pd.DataFrame


@dataclass(eq=False)
class Together:
    """All runs of a page.

    Attributes:
        runs: runs in the order of ``params.yaml``.
        bootstrap: number of resamples for the intervals of differences.
        catalog: ``params.yaml``, for :attr:`gaps`.
    """

    runs: list[Run]
    bootstrap: int = 2000
    catalog: Catalog | None = None

    @cached_property
    def compared(self) -> list[ComparedRuns]:
        """Groups of runs on the same test samples, each run compared with the first of its group."""
        groups: dict[tuple[str, frozenset[str]], list[Run]] = defaultdict(list)
        for run in self.runs:
            groups[run.config.dataset, frozenset(run.predictions["sample"])].append(run)
        return [compare_runs(runs, self.bootstrap) for runs in groups.values() if len(runs) > 1]

    @cached_property
    def transfers(self) -> Transfers:
        """Networks on other datasets, from ``results/transfer``."""
        return read_transfers(self.runs[0].workspace) if self.runs else Transfers([], [])

    @cached_property
    def gaps(self) -> dict[str, Gap]:
        """Run -> what is between it and its paper's value, of runs with such a value or with counterparts."""
        runs = {run.name: run for run in self.runs}
        return gaps(self.catalog, runs, self.bootstrap) if self.catalog else {}

    def by_dataset(self) -> dict[str, list[Run]]:
        """Group the runs by dataset."""
        groups: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            groups[run.config.dataset].append(run)
        return groups


def pairs(together: Together) -> dict[tuple[str, str], Pair]:
    """Return the differences of every pair: (first run, second run) -> second minus first."""
    return {
        (compared.first, name): Pair(compared.first, name, pair.confusion, pair.per_class)
        for compared in together.compared
        for name, pair in compared.pairs.items()
    }


def sizes(together: Together) -> dict[tuple[str], Sizes]:
    """Return accuracy and size by dataset, if there are networks of two or more sizes, from runs or papers."""
    found = {}
    for dataset, runs in together.by_dataset().items():
        counted = [run for run in runs if run.sizes]
        printed = _printed_sizes(dataset)
        if counted and (len({(run.sizes["params"], run.sizes["macs"]) for run in counted}) > 1 or len(printed)):
            table = pd.DataFrame([run.metrics | run.sizes for run in counted], [label(run) for run in counted])
            found[dataset,] = Sizes(dataset, table, printed)
    return found


def recalls(together: Together) -> dict[tuple[str], Recalls]:
    """Return recalls by dataset, if there are at least three classes and two runs or printed methods.

    Our runs are those with the highest UAR. The printed methods are those of the first table that has every class:
    first the ones that our variants reproduce, then those with the highest mean.
    """
    found = {}
    for dataset, runs in together.by_dataset().items():
        present = [name for name in runs[0].classes if any(name in run.present for run in runs)]
        best = sorted(runs, key=lambda run: -run.metrics["uar"])[:MAX_STARS]
        ours = pd.DataFrame(
            [[run.metrics.get(f"recall_{name}", float("nan")) for name in present] for run in best],
            [label(run) for run in best],
            present,
        )
        printed = _printed_recalls(dataset, present)
        if len(present) > 2 and len(ours) + len(printed) > 1:
            found[dataset,] = Recalls(dataset, ours, printed)
    return found


def transfers(together: Together) -> dict[tuple[()], Transfers]:
    """Return all networks on other datasets as the data of one figure; empty if there are none."""
    return {(): together.transfers} if together.transfers.records else {}


def gaps_of_runs(together: Together) -> dict[tuple[str], Gap]:
    """Return what is between each run and its paper's value, where a change or a difference has an interval."""
    return {(name,): gap for name, gap in together.gaps.items() if gap.theirs or gap.measured}


def depths(together: Together) -> dict[tuple[()], Depths]:
    """Return WAR by the number of blocks, for runs that differ in nothing else; empty if there are none."""
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in together.runs:
        if depth := facts_of(run.config.model.architecture).depth:
            plain = run.config.decides()
            options = {**run.config.model.options, depth.option: None}
            plain["model"] |= {"architecture": depth.family, "options": options}
            groups[depth.family, json.dumps(plain, sort_keys=True)].append(run)
    series = {}
    for (family, _), runs in groups.items():
        rows = [{"depth": _depth(run), "printed": _printed_war(run)} | run.metrics for run in runs]
        table = pd.DataFrame(rows).sort_values("depth")
        if table["depth"].nunique() > 1:
            series[f"{family} on {runs[0].config.dataset}, as {label(runs[0])}"] = table
    return {(): series} if series else {}


def label(run: Run) -> str:
    """Return a run's name with marks for networks without public code and epochs picked on the test part."""
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
    rows = {m.row.method: [m.values[name] for name in columns] for m in first[:MAX_STARS]}
    return pd.DataFrame.from_dict(rows, orient="index", columns=present)


def _depth(run: Run) -> int:
    depth = facts_of(run.config.model.architecture).depth
    return run.config.model.options.get(depth.option, depth.usual)
