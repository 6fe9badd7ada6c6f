"""What a table of predictions is worth: WAR, UAR, UF1, ECE and class recalls with intervals, and a paired test.

Every figure but the calibration error follows from the confusion counts, and the calibration error from sums over
confidence bins. Both add up over subjects, so a bootstrap resample is a row of subject counts times a table of sums:
no sample is touched twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import beta, binomtest

BINS = 15
"""Confidence bins of equal width, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"."""

LEVEL = 95
"""Per cent of the bootstrap distribution inside an interval."""

_BLOCK = 4_000_000  # drawn units held at once: 32 MB


class McNemar(NamedTuple):
    """Samples that exactly one of two runs names right, and the two-sided exact p-value."""

    only_first: int
    only_second: int
    p: float


def evaluate(
    predictions: pd.DataFrame, classes: list[str], bootstrap: int = 2000, seed: int = 0
) -> dict[str, float | int | str]:
    """Measure predictions pooled over all folds.

    - ``war``: accuracy. ``uar``: mean recall over classes. ``uf1``: mean F1 over classes (See et al. 2019, MEGC).
    - ``ece``: expected calibration error of the winning class's probability in 15 bins of equal width.
    - ``recall_<class>``: recall of one class. ``majority``: WAR of always guessing the commonest class.
    - ``<name>_low``, ``<name>_high``: 95 % percentile bootstrap interval. Subjects are drawn with replacement; a
      sample without a subject stands for itself. Fewer than two subjects say nothing about other people: then
      samples are drawn. ``resampled`` says which. Where no resample differs from the value, as when all are right,
      the interval is that of :func:`exact_interval`.
    - ``war_fold_mean``, ``war_fold_std`` and the same of ``uar``, with more than one fold: over the folds' own
      values, std with n − 1.

    A class enters UAR and UF1 when it has at least one sample: in the whole, in the resample, or in the fold at
    hand. Classes without any test sample have no recall and are named in ``absent``, so no value is ever NaN.

    Args:
        predictions: columns ``sample``, ``fold``, ``subject`` (or null), ``label`` and ``predicted`` (positions in
            ``classes``) and ``confidence`` (probability of ``predicted``, 0 to 1); one row a sample.
        classes: class names in order.
        bootstrap: number of resamples.
        seed: of the resampling.

    Returns:
        A flat dictionary; all metrics are shares between 0 and 1.

    Raises:
        ValueError: no rows, a label outside ``classes``, a sample twice, or a confidence outside 0 to 1.
    """
    _check(predictions, classes)
    number = len(classes)
    units, resampled = _units(predictions)
    cell = (predictions["label"] * number + predictions["predicted"]).to_numpy(np.int64)
    right = (predictions["label"] == predictions["predicted"]).to_numpy(bool)
    confidence = predictions["confidence"].to_numpy(np.float64)
    surplus = _sums(units, _bin(confidence), BINS, right - confidence)
    counts = _sums(units, cell, number * number)

    table = np.hstack([counts, surplus])
    point = _measure(table.sum(axis=0, keepdims=True), classes)
    draws = list(_resample(table, bootstrap, np.random.default_rng(seed)))
    spread = _measure(np.concatenate(draws), classes)

    metrics: dict[str, float | int | str] = {}
    sizes = independent(counts, classes)
    for name, (value,) in point.items():
        if np.isfinite(value):
            low, high = percentiles(spread[name])
            if low == high and name in sizes:
                low, high = exact_interval(value, sizes[name])
            metrics |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
    frequency = np.bincount(predictions["label"].to_numpy(np.int64), minlength=number)
    metrics |= {
        "majority": float(frequency.max() / len(predictions)),
        "n": len(predictions),
        "classes": number,
        "subjects": int(predictions["subject"].nunique()),
        "folds": int(predictions["fold"].nunique()),
        "resampled": resampled,
        "absent": ", ".join(name for name, n in zip(classes, frequency, strict=True) if n == 0),
    }
    if metrics["folds"] > 1:
        folds = pd.factorize(predictions["fold"])[0]
        each = _measure(np.hstack([_sums(folds, cell, number * number), np.zeros((folds.max() + 1, BINS))]), classes)
        for name in ("war", "uar"):
            metrics[f"{name}_fold_mean"] = float(each[name].mean())
            metrics[f"{name}_fold_std"] = float(each[name].std(ddof=1))
    return metrics


