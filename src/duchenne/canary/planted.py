"""Leaks planted on purpose in copies of a split and its faces: the check refuses them, or the number shows them.

A copy of a test picture in training tells nothing if it carries a permuted label that is not the scored one. So planted
runs score other labels than the truth, ones that only a leak can carry into the test part:

- ``subject``: every person has one random label, in all parts. Half of the samples of each test person are moved to
  training. Only who recognises the person knows the label of the other half.
- ``copy``, ``mirror``, ``source``: the labels of every part are permuted, also those of the test part, and a copy of
  each test sample joins training with the label that is scored: saved again as JPEG of quality 60, mirrored, or moved
  by 2 % like the next frame of a clip. Copies are of no known person, as copies in the wild are; with ``source`` the
  index says that both come from one clip.

Without the leak these labels are as good as noise, and a UAR above chance is the leak's alone: the expression, which a
network may well learn, does not help. The project's own split, index and faces are not touched.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import pandas as pd

from duchenne.errors import UserError
from duchenne.faces.hashing import face_hash
from duchenne.faces.store import FaceStore, decode, encode

Leak = Literal["subject", "source", "copy", "mirror"]

QUALITY = 60
"""JPEG quality of a copy."""

SHIFT = 0.02
"""Movement of a copy of the same source, share of the side."""


class Planted(NamedTuple):
    """A copy of split, index rows and faces with a leak in it.

    Attributes:
        samples: fold and sample of each one that was planted in training.
        originals: planted copy -> its test sample; empty for ``subject``.
    """

    split: pd.DataFrame
    rows: pd.DataFrame
    store: FaceStore
    samples: pd.DataFrame
    originals: dict[str, str]


class WithCopies(FaceStore):
    """A face store together with a smaller one in another folder, with the settings of the first."""

    def __init__(self, path: Path, copies: Path) -> None:
        super().__init__(path)
        self.copies = copies

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"copies": self.copies}

    @property
    def _folders(self) -> list[Path]:
        return [self.path, self.copies]


def plant(leak: Leak, split: pd.DataFrame, rows: pd.DataFrame, store: FaceStore, folder: Path, seed: int) -> Planted:
    """Plant a leak in copies of a split, the rows of an index, and a face store.

    Args:
        split: sample, fold, part.
        rows: the index; every sample of ``split`` has a row and a face.
        folder: folder for the faces of the copies; replaced.
        seed: decides which half of a person's samples is moved.

    Raises:
        UserError: The samples name no subjects, or no test person has two samples (``subject``).
    """
    if leak == "subject":
        return _people(split, rows, store, seed)
    tested = split[split["part"] == "test"]
    originals = {f"{sample}~{leak}": sample for sample in sorted(tested["sample"].unique())}
    names = {sample: copy for copy, sample in originals.items()}
    copies = rows[rows["sample"].isin(names)]
    if leak == "source":
        where = rows["sample"].isin(names) & rows["source"].isna()
        rows = rows.assign(source=rows["source"].where(~where, "clip of " + rows["sample"]))
        copies = rows[rows["sample"].isin(names)].assign(subject=None)
    else:
        copies = copies.assign(subject=None, source=None)
    copies = copies.assign(sample=copies["sample"].map(names))
    planted = tested.assign(sample=tested["sample"].map(names), part="train")
    _write_copies(leak, store, originals, folder)
    return Planted(
        pd.concat([split, planted], ignore_index=True),
        pd.concat([rows, copies.astype(rows.dtypes)], ignore_index=True),
        WithCopies(store.path, folder),
        planted[["fold", "sample"]],
        originals,
    )


def _people(split: pd.DataFrame, rows: pd.DataFrame, store: FaceStore, seed: int) -> Planted:
    """Move half of the samples of each test person to training."""
    named = split.merge(rows[["sample", "subject"]], on="sample")
    if named["subject"].isna().any():
        raise UserError("--plant subject needs the subject of every sample: plant a source, a copy or a mirrored copy")
    tested = named[named["part"] == "test"].sample(frac=1, random_state=seed)
    place = tested.groupby(["fold", "subject"]).cumcount()
    moved = tested[place < tested.groupby(["fold", "subject"])["sample"].transform("size") // 2]
    if moved.empty:
        raise UserError("--plant subject moves half of a test person's samples, but each has one: plant a copy")
    keys = pd.MultiIndex.from_frame(moved[["fold", "sample"]])
    here = pd.MultiIndex.from_frame(split[["fold", "sample"]]).isin(keys)
    return Planted(
        split.assign(part=split["part"].astype(object).where(~here, "train")),
        rows,
        store,
        moved[["fold", "sample"]].sort_values(["fold", "sample"], ignore_index=True),
        {},
    )


def _write_copies(leak: Leak, store: FaceStore, originals: dict[str, str], folder: Path) -> None:
    """Write a store of the copies: name -> sample that is copied."""
    import datasets

    features = datasets.Dataset.load_from_disk(str(store.path)).features
    faces = []
    for name, sample in originals.items():
        row = store.row(sample)
        frames = [_copied(leak, decode(data)) for data in row["frames"]]
        faces.append(row | {"sample": name, "frames": frames, "phash": face_hash(decode(frames[0]))})
    shutil.rmtree(folder, ignore_errors=True)
    datasets.Dataset.from_list(faces, features=features).save_to_disk(str(folder))


def _copied(leak: Leak, face: np.ndarray) -> bytes:
    """Return a copy of a face, uint8 (S, S, 3) RGB, as the bytes of its file."""
    if leak == "mirror":
        return encode(np.ascontiguousarray(face[:, ::-1]), "png", 0)
    if leak == "source":
        shift = SHIFT * face.shape[1]
        move = np.array([[1.0, 0.0, shift], [0.0, 1.0, 0.0]])
        face = cv2.warpAffine(face, move, face.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return encode(face, "jpeg", QUALITY)
