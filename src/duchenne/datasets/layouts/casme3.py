"""CAS(ME)^3, part A (Li et al., TPAMI 2023): spontaneous micro-expressions in long videos, 30 frames per second.

The table (``cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx``) names 860 expressions in 462 videos. ``media``: ``clips``
(``Part_A_ME_clip``: the frames of each expression in ``frame/spNo.1_a_355``, default) or ``videos`` (``part_A``: the
whole videos in ``spNO.1/a/color``, of which the frames from onset to offset are read). Depth maps are not read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from duchenne.datasets.find import choose, find_files, find_first, join, lists_of, steps, walk
from duchenne.datasets.listing import Listing
from duchenne.datasets.micro import complete_annotations, read_codes
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TABLES

SUBJECT = r"sp[ ._-]*no[ ._-]*\d+"
CLIP = SUBJECT + r"_[a-z0-9]+_\d+"
"""Name of a clip's folder: subject, video and onset; the table writes ``spNO``, folders ``spNo``."""
STEMS = ("casme3partamelabeljpgindexv2", "casme3partamelabel")
"""Plain beginnings of the table's name, the later edition first."""
FPS = "30"


def read_listing(config: Dataset) -> Listing:
    """List the rows of the table.

    Raises:
        UnreadableError: The table or the frames do not exist, or a column is missing.
    """
    lists = lists_of(config)
    path = find_first(lists, STEMS, TABLES)
    if path is None:
        others = [other.name for other in find_files(lists, "casme3", TABLES)]
        hint = f" ({', '.join(others)} is another table)" if others else ""
        raise UnreadableError(lists, f"there is no cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx{hint}")
    table = read_codes(path, "Objective class")
    expected = "folder Part_A_ME_clip/frame/spNo.1_a_355 or part_A/spNO.1/a/color: unpack one here"
    form, folder = choose(config, _folders(config.root), expected)
    listing = Listing(pd.DataFrame(), str(path))
    empty = table[["subject", "clip", "onset"]].eq("")
    for column in empty:
        for row, clip in table.loc[empty[column], ["row", "clip"]].itertuples(index=False):
            listing.problems.append((row, column, clip, "is empty"))
    table = table[~empty.any(axis=1)].reset_index(drop=True)
    video = table["clip"].str.lower()
    sample = "casme3/" + table["subject"] + "/" + video + "/" + table["onset"]
    listing.findings.recognised += [f"table {path.name}", f"{form} in {folder}"]
    listing.findings.counts |= {"rows of the table": len(table), "videos": len(set(table["subject"] + video))}
    listing.rows = table.drop(columns=["clip", "Objective class"]).assign(
        sample=sample,
        path=_paths(config.root, folder, form, table["subject"], video, table["onset"]),
        subject="casme3/" + table["subject"],
        fps=FPS,
    )
    _end_at_the_apex(listing)
    listing = complete_annotations(listing, config)
    objective = dict(zip(sample, table["Objective class"], strict=True))
    listing.rows["factors"] = [
        json.dumps(json.loads(text if isinstance(text, str) else "{}") | {"objective_class": objective[name]})
        for name, text in zip(listing.rows["sample"], listing.rows["factors"], strict=True)
    ]
    return listing


def _folders(root: Path) -> dict[str, str | None]:
    """Map each form to the folder of its clips or subjects."""
    there: dict[str, str | None] = {"clips": None, "videos": None}
    for folder in walk(root):
        if {"depth", "video"} & set(steps(root, folder.path)[1:]):
            continue
        for form, pattern in (("clips", CLIP), ("videos", SUBJECT)):
            if there[form] is None and any(re.fullmatch(pattern, name, re.IGNORECASE) for name in folder.folders):
                there[form] = folder.path
    return there


def _paths(root: Path, folder: str, form: str, subject: pd.Series, video: pd.Series, onset: pd.Series) -> list[str]:
    """Return the paths of the frames of each expression; names of folders are compared without case."""
    if form == "clips":
        there = _subfolders(root / folder)
        names = subject + "_" + video + "_" + onset
        return [join(folder, there.get(name.lower(), name)) for name in names]
    subjects = _subfolders(root / folder)
    videos: dict[str, dict[str, str]] = {}
    paths = []
    for who, which in zip(subject, video, strict=True):
        top = join(folder, subjects.get(who.lower(), who))
        if top not in videos:
            videos[top] = _subfolders(root / top)
        paths.append(f"{top}/{videos[top].get(which, which)}/color")
    return paths


def _subfolders(place: Path) -> dict[str, str]:
    """Map the name in lower case to the name of every subfolder."""
    return {item.name.lower(): item.name for item in place.iterdir() if item.is_dir()} if place.is_dir() else {}


def _end_at_the_apex(listing: Listing) -> None:
    """Replace an offset before the onset (the table has two zeros) by the apex."""
    frames = listing.rows[["onset", "apex", "offset"]].apply(pd.to_numeric, errors="coerce")
    wrong = (frames["offset"] < frames["onset"]) & (frames["apex"] >= frames["onset"])
    for i in listing.rows.index[wrong]:
        row, path, offset, apex = listing.rows.loc[i, ["row", "path", "offset", "apex"]]
        listing.findings.notes.append((row, "offset", path, f"{offset} lies before the onset", f"{apex}, the apex"))
        listing.rows.at[i, "offset"] = apex