def percentiles(spread: np.ndarray) -> tuple[float, float]:
    """The ends of the middle 95 % of the resamples, NaN left out."""
    tail = (100 - LEVEL) / 2
    low, high = np.nanpercentile(spread, [tail, 100 - tail])
    return float(low), float(high)


def independent(counts: np.ndarray, classes: list[str]) -> dict[str, list[int]]:
    """On how many units each metric rests: one number, or of a mean over classes one a class that has samples.

    A unit is a subject, or a sample that stands for itself.

    Args:
        counts: confusion counts of each unit, (units, classes ** 2).
    """
    number = len(classes)
    holding = (counts.reshape(-1, number, number).sum(axis=2) > 0).sum(axis=0)
    recalls = {f"recall_{name}": [int(n)] for name, n in zip(classes, holding, strict=True) if n}
    each = [n for (n,) in recalls.values()]
    return {"war": [len(counts)], "uar": each, "uf1": each} | recalls


def exact_interval(value: float, sizes: list[int]) -> tuple[float, float]:
    """95 % interval of a share where a bootstrap has none, because all units are alike.

    The interval of Clopper and Pearson (1934) with the number of units as the effective sample size (Korn and Graubard
    1998): samples of one subject count as one. Of a mean over classes the mean of the classes' ends, as if each class
    alone had the value, which is wider than need be (chosen: there is no exact one for UAR and UF1).

    >>> [round(end, 3) for end in exact_interval(1.0, [96])]
    [0.962, 1.0]

    Args:
        value: 0 to 1.
        sizes: units behind it, of a mean over classes those of each class.
    """
    n, tail = np.asarray(sizes, dtype=np.float64), (1 - LEVEL / 100) / 2
    low = beta.ppf(tail, n * value, n * (1 - value) + 1) if value > 0 else np.zeros(1)
    high = beta.ppf(1 - tail, n * value + 1, n * (1 - value)) if value < 1 else np.ones(1)
    return float(low.mean()), float(high.mean())


def evaluate_parts(
    predictions: pd.DataFrame, parts: pd.Series, classes: list[str], bootstrap: int = 2000, seed: int = 0
) -> dict[str, float]:
    """WAR, UAR and UF1 of each set of a composite, from its own pooled counts (See et al. 2019, MEGC, table III).

    Args:
        predictions, classes, bootstrap, seed: as for :func:`evaluate`.
        parts: name of the set each row comes from.

    Returns:
        ``<metric>_<part>`` and its interval, ``<metric>_<part>_low`` and ``<metric>_<part>_high``.
    """
    metrics: dict[str, float] = {}
    for part, rows in predictions.groupby(parts.to_numpy()):
        own = evaluate(rows, classes, bootstrap, seed)
        for name in ("war", "uar", "uf1"):
            metrics |= {f"{name}_{part}{end}": own[f"{name}{end}"] for end in ("", "_low", "_high")}
    return metrics


def evaluate_without(
    predictions: pd.DataFrame, copied: np.ndarray, classes: list[str], bootstrap: int = 2000, seed: int = 0
) -> dict[str, float | int]:
    """WAR, UAR and UF1 without the test samples that have a near-duplicate in another part of their fold.

    Args:
        predictions, classes, bootstrap, seed: as for :func:`evaluate`.
        copied: bool, one a row: whether it has a near-duplicate.

    Returns:
        ``n_without_duplicates`` and, where it is not 0, ``<metric>_without_duplicates`` with its interval,
        ``<metric>_without_duplicates_low`` and ``..._high``; empty when no sample has a near-duplicate.
    """
    if not copied.any():
        return {}
    rest = predictions[~copied]
    metrics: dict[str, float | int] = {"n_without_duplicates": len(rest)}
    if len(rest):
        own = evaluate(rest, classes, bootstrap, seed)
        for name in ("war", "uar", "uf1"):
            metrics |= {f"{name}_without_duplicates{end}": own[f"{name}{end}"] for end in ("", "_low", "_high")}
    return metrics


