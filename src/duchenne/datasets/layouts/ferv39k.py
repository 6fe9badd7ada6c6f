"""FERV39k (Wang et al., CVPR 2022): clips of 22 scenes as folders of face frames, with one official test part.

The lists end in ``.csv`` but have blanks and no header: ``Action/Happy/0267 Happy``. Clip numbers start again in each
scene and emotion.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd

from duchenne.datasets.find import find_file, join, lists_of, plain, walk, wanted, within
from duchenne.datasets.listing import Listing, digest
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TEXTS, read_list


def read_listing(config: Dataset) -> Listing:
    """List the clips of ``4_setups/All_scenes/train_All.csv`` and ``test_All.csv``.

    Raises:
        UnreadableError: A list or the folder of scenes does not exist.
    """
    lists, tables = lists_of(config), []
    listing = Listing(pd.DataFrame(), str(lists), unit="line")
    for part in ("train", "test"):
        path = find_file(lists, f"{part}all", TEXTS)
        if path is None:
            expected = f"4_setups/All_scenes/{part}_All.csv"
            raise UnreadableError(lists, f"there is no {expected}: unpack it here or set datasets.*.annotations")
        table = read_list(path, ["clip", "label"])
        table["clip"] = table["clip"].str.replace("\\", "/").str.strip("/").map(_below_the_scenes)
        listing.findings.digests[part] = digest(table["clip"] + "\t" + table["label"])
        listing.findings.recognised.append(f"list {path}")
        tables.append(table.assign(split=part, file=within(lists, path)))
    table = pd.concat(tables, ignore_index=True)
    top = _top(config.root, set(table["clip"].str.partition("/")[0]))
    scene_emotion = table["clip"].str.split("/", expand=True).reindex(columns=range(3))
    wrong = scene_emotion[1].ne(table["label"]) | scene_emotion[2].isna()
    for row, clip, label, file in table.loc[wrong, ["row", "clip", "label", "file"]].itertuples(index=False):
        problem = f"is {label}, but lies in another folder of <Scene>/<Emotion>/<NNNN>"
        listing.problems.append((row, "label", clip, problem, file))
    listing.rows = pd.DataFrame(
        {
            "row": table["row"],
            "sample": "ferv39k/" + table["clip"],
            "path": [join(top, clip) for clip in table["clip"]],
            "label": table["label"],
            "split": table["split"],
            "file": table["file"],
            "factors": [json.dumps({"scene": scene}) for scene in scene_emotion[0]],
        }
    )[~wrong]
    listing.findings.recognised.append(f"face frames in {top}")
    listing.findings.extra += _unlisted(config, top, set(table["clip"]))
    return listing


def _below_the_scenes(clip: str) -> str:
    """Return ``<Scene>/<Emotion>/<NNNN>``, without the leading folders of some lists (``2_ClipsforFaceCrop/``)."""
    return "/".join(clip.split("/")[-3:])


def _top(root: Path, scenes: set[str]) -> str:
    """Find the folder of the scenes; if there are whole frames and face crops, that of the crops."""
    found = [folder.path for folder in walk(root) if scenes & set(folder.folders)]
    if not found:
        raise UnreadableError(root, f"there is no folder of scenes (2_ClipsforFaceCrop/{min(scenes)} ...)")
    return next((path for path in found if "facecrop" in plain(path)), found[0])


def _unlisted(config: Dataset, top: str, listed: set[str]) -> list[str]:
    folders = {clip.rpartition("/")[0] for clip in listed}
    there = (f"{folder}/{name}" for folder in sorted(folders) for name in _subfolders(config.root / top / folder))
    return [join(top, clip) for clip in there if clip not in listed]


def _subfolders(place: Path) -> list[str]:
    if not place.is_dir():
        return []
    with os.scandir(place) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and wanted(entry.name))
