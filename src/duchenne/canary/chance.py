"""What UAR a network can reach that knows nothing of the labels.

The samples of a test part cannot say it: a network that was trained on permuted labels still maps faces that look alike
to one output. With three classes it may give all happy faces the same name, and by chance the right one. What chance
decides is the name, so the null hypothesis exchanges the names of the outputs, of every network by itself, and keeps
all else: a permutation test, exact where the training part has each class equally often (Fisher 1935; Good 2005), and
otherwise approximate. Its mean is 1 / classes whatever the predictions are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

LEVEL = 0.025
"""One-sided level of the verdict (chosen by us): a sound protocol fails one time in forty."""

DRAWS = 10_000


class Chance(NamedTuple):
    """UAR, guessing (the mean of the null distribution), its 97.5 % quantile, and P(at least this UAR by chance)."""

    uar: float
    guessing: float
    allowed: float
    p: float

    @property
    def explains(self) -> bool:
        """Whether chance explains the UAR."""
        return self.p > LEVEL


def networks_needed(classes: int) -> int:
    """Return how many networks the verdict needs: with fewer, even a UAR of 100 % may be chance.

    >>> [networks_needed(classes) for classes in (2, 3, 4, 7)]
    [6, 3, 2, 1]
    """
    return math.ceil(math.log(1 / LEVEL) / math.log(math.factorial(classes)))


def chance(counts: np.ndarray, known: np.ndarray, seed: int = 0) -> Chance:
    """Compare the UAR of networks with that after exchanging the names of their outputs.

    Args:
        counts: confusion counts of each network, (networks, classes, classes), rows: label, columns: output.
        known: bool (networks, classes): classes of the network's training part; only their names are exchanged.
        seed: seed of the exchanges.
    """
    of_class = counts.sum(axis=(0, 2))
    present = of_class > 0
    shares = counts[:, present] / of_class[present, None] / present.sum()
    rows = np.arange(present.sum())
    rng = np.random.default_rng(seed)
    drawn, guessing = np.zeros(DRAWS), 0.0
    for share, names in zip(shares, known, strict=True):
        own = np.flatnonzero(names)
        exchanged = np.tile(np.arange(len(names)), (DRAWS, 1))
        exchanged[:, own] = rng.permuted(np.tile(own, (DRAWS, 1)), axis=1)
        drawn += share[rows, exchanged[:, present]].sum(axis=1)
        inside = names[present]
        guessing += share[np.ix_(inside, own)].sum() / len(own)
        guessing += share[rows, np.flatnonzero(present)][~inside].sum()
    uar = float(shares[:, rows, np.flatnonzero(present)].sum())
    p = (1 + int((drawn >= uar - 1e-9).sum())) / (1 + DRAWS)
    return Chance(uar, float(guessing), float(np.quantile(drawn, 1 - LEVEL)), p)