def calibration(predictions: pd.DataFrame) -> pd.DataFrame:
    """The bins behind ECE that hold samples: ``low``, ``high``, ``n``, mean ``confidence`` and ``accuracy`` of each."""
    frame = pd.DataFrame(
        {
            "bin": _bin(predictions["confidence"].to_numpy(np.float64)),
            "confidence": predictions["confidence"],
            "accuracy": (predictions["label"] == predictions["predicted"]).astype(float),
        }
    )
    bins = frame.groupby("bin").agg(
        n=("confidence", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    bins.insert(0, "low", bins.index / BINS)
    bins.insert(1, "high", (bins.index + 1) / BINS)
    return bins.reset_index(drop=True)


def mcnemar(first: pd.DataFrame, second: pd.DataFrame) -> McNemar:
    """McNemar's exact test: does one of two runs name more of the same samples right than the other?

    The samples on which both are right or both are wrong say nothing; of the others each run wins half under the
    null hypothesis (McNemar 1947; binomial rather than chi-squared, so valid for few samples).

    Args:
        first, second: predictions as for :func:`evaluate`, in any order.

    Raises:
        ValueError: the two do not hold the same samples with the same labels.
    """
    a, b = (frame.set_index("sample").sort_index() for frame in (first, second))
    if not a.index.equals(b.index) or not (a["label"] == b["label"]).all():
        raise ValueError("McNemar's test needs two runs on the same test samples with the same labels")
    right_a, right_b = a["label"] == a["predicted"], b["label"] == b["predicted"]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    differing = only_a + only_b
    return McNemar(only_a, only_b, float(binomtest(only_a, differing).pvalue) if differing else 1.0)


def _check(predictions: pd.DataFrame, classes: list[str]) -> None:
    if predictions.empty:
        raise ValueError("there are no predictions to evaluate: no test sample has a face")
    for column in ("label", "predicted"):
        outside = ~predictions[column].between(0, len(classes) - 1)
        if outside.any():
            row = predictions[outside].iloc[0]
            raise ValueError(
                f"{column} {row[column]} of sample {row['sample']!r} is none of the {len(classes)} classes"
            )
    twice = predictions["sample"].duplicated()
    if twice.any():
        raise ValueError(f"sample {predictions['sample'][twice].iloc[0]!r} is predicted twice")
    if not predictions["confidence"].between(0, 1).all():
        raise ValueError("a confidence lies outside 0 to 1 or is NaN")


def _units(predictions: pd.DataFrame) -> tuple[np.ndarray, str]:
    """What is drawn with replacement: a number for each row, and the name of it."""
    subject = predictions["subject"]
    if subject.nunique() < 2:
        return np.arange(len(predictions)), "samples"
    alone = "sample " + predictions["sample"].astype(str)
    return pd.factorize(subject.astype(object).where(subject.notna(), alone))[0], "subjects"


def _bin(confidence: np.ndarray) -> np.ndarray:
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)  # 1.0 belongs to the last bin


def _sums(units: np.ndarray, column: np.ndarray, width: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Sum of ``weights`` (or the count) by unit and column: (units, width)."""
    height = units.max() + 1
    flat = np.bincount(units * width + column, weights=weights, minlength=height * width)
    return flat.reshape(height, width).astype(np.float64)


def _resample(table: np.ndarray, times: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Column sums of ``times`` bootstrap resamples of the rows of ``table``, some resamples at a time."""
    height = len(table)
    step = max(1, _BLOCK // height)
    for start in range(0, times, step):
        rows = min(step, times - start)
        drawn = random.integers(height, size=(rows, height))
        drawn += np.arange(rows)[:, None] * height
        yield np.bincount(drawn.ravel(), minlength=rows * height).reshape(rows, height).astype(np.float64) @ table


def _measure(sums: np.ndarray, classes: list[str]) -> dict[str, np.ndarray]:
    """Metrics of each row of sums (confusion counts, then surplus of accuracy over confidence in each bin)."""
    number = len(classes)
    confusion = sums[:, : number * number].reshape(-1, number, number)
    actual, guessed, hit = confusion.sum(axis=2), confusion.sum(axis=1), np.einsum("rcc->rc", confusion)
    total = actual.sum(axis=1)
    with np.errstate(invalid="ignore"):  # a class without samples: 0 / 0, left out of the means
        recall = hit / actual
        f1 = np.where(actual > 0, 2 * hit / (actual + guessed), np.nan)
    return {
        "war": hit.sum(axis=1) / total,
        "uar": np.nanmean(recall, axis=1),
        "uf1": np.nanmean(f1, axis=1),
        "ece": np.abs(sums[:, number * number :]).sum(axis=1) / total,
        **{f"recall_{name}": recall[:, i] for i, name in enumerate(classes)},
    }
