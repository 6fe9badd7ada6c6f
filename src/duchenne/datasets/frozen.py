"""Frozen rendered sets: what their truth and their pictures must be, so that numbers of different people compare.

Two renderings of a set on different machines may differ in the last bits of its floating-point arithmetic, and so in
single grey levels. So the hash is over the truth alone, whose numbers are drawn and rounded before anything is
rendered: samples, people, parts, action units, pose, camera, light and the other factors. The pictures are compared
with a tolerance: small grey copies and the landmarks of some samples, in :data:`RECORD`.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from duchenne.files import read_json, write_json
from duchenne.sealed import read_table

RECORD = Path(__file__).with_name("frozen.json")
"""Set -> the SHA-256 ``truth``, and ``pictures``: sample -> its ``truth``, ``grey`` levels and ``points`` (x y, px)."""

SIDE = 12
"""Height and width of the small grey copies, px."""

PICTURES = 12
"""Number of samples whose pictures are compared, evenly spaced in the table."""

MEAN_LEVEL, ONE_LEVEL, POINT = 1.0, 8.0, 0.5
"""Largest mean and single difference of the grey copies (levels of 255) and of a landmark (px), chosen by us."""

DRAWN = ("sample", "kind", "emotion", "subject", "split", "fold", "onset", "apex", "offset", "n_frames")
"""Columns of the truth that are hashed, besides the action units and the factors; geometry is not."""

UNIT = re.compile(r"au\d\d")


@cache
def records() -> dict[str, dict[str, Any]]:
    """Return :data:`RECORD`."""
    return read_json(RECORD)


def compare(name: str, root: Path) -> dict[str, tuple[str | int, str | int]]:
    """Compare a rendered set with its record: what -> found, expected; empty for a set that is not frozen.

    Raises:
        OSError: The set's table cannot be read.
    """
    if not (known := records().get(name)):
        return {}
    truth = read_table(root / "truth.parquet")
    rows, pictures = truth.set_index("sample", drop=False), known["pictures"]
    same = [name in rows.index and alike(root, rows.loc[name], picture) for name, picture in pictures.items()]
    return {"truth": (truth_digest(truth), known["truth"]), "pictures": (sum(same), len(same))}


def truth_digest(truth: pd.DataFrame) -> str:
    """Return the SHA-256 of what was drawn for every sample, in the order of the names.

    Args:
        truth: table of a rendered set, ``truth.parquet``.
    """
    columns = [name for name in truth if name in DRAWN or UNIT.fullmatch(name)]
    digest = hashlib.sha256()
    for row in truth.sort_values("sample")[[*columns, "factors"]].to_dict("records"):
        drawn = {name: None if pd.isna(row[name]) else row[name] for name in columns}
        text = json.dumps([drawn, json.loads(row["factors"])], sort_keys=True)
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def picture_of(root: Path, row: pd.Series) -> dict[str, str]:
    """Return what was drawn for a sample, but for its part, and its small grey copy and landmarks; of a clip, at onset.

    Raises:
        OSError: The picture cannot be read.
    """
    path = root / row["path"]
    if row["kind"] != "image":
        path = next(path.glob(f"{row['onset']:05d}.*"), path / f"{row['onset']:05d}")
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise OSError(f"{path} cannot be read")
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return {
        "truth": truth_digest(pd.DataFrame([row.drop(["split", "fold"], errors="ignore")])),
        "grey": _text(small.ravel()),
        "points": _text(np.round(row["landmarks"], 1)),
    }


def freeze(name: str, root: Path) -> None:
    """Record a rendered set in :data:`RECORD`."""
    truth = read_table(root / "truth.parquet")
    places = np.linspace(0, len(truth) - 1, PICTURES).round().astype(int)
    pictures = {row["sample"]: picture_of(root, row) for _, row in truth.iloc[places].iterrows()}
    known = read_json(RECORD) if RECORD.exists() else {}
    write_json(RECORD, known | {name: {"truth": truth_digest(truth), "pictures": pictures}})


def alike(root: Path, row: pd.Series, known: dict[str, str]) -> bool:
    """Whether a sample's truth is as recorded, and its picture and landmarks within the tolerance."""
    try:
        found = picture_of(root, row)
    except OSError:
        return False
    if found["truth"] != known["truth"]:
        return False
    levels, points = (np.abs(_numbers(found[name]) - _numbers(known[name])) for name in ("grey", "points"))
    return bool(levels.mean() <= MEAN_LEVEL and levels.max() <= ONE_LEVEL and points.max() <= POINT)


def _text(values: np.ndarray) -> str:
    return " ".join(f"{value:g}" for value in values)


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), float)
