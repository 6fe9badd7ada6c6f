"""The align stage: filling the face store."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from duchenne.chunks import Chunk, digest, resumable
from duchenne.errors import UserError
from duchenne.faces.align import template
from duchenne.faces.arrow import CHUNK, failures, write_rows
from duchenne.faces.detect import detector
from duchenne.faces.landmarks import landmarker, model_digest
from duchenne.faces.sample import align_file
from duchenne.faces.settings import Faces
from duchenne.faces.store import SCHEMA
from duchenne.files import file_digest, write_json
from duchenne.media.pixel_tables import placed
from duchenne.sources import source_digest

SHARD = 500_000_000
"""Bytes of a file of the store, about."""


def align_dataset(
    rows: pd.DataFrame, root: Path, config: Faces, out: Path, work: Path, jobs: int = -1, backend: str = "loky"
) -> None:
    """Find, align and store the face of every frame of every sample.

    The same rows and configuration give the same bytes, whatever ``jobs`` is. Chunks finished before an interruption
    are kept in ``work`` and not done again. A sample without a usable frame goes to ``failures.parquet`` with the
    reason; so does each bad frame of a clip that has good ones.

    How frames are aligned: an image by its own key points; a clip with onset and apex (a micro-expression) by one
    transform, that of its onset frame; any other clip by a smoothed trajectory (``config.smoothing``).

    Args:
        rows: the dataset's index; without the columns first and last a sample is all frames of its file.
        root: the dataset's root.
        out: folder of the store; replaced when all is done.
        work: folder of finished chunks.
        jobs: processes; -1: one a core.
        backend: of joblib.

    Raises:
        UserError: a package or model file is missing, or boxes are asked for and a row has none.
    """
    if config.mode == "boxes" and (lacking := rows[rows["box"].isna()]["sample"].tolist()):
        raise UserError(f"faces.mode is boxes, but {len(lacking)} rows have none, the first is {lacking[0]!r}")
    landmarker(config)  # a missing package or model file stops here, before any work
    if config.mode == "detect":
        detector(config)
    files = resumable(_chunks(rows, root, config, work), "align", jobs, backend)
    _assemble(files, config, out)
    shutil.rmtree(work)


def _chunks(rows: pd.DataFrame, root: Path, config: Faces, work: Path) -> Iterator[Chunk]:
    """Whole files, with all of their samples: a file is read by one chunk."""
    setting = (config.model_dump_json(), source_digest(__name__), model_digest(config))
    size = min(CHUNK[kind] for kind in rows["kind"].unique())
    start = 0
    for places in _batches(rows["path"], size):
        part = rows.iloc[places]
        seen = [_changes_of(root / path) for path in part["path"].unique()]
        key = digest(*setting, part.to_json(orient="records"), seen)
        yield Chunk(work / f"{start:08d}_{key}.arrow", len(part), _align, (part, root, config))
        start += len(part)


def _batches(paths: pd.Series, size: int) -> Iterator[list[int]]:
    """Positions of at least ``size`` rows at a time (the last may be fewer), all rows of a path together."""
    of_path: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        of_path.setdefault(path, []).append(place)
    batch: list[int] = []
    for places in of_path.values():
        batch += places
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def _changes_of(path: Path) -> list[tuple[str, int, int, str]]:
    """What changes when somebody replaces a file, a file of a folder, or the table that has the image in a row: of a
    link, what it leads to."""
    path, _ = placed(path) or (path, 0)
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError:
        files = []
    found = []
    for file in files:
        target = str(file.readlink()) if file.is_symlink() else ""
        try:
            state = file.stat()
        except OSError:  # gone, or a dead link
            found.append((file.name, -1, -1, target))
        else:
            found.append((file.name, state.st_size, state.st_mtime_ns, target))
    return found


def _align(rows: pd.DataFrame, root: Path, config: Faces, out: Path) -> None:
    files = [group.to_dict("records") for _, group in rows.groupby("path", sort=False)]
    done = [sample for file in files for sample in align_file(file, root, config)]
    write_rows(out, SCHEMA, [face for face, _ in done if face], [f for _, failed in done for f in failed])


def _assemble(files: list[Path], config: Faces, out: Path) -> None:
    """Put the chunks together as one Hugging Face dataset, with the failures and the settings beside it."""
    import datasets

    datasets.disable_progress_bars()
    tables = [datasets.table.MemoryMappedTable.from_file(str(path)) for path in files]
    info = datasets.DatasetInfo(features=datasets.Features.from_arrow_schema(SCHEMA))
    table = datasets.Dataset(datasets.table.concat_tables(tables), info=info, fingerprint=_fingerprint(files))

    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    table.save_to_disk(str(part), num_shards=1 + table.data.nbytes // SHARD)  # one even where no face was found
    columns = {"sample": "string", "frame": "Int64", "reason": "string"}
    failed = pd.DataFrame(failures(files), columns=list(columns)).astype(columns)
    failed.to_parquet(part / "failures.parquet", index=False)
    write_json(part / "store.json", _meta(config))
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)


def _fingerprint(files: list[Path]) -> str:
    """Of what the chunks hold: their names also tell when the pictures were copied to this machine."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()[:16]


def _meta(config: Faces) -> dict[str, Any]:
    """How the faces were made: two stores with equal values hold faces that one network may see.

    ``settings`` holds the fields of the configuration that make a :class:`~duchenne.config.Faces` again.
    """
    if config.mode == "aligned":
        return {"settings": config.model_dump(include={"mode", "size"})}
    fields = {"mode", "size", "eye_distance", "landmarks"} | (
        {"detector", "upsample"} if config.mode == "detect" else set()
    )
    return {
        "settings": config.model_dump(include=fields),
        "template": template(config.size, config.eye_distance).round(3).tolist(),
        "landmark_model": model_digest(config),
    }
