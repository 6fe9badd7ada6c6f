"""RAF-DB, basic emotions (Li, Deng and Du, CVPR 2017): the owners' list, or POSTER++'s class-folder tree.

The list names ``train_00001.jpg 5``; the aligned image is ``train_00001_aligned.jpg``. The part is the name's prefix.
``media``: ``aligned`` (100 x 100, default) or ``original``.
"""

from __future__ import annotations

import pandas as pd

from duchenne.datasets.class_folders import find_parts, read_parts
from duchenne.datasets.find import choose, find_first, find_folder, join, lists_of, media_names
from duchenne.datasets.listing import Listing, digest
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TEXTS, read_list, refuse_zero

STEMS = ("listpatitionlabel", "listpartitionlabel")
"""Names of the list, the owners' spelling first."""


def read_listing(config: Dataset) -> Listing:
    """List the images of the owners' list or, without it, of ``train/<class>`` and ``valid/<class>`` (or ``test``).

    Raises:
        UnreadableError: Neither exists, or the list is that of the compound emotions, which has the same name.
    """
    lists = lists_of(config)
    path = find_first(lists, STEMS, TEXTS, without="compound")
    if path is None:
        if (top := find_parts(config.root)) is None:
            expected = "EmoLabel/list_patition_label.txt (owners) nor train/<class>, valid/<class> (POSTER++)"
            raise UnreadableError(lists, f"there is neither {expected}")
        listing = read_parts(config.root, top)
        refuse_zero(config.root / top, listing.rows, config)
        listing.rows["sample"] = "raf_db/" + listing.rows["path"].map(_stem)
        return _with_digests(listing, config)

    table = read_list(path, ["name", "label"])
    if (compound := table[table["label"].isin([str(code) for code in range(8, 12)])]).size:
        row, code = compound.iloc[0][["row", "label"]]
        raise UnreadableError(path, f"line {row} has code {code}: this is the list of the compound emotions")
    refuse_zero(path, table, config)
    folders = {name: find_folder(config.root, name) for name in config.facts.media}
    media, folder = choose(config, folders, "folder Image/aligned or Image/original: unpack the images beside EmoLabel")
    there = {_stem(name): name for name in media_names(config.root / folder)}
    suffix = "_aligned.jpg" if media == "aligned" else ".jpg"
    stem = table["name"].map(_stem)
    rows = pd.DataFrame(
        {
            "row": table["row"],
            "sample": "raf_db/" + stem,
            "path": [join(folder, there.pop(name, name + suffix)) for name in stem],
            "label": table["label"],
            "split": stem.str.partition("_")[0],
        }
    )
    listing = Listing(rows, str(path), unit="line")
    listing.findings.recognised += [f"the owners' list {path.name}", f"{media} images in {folder}"]
    listing.findings.extra += sorted(join(folder, name) for name in there.values())
    return _with_digests(listing, config)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0].removesuffix("_aligned")


def _with_digests(listing: Listing, config: Dataset) -> Listing:
    codes = {emotion: code for code, emotion in config.labels.items()}
    label = listing.rows["label"].str.casefold().replace(codes)
    lines = listing.rows["sample"].str.removeprefix("raf_db/") + "\t" + label
    listing.findings.digests = {part: digest(group) for part, group in lines.groupby(listing.rows["split"])}
    return listing
