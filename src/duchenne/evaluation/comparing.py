"""Comparison of two runs on the same samples: differences with intervals, and samples on which they disagree.

Both runs predict the same people, so a bootstrap resample draws a person's predictions of both. How easy or hard a
person is cancels in the difference, whose interval is narrower than those of the two values suggest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from duchenne.errors import UserError
from duchenne.evaluation.statistics import (
    McNemar,
    check,
    in_resamples,
    independent,
    interval_of_difference,
    mcnemar,
    of_first_seed,
    tables_of,
    units_of,
)  # fmt: skip
from duchenne.metrics import METRICS, chosen


@dataclass(frozen=True)
class Comparison:
    """Result of :func:`compare`; every difference is the second run minus the first.

    ``metrics``: by the name of the metric: ``first``, ``second``, ``difference`` and the ends ``low`` and ``high`` of
    its 95 % interval, of the metrics that are defined for both. ``per_class``: the same of the recalls, by class, with
    its number of samples ``n``.
    ``confusion``: actual by predicted class, difference of the shares of the actual class; every row sums to 0.
    ``mcnemar``: the test of WAR; None where a run has several seeds, whose predictions are not independent. Then the
    interval of the difference, which knows seeds, decides.
    ``disagreements``: samples on which the networks of the first seeds disagree, by ``sample``: ``subject``,
    ``actual``, ``first`` and ``second`` (class names), ``first_confidence``, ``second_confidence`` (NaN where not
    known) and ``right`` (first, second or neither), the most confident pair of predictions first.
    """

    metrics: pd.DataFrame
    per_class: pd.DataFrame
    confusion: pd.DataFrame
    disagreements: pd.DataFrame
    mcnemar: McNemar | None


def compare(
    first: pd.DataFrame, second: pd.DataFrame, classes: list[str], bootstrap: int = 2000, seed: int = 0
) -> Comparison:
    """Compare two runs sample by sample.

    The intervals are those of a paired percentile bootstrap over subjects (Efron and Tibshirani 1993, chapter 13), and
    over seeds where a run has several (:func:`duchenne.evaluation.statistics.in_resamples`).
    If all resamples agree, as when both runs are always right, the interval is the exact one of the share of subjects
    on whom the runs differ (:func:`duchenne.evaluation.statistics.exact_interval`). The test of WAR is
    McNemar's (:func:`duchenne.evaluation.mcnemar`). A class counts as in :func:`duchenne.evaluation.evaluate`; one
    without test samples is left out.

    Args:
        first, second: predictions as for :func:`duchenne.evaluation.evaluate`, in any order.
        classes: class names in order.
        bootstrap: number of resamples.
        seed: seed of the resampling.

    Raises:
        UserError: The runs were tested on different samples, or with different labels.
        ValueError: As for :func:`duchenne.evaluation.statistics.evaluate`.
    """
    for frame in (first, second):
        check(frame, classes)
    several = any(frame["seed"].nunique() > 1 for frame in (first, second) if "seed" in frame)
    one, other = (of_first_seed(frame).set_index("sample").sort_index() for frame in (first, second))
    _check_alike(one, other, classes)
    metrics = _differences(first, second, classes, bootstrap, seed)
    recalls = metrics[metrics.index.str.startswith("recall_")]
    numbers = one["label"].value_counts()
    per_class = recalls.rename(index=lambda name: name.removeprefix("recall_"))
    per_class.insert(0, "n", [int(numbers[classes.index(name)]) for name in per_class.index])
    return Comparison(
        metrics=metrics[metrics.index.isin(METRICS)],
        per_class=per_class,
        confusion=_shares(second, classes) - _shares(first, classes),
        disagreements=_disagreements(one, other, classes),
        mcnemar=None if several else mcnemar(first, second),
    )


def _check_alike(first: pd.DataFrame, second: pd.DataFrame, classes: list[str]) -> None:
    alone = [a.index.difference(b.index) for a, b in ((first, second), (second, first))]
    if len(alone[0]) or len(alone[1]):
        parts = (
            f"{len(names)} only in the {which} (such as {names[0]!r})"
            for which, names in zip(("first", "second"), alone, strict=True)
            if len(names)
        )
        raise UserError(
            f"the two runs were not tested on the same samples: {len(first.index.intersection(second.index))} in both, "
            f"{' and '.join(parts)}; compare runs of one dataset and protocol"
        )
    other = first.index[first["label"] != second["label"]]
    if len(other):
        labels = (classes[frame.loc[other[0], "label"]] for frame in (first, second))
        raise UserError(
            f"{len(other)} samples have another label in the second run, such as {other[0]!r}, {' and '.join(labels)}: "
            "evaluate both again"
        )


def _differences(
    first: pd.DataFrame, second: pd.DataFrame, classes: list[str], bootstrap: int, seed: int
) -> pd.DataFrame:
    """Compute every metric and recall in both runs, with the interval of the difference."""
    first, second = (frame.sort_values("sample", kind="stable") for frame in (first, second))
    units, _ = units_of(first)
    unit = dict(zip(first["sample"], units, strict=True))
    tables = [tables_of(frame, classes, frame["sample"].map(unit).to_numpy()) for frame in (first, second)]
    known = [chosen(table.tables[0]) for table in tables]
    wanted = [metric for metric in known[0] if metric in known[1]]
    a, b = (table.whole(wanted, classes) for table in tables)
    before, after = in_resamples(tables, wanted, classes, bootstrap, seed)
    sizes = independent(tables[0].counts, classes)
    found = {}
    for name in (name for name in a if np.isfinite([a[name][0], b[name][0]]).all()):
        difference = float(b[name][0] - a[name][0])
        low, high = interval_of_difference(name, difference, after[name] - before[name], sizes)
        found[name] = {"first": a[name][0], "second": b[name][0], "difference": difference, "low": low, "high": high}
    return pd.DataFrame.from_dict(found, orient="index")


def _cells(frame: pd.DataFrame, classes: list[str]) -> np.ndarray:
    return (frame["label"] * len(classes) + frame["predicted"]).to_numpy(np.int64)


def _shares(frame: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Confusion counts as shares of the actual class; classes without samples are left out of the rows."""
    counts = np.bincount(_cells(frame, classes), minlength=len(classes) ** 2).reshape(len(classes), -1)
    table = pd.DataFrame(
        counts, index=pd.Index(classes, name="actual"), columns=pd.Index(classes, name="predicted"), dtype=float
    )
    return table.loc[counts.any(axis=1)].apply(lambda row: row / row.sum(), axis=1)


def _disagreements(first: pd.DataFrame, second: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    differ = first["predicted"] != second["predicted"]
    a, b = first[differ], second[differ]
    names = dict(enumerate(classes))
    right = np.select([a["predicted"] == a["label"], b["predicted"] == b["label"]], ["first", "second"], "neither")
    table = pd.DataFrame(
        {
            "subject": a["subject"],
            "actual": a["label"].map(names),
            "first": a["predicted"].map(names),
            "first_confidence": a.get("confidence", np.nan),
            "second": b["predicted"].map(names),
            "second_confidence": b.get("confidence", np.nan),
            "right": right,
        }
    )
    sureness = table["first_confidence"] + table["second_confidence"]
    return table.loc[sureness.sort_values(ascending=False, kind="stable").index]
