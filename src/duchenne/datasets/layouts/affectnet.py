"""AffectNet (Mollahosseini, Hasani and Mahoor, 2017), manually annotated images, in four forms.

- ``train_set/{images,annotations}``, ``val_set/...``: faces cropped to 224 x 224, one ``<id>_exp.npy`` per image;
- ``Manually_Annotated_file_lists/{training,validation}.csv``: whole pictures with face boxes (``faces.mode: boxes``);
- ``train_set/train_annotations_7class.txt`` (or 8), ``valid_set/valid_...``: the lists that POSTER's code reads;
- ``train/<class>``, ``valid/<class>``: the tree that POSTER++'s code reads.

The labels of the test images are not public: papers test on the owners' validation part, which is our ``test``.
"""

from __future__ import annotations

import ast
import io
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from duchenne.datasets.bounds import require_shape
from duchenne.datasets.class_folders import find_parts, read_parts
from duchenne.datasets.find import (
    find_file,
    find_first,
    find_folder,
    join,
    lists_of,
    media_names,
    plain,
    wanted,
    within,
)
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import read_list
from duchenne.errors import nearest
from duchenne.media.paths import is_regular
from duchenne.shortage import stop_if_short

PARTS = {"train": ("trainset",), "test": ("valset", "validset", "validationset")}
CSV = {"train": "training", "test": "validation"}
COLUMNS = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression")
AFFECT = ("valence", "arousal")
_LARGEST = 4096  # maximum bytes read of an annotation file, which has about 140
NO_VALUE = -2
"""Value of valence and arousal that means none."""


def read_listing(config: Dataset) -> Listing:
    """List the images of the release that is found.

    Raises:
        UnreadableError: No release is found, or one of its files is missing or cannot be read.
    """
    if find_file(lists_of(config), "training", (".csv",)):
        return _csv_release(config)
    if _part(config.root, "train"):
        return _cropped_release(config)
    if top := find_parts(config.root):
        listing = read_parts(config.root, top)
        listing.rows["sample"] = "affectnet/" + listing.rows["path"].str.rpartition(".")[0]
        return listing
    expected = "train_set/images, Manually_Annotated_file_lists/training.csv or train/<class>"
    raise UnreadableError(config.root, f"there is none of {expected}: unpack AffectNet here")


def _part(root: Path, part: str) -> str | None:
    return next(filter(None, (find_folder(root, name, "images") for name in PARTS[part])), None)


def _cropped_release(config: Dataset) -> Listing:
    listing = Listing(pd.DataFrame(), str(config.root), unit="line")
    tables = []
    for part in PARTS:
        images = _part(config.root, part)
        if images is None:
            raise UnreadableError(config.root, "there is train_set/images, but no val_set/images or valid_set/images")
        folder = next(filter(None, (find_folder(config.root, name, "annotations") for name in PARTS[part])), None)
        there = {name.rpartition(".")[0]: name for name in media_names(config.root / images)}
        table = _npy_codes(config.root, folder, listing) if folder else _listed_codes(config, images, part)
        table["path"] = [join(images, there.pop(name, f"{name}.jpg")) for name in table["id"]]
        tables.append(table.assign(split=part, sample=f"affectnet/{part}/" + table["id"]).drop(columns="id"))
        how = "annotations in one .npy file per image" if folder else "POSTER's text list"
        listing.findings.recognised.append(f"{part} part in {Path(images).parent}: cropped faces, {how}")
        listing.findings.extra += sorted(join(images, name) for name in there.values())
    listing.rows = pd.concat(tables, ignore_index=True).astype({"row": "Int64"})
    return listing


def _npy_codes(root: Path, folder: str, listing: Listing) -> pd.DataFrame:
    """Return row (missing), id and label of every annotation file; an unreadable file is a problem."""
    with os.scandir(root / folder) as entries:
        found = [entry for entry in entries if entry.name.endswith("_exp.npy") and wanted(entry.name)]
        names = sorted(entry.name for entry in found if is_regular(entry))
    for name in sorted({entry.name for entry in found} - set(names)):
        listing.problems.append((None, "label", f"{folder}/{name}", "is not a file, or a broken link"))
    codes = []
    for name in tqdm(names, desc=f"annotations in {folder}", unit="file", delay=3, leave=False):
        try:
            codes.append((None, name.removesuffix("_exp.npy"), str(read_code(f"{root}/{folder}/{name}"))))
        except ValueError as error:
            listing.problems.append((None, "label", f"{folder}/{name}", f"holds no expression code: {error}"))
    return pd.DataFrame(codes, columns=["row", "id", "label"])


def read_code(path: str) -> int:
    """Read the whole number in an ``_exp.npy`` file: one value, as a number or text.

    ``numpy.load`` would parse every header again. The files of a class are identical byte for byte, so nearly all of
    them need no parsing here. Pickled objects are not opened.

    Raises:
        ValueError: The file holds anything else, or cannot be read.
    """
    try:
        with io.FileIO(path) as file:
            return _code(file.read(_LARGEST))
    except (OSError, IndexError, KeyError, TypeError, SyntaxError, RecursionError) as error:
        stop_if_short(error)
        raise ValueError(str(error)) from None


