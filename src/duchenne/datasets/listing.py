"""What a reader of a layout hands over: the samples as the files name them, every cell still text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

COLUMNS = (
    "sample", "path", "label", "subject", "source", "split", "fold", "onset", "apex", "offset", "fps", "aus",
    "factors", "x0", "y0", "x1", "y1",
)  # fmt: skip
"""The columns a listing may have; ``path`` and ``label`` are required."""


@dataclass
class Listing:
    """The samples of a dataset before any check.

    Attributes:
        rows: columns of :data:`COLUMNS` as text (missing: NA) and ``row``, the number by which a person finds it.
        source: the file or folder that lists the samples.
        unit: what ``row`` counts: ``line`` of a CSV file, ``row`` of a Parquet file.
        problems: (row, column, path, problem) of what could not even be listed.
        left_out: what was passed over on purpose, and how often.
    """

    rows: pd.DataFrame
    source: str
    unit: str = "row"
    problems: list[tuple[int | None, str, str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """A table with every cell as text, as a CSV file would hold it; lists become JSON."""
    return table.apply(lambda column: pd.Series([_cell(value) for value in column], table.index, dtype="str"))


def _cell(value: object) -> str | None:
    if isinstance(value, np.ndarray | list | tuple | dict):
        return json.dumps(value, default=lambda item: item.tolist(), ensure_ascii=False)
    if pd.isna(value):
        return None
    return value if isinstance(value, str) else repr(value.item() if isinstance(value, np.generic) else value)
