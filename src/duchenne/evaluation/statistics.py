"""Evaluation of predictions: every metric and the recall of each class with intervals, and a paired test.

The metrics and bootstrap resamples are defined in :mod:`duchenne.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import bdtr, betaincinv, softmax  # scipy.stats takes a second to import

from duchenne.errors import UserError
from duchenne.metrics import BINS, BLOCK, METRICS, Metric, Predictions, Resamples, chosen, confidence_bin

LEVEL = 95
"""Percentage of the bootstrap distribution inside an interval."""

TOLERANCE = 1e-3
"""Tolerance of the sum of a sample's probabilities, for values in float16 or printed with four digits."""


@dataclass(frozen=True)
class Tables:
    """Predictions of the same samples by networks that differ only in their seed.

    Attributes:
        seeds: the seeds; one, of any value, where the predictions do not name any.
        tables: predictions of each, with the same units.
    """

    seeds: tuple[int, ...]
    tables: tuple[Predictions, ...]

    @property
    def counts(self) -> np.ndarray:
        """Confusion counts of each unit by the network of the first seed, (units, C * C)."""
        return self.tables[0].counts

    def whole(self, metrics: list[Metric], classes: list[str]) -> dict[str, np.ndarray]:
        """Compute :func:`values` of all samples, the mean over seeds, (1,) each."""
        return _mean([values(table.whole(), metrics, classes) for table in self.tables])


class McNemar(NamedTuple):
    """Numbers of samples that exactly one of two runs classifies correctly, and the two-sided exact p-value."""

    only_first: int
    only_second: int
    p: float


def evaluate(
    predictions: pd.DataFrame,
    classes: list[str],
    bootstrap: int = 2000,
    seed: int = 0,
    metrics: tuple[str, ...] | None = None,
) -> dict[str, float | int | str]:
    """Measure predictions pooled over all folds.

    - ``<metric>``: every metric of :data:`duchenne.metrics.METRICS`, such as ``war``, ``uar`` and ``uf1``.
    - ``recall_<class>``: recall of one class. ``majority``: WAR of always guessing the commonest class.
    - ``<name>_low``, ``<name>_high``: 95 % percentile bootstrap interval. Subjects are drawn with replacement; a
      sample without a subject counts as a subject. With fewer than two subjects, which say nothing about other
      people, samples are drawn; ``resampled`` says which. Resamples in which a value is not defined are left out. If
      no resample differs from the value, as when all are right, the interval is the exact one of :func:`interval`.
    - ``<metric>_fold_mean``, ``<metric>_fold_std``, with more than one fold: over the folds' own values, std with
      n − 1. Folds in which the metric is not defined are left out.
    - With predictions of several seeds every value above is the mean over seeds, and intervals are over subjects and
      seeds (:func:`in_resamples`). Then there are also ``seeds``, their number, and of each metric
      ``<metric>_seed_std``, with n − 1, and ``<metric>_seed_best``, the best seed's value, which some papers print.

    A class enters UAR, UF1 and AUC when it has at least one sample in the table, resample or fold that is measured.
    Classes without any test sample have no recall and are named in ``absent``. A metric that is not defined for
    these predictions is left out, so no value is ever NaN.

    Args:
        predictions: columns ``sample``, ``fold``, ``subject`` (or null), ``label`` and ``predicted`` (positions in
            ``classes``); one row per sample, or with a column ``seed`` one per sample and seed. Metrics of confidence
            also need ``confidence`` (probability of ``predicted``, 0 to 1), metrics of probabilities ``p_<class>`` of
            every class; without these columns they are left out.
        classes: class names in order.
        bootstrap: number of resamples.
        seed: seed of the resampling.
        metrics: names of the metrics to measure; None: all.

    Returns:
        A flat dictionary; WAR, UAR, UF1, ECE and recalls are shares between 0 and 1.

    Raises:
        UserError: There are no rows, a label is outside ``classes``, a sample occurs twice, a confidence or
            probability is outside 0 to 1, only some classes have probabilities, or two seeds predict other samples.
    """
    check(predictions, classes)
    units, resampled = units_of(predictions)
    table = tables_of(predictions, classes, units)
    first = table.tables[0]
    wanted = chosen(first, metrics)
    point = table.whole(wanted, classes)
    (spread,) = in_resamples([table], wanted, classes, bootstrap, seed)

    found: dict[str, float | int | str] = {}
    sizes = independent(table.counts, classes)
    for name, (value,) in point.items():
        if np.isfinite(value):
            low, high = interval(name, point, spread[name], sizes)
            found |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
    frequency = np.bincount(first.labels, minlength=len(classes))
    found |= {
        "majority": float(frequency.max() / len(first.labels)),
        "n": len(first.labels),
        "classes": len(classes),
        "subjects": int(predictions["subject"].nunique()),
        "folds": int(predictions["fold"].nunique()),
        "resampled": resampled,
        "absent": ", ".join(name for name, n in zip(classes, frequency, strict=True) if n == 0),
    }
    if found["folds"] > 1:
        for name, column in by_fold(predictions, classes, metrics).items():
            defined = column.to_numpy()[column.notna()]
            if len(defined) > 1:
                found[f"{name}_fold_mean"] = float(defined.mean())
                found[f"{name}_fold_std"] = float(defined.std(ddof=1))
    if len(table.seeds) > 1:
        found["seeds"] = len(table.seeds)
        for name, column in by_seed(predictions, classes, metrics).items():
            if column.notna().all():
                found[f"{name}_seed_std"] = float(column.std(ddof=1))
                found[f"{name}_seed_best"] = float(column.max() if METRICS[name].better == "higher" else column.min())
    return found


