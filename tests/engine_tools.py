"""Functions that tasks of the tests run, in other processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

from duchenne.errors import UserError


def square(number: int) -> int:
    return number**2


def refuse(text: str) -> None:
    raise UserError(text)


def place() -> tuple[str | None, int, str]:
    """What a task sees of where it is, a moment later, so that others start meanwhile."""
    time.sleep(0.3)
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid(), str(Path.cwd())


def die(file: Path, times: int) -> int:
    """Kill this process the first ``times`` times; returns the number of attempts."""
    with file.open("a", encoding="utf-8") as log:
        log.write("x")
    if (attempts := file.stat().st_size) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempts


def wait(file: Path) -> None:
    """Leave the number of this process, and wait."""
    file.write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)


def once(file: Path) -> str:
    """Wait the first time."""
    if not file.exists():
        wait(file)
    return "again"


def fork() -> int | None:
    """Start a process as PyTorch starts those that load samples; returns its exit status, None: it hangs."""
    process = multiprocessing.get_context("fork").Process(target=os.getpid)
    process.start()
    process.join(20)
    return process.exitcode


def packed(value: object) -> bytes:
    """An answer with a value."""
    return pickle.dumps((value, None))
