"""Results of a chunk of faces as an Arrow stream: rows, with the failures in its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

CHUNK = {"image": 32, "video": 4, "frames": 4}
"""Number of samples in a chunk by kind; a process holds one chunk, and an interruption can lose one."""


def write_rows(
    path: Path, schema: pa.Schema, rows: list[dict[str, Any]], failures: Sequence[dict[str, Any]] = ()
) -> None:
    """Write rows and failures to a new file."""
    schema = schema.with_metadata({"failures": json.dumps(list(failures))})
    with pa.ipc.new_stream(path, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema))


def failures(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield the failures of finished chunks."""
    for path in paths:
        with pa.ipc.open_stream(path) as reader:
            yield from json.loads(reader.schema.metadata[b"failures"])
