"""Damage of a face store: every value that is read is the one that was written, or an error names the file."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from duchenne.errors import UserError
from duchenne.faces.store import CHECKSUMS, SCHEMA, FaceStore, encode, write_checksums
from duchenne.sealed import DamagedError, write_sealed, write_table

SHARD = "data-00000-of-00001.arrow"
FRAMES = 3


def store_of(folder: Path, seed: int, size: int = 16) -> Path:
    """Four clips of three frames of noise, in two record batches."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "sample": f"s{i}",
            "frame_numbers": list(range(i, i + FRAMES)),
            "frames": [encode(rng.integers(0, 256, (size, size, 3), np.uint8), "png", 0) for _ in range(FRAMES)],
            "transforms": rng.random((FRAMES, 6)).tolist(),
            "points": [rng.random(136).tolist(), None, rng.random(136).tolist()],
            "boxes": rng.random((FRAMES, 4)).tolist(),
            "confidence": [0.5, float("nan"), 0.75],
            "doubtful": [False, True, False],
            "faces": [1, None, 2],
            "phash": f"{rng.integers(2**62):064x}",
        }
        for i in range(4)
    ]
    folder.mkdir()
    with pa.ipc.new_stream(folder / SHARD, SCHEMA) as writer:
        for part in (rows[:2], rows[2:]):
            writer.write_table(pa.Table.from_pylist(part, SCHEMA))
    columns = {"sample": "string", "frame": "Int64", "reason": "string"}
    failed = pd.DataFrame([(f"f{seed}", None, "no face")], columns=list(columns)).astype(columns)
    write_table(folder / "failures.parquet", failed)
    write_sealed(folder / "store.json", {"settings": {"size": size}})
    write_checksums(folder)
    return folder


def everything(folder: Path) -> str:
    """All that a store says, as text."""
    store = FaceStore(folder)
    said: list[object] = [store.meta, len(store), store.samples, store.hashes(), store.detection().to_csv()]
    said.append(store.failures.to_csv())
    for sample in store.samples:
        row = store.row(sample)
        said += [row, store.frame_numbers(sample), store.frames(sample).tobytes(), store.frame(sample, 1).tobytes()]
    return repr(said)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_of(tmp_path_factory.mktemp("stores") / "mine", 1)


def read(folder: Path, known: str) -> str | None:
    """The error of reading a store; None: it says what it said."""
    try:
        found = everything(folder)
    except DamagedError as error:
        return str(error)
    assert found == known
    return None


@pytest.mark.parametrize("name", [SHARD, CHECKSUMS, "store.json", "failures.parquet"])
def test_every_flip_and_cut_is_named_or_harmless(name: str, store: Path, tmp_path: Path):
    folder = tmp_path / "mine"
    shutil.copytree(store, folder)
    data, known, rng = (folder / name).read_bytes(), everything(store), random.Random(3)
    places = rng.sample(range(len(data)), min(40, len(data)))
    flips = [data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :] for place in places]
    cuts = [data[:size] for size in (0, 1, len(data) // 2, len(data) - 1)]
    named = 0
    for each in flips + cuts:
        (folder / name).write_bytes(each)
        if said := read(folder, known):
            named += 1
            assert f"{folder}" in said
            assert "dvc repro align@mine" in said
    assert named > 0.6 * len(flips)  # Arrow pads its buffers


def test_every_flip_in_the_structure_of_a_shard_is_named_or_harmless(store: Path, tmp_path: Path):
    """Offsets beyond the file, which would end the interpreter, are among them."""
    folder = tmp_path / "mine"
    shutil.copytree(store, folder)
    data, known = (folder / SHARD).read_bytes(), everything(store)
    end = data.index(b"\x89PNG")  # schema, message and the offsets of the columns before the frames
    for place in range(0, end, 19):
        for bit in (7, place % 7):
            (folder / SHARD).write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            read(folder, known)


@pytest.mark.parametrize("name", [SHARD, CHECKSUMS, "store.json", "failures.parquet"])
def test_a_file_of_another_store_is_named(name: str, store: Path, tmp_path: Path):
    folder = tmp_path / "mine"
    shutil.copytree(store, folder)
    shutil.copy2(store_of(tmp_path / "other", 2, size=24) / name, folder / name)
    assert str(folder) in str(read(folder, ""))


def test_a_store_without_checksums_is_read(store: Path, tmp_path: Path):
    folder = tmp_path / "mine"
    shutil.copytree(store, folder)
    (folder / CHECKSUMS).unlink()
    assert everything(folder) == everything(store)
    data = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(data.replace(b"\x89PNG", b"\x89PNX"))
    with pytest.raises(DamagedError, match=SHARD):
        FaceStore(folder).frame("s0")
    (folder / SHARD).unlink()
    with pytest.raises(UserError, match="holds no aligned faces"):
        FaceStore(folder).hashes()
