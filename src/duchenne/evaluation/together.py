"""Values of several sets of predictions in the same bootstrap resamples, so that sums of differences have intervals.

:mod:`duchenne.evaluation.comparing` compares two runs on the same samples. Here any number of tables, also of a part of
the samples, are measured together: a resample draws a person once, for all tables that have samples of that person.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from duchenne.evaluation.statistics import Tables, in_resamples, tables_of, units_of
from duchenne.metrics import Metric


@dataclass(frozen=True)
class Measured:
    """Values of one metric.

    Attributes:
        values: value of each table, (T,).
        spread: the same in each resample, (T, R).
    """

    values: np.ndarray
    spread: np.ndarray


def measure_together(
    frames: Sequence[pd.DataFrame],
    classes: list[str],
    metric: Metric,
    *,
    over_folds: bool = False,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Measured:
    """Measure tables of predictions, in the same resamples of all people (or samples) that any of them has.

    With a column ``seed`` the value of a table is the mean over its seeds, and resamples draw seeds too, as in
    :func:`duchenne.evaluation.statistics.in_resamples`.

    Args:
        frames: predictions as for :func:`duchenne.evaluation.evaluate`; a person who is in several has the same
            ``subject`` in all.
        classes: class names in order.
        metric: what to measure.
        over_folds: whether the value of a table is the mean over its folds, as some papers print it, instead of that of
            all folds pooled; a fold in which the metric is not defined is left out.
        bootstrap, seed: number of resamples, and their seed.
    """
    everyone = pd.concat([frame[["sample", "subject"]] for frame in frames]).drop_duplicates("sample")
    numbers, _ = units_of(everyone.reset_index(drop=True))
    number_of = pd.Series(numbers, everyone["sample"].to_numpy())
    parts = [list(_parts(frame, classes, number_of, over_folds)) for frame in frames]
    flat = [part for own in parts for part in own]
    with np.errstate(invalid="ignore"):  # a resample without a person of a table
        drawn = iter(in_resamples(flat, [metric], classes, bootstrap, seed))
    spread = [_over_parts([next(drawn)[metric.name] for _ in own]) for own in parts]
    values = [_over_parts([part.whole([metric], classes)[metric.name] for part in own])[0] for own in parts]
    return Measured(np.array(values), np.stack(spread))


def _parts(frame: pd.DataFrame, classes: list[str], number_of: pd.Series, over_folds: bool) -> Iterator[Tables]:
    """Yield the tables whose values are averaged: each fold, or all together."""
    units = number_of.loc[frame["sample"]].to_numpy()
    for place in frame.groupby("fold").indices.values() if over_folds else [np.arange(len(frame))]:
        yield tables_of(frame.iloc[place], classes, units[place])


def _over_parts(values: list[np.ndarray]) -> np.ndarray:
    """Average values (R,) of several tables where they are defined."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        return np.where(known, stacked, 0).sum(axis=0) / known.sum(axis=0)
