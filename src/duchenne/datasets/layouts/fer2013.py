"""FER2013 (Goodfellow et al., ICONIP 2013), and FER+ (Barsoum et al., ICMI 2016), which relabels its images.

``root`` holds ``fer2013.csv`` (emotion, pixels, Usage; Kaggle's ``icml_face_data.csv`` is the same), whose 48 x 48 grey
images are read from their rows. For FER+ (label set ``ferplus``) ``fer2013new.csv`` lies beside it, with the votes of
ten annotators in the same order; or its images, as the owners' script writes them: ``FER2013Train/fer0000000.png`` with
``FER2013Train/label.csv``, and so for ``FER2013Valid`` and ``FER2013Test``. Kaggle's tree of images,
``train/<emotion>`` and ``test/<emotion>``, is read for FER2013; its test part is both of the competition's.

Training, PublicTest and PrivateTest are train, val and test.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from duchenne.datasets.class_folders import find_parts, read_parts
from duchenne.datasets.find import find_file, find_files, find_folder, join, lists_of, plain, within
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import read_list, read_text
from duchenne.media.pixel_tables import COLUMN, place

USAGE = {"training": "train", "publictest": "val", "privatetest": "test"}
"""The owners' parts, in lower case -> our names."""
FOLDERS = {"train": "fer2013train", "val": "fer2013valid", "test": "fer2013test"}
"""Part -> plain name of its folder in FER+'s tree."""
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "nf")
"""Columns of the votes, in the owners' order; ``nf``: not a face."""


class _Row(NamedTuple):
    """A row of a table of pixels."""

    line: int
    cells: dict[str, str]
    """plain name of the column -> text"""


def read_listing(config: Dataset) -> Listing:
    """List the images of FER2013, or those that FER+ gives a label.

    Raises:
        UnreadableError: A table or a column is missing, or the tables of FER2013 and FER+ do not match.
    """
    tables = [path for stem in ("fer2013", "icmlfacedata") for path in find_files(config.root, stem, (".csv",))]
    table = next(filter(_is_pixels, tables), None)
    if config.label_set == "ferplus":
        return _ferplus(config, table)
    if table is not None:
        return _fer2013(config, table)
    if (top := find_parts(config.root)) is None:
        raise UnreadableError(config.root, "there is neither fer2013.csv nor train/<emotion>, test/<emotion>")
    listing = read_parts(config.root, top)
    listing.rows["sample"] = "fer2013/" + listing.rows["path"].str.rpartition(".")[0]
    listing.findings.edition = "tree"
    listing.findings.recognised.append("Kaggle's tree: its test part is PublicTest and PrivateTest together")
    return listing


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[_Row]:
    """Yield the rows of a table one by one; FER2013's is 300 MB.

    Args:
        columns: plain names of the required columns.

    Raises:
        UnreadableError: The file is not UTF-8 text, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = next(reader, [])
            names = [plain(name) for name in header]
            for name in columns:
                if name not in names:
                    raise UnreadableError(
                        path, f"the column {name!r} is missing (there are: {', '.join(header)})", name
                    )
            for cells in reader:
                if any(cells):
                    yield _Row(reader.line_num, dict(zip(names, cells, strict=False)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableError(path, f"is not a table of pixels in UTF-8: {error}") from None


def _is_pixels(path: Path) -> bool:
    """Whether a file is the table of images, not that of FER+, whose name begins in the same way."""
    with path.open("rb") as file:
        return COLUMN.encode() in file.readline(1000).lower()


def _images(config: Dataset, table: Path, listing: Listing) -> pd.DataFrame:
    """Read row (the line), label, split and path of every image; rows of another size are problems without path."""
    name, records = within(config.root, table), []
    for line, cells in _rows(table, ("emotion", COLUMN, "usage")):
        if (n := cells.get(COLUMN, "").strip().count(" ") + 1) != 48 * 48:
            listing.problems.append((line, COLUMN, place(name, line), f"holds {n} pixels, expected 48 x 48"))
            records.append(None)
            continue
        usage = cells.get("usage", "").strip()
        records.append((line, cells.get("emotion", "").strip(), USAGE.get(usage.lower(), usage), place(name, line)))
    listing.kind = "image"
    listing.findings.recognised.append(f"table {name}: 48 x 48 grey pixels, enlarged to faces.size")
    listing.findings.counts["rows of the table"] = len(records)
    missing = (0, None, None, None)
    return pd.DataFrame([record or missing for record in records], columns=["row", "label", "split", "path"])


def _fer2013(config: Dataset, table: Path) -> Listing:
    listing = Listing(pd.DataFrame(), str(table), unit="line")
    rows = _images(config, table, listing).dropna(subset="path")
    listing.rows = rows.assign(sample=[f"fer2013/{line:05d}" for line in rows["row"]])
    return listing


def _ferplus(config: Dataset, table: Path | None) -> Listing:
    lists = lists_of(config)
    folders = {part: find_folder(config.root, name) for part, name in FOLDERS.items()}
    if table is None and None in folders.values():
        expected = "fer2013.csv beside fer2013new.csv, nor FER2013Train, FER2013Valid and FER2013Test"
        raise UnreadableError(config.root, f"there is neither {expected}")
    if table is None:
        return _as_written(config, folders)
    path = find_file(lists, "fer2013new", (".csv",))
    if path is None:
        raise UnreadableError(lists, "there is no fer2013new.csv, the votes of FER+")
    listing = Listing(pd.DataFrame(), str(path), unit="line")
    images = _images(config, table, listing)
    names = ("imagename", *VOTES)
    cells = [(line, *(row.get(name, "").strip() for name in names)) for line, row in _rows(path, names)]
    votes = pd.DataFrame(cells, columns=["row", "name", *VOTES])
    if len(votes) != len(images):
        problem = f"has {len(votes)} rows, {within(config.root, table)} {len(images)}: they must be the same images"
        raise UnreadableError(path, problem)
    named = votes["name"] != ""
    listing.findings.recognised.append(f"votes {path.name}")
    listing.findings.counts |= {"rows of the votes": len(votes), "of them with an image name": int(named.sum())}
    listing.leave_out("images that FER+ removed (they have no name)", int((~named).sum()))
    rows = pd.concat([votes, images[["split", "path"]]], axis=1)[named & images["path"].notna()].reset_index(drop=True)
    again = rows["name"].duplicated()
    for row, name in rows.loc[again, ["row", "name"]].itertuples(index=False):
        listing.findings.notes.append((row, "name", name, "is also the name of an earlier image", "both are used"))
    rows["sample"] = "ferplus/" + rows["name"].str.rpartition(".")[0] + ("~" + rows["row"].astype(str)).where(again, "")
    listing.rows = _elected(rows, listing)
    return listing


def _as_written(config: Dataset, folders: Mapping[str, str | None]) -> Listing:
    """Read the images and lists written by the owners' script: name, optionally the whole image as a box, votes."""
    listing, tables = Listing(pd.DataFrame(), str(config.root), unit="line"), []
    for part, folder in folders.items():
        path = config.root / folder / "label.csv"
        if not path.is_file():
            raise UnreadableError(path, "there is no such list: FER+ has one in each of its three folders")
        table = _label_list(path).assign(split=part, file=within(config.root, path))
        table["path"] = [join(folder, name) for name in table["name"]]
        tables.append(table)
    rows = pd.concat(tables, ignore_index=True)
    overwritten = rows["path"].duplicated(keep="last")
    for row, file in rows.loc[overwritten, ["row", "path"]].itertuples(index=False):
        oddity = "is named again further down, and the script overwrote it with that image"
        listing.findings.notes.append((row, "name", file, oddity, "left out"))
    listing.leave_out("images that others of the same name replaced", int(overwritten.sum()))
    listing.findings.recognised.append("images and lists as the owners' script writes them, enlarged to faces.size")
    listing.findings.counts["of them with an image name"] = len(rows)
    rows = rows[~overwritten].reset_index(drop=True)
    listing.rows = _elected(rows.assign(sample="ferplus/" + rows["name"].str.rpartition(".")[0]), listing)
    return listing


