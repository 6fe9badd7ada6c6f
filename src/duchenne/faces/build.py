"""Align stage: fills the face store."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from duchenne.chunks import Chunk, digest, resumable
from duchenne.engines import Engine
from duchenne.errors import UserError
from duchenne.faces.align import template
from duchenne.faces.arrow import CHUNK, failures, write_rows
from duchenne.faces.detect import detector
from duchenne.faces.landmarks import landmarker, model_digest
from duchenne.faces.sample import align_file
from duchenne.faces.settings import Faces
from duchenne.faces.store import SCHEMA, write_checksums
from duchenne.files import file_digest
from duchenne.media.pixel_tables import placed
from duchenne.sealed import write_sealed, write_table
from duchenne.shortage import naming
from duchenne.sources import source_digest

SHARD = 500_000_000
"""Approximate size of a file of the store, bytes."""


def align_dataset(
    rows: pd.DataFrame, root: Path, config: Faces, out: Path, work: Path, engine: Engine | None = None
) -> None:
    """Detect, align and store the face of every frame of every sample.

    The same rows and configuration give the same bytes, whatever the engine is. Chunks finished before an interruption
    are kept in ``work`` and not repeated. A sample without a usable frame goes to ``failures.parquet`` with the reason;
    so does each unusable frame of a clip that has usable ones.

    How frames are aligned: an image by its own key points; a clip with onset and apex (a micro-expression) by one
    transform, from its onset frame; any other clip by a smoothed trajectory (``config.smoothing``).

    Args:
        rows: the dataset's index; without the columns first and last, a sample has all frames of its file.
        root: the dataset's root.
        out: folder of the store; replaced at the end.
        work: folder of finished chunks.
        engine: aligns the chunks; None: one process per core of this machine.

    Raises:
        UserError: A package or model file is missing, or ``config.mode`` is boxes and a row has none.
    """
    if config.mode == "boxes" and (lacking := rows[rows["box"].isna()]["sample"].tolist()):
        raise UserError(f"faces.mode is boxes, but {len(lacking)} rows have none, the first is {lacking[0]!r}")
    if config.mode != "aligned":
        landmarker(config)  # a missing package or model file stops here, before any work
    if config.mode == "detect":
        detector(config)
    files = resumable(_chunks(rows, root, config, work), "align", engine)
    _assemble(files, config, out)
    shutil.rmtree(work)


def _chunks(rows: pd.DataFrame, root: Path, config: Faces, work: Path) -> Iterator[Chunk]:
    """Group rows into chunks of whole files: each file is read by one chunk."""
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
    """Name, size and times of the files behind ``path``; they change when someone replaces one of them.

    ``path`` is a file, a folder, or a row of a table; a link is followed.
    """
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
        except OSError:  # deleted, or a broken link
            found.append((file.name, -1, -1, target))
        else:
            found.append((file.name, state.st_size, state.st_mtime_ns, target))
    return found


def _align(rows: pd.DataFrame, root: Path, config: Faces, out: Path) -> None:
    files: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_dict("records"):
        files.setdefault(row["path"], []).append(row)
    done = [sample for file in files.values() for sample in align_file(file, root, config)]
    write_rows(out, SCHEMA, [face for face, _ in done if face], [f for _, failed in done for f in failed])


def _assemble(files: list[Path], config: Faces, out: Path) -> None:
    """Join the chunks into one Hugging Face dataset, with the failures and the settings beside it."""
    import datasets

    datasets.disable_progress_bars()
    tables = [datasets.table.MemoryMappedTable.from_file(str(path)) for path in files]
    info = datasets.DatasetInfo(features=datasets.Features.from_arrow_schema(SCHEMA))
    table = datasets.Dataset(datasets.table.concat_tables(tables), info=info, fingerprint=_fingerprint(files))

    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    columns = {"sample": "string", "frame": "Int64", "reason": "string"}
    failed = pd.DataFrame(failures(files), columns=list(columns)).astype(columns)
    try:
        with naming(out, part):
            table.save_to_disk(str(part), num_shards=1 + table.data.nbytes // SHARD)  # one even without a face
            write_table(part / "failures.parquet", failed)
            write_sealed(part / "store.json", store_meta(config))
            write_checksums(part)
        shutil.rmtree(out, ignore_errors=True)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fingerprint(files: list[Path]) -> str:
    """Fingerprint of the contents of the chunks; their names would also depend on the files' times."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()[:16]


def store_meta(config: Faces) -> dict[str, Any]:
    """Describe how the faces were made; one network may use two stores whose descriptions are equal.

    ``settings`` holds the fields from which :class:`~duchenne.faces.settings.Faces` can be restored.
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
