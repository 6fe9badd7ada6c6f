"""Face store: the aligned frames of a dataset, memory-mapped, with failures and settings."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from duchenne.errors import UserError
from duchenne.files import file_digest
from duchenne.sealed import DamagedError, check_table, damaged, read_sealed, read_table, write_table

SCHEMA = pa.schema(
    [
        ("sample", pa.string()),
        ("frame_numbers", pa.list_(pa.int64())),
        ("frames", pa.list_(pa.binary())),  # JPEG or PNG files
        ("transforms", pa.list_(pa.list_(pa.float64()))),  # row-major 2 x 3, original px -> aligned px
        ("points", pa.list_(pa.list_(pa.float32()))),  # 136: x and y of 68 points, original px; null where not searched
        ("boxes", pa.list_(pa.list_(pa.float64()))),  # x0, y0, x1, y1, original px
        ("confidence", pa.list_(pa.float64())),  # the detector's score; NaN where there was no detection
        ("doubtful", pa.list_(pa.bool_())),  # whether the score is below the detector's own threshold
        ("faces", pa.list_(pa.int64())),  # number detected; null where only the last face's neighbourhood was searched
        ("phash", pa.string()),  # hashing.face_hash of the first frame
    ]
)


CHECKSUMS = "checksums.parquet"
"""File of the store, a row a sample: ``sample``; ``frames``, the CRC-32 of each frame's bytes; ``rest``, that of all
else in the row. Its metadata has the SHA-256 of the columns that are read as a whole, and of the two other files. A
frame is checked when it is read, so opening a store of gigabytes reads none of them."""

COLUMNS = ("sample", "frame_numbers", "confidence", "doubtful", "faces", "phash")
"""Columns that are read as a whole."""

BESIDE = ("store.json", "failures.parquet")
"""Files of the store that are not its shards."""


class FaceStore:
    """Gives random access to the faces that ``align_dataset`` wrote to a folder.

    The shards are memory-mapped at the first access; a copy sent to another process opens them again. Every value is
    compared with its checksum when it is read; stores of versions that wrote none are read without.

    Raises:
        UserError: The folder holds no face store.
        DamagedError: A file of the store is damaged, or of another store.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.meta: dict[str, Any] = read_sealed(self._beside("store.json"), _again(self.path))
        except FileNotFoundError:
            raise UserError(f"{path} holds no aligned faces: run the align stage (dvc repro)") from None
        if not isinstance(self.meta, dict):
            raise damaged(self.path / "store.json", _again(self.path), "it is not an object")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "meta": self.meta}

    def _beside(self, name: str) -> Path:
        """Return a file of the store whose digest is the recorded one."""
        path, sums = self.path / name, self.path / CHECKSUMS
        if sums.exists():
            known = _notes(sums, _again(self.path))["files"][name]
            if file_digest(path) != known:
                raise damaged(path, _again(self.path), f"or {sums.name} is of another store")
        return path

    @property
    def _folders(self) -> list[Path]:
        """The folders that the faces are in."""
        return [self.path]

    @cached_property
    def _parts(self) -> list[_Shards]:
        return [_Shards(folder) for folder in self._folders]

    @cached_property
    def _positions(self) -> dict[str, tuple[_Shards, int]]:
        names = [(part, part.column("sample").to_pylist()) for part in self._parts]
        return {sample: (part, i) for part, own in names for i, sample in enumerate(own)}

    def _column(self, name: str) -> list[Any]:
        return [value for part in self._parts for value in part.column(name).to_pylist()]

    @property
    def samples(self) -> list[str]:
        return list(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, sample: object) -> bool:
        return sample in self._positions

    def row(self, sample: str) -> dict[str, Any]:
        """Return all columns of one sample."""
        part, i = self._positions[sample]
        return part.row(i)

    def frame_numbers(self, sample: str) -> list[int]:
        """Return the numbers of the stored frames, as in the index, in stored order."""
        part, i = self._positions[sample]
        return part.column("frame_numbers")[i].as_py()

    def frame(self, sample: str, i: int = 0) -> np.ndarray:
        """Return the ``i``-th stored frame, uint8 (S, S, 3) RGB."""
        part, row = self._positions[sample]
        return part.decoded(row, i)

    def frames(self, sample: str) -> np.ndarray:
        """Return all frames of a sample, uint8 (T, S, S, 3) RGB."""
        part, row = self._positions[sample]
        return np.stack([part.decoded(row, i) for i in range(part.count(row))])

    def detection(self) -> pd.DataFrame:
        """Return the detector's results per sample: ``score`` (median over frames), ``doubtful`` and ``faces``.

        A sample is doubtful if most of its frames with a face are; ``faces`` is the maximum in one frame. NaN without
        detection.
        """
        rows = []
        for sample in zip(*map(self._column, ("sample", "confidence", "doubtful", "faces")), strict=True):
            name, scores, doubtful, faces = sample
            shown = ~np.isnan(scores)
            rows.append(
                {
                    "sample": name,
                    "score": np.median(np.array(scores)[shown]) if shown.any() else np.nan,
                    "doubtful": bool(shown.any() and np.mean(np.array(doubtful)[shown]) > 0.5),
                    "faces": max((count for count in faces if count is not None), default=np.nan),
                }
            )
        return pd.DataFrame(rows, columns=["sample", "score", "doubtful", "faces"])

    def findings(self) -> dict[str, list[str]]:
        """Return stored samples to inspect: finding -> sample names; findings without a sample are left out."""
        table = self.detection()
        partial = set(self.failures.dropna(subset="frame")["sample"])
        lengths = pd.Series(self._column("frame_numbers"), index=table["sample"], dtype=object).map(len)
        found = {
            "a doubtful face: the detector's score is below its own threshold": table["doubtful"],
            "several faces, of which the largest central one is used": (table["faces"] > 1) & ~table["doubtful"],
            "frames that cannot be used (failures.parquet says why)": table["sample"].isin(partial),
        }
        if lengths.max() > 1:  # a set of clips
            found["a clip of one frame: no motion to see"] = (lengths == 1).to_numpy()
        return {what: table["sample"][where].tolist() for what, where in found.items() if where.any()}

    def hashes(self) -> dict[str, str]:
        """Return sample -> perceptual hash of its first frame."""
        return dict(zip(self._positions, self._column("phash"), strict=True))

    @property
    def failures(self) -> pd.DataFrame:
        """Return the failures: sample, frame (empty when the whole sample failed) and reason."""
        return read_table(self._beside("failures.parquet"), again=_again(self.path))


