"""Class-folder trees of official parts: ``train/<class>`` beside ``test``, ``valid`` or ``val``, whichever there is."""

from __future__ import annotations

from pathlib import Path

from duchenne.datasets.find import walk
from duchenne.datasets.folder import SPLITS, list_tree
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError


def find_parts(root: Path) -> str | None:
    """The folder nearest to the root that holds ``train`` and a part to evaluate on."""
    for folder in walk(root):
        if {"train"} < {SPLITS.get(name.lower()) for name in folder.folders} - {None}:
            return folder.path
    return None


def read_parts(root: Path, top: str) -> Listing:
    """The images below ``top``, each in its part.

    The sets have two parts. POSTER++'s code calls the second ``valid`` and reports on it, so without a ``test`` folder
    it is the part that tests.

    Raises:
        UnreadableError: there is no image.
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
