"""Layout ``manifest``: a table that names every sample's path and label, as CSV, Excel or Parquet.

Columns: ``path`` (an image, a video or a folder of frames, relative to the root) and ``label`` are required; sample,
subject, source, split, fold, onset, apex, offset, fps, aus and the face box x0, y0, x1, y1 are understood, in upper or
lower case; ``columns`` in params.yaml says which column is which where the file names them otherwise. Columns
``votes_<emotion>`` hold how many annotators chose an emotion; ``label`` may then be left out, and the emotion with most
votes is the label. Every other column is kept in the index' ``factors``. An empty cell means that the value is unknown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from duchenne.datasets.bounds import BYTES, require_bytes, require_shape
from duchenne.datasets.listing import Listing, as_text
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import MANIFEST_COLUMNS, Dataset
from duchenne.datasets.tables import SHEETS, gather, read_csv, refuse_zero_bytes, sheets
from duchenne.errors import listed, nearest
from duchenne.media.pixel_tables import COLUMN as PIXELS
from duchenne.shortage import stop_if_short

VOTES = "votes_"
"""Prefix of columns that count the annotators who chose an emotion."""


def read_listing(config: Dataset) -> Listing:
    """List the rows of the manifest.

    Raises:
        UnreadableError: The manifest does not exist or is neither text, Excel nor Parquet, a required column is
            missing, or two columns have the same meaning.
    """
    path = config.root / config.manifest
    if path.exists() and not path.is_file():
        raise UnreadableError(path, "is not a file but a folder, a device, a pipe or a socket: name the table itself")
    if not path.is_file():
        hint = nearest(path.name, (item.name for item in path.parent.glob("*") if item.is_file()))
        raise UnreadableError(path, f"there is no such manifest{hint}")
    ending = path.suffix.lower()
    listing = _parquet(path) if ending == ".parquet" else _excel(path, config) if ending in SHEETS else read_csv(path)
    cells = listing.rows
    names = meanings(list(cells), config.columns, path)
    rows = pd.DataFrame({name: cells.iloc[:, i] for i, name in enumerate(names) if name in MANIFEST_COLUMNS})
    votes = {name.removeprefix(VOTES): cells.iloc[:, i] for i, name in enumerate(names) if name.startswith(VOTES)}
    extra = cells.iloc[:, [i for i, name in enumerate(names) if not name and cells.columns[i]]]
    if len(extra.columns):
        rows["factors"] = gather(extra)
    if votes:
        rows["votes"] = gather(pd.DataFrame(votes))
        words = rows["label"].str.strip() if "label" in rows else pd.Series("", rows.index, "str")
        rows["label"] = words.where(words.fillna("") != "", rows["votes"].map(elected, na_action="ignore"))
        tied = rows["label"] == TIED
        if tied.any():
            listing.leave_out("rows without a label, whose votes are equal for several emotions", int(tied.sum()))
            rows = rows[~tied]
    if config.splits and "split" in rows:
        parts = {word.strip().casefold(): part for word, part in config.splits.items()}
        word = rows["split"].str.strip()
        rows["split"] = word.str.casefold().map(parts).fillna(word)
    listing.rows = rows.assign(row=rows.index).reset_index(drop=True)
    return listing


def meanings(header: list[str], columns: Mapping[str, str], path: Path) -> list[str]:
    """Return the meaning of each column: a name of ``MANIFEST_COLUMNS``, ``votes_<emotion>``, or none ("").

    Args:
        header: names as in the file.
        columns: name in the file -> name here; overrides the meaning of the name itself.
        path: the file, for messages.

    Raises:
        UnreadableError: A name occurs twice, ``columns`` names a missing one, two mean the same, or one is missing.
    """
    if twice := sorted(name for name, n in Counter(header).items() if n > 1 and name):
        raise UnreadableError(path, f"the header names {', '.join(map(repr, twice))} more than once")
    for name in columns:
        if name not in header:
            hint = nearest(name, header) or f" (there are: {listed(header)})"
            raise UnreadableError(path, f"there is no column {name!r}, which datasets.*.columns names{hint}", name)
    names = [columns.get(name, "") for name in header]
    exact = {name for name in header if _known(name)}
    for i, name in enumerate(header):
        lower = name.lower()
        if names[i] or not _known(lower) or lower in columns.values() or (lower in exact and name != lower):
            continue
        names[i] = lower
    for name, n in Counter(filter(None, names)).items():
        if n > 1:
            same = [there for there, meant in zip(header, names, strict=True) if meant == name]
            advice = f"say which one to use: columns: {{{same[0]}: {name}}}"
            raise UnreadableError(path, f"{' and '.join(map(repr, same))} may both be {name!r}: {advice}", name)
    voted = any(name.startswith(VOTES) for name in names)
    for name in ("path", *(() if voted else ("label",))):
        if name not in names:
            hint = nearest(name, header) or f" (there are: {listed(header) or 'none'})"
            advice = f"name the column that has it, as columns: {{{_guess(header)}: {name}}}"
            if name == "path" and PIXELS in [there.strip().lower() for there in header]:
                advice = "this is FER2013's table of pixels, which layout: fer2013 reads"
            raise UnreadableError(path, f"the required column is missing{hint}; {advice}", column=name)
    return names


def _known(name: str) -> bool:
    return name in MANIFEST_COLUMNS or name.removeprefix(VOTES) not in ("", name)


def _guess(header: list[str]) -> str:
    return next(filter(None, header), "its_name")


TIED = "\0"
"""The label of a row whose votes name several emotions equally often."""


def elected(votes: str) -> str | None:
    """Return the word with most votes in the JSON text of a listing; :data:`TIED` for several, None without votes."""
    try:
        counts = {word: float(n) for word, n in json.loads(votes).items()}
    except ValueError:
        return None  # reported by the checks of all datasets
    most = max(counts.values(), default=0)
    first = [word for word, n in counts.items() if n == most]
    return None if most <= 0 else first[0] if len(first) == 1 else TIED


def _parquet(path: Path) -> Listing:
    """Read all columns of a Parquet file as text; rows are numbered from 1."""
    try:
        with pq.ParquetFile(require_bytes(path)) as file:
            table = _unpacked(path, file)
        rows = as_text(table.to_pandas(ignore_metadata=True))
    except (OSError, ValueError, pa.ArrowException) as error:
        stop_if_short(error)
        raise UnreadableError(path, f"is not a Parquet file, or is damaged: {error}") from None
    rows = rows.set_axis(range(1, len(rows) + 1))
    refuse_zero_bytes(path, rows)
    return Listing(rows, str(path))


def _unpacked(path: Path, file: pq.ParquetFile) -> pa.Table:
    """Read a Parquet file in steps: a few bytes can stand for billions of equal cells, however long these are."""
    facts = file.metadata
    require_shape(path, facts.num_rows, facts.num_columns)
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    if (size := sum(group.total_byte_size for group in groups)) > BYTES:
        raise UnreadableError(path, f"has {size / 1e6:,.0f} MB unpacked, over the limit of {BYTES / 1e6:,.0f} MB")
    for i in range(len(groups)):
        next(file.iter_batches(1, [i]), None)  # raises for damage at which group.column would end the process
    columns = [group.column(i) for group in groups for i in range(facts.num_columns)]
    longest = max((column.total_uncompressed_size for column in columns), default=1)
    batches, held = [], 0
    for batch in file.iter_batches(max(1, min(2**16, BYTES // max(1, longest)))):
        batches.append(batch)
        held += batch.nbytes
        if held > BYTES:
            raise UnreadableError(path, f"holds more than {BYTES / 1e6:,.0f} MB of text")
    return pa.Table.from_batches(batches, file.schema_arrow)


def _excel(path: Path, config: Dataset) -> Listing:
    """Read the first sheet whose first filled row names the columns; without one, report the first sheet's problem."""
    fault = None
    for grid in sheets(path):
        (_, header), *rows = [(i, cells) for i, cells in enumerate(grid, 1) if any(cells)] or [(0, [])]
        try:
            meanings(header, config.columns, path)
        except UnreadableError as error:
            fault = fault or error
            continue
        table = pd.DataFrame([cells for _, cells in rows], [i for i, _ in rows], header, dtype="str")
        return Listing(table, str(path))
    raise fault
