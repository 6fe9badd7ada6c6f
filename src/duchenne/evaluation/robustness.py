"""Accuracy of a run under damage of its test faces: each metric by kind and strength, and their means."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from duchenne.evaluation.corruptions import CORRUPTIONS
from duchenne.evaluation.statistics import evaluate

MEASURED = ("war", "uar", "uf1")
"""Metrics that are measured under damage."""

CLEAN = "clean"
"""Name of the row of undamaged faces, of strength 0."""

RECORD = "robustness.record.json"
"""Sealed record of the digests of ``robustness.csv`` and ``robustness.json``."""

COLUMNS = ["corruption", "severity", "n", *(f"{name}{end}" for name in MEASURED for end in ("", "_low", "_high"))]
"""Columns of ``robustness.csv``."""


def curves(
    clean: pd.DataFrame, damaged: Mapping[str, pd.DataFrame], classes: list[str], bootstrap: int, seed: int
) -> pd.DataFrame:
    """Measure a run's predictions of undamaged and of damaged faces: a row per kind and strength (:data:`COLUMNS`).

    Args:
        clean: predictions as for :func:`duchenne.evaluation.statistics.evaluate`.
        damaged: kind of damage -> ``severity``, ``sample``, ``fold`` and ``predicted`` of the same samples.
        classes: class names in order.
        bootstrap: number of resamples; all rows draw the same subjects.
        seed: seed of the resampling.
    """
    known = clean[["sample", "fold", "subject", "label"]]
    tables = [(CLEAN, 0, known.assign(predicted=clean["predicted"]))]
    for name, found in damaged.items():
        for severity, own in found.groupby("severity"):
            own = own[["sample", "fold", "predicted"]]
            merged = known.merge(own, on=["sample", "fold"], validate="one_to_one")
            tables.append((name, int(severity), merged))
    rows = []
    for name, severity, table in tables:
        metrics = evaluate(table, classes, bootstrap, seed, MEASURED)
        rows.append({"corruption": name, "severity": severity} | metrics)
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def summarise(table: pd.DataFrame) -> dict[str, float]:
    """Return the means of a table of :func:`curves` as flat metrics; empty for an empty table.

    - ``<metric>_<corruption>``: mean over the strengths, the area under the curve with a unit of width per strength.
    - ``<metric>_corrupted``: mean of these over the kinds of damage.
    - ``<metric>_kept``: that as a share of the value of undamaged faces.
    - ``mce``: mean error, 1 minus WAR, over kinds and strengths, and ``rce``: that minus the error of undamaged faces.
      These are the numerators of mean and relative corruption error of Hendrycks and Dietterich (ICLR 2019, section
      4), who divide each kind by the error of one fixed network; :func:`relative_error` does that.
    """
    if table.empty:
        return {}
    clean = table[table["corruption"] == CLEAN].iloc[0]
    means = table[table["corruption"] != CLEAN].groupby("corruption", sort=False)[list(MEASURED)].mean()
    found: dict[str, float] = {}
    for metric in MEASURED:
        found |= {f"{metric}_{name}": float(value) for name, value in means[metric].items()}
        found[f"{metric}_corrupted"] = float(means[metric].mean())
        if clean[metric] > 0:
            found[f"{metric}_kept"] = float(means[metric].mean() / clean[metric])
    error = 1 - means["war"].mean()
    return found | {"mce": float(error), "rce": float(error - (1 - clean["war"]))}


def relative_error(own: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Compute mCE as Hendrycks and Dietterich define it, with another run as reference; NaN where that makes no error.

    Each kind's error, summed over strengths, is divided by the reference's, then averaged over kinds. Their reference
    is AlexNet; here it is a run on the same test faces.

    Args:
        own, reference: of :func:`summarise`.
    """
    names = [name for name in CORRUPTIONS if f"war_{name}" in own and f"war_{name}" in reference]
    if not names or any(reference[f"war_{name}"] == 1 for name in names):
        return float("nan")
    return float(np.mean([(1 - own[f"war_{name}"]) / (1 - reference[f"war_{name}"]) for name in names]))
