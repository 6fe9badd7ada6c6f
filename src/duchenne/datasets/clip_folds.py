"""Five-fold video sets (DFEW, MAFW): lists of numbered clips, two a fold, and the clips' folders or videos.

Each clip tests in one fold and trains in all others, so the test lists say everything; the training lists are compared
with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from duchenne.catalog import Dataset
from duchenne.datasets.find import choose, clips_by_number, find_folder, join
from duchenne.datasets.listing import Listing, digest

FOLDS = range(1, 6)


def read_folds(
    config: Dataset,
    prefix: str,
    tables: Mapping[tuple[int, str], tuple[Path, pd.DataFrame]],
    forms: Mapping[str, str],
    line: Callable[[str], str],
) -> Listing:
    """The clips of the test lists.

    Args:
        config: of the dataset.
        prefix: of the samples' names.
        tables: (fold, ``train`` or ``test``) -> the list and its ``row``, ``clip`` (number as text) and ``label``.
        forms: form of the clips (``media``) -> plain name of its folder, the default first.
        line: label -> its spelling in the published digests.
    """
    folders = {form: find_folder(config.root, name) for form, name in forms.items()}
    media, folder = choose(config, folders, f"folder {', '.join(forms)}: unpack the clips here")
    listing = Listing(pd.DataFrame(), str(tables[1, "test"][0].parent), unit="line")
    numbered = {key: _numbered(table, path, listing) for key, (path, table) in tables.items()}
    listing.findings.digests = {
        f"fold {fold} {part}": digest(f"{clip:05d}\t{line(label)}" for clip, label in _pairs(table))
        for (fold, part), table in numbered.items()
    }
    tests = pd.concat([numbered[fold, "test"].assign(fold=fold) for fold in FOLDS], ignore_index=True)
    for fold in FOLDS:
        _compare(tests, numbered[fold, "train"], fold, tables[fold, "train"][0], listing)

    there = clips_by_number(config.root, folder)
    missing = ".mp4" if media in ("original", "clips") else ""
    tests["path"] = [there.get(clip) or join(folder, f"{clip:05d}{missing}") for clip in tests["clip"]]
    tests["sample"] = [f"{prefix}/{clip:05d}" for clip in tests["clip"]]
    listing.rows = tests.drop(columns="clip").astype({"fold": "str"})
    unlisted = set(there) - set(tests["clip"])
    listing.findings.extra += sorted(there[clip] for clip in unlisted)
    listing.findings.recognised += [f"lists of five folds in {tables[1, 'test'][0].parents[1]}", f"{media} in {folder}"]
    return listing


def without_lists(config: Dataset, prefix: str, table: pd.DataFrame, path: Path, forms: Mapping[str, str]) -> Listing:
    """The clips of one table of all (``row``, ``clip``, ``label``), which belong to no fold."""
    folders = {form: find_folder(config.root, name) for form, name in forms.items()}
    media, folder = choose(config, folders, f"folder {', '.join(forms)}: unpack the clips here")
    listing = Listing(pd.DataFrame(), str(path), unit="row")
    rows = _numbered(table, path, listing)
    there = clips_by_number(config.root, folder)
    rows["path"] = [there.get(clip, join(folder, f"{clip:05d}")) for clip in rows["clip"]]
    rows["sample"] = [f"{prefix}/{clip:05d}" for clip in rows["clip"]]
    listing.rows = rows.drop(columns="clip")
    listing.findings.recognised += [f"{path.name} alone, without the lists of the folds", f"{media} in {folder}"]
    return listing


def _numbered(table: pd.DataFrame, path: Path, listing: Listing) -> pd.DataFrame:
    stem = table["clip"].str.replace(r"\.\w+$", "", regex=True)
    right = stem.str.fullmatch(r"[0-9]{1,9}")
    for row, text in table.loc[~right, ["row", "clip"]].itertuples(index=False):
        listing.problems.append((row, "clip", str(path), f"{text!r} is no clip's number"))
    return table[right].assign(clip=stem[right].astype(int)).reset_index(drop=True)


def _pairs(table: pd.DataFrame) -> zip:
    return zip(table["clip"], table["label"], strict=True)


def _compare(tests: pd.DataFrame, train: pd.DataFrame, fold: int, path: Path, listing: Listing) -> None:
    """Note where a fold's training list is not what the test lists of the other folds say."""
    labels = tests.drop_duplicates("clip").set_index("clip")
    should = set(labels.index[labels["fold"] != fold])
    for row, clip, label in train[["row", "clip", "label"]].itertuples(index=False):
        if clip not in labels.index:
            problem = "trains here, but tests in no fold"
        elif clip not in should:
            problem = f"trains and tests in fold {fold}"
        elif label != labels.at[clip, "label"]:
            problem = f"is {label} here, but {labels.at[clip, 'label']} in the test list of its fold"
        else:
            continue
        listing.problems.append((row, "clip", f"{clip:05d} in {path}", problem))
    if absent := sorted(should - set(train["clip"])):
        names = ", ".join(f"{clip:05d}" for clip in absent[:5]) + (" ..." if absent[5:] else "")
        oddity = f"{len(absent)} clips of other folds do not train in fold {fold}: {names}"
        listing.findings.notes.append((None, "fold", str(path), oddity, "they train, as in the other folds"))
