"""The composite of MEGC 2019 (See et al., FG 2019): CASME II, SAMM and SMIC-HS as one set of three classes.

``root`` holds the folders ``casme2``, ``samm`` and ``smic`` (or links to them), each unpacked as for that set alone.
The samples follow from the three sets' tables by rule; with the challenge's own list (``combined_3class_gt.csv``,
below root or in ``annotations``) the list decides.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from duchenne.datasets.contract import layout_facts, layout_reader
from duchenne.datasets.find import find_file, find_files, lists_of, plain, within
from duchenne.datasets.labels import Labels
from duchenne.datasets.layouts.smic import CLIP, name_of
from duchenne.datasets.listing import Listing, digest
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import TEXTS, read_list

PARTS = layout_facts("megc2019").parts
"""Layout -> label set."""
NAMES = {"casmeii": "casme2", "smichs": "smic"}
"""Plain names of the sets in lists, besides those of :data:`PARTS`."""
SUBJECTS = {"casme2": "sub{:02d}", "samm": "{:03d}", "smic": "s{:02d}"}
"""Name -> how its subjects are written."""


def read_listing(config: Dataset) -> Listing:
    """List the samples of the three sets that belong to the composite.

    Raises:
        UnreadableError: A set or its table does not exist.
    """
    listing = Listing(pd.DataFrame(), str(config.root))
    tables = [_part(name, config, listing) for name in PARTS]
    rows = pd.concat(tables, ignore_index=True)
    lists = lists_of(config) if config.annotations else config.root
    path = find_file(lists, "combined3classgt", TEXTS)
    for other in find_files(lists, "combined3class", TEXTS):
        if other != path:
            oddity = "is not the challenge's list, which is called combined_3class_gt.csv"
            listing.findings.notes.append((None, "list", within(config.root, other), oddity, "not read"))
    if path is not None:
        rows = _as_listed(rows, path, listing, config)
    lines = [
        "\t".join([*sample.split("/"), label]) for sample, label in zip(rows["sample"], rows["label"], strict=True)
    ]
    listing.findings.digests["list"] = digest(lines)
    listing.rows = rows
    return listing


def _part(name: str, config: Dataset, listing: Listing) -> pd.DataFrame:
    """Return the rows of one set with the composite's classes; the findings of its reader are kept."""
    part = Dataset(
        layout=name,
        label_set=PARTS[name],
        root=config.root,
        annotations=config.annotations if config.annotations and config.annotations.is_dir() else None,
        media=config.media,
        apex=config.apex,
    )
    try:
        found = layout_reader(name).read_listing(part)
    except UnreadableError as error:
        raise UnreadableError(error.source, f"{name}: {error}", error.column) from None
    file = within(config.root, Path(found.source))
    listing.problems += [(*problem[:4], file) for problem in found.problems]
    listing.findings.notes += found.findings.notes
    listing.findings.missing += found.findings.missing
    listing.findings.recognised += [f"{name}: {what}" for what in found.findings.recognised]
    for what, n in found.left_out.items():
        listing.leave_out(f"{name}: {what}", n)

    labels, rows = Labels(name, part), found.rows
    emotions = []
    for row, path, word in rows[["row", "path", "label"]].itertuples(index=False):
        try:
            emotions.append(labels.emotion(word))
        except ValueError as error:
            emotions.append(None)
            listing.problems.append((row, "label", path, str(error), file))
            continue
        if emotions[-1] is None:
            listing.leave_out(f"{name}: label {word.lower()!r} (ignore)")
    rows = rows.assign(label=emotions)[[emotion is not None for emotion in emotions]]
    factors = [{"part": name} | json.loads(text) for text in rows["factors"].fillna("{}")]
    return rows.assign(factors=[json.dumps(item) for item in factors], file=file)


def _as_listed(rows: pd.DataFrame, path: Path, listing: Listing, config: Dataset) -> pd.DataFrame:
    """Keep the samples of the challenge's list, with its labels."""
    listed, file = {}, within(config.root, path)
    for row, part, subject, clip, code in read_list(path, ["part", "subject", "clip", "code"]).itertuples(index=False):
        if code not in config.labels:
            listing.problems.append((row, "code", clip, f"{code!r} is none of {list(config.labels)}", file))
            continue
        if (sample := _sample(part, subject, clip)) is None:
            problem = f"{part} {subject} is not a subject of {', '.join(PARTS)}"
            listing.problems.append((row, "subject", clip, problem, file))
            continue
        listed[sample] = row, config.labels[code]
    known = rows["sample"].isin(listed)
    if n := int((~known).sum()):
        listing.left_out[f"clips that {path.name} does not name"] = n
    for sample in sorted(set(listed) - set(rows["sample"])):
        listing.problems.append((listed[sample][0], "clip", sample, "is in no table of the three sets", file))
    rows = rows[known].reset_index(drop=True)
    for i, sample, label in rows[["sample", "label"]].itertuples():
        row, other = listed[sample]
        if other != label:
            listing.findings.notes.append((row, "label", sample, f"is {label} by rule, {other} in the list", other))
            rows.at[i, "label"] = other
    listing.findings.recognised.append(f"the challenge's list {path.name}")
    return rows


def _sample(part: str, subject: str, clip: str) -> str | None:
    """Return our name of a sample of the list, which writes SAMM's subjects without zeros; None: not of any part."""
    part, number = NAMES.get(plain(part), plain(part)), re.search(r"\d{1,9}", subject)
    if part not in SUBJECTS or not number:
        return None
    name = name_of(clip) if CLIP.fullmatch(clip) else clip
    return f"{part}/{SUBJECTS[part].format(int(number[0]))}/{name}"
