"""Base class of errors the user can fix, and the hint that many of them end with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Error shown as its message, without traceback; the message says what is wrong, where, and what to do."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `` (did you mean ...?)`` for the closest of ``names``, or an empty string when none is close."""
    close = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
