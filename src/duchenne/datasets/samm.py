"""SAMM (Davison et al., 2018): spontaneous micro-movements, 200 frames a second, grey, 2040 x 1088.

``media``: ``raw`` (SAMM, default) or ``cropped`` (SAMM_CROP).
"""

from __future__ import annotations

import pandas as pd

from duchenne.catalog import Dataset
from duchenne.datasets.find import find_file, join, lists_of
from duchenne.datasets.listing import Listing, digest
from duchenne.datasets.micro import clip_folder, settle
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.tables import read_table

COLUMNS = ("Subject", "Filename", "Onset Frame", "Apex Frame", "Offset Frame", "Estimated Emotion")
LONGEST = 100
"""Frames of a micro-expression: half a second."""


def read(config: Dataset) -> Listing:
    """List the rows of the FACS table. Its ``Duration`` is a formula and is not read.

    Raises:
        UnreadableError: the table or the clips are not there, or a column is missing.
    """
    lists = lists_of(config)
    path = find_file(lists, "sammmicrofacscodes", (".xlsx", ".csv"))
    if path is None:
        raise UnreadableError(lists, "there is no SAMM_Micro_FACS_Codes_v2.xlsx")
    table = read_table(path, COLUMNS, ("Action Units",))
    form, folder = clip_folder(
        config, r"0\d\d", ("raw", "cropped"), "folder SAMM/006 or SAMM_CROP/006: unpack the clips here"
    )
    subject, name = table["Subject"].str.zfill(3), table["Filename"]
    rows = pd.DataFrame(
        {
            "row": table["row"],
            "sample": "samm/" + subject + "/" + name,
            "path": [join(folder, f"{s}/{clip}") for s, clip in zip(subject, name, strict=True)],
            "label": table["Estimated Emotion"],
            "subject": "samm/" + subject,
            "onset": table["Onset Frame"],
            "apex": table["Apex Frame"],
            "offset": table["Offset Frame"],
            "fps": "200",
            "aus": table["Action Units"],
        }
    )
    listing = Listing(rows, str(path))
    listing.findings.recognised += [f"FACS table {path.name}", f"{form} clips in {folder}"]
    cells = [subject, *(table[column] for column in COLUMNS[1:])]
    listing.findings.digests["table"] = digest(map("\t".join, zip(*cells, strict=True)))
    for row, s, clip in zip(rows["row"], subject, name, strict=True):
        if clip.partition("_")[0] != s:
            listing.problems.append((row, "Subject", clip, f"subject {s} is not the one in the file's name"))
    length = pd.to_numeric(rows["offset"], errors="coerce") - pd.to_numeric(rows["onset"], errors="coerce") + 1
    for row, clip, n in zip(rows["row"], rows["path"], length, strict=True):
        if n > LONGEST:
            listing.findings.notes.append((row, "offset", clip, f"{n:.0f} frames are over half a second", "kept"))
    return settle(listing, config)
