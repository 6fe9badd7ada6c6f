"""RAF-DB, basic emotions (Li, Deng and Du, CVPR 2017): the owners' list, or POSTER++'s class-folder tree.

The list names ``train_00001.jpg 5``; the aligned image is ``train_00001_aligned.jpg``. The part is the name's prefix.
``media``: ``aligned`` (100 x 100, default) or ``original``. ``Annotation/manual``, if it is there, has what annotators
saw in each picture: gender, race and age, which become factors.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from duchenne.datasets.bounds import require_bytes
from duchenne.datasets.class_folders import find_parts, read_parts
from duchenne.datasets.find import choose, find_first, find_folder, join, lists_of, media_names
from duchenne.datasets.listing import Listing, digest
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TEXTS, read_list, refuse_zero

STEMS = ("listpatitionlabel", "listpartitionlabel")
"""Names of the list, the owners' spelling first."""

ATTRIBUTES = {
    "gender": {"0": "male", "1": "female", "2": "unsure"},
    "race": {"0": "Caucasian", "1": "African-American", "2": "Asian"},
    "age": {"0": "0-3", "1": "4-19", "2": "20-39", "3": "40-69", "4": "70+"},
}
"""Attribute -> its values by their codes, which are the last three lines of ``*_manu_attri.txt``."""


def read_listing(config: Dataset) -> Listing:
    """List the images of the owners' list or, without it, of ``train/<class>`` and ``valid/<class>`` (or ``test``).

    Raises:
        UnreadableError: Neither exists, or the list is that of the compound emotions, which has the same name.
    """
    lists = lists_of(config)
    path = find_first(lists, STEMS, TEXTS, without="compound")
    if path is None:
        if (top := find_parts(config.root)) is None:
            expected = "EmoLabel/list_patition_label.txt (owners) nor train/<class>, valid/<class> (POSTER++)"
            raise UnreadableError(lists, f"there is neither {expected}")
        listing = read_parts(config.root, top)
        refuse_zero(config.root / top, listing.rows, config)
        listing.rows["sample"] = "raf_db/" + listing.rows["path"].map(_stem)
        return _with_digests(listing, config)

    table = read_list(path, ["name", "label"])
    if (compound := table[table["label"].isin([str(code) for code in range(8, 12)])]).size:
        row, code = compound.iloc[0][["row", "label"]]
        raise UnreadableError(path, f"line {row} has code {code}: this is the list of the compound emotions")
    refuse_zero(path, table, config)
    folders = {name: find_folder(config.root, name) for name in config.facts.media}
    media, folder = choose(config, folders, "folder Image/aligned or Image/original: unpack the images beside EmoLabel")
    there = {_stem(name): name for name in media_names(config.root / folder)}
    suffix = "_aligned.jpg" if media == "aligned" else ".jpg"
    stem = table["name"].map(_stem)
    rows = pd.DataFrame(
        {
            "row": table["row"],
            "sample": "raf_db/" + stem,
            "path": [join(folder, there.pop(name, name + suffix)) for name in stem],
            "label": table["label"],
            "split": stem.str.partition("_")[0],
        }
    )
    listing = Listing(rows, str(path), unit="line")
    listing.findings.recognised += [f"the owners' list {path.name}", f"{media} images in {folder}"]
    listing.findings.extra += sorted(join(folder, name) for name in there.values())
    _add_attributes(listing, config.root, stem)
    return _with_digests(listing, config)


def _add_attributes(listing: Listing, root: Path, stems: pd.Series) -> None:
    """Add the annotators' gender, race and age of each image to its factors; images without them are unknown."""
    folder = find_folder(root, "annotation", "manual")
    if folder is None:
        return
    found = {stem: _attributes(root / folder / f"{stem}_manu_attri.txt") for stem in stems}
    listing.rows["factors"] = pd.Series(
        [json.dumps(found[stem]) if found[stem] else None for stem in stems], listing.rows.index, "str"
    )
    known = sum(map(bool, found.values()))
    words = f"gender, race and age of {known:,} of {len(stems):,} images in {folder}"
    listing.findings.recognised.append(words)


def _attributes(path: Path) -> dict[str, str]:
    """Return the attributes of one image; empty without its file, or if it does not end in three known codes."""
    try:
        lines = require_bytes(path).read_text(encoding="ascii", errors="replace").split()
    except FileNotFoundError:
        return {}
    codes = lines[-len(ATTRIBUTES) :] if len(lines) >= len(ATTRIBUTES) else []
    if not all(code in words for code, words in zip(codes, ATTRIBUTES.values(), strict=False)):
        return {}
    return {name: words[code] for (name, words), code in zip(ATTRIBUTES.items(), codes, strict=False)}


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0].removesuffix("_aligned")


def _with_digests(listing: Listing, config: Dataset) -> Listing:
    codes = {emotion: code for code, emotion in config.labels.items()}
    label = listing.rows["label"].str.casefold().replace(codes)
    lines = listing.rows["sample"].str.removeprefix("raf_db/") + "\t" + label
    listing.findings.digests = {part: digest(group) for part, group in lines.groupby(listing.rows["split"])}
    return listing
