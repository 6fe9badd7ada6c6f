"""Conversion of a listing's text to typed rows; wrong cells are collected and reported together."""

from __future__ import annotations

import json
import posixpath
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from duchenne.datasets import problems
from duchenne.datasets.class_folders import SPLITS
from duchenne.datasets.index import as_schema
from duchenne.datasets.labels import Labels
from duchenne.datasets.listing import COLUMNS, Listing
from duchenne.datasets.sample_files import find_samples, linked_folders, respell, video_frames
from duchenne.datasets.settings import Dataset
from duchenne.errors import nearest
from duchenne.media.paths import below

FRAMES = ("onset", "apex", "offset")
BOX = ("x0", "y0", "x1", "y1")
FASTEST = 1_000_000
"""Frames per second that no camera exceeds (assumed)."""
FARTHEST = 1_000_000
"""Largest coordinate of a face box, px (chosen by us)."""
SAMPLE_COLUMN = "; where one video holds several expressions, add a column ``sample`` that names each of them"
_LARGEST = 2**53
"""Largest whole number that a float holds exactly."""


def check(listing: Listing, dataset: str, config: Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the usable rows, typed and sorted by sample, and the problems of the others.

    Rows whose label is ignored on purpose are counted in ``listing.left_out`` and not checked further.
    """
    text = _tidy(listing, config.root)
    noted = _Problems(text)
    text["emotion"] = _emotions(text["label"], Labels(dataset, config), noted)
    ignored = text["emotion"].isna() & ~text.index.isin(noted.rows)
    for word, n in text.loc[ignored, "label"].value_counts().items():
        listing.left_out[f"label {word!r} (ignore)"] = int(n)
    text = text[~ignored].copy()

    noted.note(text["path"].isna(), "path", "is empty")
    noted.note(text["sample"].isna() & text["path"].notna(), "sample", "is empty")
    text["split"] = _parts(text["split"], noted)
    for name in (*FRAMES, "fold"):
        text[name] = _whole(text[name], name, noted)
    for name in ("fps", *BOX):
        text[name] = _number(text[name], name, noted)
    noted.note(text["fold"] == 0, "fold", "is 0: folds count from 1")
    noted.note(text["fps"] <= 0, "fps", "must be above 0")
    noted.note((text["fps"] > FASTEST) & np.isfinite(text["fps"]), "fps", f"must not be above {FASTEST:,}")
    for first, second in (("onset", "apex"), ("apex", "offset"), ("onset", "offset")):
        late = (text[first] > text[second]).fillna(False)
        if late.any():
            pairs = text.loc[late, [first, second]].astype("str")
            noted.each(late, first, f"{first} " + pairs[first] + f" lies after {second} " + pairs[second])
    _boxes(text, noted)
    _note_alike(text, listing)
    text["votes"] = _votes(text["votes"], Labels(dataset, config), noted)
    found = _files(text, listing, config)
    noted.each(found["problem"].notna(), "path", found["problem"])
    named = "" if "sample" in listing.rows else SAMPLE_COLUMN
    _twice(text, ["sample"], listing.unit, noted, named)
    _twice(text, ["path", "onset", "offset"], listing.unit, noted)  # one long video may hold many expressions

    text = text.join(found[["kind", "numbers"]])
    _note_links(text[text["kind"].notna()], config, listing)
    text["first"], text["last"] = _span(text, listing)
    text["n_frames"] = _frames(text[text["kind"].isin(("frames", "video"))], config, listing, noted)

    good = text[~text.index.isin(noted.rows)].sort_values("sample")
    place = {name: i for i, name in enumerate(config.classes)}
    good = good.assign(
        label=good["emotion"].map(place),
        folds=[None if pd.isna(fold) else [fold] for fold in good["fold"]],
        box=[None if np.isnan(box).any() else box for box in good[list(BOX)].to_numpy(float)],
    )
    return as_schema(good), problems.frame(listing.problems + noted.records())


class _Problems:
    """Collects the problems of rows."""

    def __init__(self, text: pd.DataFrame) -> None:
        self.text = text[["row", "path", "file"]]
        self.rows: set[int] = set()
        self.notes: list[tuple[int, str, str]] = []

    def note(self, wrong: pd.Series, column: str, problem: str) -> None:
        """Add the same problem to every row where ``wrong`` is true."""
        for i in wrong.index[wrong.fillna(False).astype(bool)]:
            self.one(i, column, problem)

    def each(self, wrong: pd.Series, column: str, problem: pd.Series) -> None:
        """Add the row's own problem to every row where ``wrong`` is true."""
        for i in wrong.index[wrong.fillna(False).astype(bool)]:
            self.one(i, column, problem[i])

    def one(self, i: int, column: str, problem: str) -> None:
        """Add a problem to one row."""
        self.rows.add(i)
        self.notes.append((i, column, problem))

    def records(self) -> list[problems.Problem]:
        """Return all problems in the order of the rows."""
        text = self.text.loc[sorted(self.rows)]
        text = text.astype(object).where(text.notna(), None).fillna({"path": ""})
        rows, paths, files = (text[name].to_dict() for name in text)
        notes = sorted(self.notes, key=lambda note: note[0])
        return [(rows[i], column, paths[i], problem, files[i]) for i, column, problem in notes]


def _tidy(listing: Listing, root: Path) -> pd.DataFrame:
    """Return all columns with stripped cells, empty cells as missing, and paths from the root with forward slashes."""
    text = listing.rows.reindex(columns=list(COLUMNS)).astype("str")
    text = text.apply(lambda column: column.str.strip()).replace("", np.nan)
    text["path"] = text["path"].map(lambda path: below(root, path) or path, na_action="ignore")
    if "sample" not in listing.rows:
        text["sample"] = text["path"]
    return text.assign(
        row=pd.Series(listing.rows.get("row", pd.NA), text.index, "Int64"), file=listing.rows.get("file", "")
    )


def _emotions(words: pd.Series, labels: Labels, noted: _Problems) -> pd.Series:
    names: dict[str, str | None] = {}
    wrong: dict[str, str] = {}
    noted.note(words.isna(), "label", "is empty")
    for word in words.dropna().unique():
        try:
            names[word] = labels.emotion(word)
        except ValueError as error:
            wrong[word] = str(error)
    noted.each(words.isin(wrong), "label", words.map(wrong))
    return words.map(names)


def _parts(words: pd.Series, noted: _Problems) -> pd.Series:
    lower = words.str.lower()
    parts = lower.map(SPLITS)
    unknown = words[words.notna() & parts.isna()].unique()
    wrong = {word: f"{word!r} is none of train, val, test{nearest(word.lower(), SPLITS)}" for word in unknown}
    noted.each(words.isin(wrong), "split", words.map(wrong))
    return parts


def _number(words: pd.Series, column: str, noted: _Problems) -> pd.Series:
    if words.isna().all():  # most columns of most datasets
        return pd.Series(np.nan, words.index)
    numbers = pd.to_numeric(words, errors="coerce").astype(float)
    wrong = words.notna() & ~np.isfinite(numbers)
    noted.each(wrong, column, words[wrong].map(repr) + " is not a number")
    return numbers


def _whole(words: pd.Series, column: str, noted: _Problems) -> pd.Series:
    numbers = _number(words, column, noted)
    if numbers.isna().all():
        return numbers.astype("Int64")
    broken = np.isfinite(numbers) & (numbers % 1 != 0)
    noted.each(broken, column, words[broken].map(repr) + " is not a whole number")
    noted.each(numbers < 0, column, words[numbers < 0].map(repr) + " is negative")
    huge = np.isfinite(numbers) & (numbers > _LARGEST)
    noted.each(huge, column, words[huge].map(repr) + " is too large")
    return numbers.where(np.isfinite(numbers) & ~broken & (numbers >= 0) & ~huge).astype("Int64")


def _boxes(text: pd.DataFrame, noted: _Problems) -> None:
    box = text[list(BOX)]
    given = box.notna().sum(axis=1)
    noted.note(given.between(1, 3), "x0", "a face box needs all of x0, y0, x1, y1")
    flat = (box["x1"] - box["x0"] < 1) | (box["y1"] - box["y0"] < 1)
    noted.note(flat, "x0", "the face box is less than 1 px wide or high: x1 must lie right of x0, y1 below y0")
    noted.note((box.abs() > FARTHEST).any(axis=1), "x0", f"the face box is not within {FARTHEST:,} px: give px")


def _note_alike(text: pd.DataFrame, listing: Listing) -> None:
    """Add one note on people whose names only differ in what a reader does not see or a spreadsheet changes."""
    names = text["subject"].dropna().drop_duplicates()
    first = names.groupby(names.map(_alike)).transform("first")
    if not (odd := names[names != first]).empty:
        row, path = text.loc[odd.index[0], ["row", "path"]]
        oddity = f"{odd.iloc[0]!a} and {first[odd.index[0]]!a} differ in case, zeros, blanks or form of a sign alone"
        more = f" (and {len(odd) - 1:,} more names)" if len(odd) > 1 else ""
        advice = "read as two people, who may be on both sides of a split: spell them alike if they are one"
        listing.findings.notes.append((None if pd.isna(row) else int(row), "subject", path, oddity + more, advice))


def _alike(name: str) -> str:
    name = unicodedata.normalize("NFKC", name).casefold()
    seen = "".join(sign for sign in name if unicodedata.category(sign) not in ("Cf", "Zs"))
    return re.sub(r"(?<!\d)0+(?=\d)", "", seen)


def _files(text: pd.DataFrame, listing: Listing, config: Dataset) -> pd.DataFrame:
    """Return kind, numbers and problem of every row with a path.

    Paths in ``text`` are corrected where a file's ending differs only in upper and lower case.
    """
    columns = ["kind", "numbers", "problem"]
    paths = text["path"].dropna()
    if listing.kind:
        return pd.DataFrame({"kind": listing.kind, "numbers": None, "problem": None}, paths.index, dtype=object)
    found = pd.DataFrame(find_samples(config.root, paths.tolist()), paths.index, columns, dtype=object)
    lost = paths[found["kind"].isna()]
    respelt = lost.map(respell(config.root, lost.unique())).dropna()
    if len(respelt):
        text.loc[respelt.index, "path"] = respelt
        again = find_samples(config.root, respelt.tolist())
        found.loc[respelt.index, columns] = pd.DataFrame(again, respelt.index, columns, dtype=object)
        listed, there = lost[respelt.index[0]], respelt.iloc[0]
        oddity = f"is {there!r} on the disk: the ending of {len(respelt)} names differs in upper and lower case"
        listing.findings.notes.append((None, "path", listed, oddity, "read"))
    return found


def _votes(cells: pd.Series, labels: Labels, noted: _Problems) -> pd.Series:
    """Votes for each class, in their order; votes for ignored labels are dropped."""
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
    noted.each(cells.isin(wrong), "votes", cells.map(wrong))
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


def _note_links(text: pd.DataFrame, config: Dataset, listing: Listing) -> None:
    """Add one note on links to folders, because DVC follows only links to files."""
    folders = text["path"].where(text["kind"] == "frames", text["path"].map(posixpath.dirname))
    if linked := linked_folders(config.root, folders):
        more = f" (and {len(linked) - 1} more are)" if len(linked) > 1 else ""
        oddity = f"is a link to a folder{more}: `dvc repro` does not notice changes behind it"
        advice = "read; `cp -rs` (a link for each file) or `cp -rl` (hard links) in its place is noticed"
        listing.findings.notes.append((None, "path", linked[0], oddity, advice))


def _span(text: pd.DataFrame, listing: Listing) -> tuple[pd.Series, pd.Series]:
    """First and last frame of each sample: onset and offset if both are known, unless the sample is the whole file."""
    cut = text["onset"].notna() & text["offset"].notna() & (text["kind"] != "image") & (not listing.whole)
    return text["onset"].where(cut), text["offset"].where(cut)


def _frames(text: pd.DataFrame, config: Dataset, listing: Listing, noted: _Problems) -> pd.Series:
    """Number of frames of each clip; a missing annotated frame is a problem (a missing offset: a note).

    Videos are counted only where frames are annotated.
    """
    counts: dict[object, int | None] = {}
    marked = text[text["kind"] == "video"].set_index("path")[list(FRAMES)].max(axis=1).groupby("path").max().dropna()
    videos = {path: video_frames(config.root / path, int(number)) for path, number in marked.items()}
    told = {i for i, column, _ in noted.notes if column in FRAMES}
    odd: dict[str, list[tuple[int | None, str, str]]] = {}
    for row in text[~text.index.isin(told)].itertuples():
        there, where = row.numbers, None if pd.isna(row.row) else int(row.row)
        if row.kind == "video":
            there = None if videos.get(row.path) is None else range(videos[row.path])  # a header may say billions
            counts[row.Index] = None if pd.isna(row.first) else row.last - row.first + 1
        else:
            inside = there if pd.isna(row.first) else there[(there >= row.first) & (there <= row.last)]
            counts[row.Index] = len(inside)
            if oddity := _irregular(inside):
                odd.setdefault(oddity[0], []).append((where, row.path, oddity[1]))
        for name in FRAMES:
            number = getattr(row, name)
            if there is None or pd.isna(number) or number in there:
                continue
            what = f"frame {number} is not there: {_around(int(number), there)}"
            if name == "offset":
                listing.findings.notes.append((where, name, row.path, what, "kept"))
            else:
                noted.one(row.Index, name, what)
                listing.findings.missing.append(f"{row.path} (frame {number})")
    for clips in odd.values():
        where, path, oddity = clips[0]
        more = f"; likewise {len(clips) - 1} more clips" if len(clips) > 1 else ""
        listing.findings.notes.append((where, "frames", path, oddity + more, "kept"))
    return pd.Series(counts, text.index, "Int64")


def _irregular(numbers: np.ndarray) -> tuple[str, str] | None:
    """Kind and description of an oddity in a clip's frame numbers; a regular step, such as every second, is none."""
    if len(numbers) == 1:
        return "one", f"has frame {numbers[0]} alone"
    steps = np.diff(numbers)
    if not len(steps) or steps.min() == steps.max():
        return None
    gap = int(steps.argmax())
    return "gap", f"the numbers of its frames have gaps: {numbers[gap]} is followed by {numbers[gap + 1]}"


def _around(number: int, there: np.ndarray | range) -> str:
    """Describe which frames exist around a missing one."""
    if not len(there):
        return "the video has none"
    if number < there[0]:
        hint = ": are the annotated numbers counted from 0?" if (number, there[0]) == (0, 1) else ""
        return f"the first is {there[0]}{hint}"
    if number > there[-1]:
        return f"the last is {there[-1]}"
    place = np.searchsorted(there, number)
    return f"{there[place - 1]} is followed by {there[place]}"


def _twice(text: pd.DataFrame, columns: list[str], unit: str, noted: _Problems, advice: str = "") -> None:
    """Keep the first of several equal rows; each further one becomes a problem that names it."""
    known = text[text[columns[0]].notna()]
    again = known.duplicated(columns)
    if not again.any():
        return
    first = known.groupby(columns, dropna=False)["row"].transform("first")
    names = known.groupby(columns, dropna=False)["path"].transform("first")
    files = known.groupby(columns, dropna=False)["file"].transform("first")
    lines = f"{unit} " + first.astype("str") + files.where(files == "", " of " + files)
    where = names.where(first.isna(), lines)
    noted.each(again, columns[0], "the same " + columns[0] + " as in " + where.astype("str") + advice)
