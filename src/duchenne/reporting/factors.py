"""Accuracy by known conditions of the samples: pose, light, blur, sex, scene …"""

from __future__ import annotations

import json
from typing import NamedTuple

import pandas as pd

from duchenne.evaluation.statistics import evaluate

QUANTILES = 5
"""Number of groups of a numeric factor, each with about as many samples."""

CATEGORIES = 12
"""Maximum number of values of a text factor; more values are names or paths, not conditions."""


class Factor(NamedTuple):
    """One column of the index' ``factors``.

    ``table``: a row per bin or value, in order: ``value`` (text), ``middle`` (median, NaN for words), ``n``, ``war``,
    ``low`` and ``high`` (95 % interval, as of :func:`duchenne.evaluation.statistics.evaluate`).
    """

    name: str
    numeric: bool
    table: pd.DataFrame


def factors_of(samples: pd.DataFrame, classes: list[str], bootstrap: int, seed: int) -> list[Factor]:
    """Compute the WAR of the test samples by every factor that varies among them; numbers first.

    Args:
        samples: predictions as for :func:`duchenne.evaluation.statistics.evaluate`, and ``factors`` of the index: JSON
            objects of numbers (also as text), words and truth values, or nothing.
        classes: class names in order.
        bootstrap: number of resamples for an interval.
        seed: seed of the resampling.
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
    """Describe one sample by its factors with words or two values: ``glasses: no, light: left``.

    Args:
        text: ``factors`` of the sample, a JSON object or nothing.
        factors: factors of the run.
    """
    known = json.loads(text) if isinstance(text, str) else {}
    named = {factor.name for factor in factors if not factor.numeric or len(factor.table) == 2}
    values = {name.replace("_", " "): value for name, value in known.items() if value is not None}
    return ", ".join(f"{name}: {value}" for name, value in values.items() if name in named)


def _bins(values: pd.Series) -> pd.Series:
    """Quantile bins, named ``low to high``; if there are few different values, each is a bin."""
    if values.nunique() <= QUANTILES:
        ordered = sorted(values.unique())
        return values.map(lambda value: f"{value:g}").astype(
            pd.CategoricalDtype([f"{value:g}" for value in ordered], ordered=True)
        )
    bins = pd.qcut(values, QUANTILES, duplicates="drop")
    return bins.cat.rename_categories([f"{bin.left:.10g} to {bin.right:.10g}" for bin in bins.cat.categories])
