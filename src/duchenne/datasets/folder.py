"""Layout ``folder``: ``root/<split>/<class>/**/file`` or, without official parts, ``root/<class>/**/file``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from duchenne.datasets.find import descend, join, wanted
from duchenne.datasets.listing import Listing
from duchenne.datasets.settings import Dataset
from duchenne.media.paths import broken, is_image, is_video

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Folder or cell, in lower case -> part."""


def read(config: Dataset) -> Listing:
    """List the images and videos of a class-folder tree; anything else is counted and passed over.

    Archives are often unpacked one level too deep: while a folder holds one folder alone and that is no part, the
    samples are looked for inside it.
    """
    return list_tree(config.root, _unwrap(config.root))


def list_tree(root: Path, top: Path) -> Listing:
    """The images and videos below ``top``, a folder somewhere below ``root`` that holds the parts or classes."""
    parts = {folder.name for folder in _folders(top) if folder.name.lower() in SPLITS}
    listing = Listing(pd.DataFrame(), str(root))
    rows: list[tuple[str, str, str | None]] = []
    others = 0
    for path, entry in _files(root, top):
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


def _unwrap(folder: Path) -> Path:
    inside = _folders(folder)
    if len(inside) != 1 or inside[0].name.lower() in SPLITS:
        return folder
    if any(is_image(item.name) or broken(item) for item in folder.iterdir()):
        return folder
    loop = folder.resolve().is_relative_to(inside[0].resolve())
    return folder if loop else _unwrap(inside[0])


def _folders(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_dir() and wanted(item.name))


def _files(root: Path, top: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All files below ``top`` in order, with their paths from ``root``; links to folders are followed."""
    for here, _, others in descend(root, top.relative_to(root).as_posix()):
        yield from ((join(here, entry.name), entry) for entry in others)
