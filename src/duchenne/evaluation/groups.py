"""Metrics by group of people, where a dataset has a column of age, gender, ethnicity or skin tone.

The measures follow Hu et al. 2024, "Rethinking Affect Analysis: A Protocol for Ensuring Fairness and Consistency"
(IEEE FG), as its code computes them (dkollias/Fair-Consistent-Affect-Analysis): the mean over groups of the groups' F1,
and multiclass statistical parity. Gaps, intervals, the mean difference of recalls and the test are additions.

A column is what somebody said, an annotator saw or a renderer drew; the dataset's documentation says which. A gap on
one test set is no proof of discrimination, and its absence none of fairness: groups also differ in light, pose, classes
and number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from duchenne.evaluation.statistics import evaluate, percentiles, predictions_of, resample, units_of
from duchenne.metrics import BLOCK, METRICS, Resamples, over_classes

SAMPLES, SUBJECTS = 30, 5
"""Fewest samples, and fewest people where they are known, of a group that is measured (chosen by us)."""

CATEGORIES = 12
"""Maximum number of values of a column; more are names or codes of persons, not groups."""

OF_GROUPS = ("war", "uar", "uf1")
"""Metrics of each group."""

APART = ("statistical_parity", "equal_opportunity")
"""Measures of how far groups are apart. They are never negative, so chance makes them larger; 0 is best."""

TESTED = "uar"
"""Metric whose gap is tested: WAR also differs where groups have other shares of the classes."""

UNKNOWN = frozenset({"", "unsure", "unknown", "not known", "n/a", "none", "nan"})
"""Values of a sample whose group is not known, in lower case."""


COLUMNS = {
    "age": ("age", "age_group", "years"),
    "gender": ("gender", "sex"),
    "ethnicity": ("ethnicity", "race", "ancestry"),
    "skin tone": ("skin_tone", "tone", "fitzpatrick", "monk", "melanin", "ita"),
}
"""Property of people -> the columns that hold it, in lower case with underscores."""

YEARS = (3.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0)
"""Edges of groups of ages, those of Hu et al."""

EDGES = {"age": YEARS, "age_group": YEARS, "years": YEARS, "tone": (1.5, 3.0)}
"""Column -> edges of its groups where it holds numbers; ``tone`` is the renderer's, from 0 (fair) to 5 (dark)."""


def attribute_of(column: str) -> str | None:
    """Return the property of people that a column holds; None for other columns.

    >>> attribute_of("Skin tone"), attribute_of("yaw")
    ('skin tone', None)
    """
    return next((name for name, columns in COLUMNS.items() if _plain(column) in columns), None)


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")


