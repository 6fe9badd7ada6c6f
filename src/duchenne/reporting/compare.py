"""Comparison of runs with the first of them, for ``duchenne compare`` and the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duchenne.errors import UserError, nearest
from duchenne.evaluation.comparing import Comparison, compare
from duchenne.evaluation.rules import RULES
from duchenne.metrics import METRICS, Metric
from duchenne.reporting.complexity import amount
from duchenne.reporting.runs import Run
from duchenne.workspace import Workspace

PRINTED_DISAGREEMENTS = 10
"""Maximum number of samples shown on the terminal; the JSON has all."""

UNDER_RULES = ("war", "uar")
"""Metrics that are shown under every rule that picks the epoch."""


@dataclass(frozen=True)
class ComparedRuns:
    """Result of :func:`compare_runs`.

    ``frame``: a row per run: every metric with ``_low`` and ``_high`` (NaN: not measured), ``params`` (millions) and
    ``macs`` (billions, 1e9) if they were counted, ``selection``, ``war_rule_<rule>`` and ``uar_rule_<rule>`` with
    ``_low`` and ``_high``, the values if that rule had picked the epoch (NaN: not kept), and, except for the first run,
    ``difference_<metric>`` from the first with ``_low`` and ``_high``, and McNemar's ``p``, NaN with several seeds.
    ``pairs``: each run but the first -> its comparison with the first.
    """

    frame: pd.DataFrame
    pairs: dict[str, Comparison]

    @property
    def first(self) -> str:
        """Name of the run with which the others are compared."""
        return str(self.frame.index[0])

    @property
    def metrics(self) -> list[str]:
        """The metrics for which a run has a value, in the order of the registry."""
        return [name for name in METRICS if self.frame[name].notna().any()]

    def as_json(self) -> dict[str, Any]:
        """Return the whole result as values for :func:`json.dumps`."""
        return {
            "runs": _plain(self.frame.rename_axis("run").reset_index()),
            "against": self.first,
            "pairs": {
                name: {
                    "metrics": _plain(pair.metrics.rename_axis("metric").reset_index()),
                    "per_class": _plain(pair.per_class.rename_axis("class").reset_index()),
                    "confusion": pair.confusion.to_dict("index"),
                    "mcnemar": pair.mcnemar and pair.mcnemar._asdict(),
                    "disagreements": _plain(pair.disagreements.reset_index()),
                }
                for name, pair in self.pairs.items()
            },
        }


def finished_runs(workspace: Workspace, names: list[str]) -> list[Run]:
    """Return the runs of these names, which must be finished.

    Args:
        names: folders below ``results/``: variants, or ``published/<variant>`` for measured checkpoints of others.

    Raises:
        UserError: A run is not finished; the message names those that are.
    """
    runs = [Run(name, workspace=workspace) for name in names]
    for run in runs:
        path = run.results / "predictions.parquet"
        if not path.exists():
            root = workspace.results("")
            known = [str(file.parent.relative_to(root)) for file in sorted(root.glob("**/predictions.parquet"))]
            hint = nearest(run.name, known) or f" (finished: {', '.join(known) or 'none; `dvc repro` trains'})"
            raise UserError(f"{run.name!r} has no results: {path} is missing{hint}")
    return runs


def compare_runs(runs: list[Run], bootstrap: int = 2000, seed: int = 0) -> ComparedRuns:
    """Compare finished runs with the first of them.

    Args:
        runs: two or more.
        bootstrap: number of resamples for the intervals of the differences.
        seed: seed of the resampling.

    Raises:
        UserError: fewer than two runs, or runs that do not have the same classes or were not tested on the same
            samples.
    """
    names = [run.name for run in runs]
    if len(set(names)) < max(2, len(names)):
        raise UserError(f"name two or more different runs, not {', '.join(names) or 'none'}")
    first, *others = runs
    pairs = {}
    for run in others:
        if run.classes != first.classes:
            theirs, own = (", ".join(one.classes) for one in (first, run))
            raise UserError(f"{first.name} has the classes {theirs}, {run.name} has {own}")
        try:
            pairs[run.name] = compare(first.every_prediction, run.every_prediction, first.classes, bootstrap, seed)
        except UserError as error:
            raise UserError(f"{first.name} (first) and {run.name} (second): {error}") from None
    rows = {run.name: _row(run, pairs.get(run.name)) for run in runs}
    return ComparedRuns(pd.DataFrame.from_dict(rows, orient="index"), pairs)


def show(runs: ComparedRuns, console: Console) -> None:
    """Print a table with a column per run, and the samples on which each run and the first disagree."""
    first = runs.first
    title = (
        f"95 % intervals; below each value the difference from {first} with its own. In per cent and points, but for "
        + ", ".join(METRICS[name].label for name in runs.metrics if not METRICS[name].percent)
    )
    table = Table("", *map(escape, runs.frame.index), title=escape(title), title_justify="left")
    for name in runs.metrics:
        metric = METRICS[name]
        values = (_interval(row[[name, f"{name}_low", f"{name}_high"]], metric) for _, row in runs.frame.iterrows())
        pairs = (pair.metrics for pair in runs.pairs.values())
        changes = (_interval(own.loc[name], metric, "+") if name in own.index else "–" for own in pairs)
        table.add_row(metric.label, *_below(values, changes))
    table.add_section()
    recalls = next(iter(runs.pairs.values())).per_class
    for label, row in recalls.iterrows():
        values = (f"{100 * pair.per_class.loc[label, 'second']:.1f}" for pair in runs.pairs.values())
        changes = (_interval(pair.per_class.loc[label], METRICS["war"], "+") for pair in runs.pairs.values())
        table.add_row(f"recall {label} ({row['n']:.0f})", *_below([f"{100 * row['first']:.1f}", *values], changes))
    table.add_section()
    tests = (pair.mcnemar for pair in runs.pairs.values())
    outcomes = (f"{test.only_second} / {test.only_first}, p {test.p:.2g}" if test else "–" for test in tests)
    table.add_row("right alone / the first alone", "", *outcomes)
    for size, head in (("params", "parameters, M"), ("macs", "MACs, G")):
        table.add_row(head, *("–" if pd.isna(value) else amount(value) for value in runs.frame[size]))
    chosen = ("test (optimistic)" if rule == "test" else rule for rule in runs.frame["selection"])
    table.add_row("epoch selected by", *chosen)
    for name, rule in ((name, rule) for name in UNDER_RULES for rule in RULES):
        keys = [f"{name}_rule_{rule}{end}" for end in ("", "_low", "_high")]
        if runs.frame[keys[0]].notna().any():
            values = (_interval(row[keys], METRICS[name]) for _, row in runs.frame.iterrows())
            table.add_row(f"{METRICS[name].label} if by {'test (optimistic)' if rule == 'test' else rule}", *values)
    console.print(table)
    for name, pair in runs.pairs.items():
        title = f"{len(pair.disagreements)} samples that {first} and {name} disagree on, most confident first"
        heads = ("sample", "actual", escape(first), escape(name), "right")
        samples = Table(*heads, title=escape(title), title_justify="left")
        for sample, row in pair.disagreements.head(PRINTED_DISAGREEMENTS).iterrows():
            answers = (f"{row[run]} ({100 * row[f'{run}_confidence']:.0f} %)" for run in ("first", "second"))
            samples.add_row(escape(str(sample)), row["actual"], *answers, row["right"])
        console.print(samples)


def _row(run: Run, pair: Comparison | None) -> dict[str, Any]:
    names = [*METRICS, *(f"{name}_rule_{rule}" for name in UNDER_RULES for rule in RULES)]
    keys = [name + end for name in names for end in ("", "_low", "_high")]
    row: dict[str, Any] = {key: run.metrics.get(key, float("nan")) for key in keys}
    row |= {"n": run.metrics["n"], "selection": run.metrics["selection"]}
    row |= {size: run.sizes.get(size, float("nan")) for size in ("params", "macs")}  # published weights have none
    if pair is not None:
        for metric, change in pair.metrics.iterrows():
            row |= {f"difference_{metric}": change["difference"]}
            row |= {f"difference_{metric}_{end}": change[end] for end in ("low", "high")}
        row["p"] = pair.mcnemar.p if pair.mcnemar else float("nan")
    return row


def _interval(values: pd.Series, metric: Metric, sign: str = "") -> str:
    """Format the last three of ``values``, a value of ``metric`` and its interval, as ``78.12 [68.8, 86.5]``."""
    value, low, high = values.iloc[-3:]
    if pd.isna(value):
        return "–"
    digits = 1 if metric.percent else 2
    low, high = (f"{metric.scale * end:{sign}.{digits}f}" for end in (low, high))
    return f"{metric.number(value, sign)} [{low}, {high}]"


def _below(values: Iterable[str], changes: Iterable[str]) -> Iterator[str]:
    """Yield the first value alone, and every other value with its change below."""
    first, *others = values
    yield first
    yield from (f"{value}\n{change}" for value, change in zip(others, changes, strict=True))


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(frame.to_json(orient="records"))
