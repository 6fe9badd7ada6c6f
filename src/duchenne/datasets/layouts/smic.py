"""SMIC (Li et al., FG 2013): the clips of the high-speed camera (HS), or of the two slower ones.

There is no table: the emotion is in the clip's name (``s1_ne_01``) and folder, onset and offset are the first and the
last frame. No apex is given.

``media``: for the HS clips ``raw`` (SMIC_all_raw, default), ``cropped`` (SMIC_all_cropped) or ``extended`` (SMIC-E,
which lacks 7 of the 164 clips; its table gives onset and offset); or ``vis`` and ``nir``, 71 clips each.
``annotations``: optionally a third party's table of spotted apexes (columns clip, apex_frame); frames outside the clip
are ignored.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from duchenne.datasets.find import descend, find_file, frame_numbers, join, lists_of, plain
from duchenne.datasets.listing import Listing
from duchenne.datasets.micro import clip_folder, complete_annotations, form_of, number
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TABLES, read_table
from duchenne.media.paths import broken

EMOTIONS = {"ne": "negative", "po": "positive", "sur": "surprise"}
HIGH_SPEED = ("high-speed camera", "100")
FORMS = {
    "raw": HIGH_SPEED,
    "cropped": HIGH_SPEED,
    "extended": HIGH_SPEED,
    "vis": ("visible-light camera", "25"),
    "nir": ("near-infrared camera", "25"),
}
"""Form -> camera and frames per second."""
CLIP = re.compile(r"s0*(\d{1,3})_(ne|po|sur)_0*(\d{1,3})", re.IGNORECASE)


def read_listing(config: Dataset) -> Listing:
    """List the clip folders.

    Raises:
        UnreadableError: There are none, or SMIC-E has no table.
    """
    form, folder = clip_folder(config, r"s\d+", "folder SMIC_all_raw/HS/s1 or SMIC_all_cropped/HS/s1", _form_of)
    camera, fps = FORMS[form]
    if form != config.media and FORMS[form] != HIGH_SPEED:
        problem = f"there are no clips of the high-speed camera, which papers report; media: {form} reads {folder}"
        raise UnreadableError(config.root, problem)
    listing = Listing(pd.DataFrame(), str(config.root / folder))
    records = []
    for path in _clips(config.root, folder, listing):
        name = name_of(path.rpartition("/")[2])
        subject, word, _ = name.split("_")
        above = map(plain, path.removeprefix(folder).split("/")[:-1])
        if wrong := [step for step in above if _contradicts(step, int(subject[1:]), EMOTIONS[word])]:
            listing.problems.append(
                (None, "label", path, f"lies in the folder {wrong[0]} of another subject or emotion")
            )
            continue
        numbers = frame_numbers(config.root / path)
        records.append(
            {
                "sample": f"smic/{subject}/{name}",
                "path": path,
                "label": EMOTIONS[word],
                "subject": f"smic/{subject}",
                "onset": str(numbers[0]) if numbers else None,
                "offset": str(numbers[-1]) if numbers else None,
            }
        )
    rows = pd.DataFrame(records, columns=["sample", "path", "label", "subject", "onset", "offset"])
    listing.rows = rows.assign(row=pd.array([pd.NA] * len(rows), "Int64"), apex=None, fps=fps)
    listing.findings.edition = "" if form in ("raw", "cropped") else form
    listing.findings.recognised.append(f"{form} clips of the {camera} in {folder}")
    if form == "extended":
        _extended(listing, config)
    if config.annotations:
        _spotted(listing, lists_of(config))
    return complete_annotations(listing, config, apex_given=False)


def _form_of(way: list[str]) -> str | None:
    """Return the form by the folders above the subjects; SMIC-E of the slower cameras is none."""
    form = form_of(way)
    extended = any(step.startswith(("smice", "smichse")) for step in way)
    camera = next((step[:3] for step in way if step.startswith(("vis", "nir"))), None)
    if form is None or (extended and camera):
        return None
    return camera or ("extended" if extended else form)


def name_of(clip: str) -> str:
    """Return a clip's name with two digits for subject and number, because padding differs between copies.

    Raises:
        ValueError: The text is not a clip name.
    """
    match = CLIP.fullmatch(clip.strip())
    if not match:
        raise ValueError(f"{clip!r} is not a clip name such as s1_ne_01")
    return f"s{int(match[1]):02d}_{match[2].lower()}_{int(match[3]):02d}"


def _contradicts(step: str, subject: int, emotion: str) -> bool:
    """Whether a folder's plain name is that of another subject or emotion."""
    digits = re.fullmatch(r"s(\d+)", step)
    return int(digits[1]) != subject if digits else step in EMOTIONS.values() and step != emotion


