"""Predictions of the test part at the epochs that other rules would have reported, kept from one training run.

Published numbers of this field are often those of the epoch that was best on the test images. What that choice is worth
follows from one training run, if the test part is predicted after every epoch and the logits are kept of the epoch that
each rule prefers so far. Nothing here influences the weights, the reported epoch or the end of training, and no random
number is drawn; only with ``selection: test`` the test part chooses the epoch, as without this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from duchenne.training.measure import scored
from duchenne.training.settings import Variant

NAME = "rules"
"""Name of the table in the folder of a fold, ``rules.parquet``."""

LIMIT = 0.25
"""Largest cost at which ``test_each_epoch: auto`` predicts the test part (chosen by us).

It includes pictures in three folds without SAM (0.17) and excludes DFEW's clips with all their windows (about 0.4).
"""


def cost(views: float, draws: float, sam: bool) -> float:
    """Estimate the cost of predicting the test part after every epoch, as a share of the training.

    A backward pass counts as two forward passes, and SAM trains every batch twice (assumed; loading is left out).

    >>> round(cost(3068, 12271, sam=True), 3)  # POSTER on RAF-DB
    0.042

    Args:
        views: inputs of the test part; a clip has one for each of its windows.
        draws: training samples of an epoch.
    """
    return views / (draws * 3 * (2 if sam else 1))


def tested_each_epoch(variant: Variant, views: float, draws: float) -> bool:
    """Whether the test part is predicted after every epoch: for selection, or by ``test_each_epoch`` for this module.

    Args:
        views, draws: as for :func:`cost`.
    """
    if variant.selection == "test" or variant.test_each_epoch != "auto":
        return variant.selection == "test" or variant.test_each_epoch
    return cost(views, draws, sam=variant.recipe.sam_rho is not None) <= LIMIT


Kept = dict[str, dict[str, Any]]
"""Rule -> ``epoch`` (from 1) that it prefers so far, its ``score``, and the test ``logits`` (N, classes) after it."""


class Rules:
    """Keeps the test logits of the epoch that each rule prefers so far.

    The rules are ``last``; ``val`` if there is a validation part and ``test``, the best epoch on that part by the
    variant's ``monitor``; and ``train`` for a variant that selects by it. Among equals the epoch with the lower loss is
    preferred, then the earlier one, as in selection. An epoch in which the metric is not defined is not preferred.

    Args:
        variant: its ``selection`` and ``monitor``.
        parts: parts that are measured after every epoch, with samples.
        samples: names of the test samples, in the order of the logits.
    """

    def __init__(self, variant: Variant, parts: Iterable[str], samples: Iterable[str]) -> None:
        choosing = [part for part in ("val", "test") if part in parts]
        self.rules = ["last", *(["train"] if variant.selection == "train" else []), *choosing]
        self.monitor, self.samples = variant.monitor, list(samples)

    def keep(self, kept: Kept | None, row: dict[str, float], logits: Tensor) -> None:
        """Put the logits (N, classes) of an epoch into ``kept``, for the rules that prefer it.

        Args:
            kept: result of all earlier epochs; None if they were not kept, so that none is now.
            row: the epoch's row of the history.
        """
        if kept is None:
            return
        for rule in self.rules:
            score = [] if rule == "last" else scored(row, rule, self.monitor)
            better = rule not in kept or score > kept[rule]["score"]
            if rule == "last" or (better and all(map(math.isfinite, score))):
                kept[rule] = {"epoch": int(row["epoch"]), "score": score, "logits": logits}

    def table(self, kept: Kept | None, classes: Sequence[str]) -> pd.DataFrame | None:
        """Return a row for each rule and test sample: ``rule``, ``epoch``, ``sample`` and ``logit_<class>`` (float32).

        A rule whose metric was defined in no epoch is left out. None if not all epochs were kept.
        """
        if kept is None:
            return None
        tables = []
        for rule in filter(kept.__contains__, self.rules):
            logits = kept[rule]["logits"].cpu().numpy()
            columns = {f"logit_{name}": column for name, column in zip(classes, logits.T, strict=True)}
            chosen = {"rule": rule, "epoch": kept[rule]["epoch"], "sample": self.samples}
            tables.append(pd.DataFrame(chosen | columns))
        return pd.concat(tables, ignore_index=True)
