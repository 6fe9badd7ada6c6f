"""DFEW (Jiang et al., ACM MM 2020), single-labelled clips in five folds.

``media``: ``clip_224x224_16f`` (aligned faces, 16 frames per clip, as IFDD uses them; default), ``clip_224x224`` (all
frames) or ``original`` (videos).
"""

from __future__ import annotations

from duchenne.datasets.clip_folds import FOLDS, read_folds, without_lists
from duchenne.datasets.find import find_file, find_folder, lists_of
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TABLES, read_table, refuse_zero

VIDEOS = "original"
"""The form in which clips are files."""
NAMES = {"clip_224x224_16f": "clip224x16f"}
"""Form -> plain name of its folder in some archives."""


def read_listing(config: Dataset) -> Listing:
    """List the clips of ``EmoLabel_DataSplit`` or, without it, of ``annotation.xlsx`` (or .csv), without folds.

    Raises:
        UnreadableError: Neither exists, or a list of a fold or the clips are missing.
    """
    lists, tables = lists_of(config), {}
    folders = {
        part: find_folder(lists, f"{part}singlelabeled") or find_folder(lists, "emolabeldatasplit", part)
        for part in ("train", "test")
    }
    if folders["test"] is None and (path := find_file(lists, "annotation", TABLES)):
        table = read_table(path, ["order", "label"]).rename(columns={"order": "clip"})
        return without_lists(config, table, path, VIDEOS, NAMES)
    for part, folder in folders.items():
        if folder is None:
            raise UnreadableError(lists, f"there is no folder EmoLabel_DataSplit/{part}(single-labeled)")
        for fold in FOLDS:
            path = find_file(lists / folder, f"set{fold}", TABLES)
            if path is None:
                raise UnreadableError(lists / folder, f"there is no set_{fold}.csv")
            table = read_table(path, ["video_name", "label"]).rename(columns={"video_name": "clip"})
            refuse_zero(path, table, config)
            tables[fold, part] = path, table
    return read_folds(config, tables, VIDEOS, NAMES)
