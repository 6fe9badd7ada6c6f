"""Annotation files as owners and users save them: any delimiter, Windows line ends, byte-order marks, title rows.

Every cell is text: a spreadsheet reader that guesses types turns subject ``006`` into 6.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from duchenne.catalog import nearest
from duchenne.datasets.find import plain
from duchenne.datasets.problems import UnreadableError

TABLES = (".xlsx", ".xlsm", ".csv", ".txt", ".tsv", ".xls")
"""Endings of files that :func:`read_table` reads (or, for the last, refuses with a reason)."""

_DELIMITERS = (",", ";", "\t")


def read_text(path: Path) -> str:
    """A text file, whatever editor saved it: UTF-8 or UTF-16 with or without mark, else GB 18030, as Chinese Windows.

    Raises:
        UnreadableError: none of these fits.
    """
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            wrong = error
        else:
            if "\0" in text:
                raise UnreadableError(path, "holds zero bytes: it is no text file, or UTF-16 without its mark")
            return text
    line = data.count(b"\n", 0, wrong.start) + 1
    raise UnreadableError(path, f"is no UTF-8 text (line {line}): save it as UTF-8")


def read_list(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A list without header: ``columns`` as text and ``row``, the line.

    Cells are divided by blanks, commas, semicolons or tabs, whichever gives the first line as many cells as there are
    columns; by blanks only the last ones are, so that a file name may hold some.

    Raises:
        UnreadableError: a line has another number of cells, or there is none.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise UnreadableError(path, "is empty")
    n = len(columns)
    splits = [lambda line, mark=mark: [cell.strip() for cell in line.split(mark)] for mark in _DELIMITERS]
    splits.append(lambda line: line.rsplit(None, n - 1))
    fitting = [split for split in splits if len(split(lines[0][1])) == n]
    if not fitting:
        expected = f"{n} cells ({', '.join(columns)}) divided by blanks, commas or tabs"
        raise UnreadableError(path, f"line {lines[0][0]} is {lines[0][1][:80]!r}: expected {expected}")
    rows = [(number, *fitting[0](line)) for number, line in lines]
    for number, *cells in rows:
        if len(cells) != n:
            raise UnreadableError(path, f"line {number} has {len(cells)} cells, expected {n} ({', '.join(columns)})")
    return pd.DataFrame(rows, columns=["row", *columns]).astype(dict.fromkeys(columns, "str"))


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """A spreadsheet or delimited file with a header: the named columns as text and ``row``, the row or line.

    The header is the first row that holds ``required[0]``; title rows above it, a second header row below merged
    cells, columns without a name and blank rows are passed over. Names are compared as :func:`~.find.plain` does.

    Args:
        required: columns that must be there.
        optional: columns that are all-missing where they are not there.

    Raises:
        UnreadableError: the file is no such table, or a required column is missing.
    """
    grid = _sheet(path) if path.suffix.lower() in (".xlsx", ".xlsm", ".xls") else _delimited(path, required)
    wanted = {plain(name): name for name in (*required, *optional)}
    start = next((i for i, cells in enumerate(grid) if plain(required[0]) in map(plain, cells)), None)
    if start is None:
        first = [cell for cells in grid for cell in cells if cell][:12]
        hint = nearest(required[0], first)
        raise UnreadableError(
            path, f"no row holds the column {required[0]!r}{hint}: is this the right file?", required[0]
        )
    header, end = [plain(cell) for cell in grid[start]], start + 1
    if end < len(grid) and set(map(plain, grid[end])) & (set(wanted) - set(header)):  # below merged cells
        header = [plain(lower) or upper for upper, lower in zip(header, grid[end], strict=True)]
        end += 1
    place: dict[str, int] = {}
    for i, name in enumerate(header):
        place.setdefault(wanted.get(name, ""), i)
    for name in required:
        if name not in place:
            there = [cell for cell in grid[start] if cell]
            raise UnreadableError(
                path,
                f"the column {name!r} is missing{nearest(name, there) or ' (there are: ' + ', '.join(there) + ')'}",
                name,
            )
    rows = [
        [number, *(cells[place[name]] if name in place else "" for name in wanted.values())]
        for number, cells in enumerate(grid[end:], end + 1)
        if any(cells[place[name]] for name in required)
    ]
    return pd.DataFrame(rows, columns=["row", *wanted.values()]).astype(dict.fromkeys(wanted.values(), "str"))


def _sheet(path: Path) -> list[list[str]]:
    """The cells of the first sheet that holds any."""
    if path.suffix.lower() == ".xls":
        raise UnreadableError(path, "is in the old Excel format: save it as .xlsx")
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        sheets = pd.read_excel(path, sheet_name=None, header=None, dtype="str", engine="openpyxl", na_filter=False)
    except (zipfile.BadZipFile, KeyError, InvalidFileException, OSError) as error:
        raise UnreadableError(path, f"is no Excel file ({error}): was it downloaded in full?") from None
    filled = [sheet for sheet in sheets.values() if not sheet.empty]
    if not filled:
        raise UnreadableError(path, "holds no cell")
    return [[_cell(cell) for cell in cells] for cells in filled[0].to_numpy()]


def _delimited(path: Path, required: Sequence[str]) -> list[list[str]]:
    """The cells of a delimited file, by the delimiter under which some row holds the most required columns."""
    text = read_text(path)
    names = set(map(plain, required))
    grids = []
    for mark in _DELIMITERS:
        try:
            grids.append(
                [[_cell(cell) for cell in cells] for cells in csv.reader(io.StringIO(text, None), delimiter=mark)]
            )
        except csv.Error:
            continue  # a quote that this delimiter would leave open
    if not any(grids):
        raise UnreadableError(path, "is empty, or no text table")
    best = max(grids, key=lambda grid: max((len(names & set(map(plain, cells))) for cells in grid[:40]), default=0))
    width = max(map(len, best))
    return [cells + [""] * (width - len(cells)) for cells in best]


def _cell(cell: object) -> str:
    text = str(cell).strip()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)  # Excel's 46.0
