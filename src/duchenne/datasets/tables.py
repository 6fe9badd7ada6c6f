"""Readers of annotation files in all usual forms: any delimiter, Windows line ends, byte-order marks, title rows.

Every cell is text: a spreadsheet reader that guesses types turns subject ``006`` into 6.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from python_calamine import SheetVisibleEnum

from duchenne.datasets.bounds import require_bytes, require_shape, require_workbook
from duchenne.datasets.find import plain
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.emotions import is_emotion
from duchenne.errors import nearest, short
from duchenne.shortage import stop_if_short

log = logging.getLogger(__name__)

SHEETS = (".xlsx", ".xlsm", ".xls")
TEXTS = (".csv", ".txt", ".tsv")
TABLES = (*SHEETS, *TEXTS)
"""Endings of files that :func:`read_table` reads."""
DELIMITERS = (",", ";", "\t")

_OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # first bytes of Excel files of before 2007, and of those with a password
_SECONDS = 120
_NOT_READ = "cannot be read as an Excel file ({}): is it complete, and without a password? Otherwise save it as CSV"
_READ = """
import json, sys
import pandas as pd, psutil
if sys.platform == "linux":
    import resource
    most = psutil.Process().memory_info().vms + 2 * 10**9
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
found = pd.read_excel(sys.argv[1], sheet_name=None, header=None, dtype="str", na_filter=False, engine="calamine")
json.dump([sheet.to_numpy().tolist() for sheet in found.values()], sys.stdout)
"""
_TITLES = 100  # number of first rows searched for the header


def read_text(path: Path) -> str:
    """Read a text file: UTF-8 or UTF-16 with or without byte-order mark, otherwise GB 18030 (Chinese Windows).

    Raises:
        UnreadableError: The file has none of these encodings, or is too large.
    """
    data = require_bytes(path).read_bytes()
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            wrong = error
        else:
            if "\0" in text:
                kinds = "UTF-32" if marked else "UTF-16 without its mark"
                raise UnreadableError(path, f"holds zero bytes: it is not a text file, or {kinds}: save it as UTF-8")
            if encoding == "gb18030":
                log.warning("%s is not UTF-8 and was read as GB 18030: if names come out wrong, save it as UTF-8", path)
            return text
    if marked:
        problem = f"begins as UTF-16 text and is not ({wrong.reason} at byte {wrong.start}): save it as UTF-8"
        raise UnreadableError(path, problem)
    line = data.count(b"\n", 0, wrong.start) + 1
    byte = f"byte 0x{data[wrong.start]:02x} in line {line}"
    raise UnreadableError(path, f"is neither UTF-8, UTF-16 nor GB 18030 text ({byte}): save it as UTF-8")


def read_list(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a list without header: ``columns`` as text, and ``row``, the line.

    Cells are separated by blanks, commas, semicolons or tabs, whichever gives the first line as many cells as there are
    columns. Blanks are split from the right, so that a file name may contain some.

    Raises:
        UnreadableError: A line has a different number of cells, or there is no line.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise UnreadableError(path, "is empty")
    n = len(columns)
    splits = [lambda line, mark=mark: [cell.strip() for cell in line.split(mark)] for mark in DELIMITERS]
    splits.append(lambda line: line.rsplit(None, n - 1))
    fitting = [split for split in splits if len(split(lines[0][1])) == n]
    if not fitting:
        expected = f"{n} cells ({', '.join(columns)}) divided by blanks, commas or tabs"
        raise UnreadableError(path, f"line {lines[0][0]} is {lines[0][1][:80]!r}: expected {expected}")
    rows = [(number, *map(_cell, fitting[0](line))) for number, line in lines]
    for number, *cells in rows:
        if len(cells) != n:
            raise UnreadableError(path, f"line {number} has {len(cells)} cells, expected {n} ({', '.join(columns)})")
    return pd.DataFrame(rows, columns=["row", *columns]).astype(dict.fromkeys(columns, "str"))


def refuse_zero(source: Path, table: pd.DataFrame, config: Dataset) -> None:
    """Refuse codes that begin with 0 in a set whose owners begin with 1: each would mean the preceding class.

    A list that also has the owners' last code has wrong rows instead, which the checks of all datasets report. Codes
    are accepted if ``labels`` gives 0 a class.

    Args:
        source: the list or folder that has the codes, for the message.
        table: column ``label``, and ``row`` if it is a list.
        config: settings of the dataset; ``labels`` hold the owners' codes.

    Raises:
        UnreadableError: A label is 0, and no label is the last code.
    """
    codes = config.labels
    numbers = sorted(code for code in codes if code.isdecimal() and code != "0")
    zero = table[table["label"] == "0"]
    meant = codes.get("0", "")
    if zero.empty or numbers[-1] in set(table["label"]) or is_emotion(meant) or meant in config.classes:
        return
    place = f"line {zero['row'].iloc[0]}" if "row" in table else "a folder"
    own = f"{numbers[0]} ({codes[numbers[0]]}) to {numbers[-1]} ({codes[numbers[-1]]})"
    advice = "add 1 to each, or map each to a class under labels"
    raise UnreadableError(source, f"counts from 0 ({place} has class 0), the owners' codes are {own}: {advice}")


class _Header(NamedTuple):
    names: list[str]  # plain names of the columns
    there: list[str]  # the names as written
    data: int  # first row below
    known: int  # number of required columns among them


def read_table(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), others: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a spreadsheet or delimited file with a header: the named columns as text, and ``row``, the row or line.

    The header is the row of any sheet that holds most of ``required``; title rows above it, a second header row below
    merged cells, columns without a name and blank rows are skipped. Names are compared in the form of
    :func:`~.find.plain`.

    Args:
        required: columns that must be there.
        optional: columns whose values are all missing if the file does not have them.
        others: alternative name of a column -> its name above, used if that is not in the file.

    Raises:
        UnreadableError: The file is not such a table, a required column is missing, or there are no rows.
    """
    grids = sheets(path) if path.suffix.lower() in SHEETS else _delimited(path)
    wanted = {plain(name): name for name in (*required, *optional)}
    spelt = {plain(other): plain(name) for other, name in (others or {}).items()}
    found = [(_header(grid, set(map(plain, required)), set(wanted), spelt), grid) for grid in grids]
    header, grid = max(found, key=lambda pair: pair[0].known)
    if not header.known:
        cells = [cell for grid in grids for cells in grid[:_TITLES] for cell in cells if cell]
        hint = nearest(required[0], cells)
        raise UnreadableError(
            path, f"no row holds the column {required[0]!r}{hint}: is this the right file?", required[0]
        )
    place: dict[str, int] = {}
    for i, name in enumerate(header.names):
        place.setdefault(wanted.get(name, ""), i)
    for name in required:
        if name not in place:
            there = [cell for cell in header.there if cell]
            begins = [cell for cell in there if plain(name).startswith(plain(cell) or "\0")]
            hint = nearest(name, begins or there) or f" (there are: {', '.join(there)})"
            raise UnreadableError(path, f"the column {name!r} is missing{hint}", name)
    rows = [
        [number, *(cells[place[name]] if name in place else "" for name in wanted.values())]
        for number, cells in enumerate(grid[header.data :], header.data + 1)
        if any(cells[place[name]] for name in required)
    ]
    if not rows:
        raise UnreadableError(path, "holds no row below its header")
    return pd.DataFrame(rows, columns=["row", *wanted.values()]).astype(dict.fromkeys(wanted.values(), "str"))


