"""Selection of whole groups (subjects) in which every class keeps its share (method chosen by us)."""

from __future__ import annotations

import numpy as np
import pandas as pd

LEAST_SUBJECTS = 5
"""Number of subjects that ``limit`` keeps in each official part, if it has as many; fewer cannot be split again."""

_TRIES, _WORK = 64, 300_000  # number of orders tried, and of groups visited in all of them together


def pick(strata: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose about ``share`` of the samples of every stratum, in whole groups.

    Groups are taken in random order while that brings the chosen counts nearer to ``share`` of each stratum (squared
    difference over expected count, as in a chi-squared test, so that rare classes weigh as much as common ones). The
    best of several orders wins; with many groups one order is near enough. At least one group is chosen.

    scikit-learn's ``StratifiedGroupKFold`` gives shares of 1/k only, and less balanced ones: with CASME II's 26
    subjects, five random classes and shares of 0.1 to 0.35, that difference is 0.2 to 0.3 here and 0.9 to 6.6 for its
    first fold (means over 30 seeds).

    Args:
        strata: (N,) values to keep balanced, such as the label.
        groups: (N,) names; samples of the same name stay together.
        share: share of the samples, in (0, 1).
        seed: the same seed and samples give the same choice, whatever the order of the samples.

    Returns:
        bool, (N,).
    """
    names, group = np.unique(groups, return_inverse=True)
    kinds, stratum = np.unique(strata, return_inverse=True)
    counts = np.zeros((len(names), len(kinds)))
    np.add.at(counts, (group, stratum), 1)
    target = share * counts.sum(axis=0)

    tries = np.arange(max(1, min(_TRIES, _WORK // len(names))))
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(len(names)), (len(tries), 1)), axis=1)
    lack = np.tile(target, (len(tries), 1))
    taken = np.zeros(orders.shape, bool)
    for group_of_try in orders.T:
        more = counts[group_of_try]
        nearer = (more * (more - 2 * lack) / target).sum(axis=1) < 0
        lack -= more * nearer[:, None]
        taken[tries, group_of_try] = nearer
    chosen = taken[(lack**2 / target).sum(axis=1).argmin()]
    if not chosen.any():  # every group is larger than its share
        chosen[((counts - target) ** 2 / target).sum(axis=1).argmin()] = True
    return chosen[group]


def limit_rows(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Choose about ``limit`` rows of an index: whole subjects, with classes, official parts and folds in proportion.

    Each row without a subject counts as a subject. If a class would be missing from a part, or the part would have
    fewer than :data:`LEAST_SUBJECTS` subjects, the smallest subjects that fix this are added.
    """
    part = rows["split"].fillna("") + rows["folds"].map(str)
    strata = (part + " " + rows["emotion"]).to_numpy(str)
    groups = ("subject " + rows["subject"]).fillna("sample " + rows["sample"]).to_numpy(str)
    keep = pick(strata, groups, limit / len(rows), seed=0)
    size = pd.Series(groups).map(pd.Series(groups).value_counts()).to_numpy()

    def add(where: np.ndarray) -> None:
        spare = np.flatnonzero(where & ~keep)
        smallest = min(spare, key=lambda i: (size[i], groups[i]))
        keep[groups == groups[smallest]] = True

    for stratum in np.unique(strata):
        if not keep[strata == stratum].any():
            add(strata == stratum)
    for name in part.unique():
        here = (part == name).to_numpy()
        while len(set(groups[here & keep])) < min(LEAST_SUBJECTS, len(set(groups[here]))):
            add(here)
    return rows[keep].reset_index(drop=True)
