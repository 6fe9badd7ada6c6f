"""Chunked work: finished chunks are kept, unfinished ones leave nothing, and interruptions do not change results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from duchenne.chunks import Chunk, digest, resumable
from duchenne.engines import Local

COUNT = 6


def write(number: int, log: Path, path: Path) -> None:
    """Leave a folder of two files and note in the log that it was made."""
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{number}\n")
    path.mkdir()
    (path / "a").write_text(f"a {number}")
    (path / "b").write_text(f"b {number}")


def chunks(folder: Path, settings: object = "settings") -> list[Chunk]:
    done = folder / digest(settings)
    return [Chunk(done / f"{i:02d}", 1, write, (i, folder / "log")) for i in range(COUNT)]


def contents(paths: list[Path]) -> list[dict[str, bytes]]:
    return [{file.name: file.read_bytes() for file in path.iterdir()} for path in paths]


def results(folder: Path) -> list[str]:
    """Names of what is in a folder beside the digests."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".sha256")


def made(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "log").read_text().split()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "log").touch()
    return tmp_path


KILLED = """
import os, signal, sys
from pathlib import Path
import test_chunks
from duchenne.engines import Local

def killed(number, log, path):
    path.mkdir()
    (path / "a").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

chunks = test_chunks.chunks(Path(sys.argv[1]))
chunks[3] = chunks[3]._replace(function=killed)
test_chunks.resumable(chunks, "test", Local(1), together=int(sys.argv[2]))
"""


@pytest.mark.parametrize("together", [1, 4])
def test_a_killed_run_resumes_and_gives_the_same_bytes(folder: Path, tmp_path: Path, together: int):
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    call = [sys.executable, "-c", KILLED, str(folder), str(together)]
    assert subprocess.run(call, env=os.environ | {"PYTHONPATH": path}, check=False).returncode == -signal.SIGKILL
    assert made(folder) == [0, 1, 2]
    assert [chunk.path.exists() for chunk in chunks(folder)] == [True] * 3 + [False] * 3
    assert list(chunks(folder)[0].path.parent.glob(".*.part"))

    resumed = resumable(chunks(folder), "test", Local(1), together=together)
    assert made(folder) == [0, 1, 2, 3, 4, 5]
    (tmp_path / "whole").mkdir()
    assert contents(resumed) == contents(resumable(chunks(tmp_path / "whole"), "test", Local(2), together=together))
    assert results(resumed[0].parent) == [f"{i:02d}" for i in range(COUNT)]


def test_a_chunk_of_other_settings_is_not_taken(folder: Path):
    resumable(chunks(folder), "test", Local(1))
    resumable(chunks(folder), "test", Local(1))
    assert made(folder) == list(range(COUNT))
    resumable(chunks(folder, "others"), "test", Local(1))
    assert made(folder) == 2 * list(range(COUNT))


def fail(path: Path) -> None:
    path.write_text("half a file", encoding="utf-8")
    raise ValueError("no more")


def test_a_chunk_that_fails_leaves_nothing_and_keeps_the_others(folder: Path):
    todo = chunks(folder)
    todo[2] = Chunk(todo[2].path, 1, fail, ())
    with pytest.raises(ValueError, match="no more"):
        resumable(todo, "test", Local(1))
    assert results(todo[0].path.parent) == ["00", "01"]


def test_names_differ_with_every_part():
    assert digest("a", 1) == digest("a", 1)
    assert len({digest("a", 1), digest("a", 2), digest("a1"), digest("a", "1"), digest("b", 1)}) == 5
