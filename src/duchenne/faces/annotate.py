"""Landmarks stage: 68 points and AU-region centres of every stored face."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from duchenne.chunks import Chunk, digest, resumable
from duchenne.engines import Engine
from duchenne.errors import UserError
from duchenne.faces import regions
from duchenne.faces.align import apply, template_box
from duchenne.faces.arrow import CHUNK, write_rows
from duchenne.faces.detect import choose, detector
from duchenne.faces.landmarks import landmarker, model_digest
from duchenne.faces.points import key_points
from duchenne.faces.settings import Faces
from duchenne.faces.store import CHECKSUMS, FaceStore, decode
from duchenne.files import file_digest, replacing
from duchenne.sealed import note, seal_table, write_sealed
from duchenne.sources import source_digest

NUMBERS = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        ("sample", pa.string()),
        ("frame", pa.int64()),
        ("points", NUMBERS),  # 136
        ("key_points", NUMBERS),  # 10
        ("confidence", pa.float64()),  # the detector's score; NaN where there was no detection
        ("au_centers", NUMBERS),  # 18, in the order of regions.REGIONS
    ]
)


def landmark_dataset(
    store: FaceStore,
    config: Faces,
    out: Path,
    au_centers: Path,
    engine: Engine | None = None,
    work: Path | None = None,
) -> None:
    """Find the 68 points of every stored frame, and the mean centres of the AU regions.

    The points by which a frame was aligned are moved by its transform; all other frames are searched.

    ``out`` has one row per frame: sample, frame, points (136 numbers), key_points (10), confidence (the detector's) and
    au_centers (18, in the order of ``regions.REGIONS``), all in px of the aligned face. ``au_centers`` is JSON with
    the mean of each region's one or two centres, over the frames of a sample and then over the ``n`` samples. A sample
    without a detected face, whose whole frame is stored instead, has no row.

    Args:
        engine: annotates the chunks; None: one process per core of this machine.
        work: folder of finished chunks, from which an interrupted run resumes; None: a temporary one.

    Raises:
        UserError: The store holds no face, or a package or model file is missing.
    """
    if work is None:
        with tempfile.TemporaryDirectory() as folder:
            landmark_dataset(store, config, out, au_centers, engine, Path(folder) / "chunks")
        return
    landmarker(config)  # a missing package or model file stops here, before any work
    if _searched(config):
        detector(config)
    files = resumable(_chunks(store, config, work), "landmarks", engine)

    total, n = np.zeros(2 * sum(regions.REGIONS.values())), 0
    with replacing(out) as part:
        with pq.ParquetWriter(part, SCHEMA) as writer:
            for path in files:
                with pa.ipc.open_stream(path) as reader:
                    table = reader.read_all().replace_schema_metadata()
                writer.write_table(table)
                frame = table.select(["sample", "au_centers"]).to_pandas()
                means = [np.stack(centres).mean(axis=0) for _, centres in frame.groupby("sample")["au_centers"]]
                total, n = total + sum(means), n + len(means)
            if not n:
                reasons = store.failures["reason"].value_counts()
                most = f"; most often: {reasons.index[0]}" if len(reasons) else ""
                raise UserError(f"{store.path} has no face at all{most} (failures.parquet there has all reasons)")
            writer.add_key_value_metadata(note(out.name))
        seal_table(part)
    mean = (total / n).reshape(-1, 2).round(3)
    ends = np.cumsum(list(regions.REGIONS.values()))
    parts = dict(zip(regions.REGIONS, (p.tolist() for p in np.split(mean, ends[:-1])), strict=True))
    write_sealed(au_centers, {"size": config.size, "n": n, "mean": parts})
    shutil.rmtree(work)


def _chunks(store: FaceStore, config: Faces, work: Path) -> Iterator[Chunk]:
    sums = store.path / CHECKSUMS  # changes with any face; a store of an older version has none
    made = file_digest(sums if sums.exists() else store.path / "state.json")
    setting = (config.model_dump_json(), source_digest(__name__), model_digest(config), made)
    names, size = store.samples, CHUNK["image"]  # points need little memory for every kind
    for start in range(0, len(names), size):
        samples = names[start : start + size]
        path = work / f"{start:08d}_{digest(*setting, samples)}.arrow"
        yield Chunk(path, len(samples), _landmark, (store, config, samples))


def _landmark(store: FaceStore, config: Faces, samples: list[str], out: Path) -> None:
    rows, template = [], template_box(config.size, config.eye_distance)
    for sample in samples:
        row = store.row(sample)
        if config.mode != "aligned" and np.isnan(row["boxes"]).all():
            continue
        columns = ("frame_numbers", "frames", "confidence", "transforms", "points")
        for number, data, score, matrix, found in zip(*(row[name] for name in columns), strict=True):
            if found is not None:
                points = apply(np.reshape(matrix, (2, 3)), np.reshape(found, (68, 2)))
            else:
                image = decode(data)
                box, score = _look(image, template, config) if _searched(config) else (template, score)
                points = landmarker(config)(image, box)
            rows.append(
                {
                    "sample": sample,
                    "frame": number,
                    "points": points.ravel(),
                    "key_points": key_points(points).ravel(),
                    "confidence": score,
                    "au_centers": regions.centres(points).ravel(),
                }
            )
    write_rows(out, SCHEMA, rows)


def _searched(config: Faces) -> bool:
    """Whether to run the detector on the stored frames: only for datasets that come aligned."""
    return config.mode == "aligned" and config.detector != "none"


def _look(image: np.ndarray, template: np.ndarray, config: Faces) -> tuple[np.ndarray, float]:
    """Box and score of the face in a frame that came aligned; the template's box if none is found."""
    boxes, scores = detector(config)(image)
    if not len(boxes):
        return template, float("nan")
    best = choose(boxes, image.shape)
    return boxes[best], float(scores[best])