def _clips(root: Path, folder: str, listing: Listing) -> list[str]:
    """List the clip folders, without those of other movements (``non_micro``)."""
    found = []
    for here, folders, others in descend(root, folder):
        found += [join(here, name) for name in folders if CLIP.fullmatch(name)]
        folders[:] = [name for name in folders if not CLIP.fullmatch(name) and plain(name) != "nonmicro"]
        dead = ((entry.name, broken(entry.path)) for entry in others)
        listing.problems += [(None, "path", join(here, name), why) for name, why in dead if why]
    return sorted(found)


def _extended(listing: Listing, config: Dataset) -> None:
    """Set onset and offset from SMIC-E's table, because its clips begin before the onset and end after the offset."""
    path = find_file(config.root, "smichseannotation", TABLES)
    if path is None:
        raise UnreadableError(config.root, "there is SMIC-E, but not its table SMIC-HS-E_annotation.xlsx")
    frames = _keyed(read_table(path, ["Filename", "OnsetF", "OffsetF"]), path)
    keys = [name_of(clip.rpartition("/")[2]) for clip in listing.rows["path"]]
    for clip, key in zip(listing.rows["path"], keys, strict=True):
        if key not in frames:
            listing.problems.append((None, "onset", clip, f"is not in {path.name}"))
        elif None in map(number, frames[key]):
            listing.problems.append((None, "onset", clip, f"has no onset or no offset in {path.name}"))
    known = [None not in map(number, frames.get(key, ["none"])) for key in keys]
    listing.rows = listing.rows[known].reset_index(drop=True)
    cells = [frames[key] for key, is_known in zip(keys, known, strict=True) if is_known]
    listing.rows[["onset", "offset"]] = pd.DataFrame(cells, columns=["onset", "offset"], dtype="str")
    listing.findings.recognised.append(f"SMIC-E's table {path.name}: 157 of the 164 clips of the benchmark")


def _keyed(table: pd.DataFrame, path: Path) -> dict[str, list[str]]:
    """Map each clip to the cells of a table whose first column after ``row`` names it."""
    found = {}
    for row, clip, *cells in table.itertuples(index=False):
        try:
            found[name_of(clip)] = cells
        except ValueError as error:
            raise UnreadableError(path, f"row {row}: {error}", table.columns[1]) from None
    return found


def _spotted(listing: Listing, lists: Path) -> None:
    """Set apexes from a third party's table; frame numbers outside the clip are ignored."""
    path = find_file(lists, "smicapex", TABLES)
    if path is None:
        return  # annotations may be the folder of the other sets' tables
    apexes = _keyed(read_table(path, ["clip", "apex_frame"]), path)
    for i, clip, onset, offset in listing.rows[["path", "onset", "offset"]].itertuples():
        (apex,) = apexes.get(name_of(clip.rpartition("/")[2]), [""])
        frames = [frame for frame in map(number, (onset, apex, offset)) if frame is not None]
        if len(frames) == 3 and frames == sorted(frames):
            listing.rows.at[i, "apex"] = apex
        elif apex:
            listing.findings.notes.append((None, "apex", clip, f"{apex} of {path.name} is not in the clip", "ignored"))
    listing.findings.recognised.append(f"spotted apexes of {path.name} (a third party's)")