def measure_groups(
    predictions: pd.DataFrame, factors: pd.Series, classes: list[str], bootstrap: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Measure the groups of every column of people.

    Args:
        predictions, classes, bootstrap, seed: as for :func:`duchenne.evaluation.statistics.evaluate`.
        factors: ``factors`` of the index, of each row: JSON objects, or nothing.

    Returns:
        Values for JSON. ``limits``: fewest ``samples`` and ``subjects`` of a group that is measured. ``comparisons``:
        number of pairs of measured groups, of all columns together. ``tests``: number of p values. ``columns``: for
        each column with two or more groups

        - ``column``, ``attribute``; ``edges`` of its groups, empty for words; ``unknown``: samples without a value;
        - ``groups``: ``group``, ``n``, ``subjects``, ``classes`` (with samples), ``few`` (whether it is below a limit
          and not measured), and the metrics :data:`OF_GROUPS` with ``_low`` and ``_high``;
        - with two or more measured groups ``gaps``: metric -> ``largest`` and ``smallest`` (groups), ``difference`` of
          the two, its 95 % interval ``low``, ``high``, and ``chance``; ``measures``: ``mean_uf1``,
          ``statistical_parity`` and ``equal_opportunity``, each ``value``, ``low``, ``high`` and, of the last two,
          ``chance``; ``p`` and ``p_holm`` (:func:`holm`).

        The interval of a gap is that of the difference of these two groups, in resamples of all subjects; predictions
        of several seeds are pooled, and seeds are not drawn. It does not account for their having been picked as the
        extremes, which ``p`` does. ``chance`` is the mean over permutations of the groups among subjects: what groups
        of the same sizes give that have no meaning. It and ``p`` are null where a subject is in several groups.
    """
    texts = [json.loads(text) if isinstance(text, str) else {} for text in factors]
    known = pd.DataFrame(texts, index=predictions.index)
    columns: list[dict[str, Any]] = []
    for name, column in known.items():
        attribute = attribute_of(str(name))
        if attribute is None:
            continue
        groups, edges = grouped(column)
        if not 2 <= groups.nunique() <= CATEGORIES:
            continue
        unknown = int(predictions["sample"][groups.isna()].nunique())
        facts = {"column": str(name), "attribute": attribute, "edges": edges, "unknown": unknown}
        columns.append(facts | _measure(predictions, groups, classes, bootstrap, seed))
    tested = [column for column in columns if column.get("p") is not None]
    for column, p in zip(tested, holm([column["p"] for column in tested]), strict=True):
        column["p_holm"] = p
    return {
        "limits": {"samples": SAMPLES, "subjects": SUBJECTS},
        "comparisons": sum(column["comparisons"] for column in columns),
        "tests": len(tested),
        "columns": columns,
    }


def grouped(column: pd.Series) -> tuple[pd.Series, list[float]]:
    """Assign samples to groups: words by value, numbers by edges.

    Ages and the renderer's skin tone have the edges of :data:`EDGES`. Other numbers are codes, a group each, if there
    are at most :data:`CATEGORIES` of them, all whole; else they are split into thirds of the samples.

    Args:
        column: a value for each sample; its name picks the edges.

    Returns:
        The group of each sample, ordered categories, missing where the value is not known; and the edges, ascending. A
        value equal to an edge belongs to the group above it.
    """
    words = column.map(lambda value: str(value).strip() if isinstance(value, int | float | str) else "")
    words = words.where(~words.str.lower().isin(UNKNOWN))
    numbers = pd.to_numeric(words, errors="coerce")
    if words.notna().sum() == 0 or numbers.isna().sum() > words.isna().sum():
        return words.astype("category"), []
    edges = EDGES.get(_plain(str(column.name)))
    known = numbers.dropna()
    if edges is None and known.nunique() <= CATEGORIES and (known % 1 == 0).all():
        names = [f"{value:g}" for value in sorted(known.unique())]
        named = numbers.map(lambda value: f"{value:g}", na_action="ignore")
        return named.astype(pd.CategoricalDtype(names, ordered=True)), []
    if edges is None:
        edges = tuple(sorted({float(f"{edge:.4g}") for edge in known.quantile([1 / 3, 2 / 3])}))
    ends = [f"{edge:g}" for edge in edges]
    names = [f"under {ends[0]}", *(f"{a} to under {b}" for a, b in pairwise(ends)), f"{ends[-1]} and over"]
    cut = pd.cut(numbers, [-np.inf, *edges, np.inf], right=False, labels=names)
    return cut.cat.remove_unused_categories(), list(edges)


def _measure(
    predictions: pd.DataFrame, groups: pd.Series, classes: list[str], bootstrap: int, seed: int
) -> dict[str, Any]:
    """Measure the groups of one column, and the differences between those that are large enough."""
    table, ranked = [], {}
    for name, own in predictions.groupby(groups, observed=True):
        subjects = int(own["subject"].nunique())
        samples = int(own["sample"].nunique())
        few = samples < SAMPLES or 0 < subjects < SUBJECTS
        row = {"group": str(name), "n": samples, "subjects": subjects, "classes": int(own["label"].nunique())}
        row["few"] = few
        if not few:
            found = evaluate(own, classes, bootstrap, seed, metrics=OF_GROUPS)
            row |= {metric + end: found[metric + end] for metric in OF_GROUPS for end in ("", "_low", "_high")}
            ranked[str(name)] = row
        table.append(row)
    result: dict[str, Any] = {"groups": table, "comparisons": len(ranked) * (len(ranked) - 1) // 2}
    if len(ranked) < 2:
        return result
    return result | _differences(predictions, groups.astype(str), ranked, classes, bootstrap, seed)


def _differences(
    predictions: pd.DataFrame,
    groups: pd.Series,
    ranked: dict[str, dict[str, Any]],
    classes: list[str],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Compute gaps and measures of the groups ``ranked``, with intervals, and by chance."""
    inside = groups.isin(list(ranked))
    rows, place = predictions[inside], groups[inside].map(list(ranked).index).to_numpy(np.int64)
    units, _ = units_of(rows)
    counts = _counts(rows, place, units, len(classes), len(ranked))
    whole = _Drawn(counts.sum(axis=1, keepdims=True), rows, units, classes)
    blocks = [_Drawn(times @ counts, rows, units, classes) for times in resample(counts.shape[1], bootstrap, seed)]
    names = list(ranked)
    gaps: dict[str, dict[str, Any]] = {}
    for metric in OF_GROUPS:
        point = whole.metric(metric)[:, 0]
        most, least = (
            int(point.argmax()),
            len(point) - 1 - int(point[::-1].argmin()),
        )  # two groups, even if all are equal
        drawn = np.concatenate([block.metric(metric)[most] - block.metric(metric)[least] for block in blocks])
        low, high = percentiles(drawn)
        if low == high:  # such as both without an error: from their exact intervals, which is conservative
            a, b = ranked[names[most]], ranked[names[least]]
            low, high = a[f"{metric}_low"] - b[f"{metric}_high"], a[f"{metric}_high"] - b[f"{metric}_low"]
        gaps[metric] = {"largest": names[most], "smallest": names[least]}
        gaps[metric] |= {"difference": float(point[most] - point[least]), "low": low, "high": high, "chance": None}
    measures: dict[str, Any] = {}
    resampled = [block.measures() for block in blocks]
    for name, value in whole.measures().items():
        if np.isfinite(value[0]):
            low, high = percentiles(np.concatenate([block[name] for block in resampled]))
            measures[name] = {"value": float(value[0]), "low": low, "high": high}
            measures[name] |= {"chance": None} if name in APART else {}
    p = None
    pairs = np.unique(np.column_stack([units, place]), axis=0)
    if len(pairs) == counts.shape[1]:  # every unit is in one group
        spread: dict[str, list[np.ndarray]] = {}
        for owners in _permutations(pairs[:, 1], len(ranked), bootstrap, seed):
            permuted = _Drawn(owners @ counts.sum(axis=0), rows, units, classes)
            values = {metric: np.ptp(permuted.metric(metric), axis=0) for metric in OF_GROUPS} | permuted.measures()
            for name, column in values.items():
                spread.setdefault(name, []).append(column)
        chance = {name: np.concatenate(columns) for name, columns in spread.items()}
        for name, entry in (gaps | measures).items():
            if "chance" in entry:
                entry["chance"] = float(np.nanmean(chance[name]))
        reached = chance[TESTED] >= gaps[TESTED]["difference"] - 1e-12
        p = float((1 + reached.sum()) / (1 + len(reached)))
    return {"gaps": gaps, "measures": measures, "p": p}


class _Drawn:
    """R copies of the samples of G groups, from their confusion counts (G, R, C * C)."""

    def __init__(self, counts: np.ndarray, rows: pd.DataFrame, units: np.ndarray, classes: list[str]) -> None:
        times = np.ones((counts.shape[1], 1))
        table = predictions_of(rows, classes, units)
        self.copies = [Resamples(table, times, own.astype(np.float64)) for own in counts]

    def metric(self, name: str) -> np.ndarray:
        """Return a metric of counts of each group, (G, R)."""
        with np.errstate(invalid="ignore"):
            return np.stack([np.asarray(METRICS[name].function(copy)) for copy in self.copies])

    def measures(self) -> dict[str, np.ndarray]:
        """Return the measures of all groups together, (R,) each; NaN where one is not defined.

        ``mean_uf1`` is the mean of the groups' UF1. ``statistical_parity`` is the mean over pairs of groups of the
        total variation distance between their shares of predicted classes. ``equal_opportunity`` is the mean over
        classes, of those with a sample in every group, of the largest minus the smallest recall (after Hardt et al.
        2016, for several classes and groups).
        """
        with np.errstate(invalid="ignore"):
            shares = np.stack([copy.guessed / copy.total[:, None] for copy in self.copies])
        recalls = np.stack([copy.recall for copy in self.copies])
        distances = [np.abs(shares[a] - shares[b]).sum(axis=1) / 2 for a, b in combinations(range(len(shares)), 2)]
        return {
            "mean_uf1": self.metric("uf1").mean(axis=0),
            "statistical_parity": np.mean(distances, axis=0),
            "equal_opportunity": over_classes(recalls.max(axis=0) - recalls.min(axis=0)),
        }


def _counts(rows: pd.DataFrame, place: np.ndarray, units: np.ndarray, classes: int, groups: int) -> np.ndarray:
    """Return confusion counts by group and unit, (groups, units, classes ** 2)."""
    shape = (groups, int(units.max()) + 1, classes**2)
    cells = (rows["label"] * classes + rows["predicted"]).to_numpy(np.int64)
    flat = np.ravel_multi_index((place, units, cells), shape)
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)


