"""Labels that hold nothing to learn: permuted ones, and one label for each person."""

from __future__ import annotations

import numpy as np
import pandas as pd

MOVED = ["label", "votes"]
"""Columns that are permuted together, so that soft targets move with the label."""
_PARTS = ("train", "val", "test")


def permuted(samples: pd.DataFrame, seed: int, parts: tuple[str, ...] = ("train", "val")) -> pd.DataFrame:
    """Return the samples with the labels of each fold's parts permuted; other parts keep theirs.

    The labels of a part are permuted over all of its samples, not within people. Within people, the counts of a
    person's labels would stay, and nothing would change where a person has one class; across people, the link from a
    person to a label is gone too. The counts of the classes stay, so the network can still learn which class is
    frequent: WAR may exceed 1 / classes, UAR may not.

    Args:
        samples: sample, fold, part, label, and votes if there are any.
        seed: the same seed gives a sample of the same fold and part the same label in every run on the same split.
        parts: the parts that are permuted.
    """
    samples = samples.sort_values(["fold", "part", "sample"], ignore_index=True)
    moved = [name for name in MOVED if name in samples]
    for (fold, part), rows in samples.groupby(["fold", "part"]):
        if part in parts:
            order = np.random.default_rng([seed, int(fold), _PARTS.index(part)]).permutation(len(rows))
            for name in moved:
                samples.loc[rows.index, name] = rows[name].array[order]
    return samples


def one_a_person(samples: pd.DataFrame, classes: int, seed: int) -> pd.DataFrame:
    """Return the samples with one random label for each person, in all parts and folds; each class equally often.

    Such labels hold nothing of the expression. Only a network that knows the person can tell them.
    """
    people = np.sort(samples["subject"].unique())
    labels = np.random.default_rng(seed).permutation(np.arange(len(people)) % classes)
    return samples.assign(label=samples["subject"].map(dict(zip(people, labels, strict=True))).astype(int))
