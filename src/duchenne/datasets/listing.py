"""Result of a layout's reader: the samples as the files name them, every cell still text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from duchenne.datasets.problems import Problem
from duchenne.datasets.settings import MANIFEST_COLUMNS

COLUMNS = (*MANIFEST_COLUMNS, "factors", "votes")
"""The columns of a listing; ``path`` and ``label`` are required. The last two hold JSON objects: other attributes of a
sample, and label -> number of annotators who gave it."""


Note = tuple[int | None, str, str, str, str]
"""A note: (row, column, path, oddity, what was done about it)."""


@dataclass
class Findings:
    """Facts that a reader found besides the samples.

    Attributes:
        recognised: the distributions of the dataset that were found on the disk, one sentence each.
        notes: oddities of rows that are used nevertheless.
        extra: samples on the disk that no list names.
        missing: frames that annotations name and the disk lacks.
        edition: edition of the dataset, if the counts differ between editions.
        form: form of the clips, if there are several (``media``).
        digests: list -> digest of its lines, for comparison with the published list.
        counts: other contents of the lists -> number, for comparison with the published lists.
    """

    recognised: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    edition: str = ""
    form: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def digest(lines: Iterable[str]) -> str:
    """Return the first 16 hex digits of the SHA-256 of the sorted lines, each ended by a newline."""
    text = "".join(f"{line}\n" for line in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class Listing:
    """The samples of a dataset before any check.

    Attributes:
        rows: columns of :data:`COLUMNS` as text (missing: NA); ``row``, the row's number for messages; and, if there
            are several lists, ``file``, the list that has the row.
        source: the file or folder that lists the samples.
        unit: what ``row`` counts: ``line`` of a CSV file, ``row`` of a Parquet file.
        problems: problems of rows that could not be listed.
        left_out: reason for leaving samples out on purpose -> number of samples.
        kind: kind of all samples, if they are not separate files and the reader has already checked them.
        findings: other facts for the audit.
        whole: whether every sample is its whole file; otherwise a sample with onset and offset has those frames only.
    """

    rows: pd.DataFrame
    source: str
    unit: str = "row"
    problems: list[Problem] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    kind: str | None = None
    findings: Findings = field(default_factory=Findings)
    whole: bool = False

    def leave_out(self, why: str, n: int = 1) -> None:
        """Count ``n`` more samples as left out."""
        if n == 0:
            return
        self.left_out[why] = self.left_out.get(why, 0) + n


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Convert every cell of a table to text, as in a CSV file; lists become JSON."""
    return table.apply(lambda column: pd.Series([_cell(value) for value in column], table.index, dtype="str"))


def _cell(value: object) -> str | None:
    if isinstance(value, np.ndarray | list | tuple | dict):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    if pd.isna(value):
        return None
    return str(value.item() if isinstance(value, np.generic) else value)


def _plain(item: Any) -> Any:
    """Convert what JSON does not know: arrays and numbers of NumPy to Python's, and anything else to text."""
    return item.tolist() if isinstance(item, np.ndarray | np.generic) else str(item)
