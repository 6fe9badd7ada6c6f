"""What a check found, what it could not look at, and how much it looked at."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

from duchenne.errors import UserError

Kind = Literal["changed", "missing", "cache", "not run", "numbers", "record"]
"""A file is not the one that the run wrote or read; is not there; its object in DVC's cache is damaged; a stage has not
run; numbers do not follow from the predictions; two files state different things."""

COUNTED: dict[str, str] = {
    "runs": "runs",
    "metrics": "values computed again",
    "files": "files",
    "objects": "objects of DVC's cache",
    "bytes": "bytes",
}
"""What is counted -> how it is called."""


TOLERANCE = 1e-12
"""Relative and absolute tolerance of a value that is computed again: sums may be taken in another order."""

LISTED = 5
"""Largest number of values of a file that are listed (chosen by us); one cause often changes all of them."""


@dataclass(frozen=True)
class Finding:
    """A disagreement: the file (or stage) that it is about, what is wrong, and what to do."""

    path: str
    kind: Kind
    text: str
    fix: str = ""


@dataclass
class Checked:
    """Result of a check.

    Attributes:
        findings: disagreements.
        skipped: what could not be checked, and why.
        counts: how much was checked, by the keys of :data:`COUNTED`.
    """

    findings: list[Finding] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))

    def wrong(self, path: str | os.PathLike[str], kind: Kind, text: str, fix: str = "") -> None:
        """Add a disagreement."""
        self.findings.append(Finding(Path(path).as_posix(), kind, text, fix))

    def compare(
        self, path: os.PathLike[str], stated: Mapping[str, Any], computed: Mapping[str, Any], source: str, fix: str
    ) -> None:
        """Compare the values in a file with those that were computed again; :data:`LISTED` disagreements are listed.

        Args:
            source: what the values were computed from, in the plural.
        """
        said = []
        for key in dict.fromkeys([*computed, *stated]):
            self.counts["metrics"] += 1
            if key not in stated:
                said.append(f"{key} is missing: {source} give {computed[key]}")
            elif key not in computed:
                said.append(f"{key} is {stated[key]}, which nothing measures")
            elif not equal(stated[key], computed[key]):
                said.append(f"{key} is {stated[key]}, {source} give {computed[key]}")
        for text in said[:LISTED]:
            self.wrong(path, "numbers", text, fix)
        if (more := len(said) - LISTED) > 0:
            self.wrong(path, "numbers", f"{more} more of its values are not those that {source} give", fix)

    def explains(self, path: Path) -> bool:
        """Whether a file, or a folder with it or in it, was found changed or missing.

        What another check says of it then follows, and need not be said.
        """
        whole = path.as_posix()
        return any(
            finding.path == whole or finding.path.startswith(f"{whole}/") or whole.startswith(f"{finding.path}/")
            for finding in self.findings
            if finding.kind in ("changed", "missing")
        )

    def add(self, other: Checked) -> None:
        """Add the result of another check."""
        known = {(finding.path, finding.kind) for finding in self.findings}
        self.findings += [each for each in other.findings if (each.path, each.kind) not in known]
        self.skipped += other.skipped
        self.counts = {name: number + other.counts[name] for name, number in self.counts.items()}

    def summary(self) -> str:
        """Say in one line how much was checked, and how much of it is wrong.

        >>> Checked().summary()
        'nothing was checked'
        """
        parts = [f"{COUNTED[key]}: {number:,}" for key, number in self.counts.items() if number and key != "bytes"]
        if not parts and not self.findings:
            return "nothing was checked"
        size = f" ({self.counts['bytes'] / 1e6:,.1f} MB)" if self.counts["bytes"] else ""
        verdict = f"disagreements: {len(self.findings):,}" if self.findings else "all agree"
        return f"{', '.join(parts) or 'nothing was checked'}{size}; {verdict}"

    def as_json(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        return {
            "ok": not self.findings,
            "findings": [asdict(finding) for finding in self.findings],
            "not checked": self.skipped,
            "checked": self.counts,
        }

    @contextmanager
    def reading(self, path: str | os.PathLike[str], fix: str) -> Iterator[None]:
        """Turn an error of reading a damaged or missing file into a disagreement, and leave the block."""
        try:
            yield
        except FileNotFoundError as error:
            self.wrong(error.filename or path, "missing", "is missing", fix)
        except (UserError, OSError, ValueError, KeyError, AttributeError, BadZipFile, EOFError) as error:
            # what readers of Parquet, JSON, CSV and NumPy raise for bytes of another kind
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.wrong(path, "changed", f"cannot be read: {said}", fix)


def equal(stated: Any, computed: Any) -> bool:
    """Whether two values are equal, numbers within :data:`TOLERANCE`."""
    if isinstance(stated, float | int) and isinstance(computed, float | int) and not isinstance(stated, bool):
        return math.isclose(stated, computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(stated == computed)
