"""Images stored as rows of a table, as in FER2013: ``fer2013.csv#17`` is the image in line 17 of the table."""

from __future__ import annotations

import csv
import math
import re
from functools import lru_cache
from pathlib import Path

import numpy as np

COLUMN = "pixels"
_PLACE = re.compile(r"(.+\.csv)#(\d+)", re.IGNORECASE)


def place(table: str, line: int) -> str:
    """Return the path by which an index names the image in a line of a table."""
    return f"{table}#{line}"


def placed(path: Path) -> tuple[Path, int] | None:
    """Split a path made by :func:`place` into table and line; None for any other path."""
    match = _PLACE.fullmatch(str(path))
    return (Path(match[1]), int(match[2])) if match else None


def decode(text: str) -> np.ndarray:
    """Convert grey values separated by blanks to a square image, uint8 (H, H).

    Raises:
        ValueError: The values are not whole numbers from 0 to 255, or their number is not a square.
    """
    try:
        values = np.array(text.split(), np.int64)
    except (ValueError, OverflowError):
        raise ValueError("holds pixels that are not whole numbers") from None
    side = math.isqrt(len(values))
    if not side or side * side != len(values):
        raise ValueError(f"holds {len(values)} pixels, which do not make a square")
    if values.min() < 0 or values.max() > 255:
        raise ValueError("holds pixels outside 0 to 255")
    return values.astype(np.uint8).reshape(side, side)


def read_pixels(path: Path, line: int) -> np.ndarray:
    """Read the image in a line of a table, uint8 (H, H, 3) RGB.

    Raises:
        ValueError: There is no such line, or no image in it.
        OSError: The table cannot be read.
    """
    column, starts = _lines(path, path.stat().st_mtime_ns)
    if not 1 < line <= len(starts):
        raise ValueError(f"the table has no line {line}")
    with path.open("rb") as file:
        file.seek(starts[line - 1])
        cells = next(csv.reader([file.readline().decode("utf-8", "replace")], skipinitialspace=True), [])
    if len(cells) <= column:
        raise ValueError(f"line {line} has no column {COLUMN!r}")
    return np.repeat(decode(cells[column])[..., None], 3, axis=2)


@lru_cache(maxsize=4)
def _lines(path: Path, _changed: int) -> tuple[int, np.ndarray]:
    """Return the position of the column of pixels, and the byte offset of each line."""
    starts = [0]
    with path.open("rb") as file:
        header = file.readline()
        starts.append(len(header))
        for line in file:
            starts.append(starts[-1] + len(line))
    names = [name.strip().lower() for name in next(csv.reader([header.decode("utf-8-sig", "replace")]), [])]
    if COLUMN not in names:
        raise ValueError(f"the table has no column {COLUMN!r}")
    return names.index(COLUMN), np.array(starts[:-1])