def by_fold(predictions: pd.DataFrame, classes: list[str], metrics: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Compute every metric of each fold: a row per fold in order of appearance, a column per metric; NaN: not defined.

    With several seeds the values are means over them.

    Args:
        predictions, classes, metrics: as for :func:`evaluate`.
    """
    place, folds = pd.factorize(predictions["fold"])
    tables = tables_of(predictions, classes, place)
    wanted = chosen(tables.tables[0], metrics)
    each = [{metric.name: metric(one) for metric in wanted} for one in _drawn(tables, np.eye(len(folds)))]
    return pd.DataFrame(_mean(each), index=pd.Index(folds, name="fold"))


def by_seed(predictions: pd.DataFrame, classes: list[str], metrics: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Compute every metric of each seed: a row per seed, ascending, a column per metric; NaN: not defined.

    Args:
        predictions, classes, metrics: as for :func:`evaluate`.
    """
    tables = tables_of(predictions, classes, units_of(predictions)[0])
    rows = [{metric.name: metric(one.whole())[0] for metric in chosen(one, metrics)} for one in tables.tables]
    return pd.DataFrame(rows, index=pd.Index(tables.seeds, name="seed"))


def values(resamples: Resamples, metrics: list[Metric], classes: list[str]) -> dict[str, np.ndarray]:
    """Compute the metrics, and ``recall_<class>`` of each class, by name, (R,) each."""
    recalls = {f"recall_{name}": column for name, column in zip(classes, resamples.recall.T, strict=True)}
    return {metric.name: metric(resamples) for metric in metrics} | recalls


def in_resamples(
    runs: Sequence[Tables], metrics: list[Metric], classes: list[str], bootstrap: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """Compute :func:`values` of runs, all in the same bootstrap resamples of their units, (bootstrap,) each.

    The same number means the same unit in all runs; a run may lack samples of some units.

    With several seeds, each resample draws units and, independently, seeds, and is the mean over the drawn seeds: the
    two-way bootstrap of crossed effects (Owen 2007, "The pigeonhole bootstrap"). Of n seeds n - 1 are drawn, with
    replacement, which gives their mean its unbiased variance (McCarthy and Snowden 1985); n of n would make it a third
    too small with three seeds. Runs with the same seeds get the same draws, so that they are paired over both.
    """
    of_seeds = seeds_drawn(runs, bootstrap, seed)
    blocks: list[list[dict[str, np.ndarray]]] = []
    done = 0
    for times in resample(max(len(run.counts) for run in runs), bootstrap, seed):
        rows = slice(done, done + len(times))
        blocks.append(
            [
                _mean([values(one, metrics, classes) for one in _drawn(run, times)], shares[:, rows])
                for run, shares in zip(runs, of_seeds, strict=True)
            ]
        )
        done += len(times)
    return [
        {name: np.concatenate([block[name] for block in own]) for name in own[0]} for own in zip(*blocks, strict=True)
    ]


def _drawn(run: Tables, times: np.ndarray) -> Iterator[Resamples]:
    return (table.drawn(times[:, : len(table.counts)]) for table in run.tables)


def seeds_drawn(runs: Sequence[Tables], bootstrap: int, seed: int) -> list[np.ndarray]:
    """Return the share of each seed of each run in each resample, (seeds, bootstrap)."""
    drawn: dict[tuple[int, ...], np.ndarray] = {}
    for run in runs:
        if run.seeds not in drawn:
            number = len(run.seeds)
            random = np.random.default_rng([seed, len(drawn), number])
            taken = random.multinomial(max(1, number - 1), [1 / number] * number, size=bootstrap)
            drawn[run.seeds] = taken.T / max(1, number - 1)
    return [drawn[run.seeds] for run in runs]


def _mean(each: Sequence[dict[str, np.ndarray]], shares: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Average values (R,) over seeds, with their shares (seeds, R) if they are not equal."""
    if len(each) == 1:
        return each[0]
    weights = np.full((len(each), 1), 1 / len(each)) if shares is None else shares
    return {name: sum(own[name] * share for own, share in zip(each, weights, strict=True)) for name in each[0]}


def of_first_seed(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first seed, one per sample; all rows where no seed is named."""
    if "seed" not in predictions or predictions["seed"].nunique() < 2:
        return predictions
    return predictions[predictions["seed"] == predictions["seed"].min()]


def tables_of(frame: pd.DataFrame, classes: list[str], units: np.ndarray) -> Tables:
    """Return the predictions of each seed, in ascending order; ``units`` are numbers from 0, one per row."""
    if "seed" not in frame:
        return Tables((0,), (predictions_of(frame, classes, units),))
    seeds = sorted(frame["seed"].unique())
    rows = [(frame["seed"] == seed).to_numpy() for seed in seeds]
    return Tables(
        tuple(int(seed) for seed in seeds), tuple(predictions_of(frame[own], classes, units[own]) for own in rows)
    )


def predictions_of(frame: pd.DataFrame, classes: list[str], units: np.ndarray) -> Predictions:
    """Return the columns of a table as arrays; ``units`` are numbers from 0, one per row."""
    columns = [f"p_{name}" for name in classes]
    whole = set(columns) <= set(frame)
    return Predictions(
        labels=frame["label"].to_numpy(np.int64),
        predicted=frame["predicted"].to_numpy(np.int64),
        confidence=frame["confidence"].to_numpy(np.float64) if "confidence" in frame else None,
        classes=len(classes),
        probabilities=frame[columns].to_numpy(np.float64) if whole else None,
        units=units,
    )


def percentiles(spread: np.ndarray) -> tuple[float, float]:
    """Return the ends of the middle 95 % of the resamples, without NaN."""
    tail = (100 - LEVEL) / 2
    low, high = np.nanpercentile(spread, [tail, 100 - tail])
    return float(low), float(high)


def independent(counts: np.ndarray, classes: list[str]) -> dict[str, list[int]]:
    """Count the units behind each mean of shares: one number, or for a mean over classes one per class with samples.

    A unit is a subject, or a sample without a subject.

    Args:
        counts: confusion counts of each unit, (units, classes ** 2).
    """
    number = len(classes)
    holding = (counts.reshape(-1, number, number).sum(axis=2) > 0).sum(axis=0)
    recalls = {f"recall_{name}": [int(n)] for name, n in zip(classes, holding, strict=True) if n}
    of_classes = [n for (n,) in recalls.values()]
    sizes = {"samples": [len(counts)], "classes": of_classes, "recalls": of_classes}
    return {metric.name: sizes[metric.mean_over] for metric in METRICS.values() if metric.mean_over} | recalls


def interval(
    name: str, point: Mapping[str, np.ndarray], spread: np.ndarray, sizes: Mapping[str, list[int]]
) -> tuple[float, float]:
    """Return the interval of a metric or recall: percentiles, or if all resamples agree :func:`exact_interval`.

    The exact one takes the range of the metric as that of a share. For kappa it is conservative: it assumes a chance
    agreement of one half, that of two equal classes. That of UAR is the mean of the intervals of the recalls: of a
    network that gives every face the same class, one recall is 1 and the others are 0.

    Args:
        point: :func:`values` of the predictions, (1,) each.
        spread: values of ``name`` in the resamples.
        sizes: of :func:`independent`.
    """
    ends = percentiles(spread)
    if ends[0] != ends[1] or name not in sizes:
        return ends
    metric, shares = METRICS.get(name), point[name]
    low, span = (0.0, 1.0) if metric is None else (metric.low, metric.high - metric.low)
    if metric is not None and metric.mean_over == "recalls":
        shares = np.concatenate([value for key, value in point.items() if key.startswith("recall_")])
        shares = shares[np.isfinite(shares)]
    below, above = exact_interval(np.clip((shares - low) / span, 0, 1), sizes[name])
    return low + span * below, low + span * above


def exact_interval(value: np.ndarray | float, sizes: list[int]) -> tuple[float, float]:
    """Compute the 95 % interval of a share if all units are equal, so that a bootstrap gives none.

    The interval of Clopper and Pearson (1934) with the number of units as the effective sample size (Korn and Graubard
    1998): samples of one subject count as one. For a mean over classes it is the mean of the classes' ends; with one
    value as if each class had it. Both are conservative (chosen by us: there is no exact interval for UAR and UF1).

    >>> [round(end, 3) for end in exact_interval(1.0, [96])]
    [0.962, 1.0]

    Args:
        value: 0 to 1; of a mean over classes, one or that of each class.
        sizes: number of units; for a mean over classes, that of each class.
    """
    value, n, tail = np.asarray(value), np.asarray(sizes, dtype=np.float64), (1 - LEVEL / 100) / 2
    low = np.where(value > 0, betaincinv(n * value, n * (1 - value) + 1, tail), 0)
    high = np.where(value < 1, betaincinv(n * value + 1, n * (1 - value), 1 - tail), 1)
    return float(low.mean()), float(high.mean())


def interval_of_difference(
    name: str, difference: float, spread: np.ndarray, sizes: Mapping[str, list[int]]
) -> tuple[float, float]:
    """Return the interval of a difference of two runs: percentiles, or if all resamples agree an exact one.

    That is the interval of the share of units on which they differ (:func:`exact_interval`).

    Args:
        name: a metric, or the recall of a class.
        spread: the difference in the resamples.
        sizes: of :func:`independent`; without the metric there is no exact interval.
    """
    ends = percentiles(spread)
    if ends[0] != ends[1] or name not in sizes:
        return ends
    span = METRICS[name].high - METRICS[name].low if name in METRICS else 1.0
    low, high = (span * end for end in exact_interval(min(abs(difference) / span, 1.0), sizes[name]))
    return {0: (-high, high), 1: (low, high), -1: (-high, -low)}[int(np.sign(difference))]


def evaluate_parts(
    predictions: pd.DataFrame, parts: pd.Series, classes: list[str], bootstrap: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Measure each set of a composite on its own pooled samples (See et al. 2019, MEGC, table III).

    Args:
        predictions, classes, bootstrap, seed: as for :func:`evaluate`.
        parts: name of the set of each row.

    Returns:
        ``<metric>_<part>`` and its interval, ``<metric>_<part>_low`` and ``<metric>_<part>_high``.
    """
    metrics: dict[str, float] = {}
    for part, rows in predictions.groupby(parts.to_numpy()):
        metrics |= _renamed(evaluate(rows, classes, bootstrap, seed), str(part))
    return metrics


def evaluate_without(
    predictions: pd.DataFrame, copied: np.ndarray, classes: list[str], bootstrap: int = 2000, seed: int = 0
) -> dict[str, float | int]:
    """Measure without the test samples that have a near-duplicate in another part of their fold.

    Args:
        predictions, classes, bootstrap, seed: as for :func:`evaluate`.
        copied: bool for each row: whether it has a near-duplicate.

    Returns:
        ``n_without_duplicates`` and, where it is not 0, ``<metric>_without_duplicates`` with its interval,
        ``<metric>_without_duplicates_low`` and ``..._high``; empty when no sample has a near-duplicate.
    """
    if not copied.any():
        return {}
    rest = predictions[~copied]
    metrics: dict[str, float | int] = {"n_without_duplicates": rest["sample"].nunique()}
    if len(rest):
        metrics |= _renamed(evaluate(rest, classes, bootstrap, seed), "without_duplicates")
    return metrics


def evaluate_uncalibrated(
    predictions: pd.DataFrame, classes: list[str], bootstrap: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Measure ECE and NLL of the same predictions before their probabilities were calibrated.

    Args:
        predictions, classes, bootstrap, seed: as for :func:`evaluate`; probabilities at a temperature of 1.

    Returns:
        ``ece_uncalibrated`` and ``nll_uncalibrated`` with their intervals, ``..._low`` and ``..._high``.
    """
    return _renamed(evaluate(predictions, classes, bootstrap, seed, metrics=("ece", "nll")), "uncalibrated")


def at_temperature(predictions: pd.DataFrame, classes: list[str], temperature: np.ndarray) -> pd.DataFrame:
    """Return predictions with their probabilities at another temperature, as if the logits were divided by it.

    The factor of a row is the power of its probabilities that is taken and normalised: with the temperature of a
    calibration it takes the calibration back, with its inverse it applies it.

    Args:
        predictions: ``confidence`` and ``p_<class>`` of every class, besides other columns.
        temperature: power of each row, (N,), above 0.
    """
    columns = [f"p_{name}" for name in classes]
    with np.errstate(divide="ignore"):
        shares = softmax(np.log(predictions[columns].to_numpy(np.float64)) * temperature[:, None], axis=1)
    return predictions.assign(confidence=shares.max(axis=1), **dict(zip(columns, shares.T, strict=True)))


def _renamed(measured: dict[str, float | int | str], ending: str) -> dict[str, float]:
    """Rename the metrics in ``measured``, and their intervals, to ``<metric>_<ending>``."""
    ends = ("", "_low", "_high")
    return {f"{name}_{ending}{end}": measured[f"{name}{end}"] for name in METRICS if name in measured for end in ends}


def calibration(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the non-empty bins of ECE: ``low``, ``high``, ``n``, mean ``confidence`` and ``accuracy`` of each."""
    frame = pd.DataFrame(
        {
            "bin": confidence_bin(predictions["confidence"].to_numpy(np.float64)),
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
    """Run McNemar's exact test of whether one of two runs classifies more of the same samples correctly.

    Samples on which both are right or both are wrong carry no information; of the others each run wins half under the
    null hypothesis (McNemar 1947; binomial rather than chi-squared, so valid for few samples).

    Args:
        first, second: predictions as for :func:`evaluate`, of one seed, in any order.

    Raises:
        ValueError: The two do not have the same samples with the same labels.
    """
    a, b = (frame.set_index("sample").sort_index() for frame in (first, second))
    if not a.index.equals(b.index) or not (a["label"] == b["label"]).all():
        raise ValueError("McNemar's test needs two runs on the same test samples with the same labels")
    right_a, right_b = a["label"] == a["predicted"], b["label"] == b["predicted"]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))  # both tails of the binomial distribution
    return McNemar(only_a, only_b, p)


def check(predictions: pd.DataFrame, classes: list[str]) -> None:
    """Refuse a table that cannot be measured.

    Raises:
        UserError: As for :func:`evaluate`.
    """
    if predictions.empty:
        raise UserError("there are no predictions to evaluate: no test sample has a face")
    for column in ("label", "predicted"):
        outside = ~predictions[column].between(0, len(classes) - 1)
        if outside.any():
            row = predictions[outside].iloc[0]
            raise UserError(
                f"{column} {row[column]} of sample {row['sample']!r} is not one of the {len(classes)} classes"
            )
    by_one = ["seed", "sample"] if "seed" in predictions else ["sample"]
    twice = predictions.duplicated(by_one)
    if twice.any():
        raise UserError(f"sample {predictions['sample'][twice].iloc[0]!r} is predicted twice")
    if "seed" in predictions:
        _check_seeds(predictions)
    _check_probabilities(predictions, [f"p_{name}" for name in classes])
    if "confidence" in predictions and not predictions["confidence"].between(0, 1).all():
        raise UserError("a confidence lies outside 0 to 1 or is NaN")


def _check_seeds(predictions: pd.DataFrame) -> None:
    """Check that all seeds predict the same samples with the same labels."""
    each = predictions.groupby("sample")["label"].agg(["size", "nunique"])
    wrong = each[(each["size"] < predictions["seed"].nunique()) | (each["nunique"] > 1)]
    if len(wrong):
        name = wrong.index[0]
        what = "another label" if wrong["nunique"].iloc[0] > 1 else "no prediction"
        raise UserError(f"sample {name!r} has {what} with one of the seeds: evaluate the run again")


def _check_probabilities(predictions: pd.DataFrame, columns: list[str]) -> None:
    """Check that probabilities are given for all classes or none, and that those of a sample sum to 1."""
    missing = [name for name in columns if name not in predictions]
    if missing:
        if len(missing) < len(columns):
            raise UserError(f"probabilities are given for some classes only: {', '.join(missing)} missing")
        return
    table = predictions[columns]
    wrong = ~(table.ge(0).all(axis=1) & table.sum(axis=1).sub(1).abs().le(TOLERANCE))
    if wrong.any():
        row = table[wrong].iloc[0]
        raise UserError(
            f"the probabilities of sample {predictions['sample'][wrong].iloc[0]!r} are not shares that sum to 1: "
            + ", ".join(f"{name} {value:g}" for name, value in row.items())
        )


def units_of(predictions: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Return the units that are drawn with replacement: a number for each row, and the name of the unit."""
    subject = predictions["subject"]
    if subject.nunique() < 2:
        return pd.factorize(predictions["sample"])[0], "samples"
    alone = "sample " + predictions["sample"].astype(str)
    return pd.factorize(subject.astype(object).where(subject.notna(), alone))[0], "subjects"


def resample(height: int, times: int, seed: int) -> Iterator[np.ndarray]:
    """Draw how often each of ``height`` units is in each of ``times`` bootstrap resamples, (r, height), in batches."""
    random = np.random.default_rng(seed)
    step = max(1, BLOCK // height)
    for start in range(0, times, step):
        rows = min(step, times - start)
        drawn = random.integers(height, size=(rows, height))
        drawn += np.arange(rows)[:, None] * height
        yield np.bincount(drawn.ravel(), minlength=rows * height).reshape(rows, height).astype(np.float64)
