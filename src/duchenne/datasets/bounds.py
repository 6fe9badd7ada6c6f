"""Limits of annotation files, checked before they are read: no file of any content takes all memory, or hours."""

from __future__ import annotations

import re
import zipfile
from itertools import chain, pairwise
from pathlib import Path

from duchenne.datasets.problems import UnreadableError
from duchenne.files import mistaken, regular

BYTES = 1_000_000_000
"""Largest annotation file, also unpacked (chosen by us; FER2013's table has 300 MB)."""
COLUMNS = 5_000
"""Largest number of columns (chosen by us)."""
CELLS = 100_000_000
"""Largest number of cells of a rectangle that holds all of a table (chosen by us)."""
UNPACKED = 300_000_000
"""Largest unpacked size of an Excel file, bytes (chosen by us)."""
LETTERS = 2_000_000_000
"""Largest number of characters of an Excel file's cells, if each that refers to a shared text had the longest one."""

_ADDRESS = re.compile(rb"""\br\s*=\s*["']([A-Za-z]*)(\d+)["']""")
_SHARED = re.compile(rb"""\bt\s*=\s*["']s["']""")
_TEXT = re.compile(rb"<(?:\w+:)?si\b")
_PLACE = re.compile(rb"<(?:\w+:)?(row|c)[\s/>]")


def require_bytes(path: Path) -> Path:
    """Return the path of an annotation file of at most :data:`BYTES`.

    Raises:
        UnreadableError: It is larger.
        OSError: It is a device, a pipe or a socket, or cannot be read.
    """
    if (size := regular(path).stat().st_size) > BYTES:
        raise UnreadableError(path, f"has {size / 1e6:,.0f} MB, over the limit of {BYTES / 1e6:,.0f} MB for a table")
    return path


def require_shape(path: Path, rows: int, columns: int) -> None:
    """Check the size of a table.

    Raises:
        UnreadableError: It has too many columns or cells.
    """
    if columns > COLUMNS:
        raise UnreadableError(path, f"has {columns:,} columns, over the limit of {COLUMNS:,}: keep the needed ones")
    if rows * columns > CELLS:
        raise UnreadableError(path, f"has {rows:,} rows of {columns:,} cells, over the limit of {CELLS:,} cells")


def require_workbook(path: Path) -> None:
    """Check an .xlsx file, which is a ZIP archive of XML files, before all its cells are in memory.

    Raises:
        UnreadableError: It is none; or unpacked it is too large, or its cells span too many rows and columns or hold
            too much text.
        OSError, zipfile.BadZipFile: It cannot be read, or its sizes are not those that it states.
    """
    with require_bytes(path).open("rb") as file:
        start = file.read(64)
        if not zipfile.is_zipfile(file):
            kind = mistaken(start) or "not an Excel file (.xlsx), although its name says so, or is cut off"
            raise UnreadableError(path, f"is {kind}")
        with zipfile.ZipFile(file) as archive:
            if (size := sum(item.file_size for item in archive.infolist())) > UNPACKED:
                raise UnreadableError(
                    path,
                    f"has {size / 1e6:,.0f} MB unpacked, over the limit of {UNPACKED / 1e6:,.0f} MB: save it as CSV",
                )
            names = set(archive.namelist())
            twice = len(names) < len(archive.namelist())  # readers differ in which of two they take
            if twice or "xl/workbook.xml" not in names or names & {"content.xml", "xl/workbook.bin"}:
                raise UnreadableError(path, "is not an Excel file (.xlsx), although its name says so")
            texts = [name for name in names if name.lower().endswith("sharedstrings.xml")]
            longest = max((_longest(archive.read(name)) for name in texts), default=0)
            for name in names:
                rows, columns, shared = _extent(archive.read(name))
                require_shape(path, rows, columns)
                if shared * longest > LETTERS:
                    raise UnreadableError(path, "holds too many long texts: save it as CSV")


def _extent(sheet: bytes) -> tuple[int, int, int]:
    """Return the last row and column of an XML file, named or counted, and its number of shared texts."""
    rows = columns = cells = 0
    for found in _ADDRESS.finditer(sheet):  # no lists: a small archive may unpack to millions of them
        rows, columns = max(rows, int(found[2])), max(columns, _number(found[1]))
    for found in _PLACE.finditer(sheet):  # cells need not name their column
        cells = cells + 1 if found[1] == b"c" else 0
        columns = max(columns, cells)
    return rows, columns, sum(1 for _ in _SHARED.finditer(sheet))


def _longest(texts: bytes) -> int:
    """Return the largest number of bytes between two shared texts, which is at least the length of the longest."""
    starts = (found.start() for found in _TEXT.finditer(texts))
    return max(end - start for start, end in pairwise(chain([0], starts, [len(texts)])))


def _number(letters: bytes) -> int:
    """Return the number of a column of letters, A: 1; 0 without letters. More than nine are over the limit by these."""
    number = 0
    for letter in letters[:9].upper():
        number = 26 * number + letter - ord("A") + 1
    return number
