"""CAER-S (Lee et al., ICCV 2019): the folder is the label; whole frames of TV series, 712 x 400.

``annotations``: optionally a third party's lists of face boxes (comma, no header: path, label, x0, y0, x1, y1; one file
per part, named after it), for ``faces.mode: boxes``. Images that they do not name are then left out and counted. Lists
and disks spell folders in different ways (``Anger``, ``Angry``): emotions are compared, not names of folders.
"""

from __future__ import annotations

import posixpath
from contextlib import suppress

import pandas as pd

from duchenne.datasets.class_folders import SPLITS, find_parts, read_parts
from duchenne.datasets.find import find_file, lists_of
from duchenne.datasets.labels import Labels
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TEXTS, read_list

BOX = ["x0", "y0", "x1", "y1"]


def read_listing(config: Dataset) -> Listing:
    """List the images of ``train/<Emotion>`` and ``test/<Emotion>`` (or ``valid``, as in POSTER++'s code).

    Raises:
        UnreadableError: There is no such tree, or ``annotations`` holds no list of boxes.
    """
    top = find_parts(config.root)
    if top is None:
        raise UnreadableError(config.root, "there are no folders train/<Emotion>, test/<Emotion>: unpack CAER-S here")
    listing = read_parts(config.root, top)
    place = listing.rows["path"].str.removeprefix("" if top == "." else f"{top}/")
    listing.rows["sample"] = "caer_s/" + place.str.rpartition(".")[0]
    return _boxed(listing, config, place) if config.annotations else listing


def _boxed(listing: Listing, config: Dataset, place: pd.Series) -> Listing:
    lists, labels = lists_of(config), Labels(config.layout, config)
    images = listing.rows["split"] + "/" + place.str.partition("/")[2]
    like: dict[str, list[str]] = {}
    for image in images:
        like.setdefault(_by_emotion(image, labels), []).append(image)
    boxes: dict[str, list[str]] = {}
    for part in ("train", "test"):
        path = find_file(lists, part, TEXTS)
        if path is None or lists.is_file():
            raise UnreadableError(lists, f"is not a folder with a list of face boxes {part}.txt or {part}.csv")
        for row, name, _, *box in read_list(path, ["path", "label", *BOX]).itertuples(index=False):
            name = posixpath.normpath(name.replace("\\", "/"))
            first, _, rest = name.partition("/")
            image = f"{part}/{rest if first.lower() in SPLITS else name}"
            found = like.get(_by_emotion(image, labels), [])
            problem = None
            if not found:
                problem = "has a face box, but is not there"
            elif image not in found and len(found) > 1:
                problem = f"may be any of {', '.join(found)}: two folders hold one emotion"
            else:
                boxes[image if image in found else found[0]] = box
            if problem:
                listing.problems.append((row, "path", image, problem, path.name))
        listing.findings.recognised.append(f"face boxes of {path.name}")
    known = images.isin(boxes)
    if n := int((~known).sum()):
        listing.left_out["images without a face box in the lists"] = n
    listing.rows = listing.rows[known].reset_index(drop=True)
    listing.rows[BOX] = pd.DataFrame([boxes[image] for image in images[known]], columns=BOX, dtype="str")
    listing.findings.edition, listing.unit = "boxes", "line"
    return listing


def _by_emotion(image: str, labels: Labels) -> str:
    """Replace the folder of ``part/folder/...`` by its emotion, if its name is one."""
    part, folder, *rest = image.split("/")
    with suppress(ValueError):  # reported by the checks of all datasets
        folder = labels.emotion(folder) or folder
    return "/".join((part, folder, *rest))
