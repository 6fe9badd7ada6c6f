"""Table of all runs: a row per variant, with our values and the printed ones."""

from __future__ import annotations

import math

import pandas as pd

from duchenne.evaluation.rules import of_rules
from duchenne.metrics import METRICS
from duchenne.reporting.runs import Run


def summary(runs: list[Run]) -> pd.DataFrame:
    """Return every metric with its interval as in ``metrics.json``, printed values in the same unit, and differences.

    Columns that no run has a value for are left out, cells without a value are empty.
    """
    return pd.DataFrame([_row(run) for run in runs]).dropna(axis="columns", how="all")


def _row(run: Run) -> dict[str, object]:
    row: dict[str, object] = {
        "variant": run.name,
        "dataset": run.config.dataset,
        "protocol": run.config.protocol.kind,
        "network": run.config.model.architecture,
        "basis": run.basis,
        "selection": run.config.selection,
        "flaws": "; ".join(run.flaws) or None,
    }
    row |= {key: run.metrics[key] for key in ("n", "subjects", "folds", "missed", "majority")}
    ends = ("", "_low", "_high")
    keys = [name + end for name in METRICS for end in ends]
    keys += [f"{name}_fold_{kind}" for name in METRICS for kind in ("mean", "std")]
    keys += ["seeds", *(f"{name}_seed_{kind}" for name in METRICS for kind in ("std", "best"))]
    keys += ["near_duplicates", "n_without_duplicates"]
    keys += [f"{name}_without_duplicates{end}" for name in METRICS for end in ends]
    keys += [key for key in run.metrics if "_uncalibrated" in key or "_gap_" in key]
    keys += filter(of_rules, run.metrics)
    row |= {key: run.metrics.get(key) for key in keys}
    for name, cell in run.printed.items():
        row |= {f"paper_{name}": cell.value, f"difference_{name}": run.metrics.get(name, math.nan) - cell.value}
    return row
