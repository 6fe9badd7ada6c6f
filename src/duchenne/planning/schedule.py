"""Folds on several GPUs: time until the last one ends."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence


def makespan(durations: Sequence[float], machines: int) -> float:
    """Return the time until all of ``durations`` are over on ``machines``, in the unit of the durations.

    Whenever a machine is free, it takes the longest job that is left (list scheduling, longest processing time first,
    Graham 1969). The result is at most 4/3 of the shortest possible one.

    >>> makespan([1.0] * 68, 64)  # two rounds
    2.0

    Args:
        machines: at least 1.
    """
    ends = [0.0] * min(machines, max(len(durations), 1))
    for duration in sorted(durations, reverse=True):
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def enough(durations: Sequence[float]) -> int:
    """Return the smallest number of machines above which :func:`makespan` does not fall.

    >>> enough([3.0, 1.0, 1.0, 1.0])
    2
    """
    least = max(durations, default=0.0)
    low, high = 1, max(len(durations), 1)
    while low < high:
        middle = (low + high) // 2
        if math.isclose(makespan(durations, middle), least, rel_tol=1e-9):
            high = middle
        else:
            low = middle + 1
    return low
