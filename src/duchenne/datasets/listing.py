"""What a reader of a layout hands over: the samples as the files name them, every cell still text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from duchenne.datasets.problems import Problem
from duchenne.datasets.settings import MANIFEST_COLUMNS

COLUMNS = (*MANIFEST_COLUMNS, "factors", "votes")
"""The columns a listing may have; ``path`` and ``label`` are required. The last two hold JSON objects: anything else
that a file says of a sample, and label -> number of annotators who gave it."""


Note = tuple[int | None, str, str, str, str]
"""(row, column, path, oddity, what was done about it)."""


@dataclass
class Findings:
    """What a reader saw besides the samples.

    Attributes:
        recognised: which of a dataset's distributions lies on the disk, one sentence each.
        notes: oddities of rows that are used.
        extra: samples on the disk that no list names.
        missing: frames that annotations name and the disk lacks.
        edition: of the dataset, where editions hold different numbers.
        form: of the clips, where there are several (``media``).
        digests: list -> digest of its lines, to compare with the published list.
        counts: what the lists hold besides samples, to compare with the published lists.
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
    """First 16 hex digits of SHA-256 over the sorted lines, each ended by a newline."""
    text = "".join(f"{line}\n" for line in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class Listing:
    """The samples of a dataset before any check.

    Attributes:
        rows: columns of :data:`COLUMNS` as text (missing: NA), ``row``, the number by which a person finds it, and,
            where there are several lists, ``file``, the one that has the row.
        source: the file or folder that lists the samples.
        unit: what ``row`` counts: ``line`` of a CSV file, ``row`` of a Parquet file.
        problems: what could not even be listed.
        left_out: what was passed over on purpose, and how often.
        kind: of all samples, where they are not files of their own and the reader has looked at them.
        findings: what else there is to tell.
        whole: onset and offset lie inside a sample that is all of its file; otherwise a sample with both is those
            frames only.
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
        """Count ``n`` more samples as passed over."""
        if n == 0:
            return
        self.left_out[why] = self.left_out.get(why, 0) + n


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """A table with every cell as text, as a CSV file would hold it; lists become JSON."""
    return table.apply(lambda column: pd.Series([_cell(value) for value in column], table.index, dtype="str"))


def _cell(value: object) -> str | None:
    if isinstance(value, np.ndarray | list | tuple | dict):
        return json.dumps(value, default=lambda item: item.tolist(), ensure_ascii=False)
    if pd.isna(value):
        return None
    return value if isinstance(value, str) else repr(value.item() if isinstance(value, np.generic) else value)
