"""Parallel work in chunks whose results survive an interruption."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from tqdm import tqdm

from duchenne.engines import Engine, Local, Task
from duchenne.files import file_digest, remove, temporary
from duchenne.shortage import naming

log = logging.getLogger(__name__)


class Chunk(NamedTuple):
    """Work on some samples, with one file or folder as result."""

    path: Path
    """path of the result; its name changes with everything that the result depends on (:func:`digest`)"""
    size: int
    """samples"""
    function: Callable[..., None]
    """called with ``arguments`` and then a path to which it writes the result"""
    arguments: tuple[Any, ...]


def digest(*parts: object) -> str:
    """Return a name that depends on ``parts``: 16 hexadecimal digits of the SHA-256 of their texts (``repr``).

    >>> digest("settings", 1) == digest("settings", 1) != digest("settings", 2)
    True
    """
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def resumable(chunks: Iterable[Chunk], title: str, engine: Engine | None = None, together: int = 1) -> list[Path]:
    """Run every chunk whose result does not exist yet, or is damaged; each appears completely or not at all.

    Args:
        title: title of the progress bar.
        engine: runs the chunks; None: one process per core of this machine.
        together: number of consecutive chunks per task, for chunks that share expensive preparation.

    Returns:
        The results, in the order of the chunks.
    """
    chunks = list(chunks)
    todo = [chunk for chunk in chunks if not _whole(chunk.path)]
    tasks = (
        Task(f"{title}, {todo[start].path.name}", _run, (todo[start : start + together],))
        for start in range(0, len(todo), together)
    )
    with tqdm(total=sum(chunk.size for chunk in chunks), desc=title, unit="sample", smoothing=0, delay=1) as bar:
        bar.update(bar.total - sum(chunk.size for chunk in todo))
        with closing((engine or Local()).run(tasks)) as ended:
            for done in ended:
                bar.update(done.result())
    for folder in {chunk.path.parent for chunk in chunks}:
        for part in folder.glob(".*.part"):  # left by killed runs
            remove(part)
    return [chunk.path for chunk in chunks]


def _run(chunks: Sequence[Chunk]) -> int:
    cv2.setNumThreads(1)  # the processes share the cores
    for chunk in chunks:
        part = temporary(chunk.path)
        try:
            with naming(chunk.path, part):
                chunk.function(*chunk.arguments, part)
                if not chunk.path.exists():  # it may: a process of a killed run can still be running
                    _digest_file(chunk.path).write_text(_contents(part), encoding="ascii")
                    part.replace(chunk.path)
        finally:
            remove(part)
    return sum(chunk.size for chunk in chunks)


def _digest_file(path: Path) -> Path:
    """Return the file beside a result that has its digest."""
    return path.with_name(f".{path.name}.sha256")


def _contents(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        return file_digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    found = [(str(file.relative_to(path)), file_digest(file)) for file in files]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _whole(path: Path) -> bool:
    """Whether there is a result, with its digest; one without, of an older version, counts."""
    if not path.exists():
        return False
    known = _digest_file(path)
    if not known.exists() or known.read_bytes() == _contents(path).encode():
        return True
    log.warning("%s is damaged (its contents are not those of %s): it is made again", path, known.name)
    remove(path)
    return False
