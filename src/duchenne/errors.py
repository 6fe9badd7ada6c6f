"""Base class of errors the user can fix, and the hint that many of them end with."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice


class UserError(ValueError):
    """Error shown as its message, without traceback; the message says what is wrong, where, and what to do."""


LONG = 100
"""Length from which a name is no misspelt one (chosen by us)."""
MANY = 5000
"""Names among which the closest is looked for (chosen by us): a second's work."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` for the closest of ``names``, or an empty string when none is close.

    Of more than :data:`MANY` names the first are looked at, and none of more than :data:`LONG` characters.
    """
    if len(name) > LONG:
        return ""
    close = difflib.get_close_matches(name, (known for known in islice(names, MANY) if len(known) <= LONG), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return names with commas between them; of more than ``most``, the first and how many more there are.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def short(text: str, most: int = 1000) -> str:
    """Return a text of at most ``most`` characters; of a longer one as many of its beginning and end, and three dots.

    >>> short("abcdefgh", most=5)
    'ab...gh'
    """
    return text if len(text) <= most else f"{text[: most // 2]}...{text[len(text) - most // 2 :]}"


def printable(text: str) -> str:
    r"""Return a text for a terminal: what would move its cursor, colour it or turn its direction is written as escapes.

    Line breaks, tabs and blanks of all scripts are kept.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    kept = {"\n", "\t"}
    return "".join(
        c if c.isprintable() or c in kept or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode()
        for c in text
    )
