"""Layout ``manifest``: a CSV or Parquet file that names every sample's path and label.

Columns: ``path`` (an image, a video or a folder of frames, relative to the root) and ``label`` are required; sample,
subject, source, split, fold, onset, apex, offset, fps, aus and the face box x0, y0, x1, y1 are understood; every other
column is kept in the index' ``factors``. An empty cell means that the value is unknown.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from duchenne.catalog import Dataset, nearest
from duchenne.datasets.listing import COLUMNS, Listing, as_text
from duchenne.datasets.problems import UnreadableError


def read(config: Dataset) -> Listing:
    """List the rows of the manifest.

    Raises:
        UnreadableError: there is no manifest, it is no UTF-8 text or no Parquet file, or a required column is missing.
    """
    path = config.root / config.manifest
    if not path.is_file():
        hint = nearest(path.name, (item.name for item in path.parent.glob("*") if item.is_file()))
        raise UnreadableError(path, f"there is no such manifest{hint}")
    listing = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    extra = [name for name in listing.rows if name not in (*COLUMNS, "row")]
    if extra:
        listing.rows["factors"] = _gather(listing.rows[extra])
        listing.rows = listing.rows.drop(columns=extra)
    return listing


def _parquet(path: Path) -> Listing:
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise UnreadableError(path, f"is no Parquet file: {error}") from None
    _require(table.column_names, path)
    rows = as_text(table.to_pandas(ignore_metadata=True))
    return Listing(rows.assign(row=range(1, len(rows) + 1)), str(path))


def _csv(path: Path) -> Listing:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    header = [cell.strip() for cell in next(reader, [])]
    _require(header, path)
    listing = Listing(pd.DataFrame(), str(path), unit="line")
    cells, lines = [], []
    try:
        last = reader.line_num
        for row in reader:
            line, last = last + 1, reader.line_num  # a quoted cell may run over several lines
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                listing.problems.append((line, "", "", f"has {len(row)} cells, the header has {len(header)}"))
                continue
            cells.append(row)
            lines.append(line)
    except csv.Error as error:
        raise UnreadableError(path, f"line {reader.line_num} is no CSV: {error}") from None
    listing.rows = pd.DataFrame(cells, columns=header, dtype="str").assign(row=lines)
    return listing


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"is not UTF-8 text (byte 0x{data[error.start]:02x} in line {line}): save it as 'CSV UTF-8'"
        raise UnreadableError(path, problem) from None
    if "\0" in text:
        raise UnreadableError(path, "is not UTF-8 text (it holds zero bytes, as UTF-16 does): save it as 'CSV UTF-8'")
    return text


def _require(columns: Iterable[str], path: Path) -> None:
    columns = list(columns)
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise UnreadableError(path, f"the header names {', '.join(map(repr, twice))} more than once")
    for name in ("path", "label"):
        if name not in columns:
            hint = nearest(name, columns) or f" (there are: {', '.join(columns) or 'none'})"
            raise UnreadableError(path, f"the required column is missing{hint}", column=name)


def _gather(extra: pd.DataFrame) -> pd.Series:
    """The unknown columns of each row as one JSON object, without empty cells."""
    records = extra.astype(object).where(extra.notna() & (extra != ""), None).to_dict("records")
    texts = [{name: value for name, value in record.items() if value is not None} for record in records]
    return pd.Series([json.dumps(text, ensure_ascii=False) if text else None for text in texts], extra.index, "str")
