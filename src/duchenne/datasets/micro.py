"""Shared parts of the micro-expression sets: forms of the clips on the disk, coding tables and missing apexes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from duchenne.datasets.apex import find_apex
from duchenne.datasets.contract import LabelSet
from duchenne.datasets.find import choose, steps, walk
from duchenne.datasets.listing import Listing, digest
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import read_table

COLUMNS = {
    "Subject": "subject",
    "Filename": "clip",
    "Onset Frame": "onset",
    "Apex Frame": "apex",
    "Offset Frame": "offset",
    "Estimated Emotion": "label",
}
"""Column of the coding tables of CASME II (written without blanks) and SAMM -> our name of it."""
OTHERS = {
    **{f"{name}{end}": f"{name} Frame" for name in ("Onset", "Apex", "Offset") for end in ("", "F")},
    "Emotion": "Estimated Emotion",
    "AU": "Action Units",
    "AUs": "Action Units",
}
"""Other names of these columns in tables and copies."""
MISSING = ("", "/", "-", "nan", "none", "n/a", "?")
"""Contents of cells without a frame number, in lower case."""


def form_of(way: list[str]) -> str | None:
    """Return ``raw`` or ``cropped`` by the plain names of the folders above the subjects; None: compressed videos."""
    if any("compressed" in step for step in way):
        return None
    return "cropped" if any("crop" in step for step in way) else "raw"


def clip_folder(
    config: Dataset, subject: str, expected: str, form_of: Callable[[list[str]], str | None] = form_of
) -> tuple[str, str]:
    """Find the clips: (form, folder), where the form is one of the layout's ``media``.

    Args:
        config: settings of the dataset.
        subject: pattern of a subject's folder.
        expected: for the message: what to unpack if there is none.
        form_of: plain names of the folders from the root to the subjects -> form; None: not usable.
    """
    there: dict[str, str | None] = dict.fromkeys(config.facts.media)
    for folder in walk(config.root):
        if any(re.fullmatch(subject, name, re.IGNORECASE) for name in folder.folders):
            way = steps(config.root, folder.path)
            form = form_of(way[1:] or way)
            if form in there and there[form] is None:
                there[form] = folder.path
    return choose(config, there, expected)


def read_codes(path: Path, *more: str) -> pd.DataFrame:
    """Read the columns of a coding table under our names; ``aus`` and ``more`` are empty if it lacks them.

    Raises:
        UnreadableError: The file is not such a table, or a column of :data:`COLUMNS` is missing.
    """
    table = read_table(path, tuple(COLUMNS), ("Action Units", *more), OTHERS)
    return table.rename(columns=COLUMNS | {"Action Units": "aus"})


def coded_clips(dataset: str, prefix: str, table: pd.DataFrame, path: Path, folder: str) -> Listing:
    """List the clips of a coding table, at 200 frames per second in ``<folder>/<prefix><subject>/<clip>``.

    Args:
        dataset: first part of the samples' names.
        prefix: prefix of the subjects' folders.
        table: row, subject (digits as in the folders), clip, onset, apex, offset, label, aus.
        path: the table, for messages.
        folder: folder that holds the subjects' folders.
    """
    listing = Listing(pd.DataFrame(), str(path))
    apex = table["apex"].where(~table["apex"].str.lower().isin(MISSING), "")
    cells = table.assign(apex=apex)[["subject", "clip", "onset", "apex", "offset", "label"]]
    listing.findings.digests["table"] = digest(map("\t".join, cells.itertuples(index=False)))
    empty = table[["subject", "clip", "onset", "offset"]].eq("")
    for column in empty:
        for row, clip in table.loc[empty[column], ["row", "clip"]].itertuples(index=False):
            listing.problems.append((row, column, clip, "is empty (of merged cells only the first has the value)"))
    table = table[~empty.any(axis=1)].reset_index(drop=True)
    subject = prefix + table["subject"]
    listing.rows = table.drop(columns="clip").assign(
        sample=f"{dataset}/" + subject + "/" + table["clip"],
        path=("" if folder == "." else f"{folder}/") + subject + "/" + table["clip"],
        subject=f"{dataset}/" + subject,
        fps="200",
    )
    return listing


def complete_annotations(listing: Listing, config: Dataset, apex_given: bool = True) -> Listing:
    """Complete or correct annotations that cannot be used as they are, and note every oddity and its treatment.

    - ``relabel``, ``needs_apex`` and ``without`` of the label set are applied.
    - A missing apex, or one outside onset..offset, is replaced by the rule ``config.apex``; ``factors`` then has
      ``apex_rule`` and ``apex_annotated``.

    Args:
        listing: rows with onset, apex and offset as text.
        config: settings of the dataset.
        apex_given: whether the owners give any apex; otherwise one sentence reports that instead of a note per clip.
    """
    preset = config.facts.label_sets[config.label_set]
    if not apex_given:
        listing.findings.recognised.append(f"no apex is given by the owners: rule {config.apex}")
    kept = []
    for record in listing.rows.to_dict("records"):
        sample, path = record["sample"], record["path"]
        row = None if pd.isna(record["row"]) else record["row"]

        def note(column: str, oddity: str, done: str, row: int | None = row, path: str = path) -> None:
            listing.findings.notes.append((row, column, path, oddity, done))

        if sample in preset.relabel and record["label"].lower() != preset.relabel[sample]:
            note("label", f"is {record['label']} in this edition", f"{preset.relabel[sample]}, as in the 2014 table")
            record["label"] = preset.relabel[sample]
        if str(record["apex"]).lower() in MISSING:
            record["apex"] = None
        frames = [number(record[name]) for name in ("onset", "apex", "offset")]
        if why := _why_left_out(record, frames, preset):
            listing.leave_out("clips left out by the protocol: " + " ".join(why))
            note(*why, "left out, as the protocol demands")
            continue
        place = config.root / path
        if frames[0] is not None and frames[2] is not None:
            _fix_apex(record, frames, place, config.apex, apex_given, note)
        kept.append(record)
    listing.rows = pd.DataFrame(kept, columns=[*listing.rows.columns, "factors"]).astype({"factors": "str"})
    return listing


def _why_left_out(record: dict, frames: list[int | None], preset: LabelSet) -> tuple[str, str] | None:
    """Return the column and the reason for which the protocol leaves out a clip with an accepted label."""
    if record["label"].lower() in preset.ignore:
        return None
    if preset.needs_apex and record["apex"] is None:
        return "apex", "is missing"
    if preset.needs_apex and frames[0] is not None and frames[0] == frames[1]:
        return "apex", "is the onset"
    return ("clip", "is one that it names") if record["sample"] in preset.without else None


def number(text: object) -> int | None:
    """Return the number of a frame in a cell; None if it holds anything else."""
    match = re.fullmatch(r"\d{1,15}", str(text))
    return int(match[0]) if match else None


def _fix_apex(
    record: dict,
    frames: list[int | None],
    place: Path,
    rule: str,
    apex_given: bool,
    note: Callable[[str, str, str], None],
) -> None:
    """Replace an apex that is missing or outside the clip; note one at its first or last frame."""
    onset, apex, offset = frames
    if record["apex"] is not None and apex is None:
        return  # other text: reported by the checks of all datasets
    if apex is not None and onset <= apex <= offset:
        if apex in (onset, offset):
            note("apex", f"is the {'onset' if apex == onset else 'offset'} ({apex})", "kept")
        elif apex == onset + 1:
            note("apex", f"lies one frame after the onset {onset}", "kept")
        return
    oddity = "is missing" if apex is None else f"{apex} lies outside onset..offset {onset}..{offset}"
    if onset > offset:
        return  # also reported by the checks
    new = None if rule == "none" else find_apex(rule, onset, offset, place)
    record["apex"] = None if new is None else str(new)
    record["factors"] = json.dumps({"apex_rule": rule, "apex_annotated": apex})
    if apex_given or apex is not None:
        note("apex", oddity, "left missing" if new is None else f"{new}, by rule {rule}")