def _label_list(path: Path) -> pd.DataFrame:
    text = read_text(path)
    if '"(' not in text:
        return read_list(path, ["name", *VOTES])
    columns, rows = ["name", "box", *VOTES], []
    try:
        for line, cells in enumerate(csv.reader(io.StringIO(text)), 1):
            if len(cells) != len(columns):
                there = f"has {len(cells)} cells, expected {len(columns)} ({', '.join(columns)})"
                raise UnreadableError(path, f"line {line} {there}")
            rows.append((line, *cells))
    except csv.Error as error:
        raise UnreadableError(path, f"is not a comma-separated table: {error}") from None
    return pd.DataFrame(rows, columns=["row", *columns], dtype="str").drop(columns="box").astype({"row": int})


def _elected(rows: pd.DataFrame, listing: Listing) -> pd.DataFrame:
    """Return the rows with votes and the label of the owners' code in its mode ``majority``.

    A single vote counts as a mistake and is dropped; the label needs more than half of the remaining votes.
    ``unknown`` and ``nf`` are ignored by the label set; the index keeps the original votes.
    """
    numbers = rows[list(VOTES)].apply(pd.to_numeric, errors="coerce")
    wrong = ~np.isfinite(numbers).all(axis=1) | (numbers < 0).any(axis=1)
    for row, name in rows.loc[wrong, ["row", "name"]].itertuples(index=False):
        listing.problems.append((row, "votes", name, f"a cell is not a number of votes ({', '.join(VOTES)})"))
    rows, numbers = rows[~wrong], numbers[~wrong]
    kept = numbers.where(numbers > 1, 0)
    undecided = kept.max(axis=1) <= 0.5 * kept.sum(axis=1)
    listing.leave_out("images without a majority: no emotion has over half of the votes", int(undecided.sum()))
    votes = [json.dumps(dict(zip(VOTES, cells, strict=True))) for cells in numbers.itertuples(index=False)]
    rows = rows.assign(label=kept.idxmax(axis=1), votes=votes).drop(columns=[*VOTES, "name"])
    return rows[~undecided].reset_index(drop=True)
