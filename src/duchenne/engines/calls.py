"""Calls that travel to another process, and a child process that answers them and dies with its parent."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from duchenne.processes import kill_tree

Answer = bytes
"""Pickled value and error, of which one is None."""

IDLE = 60
"""Seconds after which a child without work ends (chosen by us)."""
_SERVE = f"from {__name__} import serve; serve()"
_PULSE = 1.0
"""Seconds between two looks at whether a call is still wanted (chosen by us)."""


def answer(call: bytes, folder: str | None = None) -> Answer:
    """Run a packed call (:meth:`duchenne.engines.Task.packed`) in this process; errors of its function are answers.

    Args:
        folder: folder in which it runs; None: the current one.
    """
    try:
        if folder:
            os.chdir(folder)
        function, arguments = pickle.loads(call)
        return pickle.dumps((function(*arguments), None))
    except Exception as error:
        return refused(error)


def refused(error: Exception) -> Answer:
    """Return an error as an answer."""
    return pickle.dumps((None, portable(error)))


def opened(answer: Answer) -> tuple[Any, Exception | None]:
    """Return value and error of an answer."""
    return pickle.loads(answer)


def portable(error: Exception) -> Exception:
    """Return an error that can be pickled, with its traceback as a note, or its text if it cannot be pickled."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


class ChildDiedError(Exception):
    """Raised when a child ends without an answer."""


class Child:
    """A process that answers one call after another.

    It dies with this process, however that ends, and takes its own children along: its input is a pipe, which the
    system closes. It is no process of :mod:`multiprocessing`, which allows none below a worker of Dask.

    Args:
        environment: variables that differ from those of this process.
    """

    def __init__(self, folder: str, environment: Mapping[str, str] | None = None) -> None:
        paths = os.pathsep.join(dict.fromkeys([*filter(None, sys.path), str(Path(__file__).parents[2])]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVE],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths} | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which stops the child
        )

    @property
    def alive(self) -> bool:
        """Whether it can answer."""
        return self._process.poll() is None

    def call(self, call: bytes, wanted: Callable[[], bool] | None = None) -> Answer:
        """Return the answer to a packed call.

        Args:
            wanted: asked every second; the child is killed when it returns False.

        Raises:
            ChildDiedError: The child died.
        """
        done = threading.Event()
        if wanted:
            threading.Thread(target=self._watch, args=(wanted, done), daemon=True).start()
        assert self._process.stdin
        assert self._process.stdout
        try:
            _send(self._process.stdin, call)
            found = _receive(self._process.stdout)
        except (OSError, ValueError):  # closed pipes
            found = None
        finally:
            done.set()
        if found is None:
            code = self._process.wait()
            memory = ", perhaps for lack of memory" if code == -signal.SIGKILL else ""
            raise ChildDiedError(f"its process was ended by signal {-code}{memory}" if code < 0 else
                                 f"its process ended with status {code}")  # fmt: skip
        return found

    def _watch(self, wanted: Callable[[], bool], done: threading.Event) -> None:
        while not done.wait(_PULSE):
            if not wanted():
                self.kill()
                return

    def kill(self) -> None:
        """End the child and its own children now."""
        kill_tree(self._process.pid)
        self._process.wait()


def _send(pipe: BinaryIO | Any, data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


def _receive(pipe: BinaryIO | Any) -> bytes | None:
    """Read a message; None: the other end is closed."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    size = int.from_bytes(head, "big")
    data = pipe.read(size)
    return data if len(data) == size else None


def _listen(pipe: BinaryIO, calls: queue.SimpleQueue[bytes]) -> None:
    """Put calls into a queue; end this process, and all below it, when the parent is gone."""
    while (call := _receive(pipe)) is not None:
        calls.put(call)
    kill_tree(os.getpid(), itself=False)
    os._exit(1)


def serve() -> None:
    """Answer the calls of the parent, until it closes the pipe or has none for :data:`IDLE` seconds."""
    given, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(
        os.open(os.devnull, os.O_RDONLY), 0
    )  # a process that loads samples closes stdin, which nobody may be reading
    os.dup2(2, 1)  # what is printed must not mix with answers
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(given, calls), daemon=True).start()
    while True:
        try:
            call = calls.get(timeout=IDLE)
        except queue.Empty:
            break
        _send(answers, answer(call))
    os._exit(0)
