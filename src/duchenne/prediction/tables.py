"""Rows of results: their fields, tables of them, and files in JSON lines, CSV and Parquet.

A row is a dictionary with these fields (:data:`FIELDS`):

- ``source``: path of the picture or clip, as given, or found in a folder;
- ``kind``: ``picture``, ``frame`` (of a video), ``window`` (of a clip) or ``clip`` (mean over its windows);
- ``frame`` and ``last``: number of the frame; for windows and clips, of the first and the last one;
- ``time``: time of ``frame``, s; None where the source has none;
- ``track``: number of the person's face in a video; None for pictures and aligned faces;
- ``box``: the face in px (x0, y0, x1, y1); for windows and clips, in the first frame that shows it;
- ``score``: score of the detector; for windows and clips, the median over their frames;
- ``doubtful``: whether it is below the detector's own threshold; for windows and clips, in most of their frames;
- ``faces``: number of faces detected; for windows and clips, the maximum. None if no frame was searched as a whole;
- ``emotion``, and ``probabilities`` by class; None without a face, and for a picture that seems to be turned;
- ``onset`` and ``apex``: frame numbers, for networks that take them;
- ``note``: warning to read before using the prediction; None if there is none;
- ``features``, if they are wanted: input of the last layer.

Tables have columns ``x0``, ``y0``, ``x1``, ``y1`` for the box, ``p_<class>`` for each probability, and ``f_0``, ...
for the features; Parquet holds the features as one list.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from duchenne.errors import UserError
from duchenne.files import no_formula, require_output

FIELDS = (
    "source", "kind", "frame", "last", "time", "track", "box", "score", "doubtful", "faces", "emotion",
    "probabilities", "onset", "apex", "note",
)  # fmt: skip
BOX = ("x0", "y0", "x1", "y1")
TYPES = {
    "source": pa.string(), "kind": pa.string(), "frame": pa.int64(), "last": pa.int64(), "time": pa.float64(),
    "track": pa.int64(), "score": pa.float64(), "doubtful": pa.bool_(), "faces": pa.int64(), "emotion": pa.string(),
    "onset": pa.int64(), "apex": pa.int64(), "note": pa.string(),
}  # fmt: skip
"""Type of each column of a table, but for those of :data:`WIDE`."""


def schema(classes: Sequence[str], features: bool) -> pa.Schema:
    """Return the columns of a table and their types."""
    columns: list[tuple[str, pa.DataType]] = []
    for field in FIELDS:
        match field:
            case "box":
                columns += [(name, pa.float64()) for name in BOX]
            case "probabilities":
                columns += [(f"p_{name}", pa.float64()) for name in classes]
            case name:
                columns.append((name, TYPES[name]))
    return pa.schema([*columns, ("features", pa.list_(pa.float32()))] if features else columns)


def flat(row: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return a row as columns of a table."""
    columns: dict[str, Any] = {}
    for field, value in row.items():
        match field:
            case "box":
                columns |= dict(zip(BOX, value or [None] * 4, strict=True))
            case "probabilities":
                columns |= {f"p_{name}": value[name] if value else None for name in classes}
            case _:
                columns[field] = value
    return columns


def nested(columns: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the row of columns that :func:`flat` made."""
    row: dict[str, Any] = {}
    for field in FIELDS:
        match field:
            case "box":
                row[field] = None if columns["x0"] is None else [columns[name] for name in BOX]
            case "probabilities":
                shares = {name: columns[f"p_{name}"] for name in classes}
                row[field] = None if columns["emotion"] is None else shares
            case _:
                row[field] = columns[field]
    return row | {name: columns[name] for name in columns.keys() & {"features"}}


def table_of(rows: Iterable[dict[str, Any]], classes: Sequence[str], features: bool) -> pa.Table:
    """Return rows as an Arrow table with the columns of :func:`schema`."""
    return pa.Table.from_pylist([flat(row, classes) for row in rows], schema(classes, features))  # drops other fields


def frame_from(table: pa.Table) -> pd.DataFrame:
    """Return a table as a data frame; whole numbers that may be missing are ``Int64``."""
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def frame_of(rows: Sequence[dict[str, Any]], classes: Sequence[str], features: int) -> pd.DataFrame:
    """Return rows as a data frame; whole numbers that may be missing are ``Int64``.

    Args:
        features: number of features; 0: without.
    """
    frame = frame_from(table_of(rows, classes, False))
    if features:
        values = [row.get("features") or [float("nan")] * features for row in rows]
        names = [f"f_{i}" for i in range(features)]
        frame = frame.join(pd.DataFrame(values, frame.index, names, "float32"))
    return frame


class Writer(Protocol):
    """Writes rows to a file."""

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows."""
        ...

    def close(self) -> None:
        """Complete the file."""
        ...


class JsonLines:
    """One JSON object per line, with ``box`` as a list and ``probabilities`` as an object."""

    def __init__(self, path: Path, classes: Sequence[str], features: int) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows, and hand them to the system."""
        self._file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Csv:
    """Comma-separated values in UTF-8, empty where there is none.

    A source whose name begins like a formula of a spreadsheet has ``./`` before it, which is the same path.
    """

    def __init__(self, path: Path, classes: Sequence[str], features: int) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._classes, self._features = classes, features
        self._names = schema(classes, False).names
        self._writer.writerow(self._names + [f"f_{i}" for i in range(features)])

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows, and hand them to the system."""
        for row in rows:
            columns = flat(row, self._classes)
            if no_formula(columns["source"]) != columns["source"]:
                columns["source"] = f"./{columns['source']}"
            features = row.get("features") or [None] * self._features
            self._writer.writerow([columns[name] for name in self._names] + features)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Parquet:
    """Parquet with the features as one column of lists, in row groups of :data:`GROUP` rows."""

    def __init__(self, path: Path, classes: Sequence[str], features: int) -> None:
        self._classes, self._features = classes, bool(features)
        self._writer = pq.ParquetWriter(path, schema(classes, self._features))
        self._waiting: list[dict[str, Any]] = []

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows; those of a last, incomplete group are written by :meth:`close`."""
        self._waiting += rows
        while len(self._waiting) >= GROUP:
            self._writer.write_table(table_of(self._waiting[:GROUP], self._classes, self._features))
            del self._waiting[:GROUP]

    def close(self) -> None:
        """Write the last group and the end of the file."""
        if self._waiting:
            self._writer.write_table(table_of(self._waiting, self._classes, self._features))
            self._waiting.clear()
        self._writer.close()


GROUP = 10_000
"""Rows of a row group of Parquet (chosen by us)."""

WRITERS: dict[str, Callable[[Path, Sequence[str], int], Writer]] = {
    ".jsonl": JsonLines,
    ".csv": Csv,
    ".parquet": Parquet,
}
"""Suffix of a file -> class that writes it: called with path, classes, and number of features (0: without)."""


def check_suffix(path: Path) -> None:
    """Check that rows can be written to a file of this name.

    Raises:
        UserError: Its suffix is not known; or see :func:`duchenne.files.require_output`.
    """
    if path.suffix.lower() not in WRITERS:
        raise UserError(f"{path}: rows are written as {', '.join(WRITERS)}: give the file one of these suffixes")
    require_output(path)


def writer(path: Path, suffix: str, classes: Sequence[str], features: int) -> Writer:
    """Open a file for rows, in the format of ``suffix``."""
    return WRITERS[suffix.lower()](path, classes, features)
