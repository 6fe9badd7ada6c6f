"""Numbers that are known roughly, and their rounding for people."""

from __future__ import annotations

from typing import Literal, NamedTuple

Basis = Literal["counted", "measured here", "measured elsewhere", "assumed"]
"""Source of a number: exact; of this project or machine; of another machine, as the documentation says; chosen."""

RANKS: tuple[Basis, ...] = ("counted", "measured here", "measured elsewhere", "assumed")
"""From the surest basis to the least sure."""


class Estimate(NamedTuple):
    """A value between two bounds.

    >>> Estimate(1, 2, 4).times(3)
    Estimate(low=3, value=6, high=12)
    """

    low: float
    value: float
    high: float

    def times(self, factor: float) -> Estimate:
        """Return the product with an exact number, not negative."""
        return Estimate(self.low * factor, self.value * factor, self.high * factor)

    def plus(self, other: Estimate) -> Estimate:
        """Return the sum; the bounds add up, because both may err in the same direction."""
        return Estimate(self.low + other.low, self.value + other.value, self.high + other.high)

    def inverse(self) -> Estimate:
        """Return 1 over the value, such as seconds a sample from samples a second."""
        return Estimate(1 / self.high, 1 / self.value, 1 / self.low)

    @property
    def wide(self) -> bool:
        """Whether the bounds differ by more than a quarter of the value on either side (chosen by us)."""
        return self.high > 1.25 * self.value or self.low < 0.75 * self.value


NONE = Estimate(0.0, 0.0, 0.0)


def exactly(value: float) -> Estimate:
    """Return a value without doubt."""
    return Estimate(value, value, value)


def between(low: float, high: float) -> Estimate:
    """Return a value between two bounds, of which neither is nearer: their geometric mean.

    >>> between(1, 9).value
    3.0
    """
    return Estimate(low, (low * high) ** 0.5, high)


def largest(first: Estimate, second: Estimate) -> Estimate:
    """Return the larger of two values, bound by bound."""
    return Estimate(max(first.low, second.low), max(first.value, second.value), max(first.high, second.high))


def about(value: float) -> str:
    """Write a number with two digits that count.

    >>> [about(value) for value in (0.0123, 1.84, 41.3, 1234)]
    ['0.012', '1.8', '41', '1,200']
    """
    if value >= 100:
        digits = len(str(round(value))) - 2
        return f"{round(value, -digits):,.0f}"
    return f"{float(f'{value:.2g}'):g}"


def shown(estimate: Estimate, scale: float = 1.0) -> str:
    """Write an estimate over ``scale``, with its bounds where they are wide.

    >>> shown(Estimate(1, 3, 9))
    '3 (1 to 9)'
    """
    low, value, high = (about(number / scale) for number in estimate)
    return f"{value} ({low} to {high})" if estimate.wide else value


UNITS = ((86400.0 * 3, 86400.0, "days"), (3600.0, 3600.0, "h"), (60.0, 60.0, "min"))
"""From so many seconds on -> seconds of the unit, and the unit."""


def duration(seconds: Estimate) -> str:
    """Write a time with its unit.

    >>> duration(exactly(5400)), duration(exactly(20)), duration(exactly(864000))
    ('1.5 h', 'below a minute', '10 days')
    """
    for least, scale, unit in UNITS:
        if seconds.value >= least:
            return f"{shown(seconds, scale)} {unit}"
    return "below a minute" if seconds.high < 60 else f"below {about(seconds.high / 60)} min"


def size(count: Estimate) -> str:
    """Write a number of bytes with its unit.

    >>> size(exactly(1.23e9)), size(exactly(4.5e6))
    ('1.2 GB', '4.5 MB')
    """
    for scale, unit in ((1e12, "TB"), (1e9, "GB")):
        if count.value >= scale:
            return f"{shown(count, scale)} {unit}"
    return f"{shown(count, 1e6)} MB"
