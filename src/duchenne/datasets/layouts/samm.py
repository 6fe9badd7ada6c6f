"""SAMM (Davison et al., 2018): spontaneous micro-movements, 200 frames per second, grey, 2040 x 1088.

``media``: ``raw`` (SAMM, default) or ``cropped`` (SAMM_CROP).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from duchenne.datasets.find import find_files, lists_of
from duchenne.datasets.listing import Listing
from duchenne.datasets.micro import clip_folder, coded_clips, complete_annotations, read_codes
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TABLES

LONGEST = 100
"""Maximum number of frames of a micro-expression: half a second."""


def read_listing(config: Dataset) -> Listing:
    """List the rows of the FACS table; its ``Duration`` is a formula and is not read.

    Raises:
        UnreadableError: The table or the clips do not exist, or a column is missing.
    """
    lists = lists_of(config)
    path, table = _codes(lists)
    form, folder = clip_folder(config, r"0\d\d", "folder SAMM/006 or SAMM_CROP/006: unpack the clips here")
    table["subject"] = table["subject"].str.zfill(3).where(table["subject"] != "", "")
    listing = coded_clips("samm", "", table, path, folder)
    listing.findings.recognised += [f"FACS table {path.name}", f"{form} clips in {folder}"]
    rows = listing.rows
    other = rows["subject"] != "samm/" + rows["path"].str.extract(r"([^/_]*)[^/]*$", expand=False)
    for row, path in rows.loc[other, ["row", "path"]].itertuples(index=False):
        listing.problems.append((row, "subject", path, "the subject is not the one in the clip's name"))
    listing.rows = rows = rows[~other]
    length = pd.to_numeric(rows["offset"], errors="coerce") - pd.to_numeric(rows["onset"], errors="coerce") + 1
    for row, clip, n in zip(rows["row"], rows["path"], length, strict=True):
        if n > LONGEST:
            listing.findings.notes.append((row, "offset", clip, f"{n:.0f} frames are over half a second", "kept"))
    return complete_annotations(listing, config)


def _codes(lists: Path) -> tuple[Path, pd.DataFrame]:
    """Find the FACS table and its columns: the first file by name that has them.

    Copies are dated, and the table of SAMM's long videos may be beside it.
    """
    named = [*find_files(lists, "sammmicrofacscodes", TABLES), *find_files(lists, "samm", TABLES)]
    fault = UnreadableError(lists, "there is no SAMM_Micro_FACS_Codes_v2.xlsx")
    for i, path in enumerate(dict.fromkeys(named)):
        try:
            return path, read_codes(path)
        except UnreadableError as error:
            fault = fault if i else error
    raise fault