def _permutations(owner: np.ndarray, groups: int, times: int, seed: int) -> Iterator[np.ndarray]:
    """Yield permutations of the group of each unit, (U,), as 0 and 1, (groups, r, U), in blocks."""
    random = np.random.default_rng(seed)
    step = max(1, BLOCK // (len(owner) * groups))
    for start in range(0, times, step):
        drawn = random.permuted(np.tile(owner, (min(step, times - start), 1)), axis=1)
        yield (drawn == np.arange(groups)[:, None, None]).astype(np.float64)


def holm(values: list[float]) -> list[float]:
    """Correct p values for their number by Holm's step-down method (Holm 1979), in the same order.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(values)
    stepped = np.asarray(values)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0) if len(values) else stepped
    return corrected.tolist()


def flat_gaps(found: dict[str, Any]) -> dict[str, float]:
    """Return the gaps as entries of ``metrics.json``: ``<metric>_gap_<column>`` with ``_low`` and ``_high``."""
    entries: dict[str, float] = {}
    for column in found["columns"]:
        for metric, gap in column.get("gaps", {}).items():
            name = f"{metric}_gap_{_plain(column['column'])}"
            entries |= {name: gap["difference"], f"{name}_low": gap["low"], f"{name}_high": gap["high"]}
    return entries
