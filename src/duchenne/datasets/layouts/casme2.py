"""CASME II (Yan et al., PLoS ONE 2014): spontaneous micro-expressions, 200 frames per second.

The coding table has an edition of 2014 and one of 2019 (which adds objective classes, and labels three clips of subject
24 surprise instead of sadness). ``media``: ``raw`` (CASME2_RAW_selected, default) or ``cropped`` (Cropped).
"""

from __future__ import annotations

import re

from duchenne.datasets.find import find_file, find_first, lists_of
from duchenne.datasets.listing import Listing
from duchenne.datasets.micro import clip_folder, coded_clips, complete_annotations, read_codes
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TABLES

EDITIONS = ("casme2coding20140508", "casme2coding2014", "casme2coding2019", "casme2coding")
"""Plain beginnings of the table's name; if both editions exist, the older one is used, as in MEGC 2019."""


def read_listing(config: Dataset) -> Listing:
    """List the rows of the coding table.

    Raises:
        UnreadableError: The table or the clips do not exist, or a column is missing.
    """
    lists = lists_of(config)
    path = find_first(lists, EDITIONS, TABLES)
    if path is None:
        old = find_file(lists, "casme2label", TABLES)
        hint = f" ({old.name} is an older coding)" if old else ""
        raise UnreadableError(lists, f"there is no CASME2-coding-20140508.xlsx or CASME2-coding-20190701.xlsx{hint}")
    table = read_codes(path, "Objective Classes")
    number = table["subject"].str.extract(r"^(?:sub)?0*(\d+)$", flags=re.IGNORECASE)[0].str.zfill(2)
    form, folder = clip_folder(
        config,
        r"sub\d+",
        "folder CASME2_RAW_selected/sub01 or Cropped/sub01: unpack one here",
    )
    edition = "2019" if (table.pop("Objective Classes") != "").any() else "2014"
    table["subject"] = number.fillna(table["subject"])
    listing = coded_clips("casme2", "sub", table, path, folder)
    listing.findings.edition = edition
    listing.findings.recognised += [f"coding table {path.name}, the edition of {edition}", f"{form} clips in {folder}"]
    return complete_annotations(listing, config)
