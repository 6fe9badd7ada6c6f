"""SMIC (Li et al., FG 2013), the clips of the high-speed camera (HS), 100 frames a second.

There is no table: the emotion is in the clip's name (``s1_ne_01``) and folder, onset and offset are the first and the
last frame. No apex is given. ``media``: ``raw`` (SMIC_all_raw, default), ``cropped`` (SMIC_all_cropped) or ``extended``
(SMIC-E, which lacks 7 of the 164 clips; its table gives onset and offset). ``annotations``: optionally a third party's
table of spotted apexes (columns subject, clip, apex_frame), taken where its frame lies inside the clip.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from duchenne.catalog import Dataset
from duchenne.datasets.find import find_file, frame_numbers, join, lists_of, plain, wanted
from duchenne.datasets.listing import Listing
from duchenne.datasets.micro import clip_folder, settle
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.tables import TABLES, read_table

EMOTIONS = {"ne": "negative", "po": "positive", "sur": "surprise"}
CLIP = re.compile(r"s0*(\d+)_(ne|po|sur)_0*(\d+)", re.IGNORECASE)


def read(config: Dataset) -> Listing:
    """List the clip folders.

    Raises:
        UnreadableError: there are none; or SMIC-E lies there without its table.
    """
    form, folder = clip_folder(
        config, r"s\d+", ("raw", "cropped", "extended"), "folder SMIC_all_raw/HS/s1 or SMIC_all_cropped/HS/s1"
    )
    listing = Listing(pd.DataFrame(), str(config.root / folder))
    records = []
    for path in _clips(config.root, folder):
        subject, word, number = key_of(path.rpartition("/")[2])
        numbers = frame_numbers(config.root / path)
        above = plain(path.split("/")[-2])
        if above in EMOTIONS.values() and above != EMOTIONS[word]:
            listing.problems.append((None, "label", path, f"is named {word}, but lies in the folder {above}"))
            continue
        records.append(
            {
                "sample": f"smic/s{subject:02d}/s{subject:02d}_{word}_{number:02d}",
                "path": path,
                "label": EMOTIONS[word],
                "subject": f"smic/s{subject:02d}",
                "onset": str(numbers[0]) if numbers else None,
                "offset": str(numbers[-1]) if numbers else None,
            }
        )
    rows = pd.DataFrame(records, columns=["sample", "path", "label", "subject", "onset", "offset"])
    listing.rows = rows.assign(row=pd.array([pd.NA] * len(rows), "Int64"), apex=None, fps="100")
    listing.findings.recognised.append(f"{form} clips of the high-speed camera in {folder}")
    if form == "extended":
        _extended(listing, config)
    if config.annotations:
        _spotted(listing, lists_of(config))
    return settle(listing, config, apex_given=False)


def key_of(clip: str) -> tuple[int, str, int]:
    """Subject, class code and number: paddings differ between copies.

    Raises:
        ValueError: it is no clip's name.
    """
    match = CLIP.fullmatch(clip.strip())
    if not match:
        raise ValueError(f"{clip!r} is no clip's name like s1_ne_01")
    return int(match[1]), match[2].lower(), int(match[3])


def _clips(root: Path, folder: str) -> list[str]:
    """The clip folders, without those of other movements (``non_micro``)."""
    found, todo = [], [folder]
    while todo:
        here = todo.pop()
        with os.scandir(root / here) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and wanted(entry.name)]
        for name in names:
            if CLIP.fullmatch(name):
                found.append(join(here, name))
            elif plain(name) != "nonmicro":
                todo.append(join(here, name))
    return sorted(found)


def _extended(listing: Listing, config: Dataset) -> None:
    """SMIC-E's clips begin before the onset and end after the offset, which its table gives."""
    path = find_file(config.root, "smichseannotation", (".xlsx", ".csv"))
    if path is None:
        raise UnreadableError(config.root, "there is SMIC-E, but not its table SMIC-HS-E_annotation.xlsx")
    table = read_table(path, ["Filename", "OnsetF", "OffsetF"])
    frames = {key_of(clip): (onset, offset) for _, clip, onset, offset in table.itertuples(index=False)}
    keys = [key_of(clip.rpartition("/")[2]) for clip in listing.rows["path"]]
    for clip, key in zip(listing.rows["path"], keys, strict=True):
        if key not in frames:
            listing.problems.append((None, "onset", clip, f"is not in {path.name}"))
    known = [key in frames for key in keys]
    listing.rows = listing.rows[known].reset_index(drop=True)
    listing.rows[["onset", "offset"]] = [frames[key] for key in keys if key in frames]
    listing.findings.recognised.append(f"SMIC-E's table {path.name}: 157 of the 164 clips of the benchmark")


def _spotted(listing: Listing, lists: Path) -> None:
    """Apexes of a table that is not the owners': frame numbers are taken only where they lie inside the clip."""
    path = find_file(lists, "smicapex", TABLES)
    if path is None:
        return  # annotations may be the folder of the other sets' tables
    table = read_table(path, ["clip", "apex_frame"])
    apexes = {key_of(clip): apex for _, clip, apex in table.itertuples(index=False)}
    for i, clip, onset, offset in listing.rows[["path", "onset", "offset"]].itertuples():
        apex = apexes.get(key_of(clip.rpartition("/")[2]), "")
        if apex.isdigit() and onset is not None and int(onset) <= int(apex) <= int(offset):
            listing.rows.at[i, "apex"] = apex
        elif apex:
            listing.findings.notes.append((None, "apex", clip, f"{apex} of {path.name} is not in the clip", "ignored"))
    listing.findings.recognised.append(f"spotted apexes of {path.name} (a third party's)")
