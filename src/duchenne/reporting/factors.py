"""Accuracy by what is known of the samples beside their expression: pose, light, blur, sex, scene …"""

from __future__ import annotations

import json
from typing import NamedTuple

import pandas as pd

from duchenne.evaluation.statistics import evaluate

QUANTILES = 5
"""Groups of a number, each with about as many samples."""

CATEGORIES = 12
"""Words of more different values are names or paths, not conditions."""


class Factor(NamedTuple):
    """One column of the index' ``factors``.

    ``table``: a row a bin or value, in order: ``value`` (text), ``middle`` (median, NaN for words), ``n``, ``war``,
    ``low`` and ``high`` (95 % interval, as of :func:`duchenne.evaluation.statistics.evaluate`).
    """

    name: str
    numeric: bool
    table: pd.DataFrame


def factors_of(samples: pd.DataFrame, classes: list[str], bootstrap: int, seed: int) -> list[Factor]:
    """WAR of the test samples by every factor that differs among them; numbers first.

    Args:
        samples: predictions as for :func:`duchenne.evaluation.statistics.evaluate`, and ``factors`` of the index: JSON
            objects of numbers (as text too), words and truth values, or nothing.
        classes: class names in order.
        bootstrap: resamples behind an interval.
        seed: of the resampling.
    """
    texts = samples["factors"]
    known = pd.DataFrame([json.loads(text) if isinstance(text, str) else {} for text in texts], samples.index)
    found = []
    for name, column in known.items():
        scalar = column[column.map(lambda value: isinstance(value, int | float | str))].dropna()
        words = scalar.astype(str)
        numbers = pd.to_numeric(words, errors="coerce")  # a manifest's numbers are text
        numeric = numbers.notna().all()
        if words.nunique() < 2 or (not numeric and words.nunique() > CATEGORIES):
            continue
        groups = _bins(numbers) if numeric else words
        table = []
        for value, own in groups.groupby(groups, observed=True):
            measured = evaluate(samples.loc[own.index], classes, bootstrap, seed, metrics=("war",))
            middle = numbers[own.index].median() if numeric else float("nan")
            ends = {"low": measured["war_low"], "high": measured["war_high"]}
            table.append({"value": value, "middle": middle, "n": len(own), "war": measured["war"]} | ends)
        found.append(Factor(name.replace("_", " "), bool(numeric), pd.DataFrame(table)))
    return sorted(found, key=lambda factor: not factor.numeric)


def conditions(text: object, factors: list[Factor]) -> str:
    """What the index knows of one sample, of the factors that have words or two values: ``glasses: no, light: left``.

    Args:
        text: its ``factors``, a JSON object or nothing.
        factors: of the run.
    """
    known = json.loads(text) if isinstance(text, str) else {}
    named = {factor.name for factor in factors if not factor.numeric or len(factor.table) == 2}
    values = {name.replace("_", " "): value for name, value in known.items() if value is not None}
    return ", ".join(f"{name}: {value}" for name, value in values.items() if name in named)


def _bins(values: pd.Series) -> pd.Series:
    """Quantile bins, named ``low to high``; few different values are bins of their own."""
    if values.nunique() <= QUANTILES:
        ordered = sorted(values.unique())
        return values.map(lambda value: f"{value:g}").astype(
            pd.CategoricalDtype([f"{value:g}" for value in ordered], ordered=True)
        )
    bins = pd.qcut(values, QUANTILES, duplicates="drop")
    return bins.cat.rename_categories([f"{bin.left:.10g} to {bin.right:.10g}" for bin in bins.cat.categories])