class _Shards:
    """The Arrow files of a folder, whose contents are checked when they are read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.again, self._known = folder, _again(folder), set[str]()
        self.files = sorted(folder.glob("data-*.arrow"))
        if not self.files:
            raise UserError(f"{folder} holds no aligned faces: run the align stage (dvc repro)")
        tables = [self._open(path) for path in self.files]
        self.ends = np.cumsum([len(table) for table in tables])
        try:
            self.table = pa.concat_tables(tables)
        except pa.ArrowException as error:
            raise damaged(folder, self.again, error) from None
        file = folder / CHECKSUMS
        self.notes = _notes(file, self.again) if file.exists() else None
        if self.notes is not None:
            if _types(self.table) != self.notes["types"]:
                raise damaged(folder, self.again, "the columns of its shards are of other types")
            rows = pq.read_table(file).combine_chunks()
            if len(rows) != len(self.table):
                raise damaged(folder, self.again, f"it has {len(self.table)} faces, {CHECKSUMS} has {len(rows)}")
            sums = rows.column("frames").combine_chunks()
            self.sums, self.starts = sums.flatten().to_numpy(), sums.offsets.to_numpy() - sums.offsets[0].as_py()
            self.rest = rows.column("rest").to_numpy()

    def _open(self, path: Path) -> pa.Table:
        """Map a shard into memory, and check that its offsets lie within it, whose damage would end this process."""
        mapped = pa.memory_map(str(path))  # its errors are of this moment, not of the contents
        try:
            with pa.ipc.open_stream(mapped) as reader:
                table = reader.read_all().replace_schema_metadata()
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise damaged(path, self.again, error) from None
        return table

    def _wrong(self, i: int, what: str) -> DamagedError:
        return damaged(self.files[int(np.searchsorted(self.ends, i, side="right"))], self.again, what)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one of :data:`COLUMNS`."""
        try:
            found = self.table.column(name)
        except KeyError:
            if self.notes is not None:
                raise damaged(self.folder, self.again, f"its shards have no {name}") from None
            raise UserError(
                f"{self.folder} has no {name}: an older version wrote it. Run the align stage again"
            ) from None
        if self.notes is not None and name not in self._known:
            if _column_digest(found) != self.notes["columns"][name]:
                files = ", ".join(path.name for path in self.files)
                raise damaged(self.folder, self.again, f"the column {name} of {files}")
            self._known.add(name)
        return found

    def row(self, i: int) -> dict[str, Any]:
        (values,) = _values(self.table.slice(i, 1))
        if self.notes is not None and row_checksum(values) != self.rest[i]:
            raise self._wrong(i, f"row {i}")
        return values | {"frames": [self.frame(i, k) for k in range(self.count(i))]}

    def frame(self, i: int, k: int) -> bytes:
        """Return the bytes of the ``k``-th frame of row ``i``."""
        cell = self.table.column("frames")[i]
        if self.notes is None:
            return cell[k].as_py()
        known = self.sums[self.starts[i] : self.starts[i + 1]]
        data = cell[k].as_py() if len(cell) == len(known) else None
        if data is None or zlib.crc32(data) != known[k]:
            raise self._wrong(i, f"a frame of row {i}")
        return data

    def count(self, i: int) -> int:
        return len(self.table.column("frames")[i])

    def decoded(self, i: int, k: int) -> np.ndarray:
        image = decode(self.frame(i, k))
        if image is None:  # in a store without checksums
            raise self._wrong(i, f"a frame of row {i} is not a picture")
        return image


