"""Size of a batch that several processes share, for what a network sums over a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_factor: ContextVar[float] = ContextVar("factor", default=1.0)


@contextmanager
def part_of_batch(samples: int, size: int) -> Iterator[None]:
    """Inside the block a network sees ``samples`` of the ``size`` samples of a batch."""
    token = _factor.set(size / samples)
    try:
        yield
    finally:
        _factor.reset(token)


def whole_batch_factor() -> float:
    """Return the size of the batch over that of the part that the network sees; 1 in a single process.

    A loss that is a sum over the samples is multiplied by it: the trainer takes the mean over the samples of what each
    process returns, so that this mean is the sum over the whole batch.

    >>> with part_of_batch(4, 12):
    ...     whole_batch_factor()
    3.0
    """
    return _factor.get()