def _header(grid: list[list[str]], required: set[str], wanted: set[str], spelt: Mapping[str, str]) -> _Header:
    """Find the first row that holds most required columns, combined with a second header row below merged cells."""

    def named(cells: list[str]) -> list[str]:
        names = [plain(cell) for cell in cells]
        return [name if spelt.get(name, name) in names else spelt[name] for name in names]

    best = _Header([], [], 0, 0)
    for i, there in enumerate(grid[:_TITLES]):
        names, data = named(there), i + 1
        if not required & set(names):
            continue
        if data < len(grid) and set(map(plain, grid[data])) & (wanted - set(names)):
            there = [lower or upper for upper, lower in zip(there, grid[data], strict=True)]
            names, data = named(there), data + 1
        known = len(required & set(names))
        if known > best.known:
            best = _Header(names, there, data, known)
    return best


def sheets(path: Path) -> list[list[list[str]]]:
    """Return the cells of every non-empty sheet of an Excel file, as text, hidden sheets last.

    Raises:
        UnreadableError: The file is not a complete Excel file, is too large, or holds no cell.
    """
    try:
        with require_bytes(path).open("rb") as file:
            old = file.read(len(_OLD)) == _OLD
        if old:
            found = _old_sheets(path)
        else:
            require_workbook(path)
            with pd.ExcelFile(path, engine="calamine") as book:
                read = book.parse(sheet_name=None, header=None, dtype="str", na_filter=False)
                shown = {sheet.name for sheet in book.book.sheets_metadata if sheet.visible == SheetVisibleEnum.Visible}
            found = [read[name].to_numpy().tolist() for name in sorted(read, key=lambda name: name not in shown)]
    except UnreadableError:
        raise
    except Exception as error:  # on a damaged file the reader raises any error
        stop_if_short(error)
        raise UnreadableError(path, _NOT_READ.format(error)) from None
    filled = [[[_cell(cell) for cell in cells] for cells in sheet] for sheet in found if any(sheet)]
    if not filled:
        raise UnreadableError(path, "holds no cell")
    for grid in filled:
        refuse_zero_bytes(path, pd.DataFrame(grid, range(1, len(grid) + 1), range(1, len(grid[0]) + 1), dtype="str"))
    return filled


