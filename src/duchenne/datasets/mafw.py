"""MAFW (Liu et al., ACM MM 2022), the 11 single-label classes in five folds.

The benchmark's lists are ``single/no_caption``: the captioned ones lack every neutral clip. ``media``: ``frames`` (as
IFDD and MAE-DFER use them; default), ``clips`` (videos) or ``faces`` (crops, as DFER-CLIP makes them).
"""

from __future__ import annotations

from pathlib import Path

from duchenne.catalog import Dataset
from duchenne.datasets.clip_folds import FOLDS, read_folds
from duchenne.datasets.find import lists_of, plain, steps, walk
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.tables import read_list

FORMS = {"frames": "frames", "clips": "clips", "faces": "faces"}


def read(config: Dataset) -> Listing:
    """List the clips of ``Train & Test Set/single/no_caption/set_1 ... set_5``.

    Raises:
        UnreadableError: these lists, or the clips, are not there.
    """
    top, tables = _lists(lists_of(config)), {}
    for fold in FOLDS:
        folder = next((path for path in top.iterdir() if plain(path.name) == f"set{fold}"), top / f"set_{fold}")
        for part in ("train", "test"):
            path = folder / f"{part}.txt"
            if not path.is_file():
                raise UnreadableError(path, "is not there: each of set_1 to set_5 has train.txt and test.txt")
            table = read_list(path, ["clip", "label"])
            tables[fold, part] = path, table.assign(label=table["label"].str.lower())
    return read_folds(config, "mafw", tables, FORMS, line=str)


def _lists(root: Path) -> Path:
    """The folder that holds ``set_1`` of the benchmark's lists."""
    captioned = False
    for folder in walk(root):
        if not any(plain(name) == "set1" for name in folder.folders):
            continue
        way = steps(root, folder.path)
        if "withcaption" in way:
            captioned = True
        elif "compound" not in way:
            return root / folder.path
    problem = "there is no folder single/no_caption/set_1 (it may lie in 'Train & Test Set', 'split' or 'label')"
    hint = "; the with_caption lists have no neutral clips and are not the 11-class benchmark" if captioned else ""
    raise UnreadableError(root, problem + hint)
