"""CASME II (Yan et al., PLoS ONE 2014): spontaneous micro-expressions, 200 frames a second.

The coding table exists as of 2014 and of 2019 (which has objective classes, and calls three clips of subject 24
surprise that were sadness). ``media``: ``raw`` (CASME2_RAW_selected, default) or ``cropped`` (Cropped).
"""

from __future__ import annotations

import re

import pandas as pd

from duchenne.catalog import Dataset
from duchenne.datasets.find import find_file, join, lists_of
from duchenne.datasets.listing import Listing, digest
from duchenne.datasets.micro import MISSING, clip_folder, settle
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.tables import read_table

COLUMNS = ("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Estimated Emotion")
OPTIONAL = ("Action Units", "Objective Classes")
EDITIONS = ("casme2coding20140508", "casme2coding2014", "casme2coding2019", "casme2coding")
"""Plain beginnings of the table's name; of both editions side by side the older is taken, as MEGC 2019 did."""


def read(config: Dataset) -> Listing:
    """List the rows of the coding table.

    Raises:
        UnreadableError: the table or the clips are not there, or a column is missing.
    """
    lists = lists_of(config)
    path = next(filter(None, (find_file(lists, stem, (".xlsx", ".csv")) for stem in EDITIONS)), None)
    if path is None:
        old = find_file(lists, "casme2label", (".xls", ".xlsx"))
        hint = f" ({old.name} is an older coding)" if old else ""
        raise UnreadableError(lists, f"there is no CASME2-coding-20140508.xlsx or CASME2-coding-20190701.xlsx{hint}")
    table = read_table(path, COLUMNS, OPTIONAL)
    number = table["Subject"].str.extract(r"^(?:sub)?0*(\d+)$", flags=re.IGNORECASE)[0].fillna(table["Subject"])
    subject = number.str.zfill(2)
    form, folder = clip_folder(
        config,
        r"sub\d+",
        ("raw", "cropped"),
        "folder CASME2_RAW_selected/sub01 or Cropped/sub01: unpack one here",
    )
    name = table["Filename"]
    rows = pd.DataFrame(
        {
            "row": table["row"],
            "sample": "casme2/sub" + subject + "/" + name,
            "path": [join(folder, f"sub{s}/{clip}") for s, clip in zip(subject, name, strict=True)],
            "label": table["Estimated Emotion"],
            "subject": "casme2/sub" + subject,
            "onset": table["OnsetFrame"],
            "apex": table["ApexFrame"],
            "offset": table["OffsetFrame"],
            "fps": "200",
            "aus": table["Action Units"],
        }
    )
    listing = Listing(rows, str(path))
    listing.findings.edition = "2019" if (table["Objective Classes"] != "").any() else "2014"
    listing.findings.recognised += [
        f"coding table {path.name}, the edition of {listing.findings.edition}",
        f"{form} clips in {folder}",
    ]
    if listing.findings.edition == "2019":
        apex = table["ApexFrame"].where(~table["ApexFrame"].str.lower().isin(MISSING), "")
        cells = [subject, name, table["OnsetFrame"], apex, table["OffsetFrame"], table["Estimated Emotion"]]
        listing.findings.digests["table"] = digest(map("\t".join, zip(*cells, strict=True)))
    return settle(listing, config)
