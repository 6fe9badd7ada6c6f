"""Faces of a dataset as a PyTorch dataset."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from torch.utils.data import Dataset

from duchenne import config
from duchenne.datasets.build import build_index
from duchenne.datasets.index import Index, read_index
from duchenne.datasets.settings import Dataset as DatasetBlock
from duchenne.errors import UserError, nearest
from duchenne.faces.store import FaceStore
from duchenne.files import expanded
from duchenne.media.frames import Span, read_frames
from duchenne.media.images import ImageError
from duchenne.papers.library import library
from duchenne.sealed import read_table
from duchenne.workspace import Workspace

log = logging.getLogger(__name__)


class FaceItem(TypedDict):
    """A sample of :class:`FaceDataset`; a text that is not known is empty, so that samples can be collated.

    Attributes:
        image: uint8 (H, W, 3) RGB, for clips (T, H, W, 3); or what ``transform`` makes of it.
        label: position in ``classes``.
        emotion: name of the class.
        sample: name of the sample in the index.
        subject: name of the person.
        part: train, val or test.
        fold: fold of the split, from 1; 0 without a split.
    """

    image: Any
    label: int
    emotion: str
    sample: str
    subject: str
    part: str
    fold: int


class FaceDataset(Dataset[FaceItem]):
    """Samples of an index with their pictures, for :class:`torch.utils.data.DataLoader`; made by :func:`open_dataset`.

    Attributes:
        rows: the index's row of each sample (:data:`duchenne.datasets.index.SCHEMA`), with ``part`` and ``fold``.
        classes: names in class order.
        transform: function of a picture or clip, or None.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        classes: list[str],
        source: FaceStore | Path,
        transform: Callable[[np.ndarray], Any] | None = None,
        max_megapixels: float = 100.0,
    ) -> None:
        self.rows, self.classes, self.transform = rows.reset_index(drop=True), classes, transform
        self._source, self._max_megapixels = source, max_megapixels

    @property
    def labels(self) -> np.ndarray:
        """Positions in ``classes``, (N,)."""
        return self.rows["label"].to_numpy(np.int64)

    @property
    def subjects(self) -> np.ndarray:
        """Names of the people, (N,); None where not known."""
        return self.rows["subject"].to_numpy(object)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"FaceDataset({len(self)} samples of {', '.join(self.classes)})"

    def __getitem__(self, i: int) -> FaceItem:
        row = self.rows.iloc[i]
        image = self._picture(row)
        return FaceItem(
            image=image if self.transform is None else self.transform(image),
            label=int(row["label"]),
            emotion=row["emotion"],
            sample=row["sample"],
            subject=_text(row["subject"]),
            part=_text(row["part"]),
            fold=int(row["fold"]),
        )

    def _picture(self, row: pd.Series) -> np.ndarray:
        one = row["kind"] == "image"
        if isinstance(self._source, FaceStore):
            sample = row["sample"]
            return self._source.frame(sample) if one else self._source.frames(sample)
        path = self._source / row["path"]
        span = Span(*(None if pd.isna(row[end]) else int(row[end]) for end in ("first", "last")))
        images = []
        for number, image in read_frames(path, row["kind"], self._max_megapixels, [span]):
            if isinstance(image, ImageError):
                raise UserError(f"sample {row['sample']!r}: {path}{'' if one else f', frame {number}'} {image}")
            images.append(image)
        if not images:
            raise UserError(f"sample {row['sample']!r}: {path} has no frame in {span.first} to {span.last}")
        return images[0] if one else np.stack(images)


