"""All runs in one table: a row a variant, ours beside the printed values."""

from __future__ import annotations

import pandas as pd

from duchenne.reporting.runs import Run

METRICS = ("war", "uar", "uf1", "ece")


def summary(runs: list[Run]) -> pd.DataFrame:
    """Metrics and interval ends as shares; printed values as shares too, with ours minus the printed one.

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
    for name in METRICS:
        row |= {name + end: run.metrics[name + end] for end in ("", "_low", "_high")}
    for name in ("war", "uar"):
        row |= {f"{name}_fold_{kind}": run.metrics.get(f"{name}_fold_{kind}") for kind in ("mean", "std")}
    row |= {key: run.metrics.get(key) for key in ("near_duplicates", "n_without_duplicates")}
    row |= {
        key: run.metrics.get(key)
        for name in ("war", "uar", "uf1")
        for key in (f"{name}_without_duplicates{end}" for end in ("", "_low", "_high"))
    }
    for name, cell in run.printed.items():
        row |= {f"paper_{name}": cell.value, f"difference_{name}": run.metrics[name] - cell.value}
    return row