def write_checksums(folder: Path) -> None:
    """Write :data:`CHECKSUMS` of a store whose other files are written."""
    shards = _Shards(folder)
    table = shards.table
    rows = pa.table(
        {
            "sample": table.column("sample"),
            "frames": pa.array(
                [[zlib.crc32(data.as_py()) for data in cell] for cell in table.column("frames")], pa.list_(pa.uint32())
            ),
            "rest": pa.array([row_checksum(values) for values in _values(table)], pa.uint32()),
        }
    )
    notes = {
        "types": _types(table),
        "columns": {name: _column_digest(table.column(name)) for name in COLUMNS},
        "files": {name: file_digest(folder / name) for name in BESIDE},
    }
    write_table(folder / CHECKSUMS, rows.replace_schema_metadata({"checksums": json.dumps(notes)}))


def _types(table: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


def _values(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the values of rows of the store without their frames."""
    for batch in rows.drop_columns("frames").to_batches(max_chunksize=1000):
        yield from batch.to_pylist()


def row_checksum(values: dict[str, Any]) -> int:
    """Return the CRC-32 of the values of a row of the store without its frames."""
    return zlib.crc32(repr(sorted(values.items())).encode())


def _column_digest(column: pa.ChunkedArray) -> str:
    whole = column.combine_chunks()
    return hashlib.sha256(_bytes(whole)).hexdigest()


def _bytes(values: pa.Array | pa.ChunkedArray) -> bytes:
    """Return the values of an array as bytes that do not depend on how Arrow lays them out."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.chunked_array(values.chunks, values.type).combine_chunks()
    there = values.is_valid().to_numpy(zero_copy_only=False).tobytes()
    kind = values.type
    if pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False).astype("<i8")
        return there + lengths.tobytes() + _bytes(values.flatten())
    if pa.types.is_null(kind):
        return there
    if pa.types.is_string(kind):
        texts = [text.encode() for text in pc.fill_null(values, "").to_pylist()]
        return there + np.array(list(map(len, texts)), "<i8").tobytes() + b"".join(texts)
    own = pc.fill_null(values, False if pa.types.is_boolean(kind) else 0).to_numpy(zero_copy_only=False)
    return there + own.astype(own.dtype.newbyteorder("<")).tobytes()


def _notes(sums: Path, again: str) -> dict[str, Any]:
    return json.loads(pq.read_schema(check_table(sums, again)).metadata[b"checksums"])


def _again(folder: Path) -> str:
    return f"delete {folder}, then `dvc checkout`, `dvc pull` or `dvc repro align@{folder.name}` brings it back"


def decode(data: bytes) -> np.ndarray:
    """Decode a stored frame's bytes to uint8 (S, S, 3) RGB."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def encode(image: np.ndarray, encoding: str, quality: int) -> bytes:
    """Encode a frame as JPEG of ``quality`` or as lossless PNG."""
    suffix, flags = {"jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]), "png": (".png", [])}[encoding]
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)[1].tobytes()
