"""Long work on many samples: in parallel, in chunks whose results survive an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pyarrow as pa
from joblib import Parallel, delayed
from tqdm import tqdm

from duchenne.files import replacing

CHUNK = {"image": 32, "video": 4, "frames": 4}
"""Samples that a worker does and holds at a time, and that an interruption can cost, by kind."""


class Result(NamedTuple):
    """What a chunk came to."""

    rows: list[dict[str, Any]]
    failures: list[dict[str, Any]]


class Chunk(NamedTuple):
    """Some samples' work."""

    file: Path
    """where its rows go, an Arrow stream; the name changes with anything that they depend on"""
    size: int
    """samples"""
    function: Callable[..., Result]
    arguments: tuple[Any, ...]


def run(chunks: Iterable[Chunk], schema: pa.Schema, title: str, jobs: int, backend: str) -> None:
    """Write the file of every chunk that does not have one yet; each appears whole or not at all."""
    chunks = list(chunks)
    todo = [chunk for chunk in chunks if not chunk.file.exists()]
    with tqdm(total=sum(c.size for c in chunks), desc=title, unit="sample", smoothing=0, delay=1) as bar:
        bar.update(bar.total - sum(chunk.size for chunk in todo))
        calls = (delayed(_run)(chunk, schema) for chunk in todo)
        for size in Parallel(n_jobs=jobs, backend=backend, return_as="generator_unordered")(calls):
            bar.update(size)


def _run(chunk: Chunk, schema: pa.Schema) -> int:
    cv2.setNumThreads(1)  # the processes share the cores
    rows, failures = chunk.function(*chunk.arguments)
    schema = schema.with_metadata({"failures": json.dumps(failures)})
    with replacing(chunk.file) as part, pa.ipc.new_stream(part, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema))
    return chunk.size


def failures(chunks: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The failures of finished chunks."""
    for path in chunks:
        with pa.ipc.open_stream(path) as reader:
            yield from json.loads(reader.schema.metadata[b"failures"])