def _old_sheets(path: Path) -> list[list[list[str]]]:
    """Return the cells of every sheet of an .xls file, read by a process of its own with limits of memory and time.

    On a damaged one the reader may take all memory, or end its process.

    Raises:
        UnreadableError: The process ended with an error.
    """
    given = [sys.executable, "-P", "-c", _READ, str(path.absolute())]
    try:
        done = subprocess.run(given, capture_output=True, encoding="utf-8", check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise UnreadableError(path, _NOT_READ.format(f"not read in {_SECONDS} s")) from None
    if done.returncode:
        why = [
            line for line in done.stderr.splitlines() if "Error: " in line or "Exception: " in line or "memory" in line
        ]
        raise UnreadableError(path, _NOT_READ.format(short(why[-1], 200) if why else "its reader ended"))
    return json.loads(done.stdout)


def refuse_zero_bytes(path: Path, cells: pd.DataFrame) -> None:
    """Refuse a table with a zero byte, which no path may hold and which ends a text for other programs.

    Args:
        cells: the table, as text by row (from 1) and column.

    Raises:
        UnreadableError: A cell or the name of a column holds one.
    """
    for name, column in cells.items():
        held = column.str.contains("\0", regex=False, na=False)
        if "\0" in str(name) or held.any():
            where = f" in row {column.index[held][0]}" if held.any() else " in its name"
            raise UnreadableError(path, f"the column {name!r} holds a zero byte{where}: remove it", str(name))


def _delimited(path: Path) -> list[list[list[str]]]:
    """Return the cells of a delimited file, once for each delimiter."""
    text = read_text(path)
    grids = []
    why = ""
    for mark in DELIMITERS:
        try:
            rows = list(csv.reader(io.StringIO(text, None), delimiter=mark))
        except csv.Error as error:
            why = f" ({error})"
            continue  # this delimiter would leave a quote open
        width = max(map(len, rows), default=0)
        if width:
            require_shape(path, len(rows), width)
            grids.append([[_cell(cell) for cell in cells] + [""] * (width - len(cells)) for cells in rows])
    if not grids:
        raise UnreadableError(path, f"is empty, or not a text table{why}")
    return grids


def _cell(cell: object) -> str:
    return re.sub(r"^(-?\d+)\.0+$", r"\1", str(cell).strip())  # Excel's 46.0


def read_csv(path: Path) -> Listing:
    """Read a delimited file with a header, as text by line; lines of a different length become problems.

    Raises:
        UnreadableError: The file is not text or not CSV, or is too large.
    """
    text = read_text(path)
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=max(DELIMITERS, key=first.count))
    listing = Listing(pd.DataFrame(), str(path), unit="line")
    cells, lines, last = [], [], 0
    try:
        header = [cell.strip() for cell in next(reader, [])]
        require_shape(path, 1, len(header))
        last = reader.line_num
        for row in reader:
            line, last = last + 1, reader.line_num  # a quoted cell may span several lines
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                listing.problems.append((line, "", "", f"has {len(row)} cells, the header has {len(header)}"))
                continue
            cells.append(row)
            lines.append(line)
    except csv.Error as error:
        quote = ': is a quote (") never closed?' if reader.line_num > last + 1 or "limit" in str(error) else ""
        raise UnreadableError(path, f"the row that begins in line {last + 1} is not CSV: {error}{quote}") from None
    require_shape(path, len(cells), len(header))
    listing.rows = pd.DataFrame(cells, lines, header, dtype="str")
    return listing


def gather(extra: pd.DataFrame) -> pd.Series:
    """Gather the columns of each row in one JSON object, without empty cells."""
    records = extra.astype(object).where(extra.notna() & (extra != ""), None).to_dict("records")
    texts = [{name: value for name, value in record.items() if value is not None} for record in records]
    return pd.Series([json.dumps(text, ensure_ascii=False) if text else None for text in texts], extra.index, "str")
