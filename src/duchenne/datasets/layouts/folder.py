"""Layout ``folder``: ``root/<split>/<class>/**/file`` or, without official parts, ``root/<class>/**/file``."""

from __future__ import annotations

from pathlib import Path

from duchenne.datasets.class_folders import SPLITS, list_tree, subfolders
from duchenne.datasets.listing import Listing
from duchenne.datasets.settings import Dataset
from duchenne.media.paths import broken, is_image


def read_listing(config: Dataset) -> Listing:
    """List the images and videos of a class-folder tree; other files are counted and skipped.

    Archives are often unpacked one level too deep: while a folder holds only one folder and that is not a part, the
    samples are searched inside it.
    """
    return list_tree(config.root, _unwrap(config.root))


def _unwrap(folder: Path) -> Path:
    inside = subfolders(folder)
    if len(inside) != 1 or inside[0].name.lower() in SPLITS:
        return folder
    if any(is_image(item.name) or broken(item) for item in folder.iterdir()):
        return folder
    loop = folder.resolve().is_relative_to(inside[0].resolve())
    return folder if loop else _unwrap(inside[0])