def open_dataset(
    dataset: str | Path,
    root: str | Path | None = None,
    part: str | None = None,
    *,
    split: str | None = None,
    fold: int = 1,
    aligned: bool = True,
    transform: Callable[[np.ndarray], Any] | None = None,
    workspace: str | Path = ".",
) -> FaceDataset:
    """Open the faces of a dataset: ``faces[i]`` is a dict of image, label, emotion, sample, subject, part and fold.

    Aligned faces are those of the stages index and align (``dvc repro align@<dataset>``). With ``aligned=False`` no
    stage has to run: the pictures are read as they are, and the index is built from the files if there is none.

    >>> faces = open_dataset("raf_db", part="train")  # doctest: +SKIP
    >>> loader = torch.utils.data.DataLoader(faces, batch_size=64, num_workers=4)  # doctest: +SKIP

    Batches collate if all images have one size, which aligned faces have; clips also need one length, so cut them in
    ``transform`` or use a batch size of 1. ``transform`` must be picklable for worker processes that are spawned.

    Args:
        dataset: a block of ``datasets`` in ``params.yaml`` or of the library (``duchenne.open_dataset("raf_db",
            root="/data/RAF-DB", aligned=False)``), or the path of an index (``data/index/<name>.parquet``).
        root: the dataset's folder, instead of the one in its block; only with ``aligned=False``.
        part: ``train``, ``val`` or ``test``: of ``split`` if it is given, otherwise as the dataset's owners say.
        split: a variant whose split to use, with ``fold``, counted from 1.
        aligned: False: pictures and clips as they are in the files.
        transform: function of an image uint8 (H, W, 3) RGB, or of a clip (T, H, W, 3).
        workspace: the project's folder.

    Raises:
        UserError: There is no such dataset, split, fold or part, its files are not there, or it is not aligned.
    """
    name, places = _named(dataset, Workspace(Path(workspace)))
    source: FaceStore | Path
    if aligned:
        if root is not None:
            raise UserError("root is the folder of pictures as they are: add aligned=False, or leave root out")
        source, index = _stored(name, places)
        limit = 100.0
    else:
        block = _block(name, places)
        source, limit = expanded(root or places.root / block.root), block.faces.max_megapixels
        if root is None and places.index(name).is_file():
            index = read_index(places.index(name))
        else:
            index = build_index(name, block.model_copy(update={"root": source}))
    rows = index.rows
    rows = _of_split(rows, places, split, fold) if split else rows.assign(part=rows["split"], fold=0)
    if part is not None:
        there = sorted(rows["part"].dropna().unique())
        if part not in there:
            known = f"it has {', '.join(there)}" if there else "its owners name none: give split, a variant"
            raise UserError(f"{name} has no part {part!r}{nearest(part, there)}: {known}")
        rows = rows[rows["part"] == part]
    return FaceDataset(rows, index.classes, source, transform, limit)


def _named(dataset: str | Path, places: Workspace) -> tuple[str, Workspace]:
    """Return the name of a dataset and the project that it belongs to."""
    path = Path(dataset)
    if path.suffix != ".parquet":
        return str(dataset), places
    if not path.is_file():
        raise UserError(f"{path}: there is no such index")
    places = Workspace(path.absolute().parent.parent.parent)
    if places.index(path.stem) != path.absolute():
        raise UserError(f"{path} is not in data/index of a project: give its dataset's name and root, aligned=False")
    return path.stem, places


def _block(name: str, places: Workspace) -> DatasetBlock:
    """Return the dataset's block of ``params.yaml``, or of the library."""
    path = places.root / "params.yaml"
    own = config.load(path, places).datasets if path.is_file() else {}
    if name in own:
        return own[name]
    if name not in (known := library()["datasets"]):
        raise UserError(f"there is no dataset {name!r}{nearest(name, [*own, *known])}: add a block to {path}")
    return DatasetBlock.model_validate(known[name])


def _stored(name: str, places: Workspace) -> tuple[FaceStore, Index]:
    """Return the aligned faces, and the index of the samples that have one."""
    if not places.index(name).is_file():
        _block(name, places)  # a name that does not exist needs other advice
    if not places.index(name).is_file() or not (places.faces(name) / "store.json").is_file():
        raise UserError(
            f"{places.faces(name)} holds no aligned faces: run `dvc repro align@{name}` in {places.root.absolute()}, "
            "or give aligned=False for the pictures as they are"
        )
    store, index = FaceStore(places.faces(name)), read_index(places.index(name))
    rows = index.rows[index.rows["sample"].isin(set(store.samples))]
    if lost := len(index.rows) - len(rows):
        log.warning("%s: %d samples have no face: %s says why", name, lost, store.path / "failures.parquet")
    return store, replace(index, rows=rows)


def _of_split(rows: pd.DataFrame, places: Workspace, variant: str, fold: int) -> pd.DataFrame:
    path = places.split(variant)
    if not path.is_file():
        known = [file.stem for file in path.parent.glob("*.parquet") if ".duplicates" not in file.name]
        raise UserError(f"{path} does not exist{nearest(variant, known)}: run `dvc repro split@{variant}`")
    table = read_table(path)
    own = table[table["fold"] == fold]
    if own.empty:
        raise UserError(f"{variant} has no fold {fold}: it has {', '.join(map(str, sorted(table['fold'].unique())))}")
    if not own["sample"].isin(set(rows["sample"])).any():
        raise UserError(f"no sample of the split of {variant} is in this dataset")
    return rows.merge(own[["sample", "part", "fold"]], on="sample", validate="one_to_one")


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)