@lru_cache(maxsize=64)
def _code(data: bytes) -> int:
    if data[:6] != b"\x93NUMPY":
        raise ValueError("no .npy file")
    length, start = (2, 10) if data[6] == 1 else (4, 12)
    start += int.from_bytes(data[8 : 8 + length], "little")
    header = data[data.index(b"{") : start].decode("latin-1").strip()
    kind = np.dtype(ast.literal_eval(header)["descr"])
    if kind.hasobject:
        raise ValueError("a pickled object, which is not opened")
    if len(data) != start + kind.itemsize:
        raise ValueError(f"{len(data) - start} bytes of values, expected one of {kind.itemsize}")
    value = float(np.frombuffer(data, kind, offset=start)[0])
    if value % 1:
        raise ValueError(f"{value} is not a whole number")
    return int(value)


def _listed_codes(config: Dataset, images: str, part: str) -> pd.DataFrame:
    """Read row, id and label of POSTER's list of one part for one number of classes: ``<id>.jpg <code>``."""
    ending = f"annotations{len(config.classes)}class"
    folder = config.root / Path(images).parent
    names = ("train",) if part == "train" else ("valid", "val")
    path = find_first(folder, [name + ending for name in names], (".txt",))
    if path is None:
        name = f"{'train' if part == 'train' else 'valid'}_annotations_{len(config.classes)}class.txt"
        raise UnreadableError(folder, f"there is neither a folder annotations nor {name}")
    table = read_list(path, ["id", "label"])
    return table.assign(id=table["id"].str.rpartition(".")[0], file=within(config.root, path))


def _csv_release(config: Dataset) -> Listing:
    media = find_folder(config.root, "manuallyannotatedimages")
    if media is None:
        raise UnreadableError(config.root, "there is no folder Manually_Annotated_Images: unpack all its parts here")
    lists, tables = lists_of(config), []
    for part, stem in CSV.items():
        path = find_file(lists, stem, (".csv",))
        if path is None:
            raise UnreadableError(lists, f"there is no {stem}.csv")
        tables.append(_csv_part(path, media).assign(split=part, file=path.name))
    listing = Listing(pd.concat(tables, ignore_index=True), str(lists), unit="line")
    listing.findings.edition = "csv"
    listing.findings.recognised += [
        "lists training.csv and validation.csv: whole pictures with face boxes (set faces.mode: boxes)",
        f"pictures in {media}",
    ]
    return listing


def _csv_part(path: Path, media: str) -> pd.DataFrame:
    """Read a list with pandas' parser: the 136 landmarks of each row make files of hundreds of megabytes."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        delimiter = max(",;\t", key=header.count)
        there = [name.strip().strip('"') for name in header.split(delimiter)]
        require_shape(path, 1, len(there))
        names = {plain(name): i for i, name in enumerate(there)}
        if missing := [name for name in COLUMNS if plain(name) not in names]:
            hint = nearest(missing[0], there) or f" (there are: {', '.join(there)})"
            raise UnreadableError(path, f"the column {missing[0]!r} is missing{hint}", missing[0])
        places = {names[plain(name)]: name for name in (*COLUMNS, *AFFECT) if plain(name) in names}
        table = pd.read_csv(
            path, usecols=list(places), header=0, names=[places.get(i, i) for i in range(len(there))], dtype="str",
            encoding="utf-8-sig", sep=delimiter, skipinitialspace=True, skip_blank_lines=False,
        )  # fmt: skip
    except ValueError as error:  # pandas raises several kinds
        raise UnreadableError(path, f"is not a comma-separated table in UTF-8: {error}") from None
    table["row"] = range(2, len(table) + 2)
    table = table[table["subDirectory_filePath"].notna()]
    x, y, width, height = (pd.to_numeric(table[name], errors="coerce") for name in COLUMNS[1:5])
    name = table["subDirectory_filePath"].str.strip().str.replace("\\", "/")
    rows = pd.DataFrame(
        {
            "row": table["row"],
            "sample": "affectnet/" + name,
            "path": media + "/" + name,
            "label": table["expression"].str.strip().str.replace(r"\.0+$", "", regex=True),
            "factors": _factors(table),
        }
    )
    box = {"x0": x, "y0": y, "x1": x + width, "y1": y + height}
    return rows.assign(**{name: values.astype("str").where(values.notna()) for name, values in box.items()})


def _factors(table: pd.DataFrame) -> pd.Series:
    """Return valence and arousal as JSON, without the values that mean none."""
    texts = []
    for name in AFFECT:
        values = pd.to_numeric(table.get(name, pd.Series(np.nan, table.index)), errors="coerce")
        known = np.isfinite(values) & (values != NO_VALUE)
        texts.append((f'"{name}": ' + values.astype("str")).where(known, ""))
    joined = (texts[0] + "," + texts[1]).str.strip(",")
    return ("{" + joined + "}").where(joined != "", None)
