"""MAFW (Liu et al., ACM MM 2022) in five folds: the 11 single-label classes, or all 43 with the compound ones.

The benchmark's lists are ``single/no_caption`` (label set ``mafw``) and ``compound/no_caption`` (``mafw_43``): the
captioned ones lack every neutral clip. ``media``: ``frames`` (as IFDD and MAE-DFER use them; default), ``clips``
(videos) or ``faces`` (crops, as DFER-CLIP makes them).
"""

from __future__ import annotations

from pathlib import Path

from duchenne.datasets.clip_folds import FOLDS, read_folds
from duchenne.datasets.find import find_file, lists_of, plain, steps, walk
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TEXTS, read_list

VIDEOS = "clips"
"""The form in which clips are files."""
LISTS = {"mafw": "single", "mafw_43": "compound"}
"""Label set -> folder of its lists."""


def read_listing(config: Dataset) -> Listing:
    """List the clips of ``Train & Test Set/single/no_caption/set_1 ... set_5``, or of ``compound``.

    Raises:
        UnreadableError: The lists or the clips do not exist.
    """
    top, tables = _lists(lists_of(config), LISTS[config.label_set]), {}
    for fold in FOLDS:
        folder = next((path for path in sorted(top.iterdir()) if plain(path.name) == f"set{fold}"), None)
        for part in ("train", "test"):
            path = folder and find_file(folder, part, TEXTS)
            if path is None:
                problem = "is not there: each of set_1 to set_5 has train.txt and test.txt"
                raise UnreadableError(top / f"set_{fold}/{part}.txt", problem)
            table = read_list(path, ["clip", "label"])
            tables[fold, part] = path, table.assign(label=table["label"].str.lower())
    return read_folds(config, tables, VIDEOS)


def _lists(root: Path, kind: str) -> Path:
    """Find the folder with ``set_1`` of the lists without captions; a folder that names no kind counts as single."""
    captioned = False
    for folder in walk(root):
        if not any(plain(name) == "set1" for name in folder.folders):
            continue
        way = steps(root, folder.path)
        if "withcaption" in way:
            captioned = True
        elif kind == ("compound" if "compound" in way else "single"):
            return root / folder.path
    problem = f"there is no folder {kind}/no_caption/set_1 (it may lie in 'Train & Test Set', 'split' or 'label')"
    hint = "; the with_caption lists have no neutral clips and are not the benchmark" if captioned else ""
    raise UnreadableError(root, problem + hint)
