"""From the text of a listing to typed rows; every cell that is wrong is collected, none stops the others."""

from __future__ import annotations

import json
import posixpath

import numpy as np
import pandas as pd

from duchenne.catalog import Dataset, nearest
from duchenne.datasets import files, problems
from duchenne.datasets.folder import SPLITS
from duchenne.datasets.index import as_schema
from duchenne.datasets.labels import Labels
from duchenne.datasets.listing import COLUMNS, Listing

FRAMES = ("onset", "apex", "offset")
BOX = ("x0", "y0", "x1", "y1")
SAMPLE_COLUMN = "; where one video holds several expressions, add a column ``sample`` that names each of them"
_LARGEST = 2**53
"""Whole number that a float holds exactly."""


def check(listing: Listing, dataset: str, config: Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that can be used, typed and sorted by sample, and the problems of the others.

    Rows whose label is ignored on purpose are counted in ``listing.left_out`` and not looked at further.
    """
    text = _tidy(listing)
    book = _Book(text)
    text["emotion"] = _emotions(text["label"], Labels(dataset, config), book)
    ignored = text["emotion"].isna() & ~text.index.isin(book.rows)
    for word, n in text.loc[ignored, "label"].value_counts().items():
        listing.left_out[f"label {word!r} (ignore)"] = int(n)
    text = text[~ignored].copy()

    book.note(text["path"].isna(), "path", "is empty")
    book.note(text["sample"].isna() & text["path"].notna(), "sample", "is empty")
    text["split"] = _parts(text["split"], book)
    for name in (*FRAMES, "fold"):
        text[name] = _whole(text[name], name, book)
    for name in ("fps", *BOX):
        text[name] = _number(text[name], name, book)
    book.note(text["fold"] == 0, "fold", "is 0: folds count from 1")
    book.note(text["fps"] <= 0, "fps", "must be above 0")
    for first, second in (("onset", "apex"), ("apex", "offset"), ("onset", "offset")):
        late = text[first] > text[second]
        pairs = text.loc[late.fillna(False), [first, second]].astype("str")
        book.each(late, first, f"{first} " + pairs[first] + f" lies after {second} " + pairs[second])
    _boxes(text, book)
    text["votes"] = _votes(text["votes"], Labels(dataset, config), book)
    found = _files(text, listing, config)
    book.each(found["problem"].notna(), "path", found["problem"])
    named = "" if "sample" in listing.rows else SAMPLE_COLUMN
    _twice(text, ["sample"], listing.unit, book, named)
    _twice(text, ["path", "onset", "offset"], listing.unit, book)  # one long video may hold many expressions

    good = text[~text.index.isin(book.rows)].join(found[["kind", "n_frames"]]).sort_values("sample")
    place = {name: i for i, name in enumerate(config.classes)}
    good = good.assign(
        label=good["emotion"].map(place),
        folds=[None if pd.isna(fold) else [fold] for fold in good["fold"]],
        box=[None if np.isnan(box).any() else box for box in good[list(BOX)].to_numpy(float)],
    )
    return as_schema(good), problems.frame(listing.problems + book.records())


class _Book:
    """Notes what is wrong with which row."""

    def __init__(self, text: pd.DataFrame) -> None:
        self.text = text[["row", "path", "file"]]
        self.rows: set[int] = set()
        self.notes: list[tuple[int, str, str]] = []

    def note(self, wrong: pd.Series, column: str, problem: str) -> None:
        """The same problem in every row where ``wrong`` is true."""
        self.each(wrong, column, pd.Series(problem, wrong.index))

    def each(self, wrong: pd.Series, column: str, problem: pd.Series) -> None:
        """A problem of its own in every row where ``wrong`` is true."""
        index = wrong.index[wrong.fillna(False).astype(bool)]
        self.rows.update(index)
        self.notes += [(i, column, problem[i]) for i in index]

    def records(self) -> list[problems.Problem]:
        """Every problem in the order of the rows."""
        text = self.text.loc[sorted(self.rows)]
        text = text.astype(object).where(text.notna(), None).fillna({"path": ""})
        rows, paths, files = (text[name].to_dict() for name in text)
        notes = sorted(self.notes, key=lambda note: note[0])
        return [(rows[i], column, paths[i], problem, files[i]) for i, column, problem in notes]


def _tidy(listing: Listing) -> pd.DataFrame:
    """All columns, cells without spaces around them, empty cells missing, paths with forward slashes."""
    text = listing.rows.reindex(columns=list(COLUMNS)).astype("str")
    text = text.apply(lambda column: column.str.strip()).replace("", np.nan)
    slashed = text["path"].str.replace("\\", "/")
    text["path"] = slashed.map(posixpath.normpath, na_action="ignore")
    if "sample" not in listing.rows:
        text["sample"] = text["path"]
    return text.assign(
        row=pd.Series(listing.rows.get("row", pd.NA), text.index, "Int64"), file=listing.rows.get("file", "")
    )


def _emotions(words: pd.Series, labels: Labels, book: _Book) -> pd.Series:
    names: dict[str, str | None] = {}
    book.note(words.isna(), "label", "is empty")
    for word in words.dropna().unique():
        try:
            names[word] = labels.emotion(word)
        except ValueError as error:
            book.note(words == word, "label", str(error))
    return words.map(names)


def _parts(words: pd.Series, book: _Book) -> pd.Series:
    lower = words.str.lower()
    parts = lower.map(SPLITS)
    for word in words[words.notna() & parts.isna()].unique():
        book.note(words == word, "split", f"{word!r} is none of train, val, test{nearest(word.lower(), SPLITS)}")
    return parts


def _number(words: pd.Series, column: str, book: _Book) -> pd.Series:
    numbers = pd.to_numeric(words, errors="coerce").astype(float)
    wrong = words.notna() & ~np.isfinite(numbers)
    book.each(wrong, column, words[wrong].map(repr) + " is not a number")
    return numbers


def _whole(words: pd.Series, column: str, book: _Book) -> pd.Series:
    numbers = _number(words, column, book)
    broken = np.isfinite(numbers) & (numbers % 1 != 0)
    book.each(broken, column, words[broken].map(repr) + " is not a whole number")
    book.each(numbers < 0, column, words[numbers < 0].map(repr) + " is negative")
    huge = np.isfinite(numbers) & (numbers > _LARGEST)
    book.each(huge, column, words[huge].map(repr) + " is too large")
    return numbers.where(np.isfinite(numbers) & ~broken & (numbers >= 0) & ~huge).astype("Int64")


def _boxes(text: pd.DataFrame, book: _Book) -> None:
    box = text[list(BOX)]
    given = box.notna().sum(axis=1)
    book.note(given.between(1, 3), "x0", "a face box needs all of x0, y0, x1, y1")
    flat = (box["x1"] <= box["x0"]) | (box["y1"] <= box["y0"])
    book.note(flat, "x0", "the face box has no area: x1 must lie right of x0, y1 below y0")


def _files(text: pd.DataFrame, listing: Listing, config: Dataset) -> pd.DataFrame:
    """kind, n_frames and problem of every row with a path; ``text`` gets the path of a file whose ending is there in
    upper or lower case only."""
    columns = ["kind", "n_frames", "problem"]
    paths = text["path"].dropna()
    found = pd.DataFrame(files.look(config.root, paths.tolist(), listing.trusted), paths.index, columns)
    lost = paths[found["kind"].isna()]
    respelt = lost.map(files.respell(config.root, lost.unique())).dropna()
    if len(respelt):
        text.loc[respelt.index, "path"] = respelt
        again = files.look(config.root, respelt.tolist(), listing.trusted)
        found.loc[respelt.index, columns] = pd.DataFrame(again, respelt.index, columns)
        listed, there = lost[respelt.index[0]], respelt.iloc[0]
        oddity = f"is {there!r} on the disk: the ending of {len(respelt)} names differs in upper and lower case"
        listing.findings.notes.append((None, "path", listed, oddity, "read"))
    return found


def _votes(cells: pd.Series, labels: Labels, book: _Book) -> pd.Series:
    """Votes for each of the classes, in their order; those for labels that are ignored count for none."""
    given = cells.dropna()
    if given.empty:
        return cells
    texts: dict[str, list[float] | None] = {}
    wrong: dict[str, str] = {}
    for text in given.unique():
        try:
            texts[text] = _distribution(json.loads(text), labels)
        except ValueError as error:
            wrong[text] = str(error)
    book.each(cells.isin(wrong), "votes", cells.map(wrong))
    return cells.map(texts).astype(object)


def _distribution(votes: dict[str, str], labels: Labels) -> list[float]:
    counts = dict.fromkeys(labels.classes, 0.0)
    for word, cell in votes.items():
        number = pd.to_numeric(cell, errors="coerce")
        if not (np.isfinite(number) and number >= 0):
            raise ValueError(f"{cell!r} for {word!r} is not a number of votes")
        if (emotion := labels.emotion(word)) is not None:
            counts[emotion] += float(number)
    if not any(counts.values()):
        raise ValueError("none is for any of the classes")
    return list(counts.values())


def _twice(text: pd.DataFrame, columns: list[str], unit: str, book: _Book, advice: str = "") -> None:
    """The first of several equal rows stays; each further one names it."""
    known = text[text[columns[0]].notna()]
    again = known.duplicated(columns)
    if not again.any():
        return
    first = known.groupby(columns, dropna=False)["row"].transform("first")
    names = known.groupby(columns, dropna=False)["path"].transform("first")
    files = known.groupby(columns, dropna=False)["file"].transform("first")
    lines = f"{unit} " + first.astype("str") + files.where(files == "", " of " + files)
    where = names.where(first.isna(), lines)
    book.each(again, columns[0], "the same " + columns[0] + " as in " + where.astype("str") + advice)
