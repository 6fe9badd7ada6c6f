"""Trees of class folders, with or without official parts, for the layouts whose folders are the labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from duchenne.datasets.find import descend, join, walk, wanted
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError
from duchenne.media.paths import broken, is_image, is_video

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Folder or cell, in lower case -> part."""


def list_tree(root: Path, top: Path) -> Listing:
    """List the images and videos below ``top``, the folder below ``root`` that holds the parts or classes."""
    parts = {folder.name for folder in subfolders(top) if folder.name.lower() in SPLITS}
    listing = Listing(pd.DataFrame(), str(root))
    rows: list[tuple[str, str, str | None]] = []
    others = 0
    for path, entry in _files(root, top):
        if (name := os.fsencode(path).decode("utf-8", "backslashreplace")) != path:
            problem = "has a name, or lies in a folder with one, that is not UTF-8 text: rename it"
            listing.problems.append((None, "path", name, problem))
            continue
        if not (is_image(entry.name) or is_video(entry.name)):
            if why := broken(entry.path):
                listing.problems.append((None, "path", path, why))
            else:
                others += 1
            continue
        steps = list(PurePosixPath(path).relative_to(top.relative_to(root).as_posix()).parts[:-1])
        split = None
        if parts:
            if not steps or steps[0] not in parts:
                problem = f"lies in none of the parts {sorted(parts)} that stand beside it"
                listing.problems.append((None, "split", path, problem))
                continue
            split = SPLITS[steps.pop(0).lower()]
        if not steps:
            listing.problems.append((None, "label", path, "lies in no class folder"))
            continue
        rows.append((path, steps[0], split))
    if others:
        listing.left_out["files that are neither image nor video"] = others
    listing.rows = pd.DataFrame(rows, columns=["path", "label", "split"], dtype="str")
    return listing


def find_parts(root: Path) -> str | None:
    """Find the folder nearest to the root that holds ``train`` and a part to evaluate on."""
    for folder in walk(root):
        if {"train"} < {SPLITS.get(name.lower()) for name in folder.folders} - {None}:
            return folder.path
    return None


def read_parts(root: Path, top: str) -> Listing:
    """List the images below ``top``, each with its part.

    The sets have two parts. POSTER++'s code calls the second ``valid`` and reports on it, so without a ``test`` folder
    it is the test part.

    Raises:
        UnreadableError: There is no image.
    """
    listing = list_tree(root, root / top)
    if listing.rows.empty:
        raise UnreadableError(root / top, "its parts hold no image in a class folder")
    parts = set(listing.rows["split"])
    second = "test"
    if "test" not in parts:
        listing.rows["split"] = listing.rows["split"].replace("val", "test")
        second = "valid (as the test part)"
    listing.findings.recognised.append(f"class-folder tree in {top}: train and {second}")
    return listing


def subfolders(folder: Path) -> list[Path]:
    """List the subfolders that belong to the dataset, by name."""
    return sorted(item for item in folder.iterdir() if item.is_dir() and wanted(item.name))


def _files(root: Path, top: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all files below ``top`` in order, with their paths from ``root``; links to folders are followed."""
    for here, _, others in descend(root, top.relative_to(root).as_posix()):
        yield from ((join(here, entry.name), entry) for entry in others)
