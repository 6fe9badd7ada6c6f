"""Five-fold video sets (DFEW, MAFW): two lists of numbered clips per fold, and the clips' folders or videos.

Each clip is tested in one fold and trained on in all others, so the test lists are sufficient; the training lists are
compared with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from duchenne.datasets.find import choose, clips_by_number, find_folder, join, plain, within
from duchenne.datasets.listing import Findings, Listing, digest
from duchenne.datasets.settings import Dataset

FOLDS = range(1, 6)
NO_NAMES: Mapping[str, str] = MappingProxyType({})


def read_folds(
    config: Dataset,
    tables: Mapping[tuple[int, str], tuple[Path, pd.DataFrame]],
    videos: str,
    names: Mapping[str, str] = NO_NAMES,
) -> Listing:
    """List the clips of the test lists.

    Args:
        config: settings of the dataset; the samples' names begin with its layout.
        tables: (fold, ``train`` or ``test``) -> the list, with ``row``, ``clip`` (number as text) and ``label`` (as
            in the published digests).
        videos: the form of the clips (``media``) in which clips are files.
        names: form -> alternative plain name of its folder.
    """
    media, folder = _clips(config, names)
    top = tables[1, "test"][0].parents[1]
    listing = Listing(pd.DataFrame(), str(top), unit="line", findings=Findings(form=media))
    numbered = {key: _numbered(table, within(top, path), listing) for key, (path, table) in tables.items()}
    listing.findings.digests = {
        f"fold {fold} {part}": digest(f"{clip:05d}\t{label}" for clip, label in _pairs(table))
        for (fold, part), table in numbered.items()
    }
    tests = pd.concat([numbered[fold, "test"].assign(fold=fold) for fold in FOLDS], ignore_index=True)
    for fold in FOLDS:
        _compare(tests, numbered[fold, "train"], fold, listing)
    listing.rows = _placed(tests, config, videos, media, folder, listing).astype({"fold": "str"})
    listing.findings.recognised += [f"lists of five folds in {top}", f"{media} in {folder}"]
    return listing


def without_lists(
    config: Dataset, table: pd.DataFrame, path: Path, videos: str, names: Mapping[str, str] = NO_NAMES
) -> Listing:
    """List the clips of a single table (``row``, ``clip``, ``label``) without folds."""
    media, folder = _clips(config, names)
    listing = Listing(pd.DataFrame(), str(path), unit="row", findings=Findings(form=media))
    listing.rows = _placed(_numbered(table, "", listing), config, videos, media, folder, listing)
    listing.findings.recognised += [f"{path.name} alone, without the lists of the folds", f"{media} in {folder}"]
    return listing


def _clips(config: Dataset, names: Mapping[str, str]) -> tuple[str, str]:
    forms = config.facts.media
    folders = {
        form: find_folder(config.root, plain(form)) or (names.get(form) and find_folder(config.root, names[form]))
        for form in forms
    }
    return choose(config, folders, f"folder {', '.join(forms)}: unpack the clips here")


def _numbered(table: pd.DataFrame, file: str, listing: Listing) -> pd.DataFrame:
    """Return the rows whose clip is a number, with or without a video's file ending."""
    stem = table["clip"].str.replace(r"\.\w+$", "", regex=True)
    right = stem.str.fullmatch(r"[0-9]{1,9}")
    for row, text in table.loc[~right, ["row", "clip"]].itertuples(index=False):
        listing.problems.append((row, "clip", text, "is not a clip number", file))
    return table[right].assign(clip=stem[right].astype(int), file=file).reset_index(drop=True)


def _placed(
    rows: pd.DataFrame, config: Dataset, videos: str, media: str, folder: str, listing: Listing
) -> pd.DataFrame:
    """Replace the clips' numbers by sample and path; clips on the disk that no row names are noted."""
    there = clips_by_number(config.root, folder)
    missing = ".mp4" if media == videos else ""
    path = [there.get(clip) or join(folder, f"{clip:05d}{missing}") for clip in rows["clip"]]
    sample = [f"{config.layout}/{clip:05d}" for clip in rows["clip"]]
    listing.findings.extra += sorted(there[clip] for clip in set(there) - set(rows["clip"]))
    return rows.drop(columns="clip").assign(path=path, sample=sample)


def _pairs(table: pd.DataFrame) -> zip:
    return zip(table["clip"], table["label"], strict=True)


def _compare(tests: pd.DataFrame, train: pd.DataFrame, fold: int, listing: Listing) -> None:
    """Note where a fold's training list differs from the test lists of the other folds."""
    labels = tests.drop_duplicates("clip").set_index("clip")
    should = set(labels.index[labels["fold"] != fold])
    for row, clip, label, file in train[["row", "clip", "label", "file"]].itertuples(index=False):
        if clip not in labels.index:
            problem = "trains here, but tests in no fold"
        elif clip not in should:
            problem = f"trains and tests in fold {fold}"
        elif label != labels.at[clip, "label"]:
            problem = f"is {label} here, but {labels.at[clip, 'label']} in {labels.at[clip, 'file']}"
        else:
            continue
        listing.problems.append((row, "clip", f"{clip:05d}", problem, file))
    if absent := sorted(should - set(train["clip"])):
        names = ", ".join(f"{clip:05d}" for clip in absent[:5]) + (" ..." if absent[5:] else "")
        oddity = f"{len(absent)} clips of other folds do not train in fold {fold}: {names}"
        path = train["file"].iloc[0] if len(train) else f"fold {fold}"
        listing.findings.notes.append((None, "fold", path, oddity, "they train, as in the other folds"))
