"""Locks between processes: one at a time, and who waits says for whom.

A lock belongs to an open file (``flock``), so the system releases it when its process ends, even by SIGKILL; a file
that is left has no effect. On NFS, Linux makes it a lock of the server. Where a disk has no locks, a warning says so,
and the work is done without.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from duchenne.errors import UserError, printable, short

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

UNKNOWN = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL}
"""Errors of a disk without locks."""
PULSE = 0.2
"""Seconds between two tries while another process holds the lock (chosen by us)."""


class Holder(NamedTuple):
    """The process that holds a lock, as it wrote into the file; empty: not known."""

    pid: int = 0
    host: str = ""
    command: str = ""

    def __str__(self) -> str:
        if not self.host:
            return "another process"
        here = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.pid}{here} (`{short(printable(self.command), 200)}`)"


@contextlib.contextmanager
def alone(lock: Path, what: str, wait: bool = True, remove: bool = False) -> Iterator[None]:
    """Let one process at a time into this context, of all that name the same file; threads count as processes.

    Args:
        lock: file of the lock; its folder is created.
        what: what is done in the context, as in "process 12 is at work on ...".
        wait: whether to wait for the other process, which is said once.
        remove: remove the file afterwards, for a folder of the user; not for a folder of several machines.

    Raises:
        UserError: Another process holds the lock, and ``wait`` is False.
    """
    file = _acquired(lock, what, wait)
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                if remove:  # while it is held: who waits for it sees that it is gone, and makes another
                    lock.unlink(missing_ok=True)
                else:
                    os.ftruncate(file, 0)
            os.close(file)


def _acquired(lock: Path, what: str, wait: bool) -> int | None:
    """Return the open file of a held lock; None where there are no locks."""
    if fcntl is None:
        return None
    told = False
    while True:
        try:
            file = _opened(lock)
        except OSError as error:
            # info alone: what is written next says the same, as an error
            log.info("%s cannot be locked, so no other command should work on %s now: %s", lock, what, error.strerror)
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
            os.close(file)
            if not wait:
                raise UserError(f"{holder} is at work on {what}: wait until it has ended") from None
            if not told:
                log.warning("%s is at work on %s: waiting until it has ended", holder, what)
                told = True
            time.sleep(PULSE)
        except OSError as error:
            os.close(file)
            if error.errno not in UNKNOWN:
                raise
            log.warning("%s: this disk has no locks, so no other command should work on %s now: %s",
                        lock.parent, what, error.strerror)  # fmt: skip
            return None
        else:
            if _same(file, lock):
                _sign(file)
                return file
            os.close(file)  # its holder removed it meanwhile


def _opened(lock: Path) -> int:
    lock.parent.mkdir(parents=True, exist_ok=True)
    safe = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # it is written into: a link may lead to any file
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT | safe, 0o666)
    except PermissionError:  # of another user: it can be locked all the same
        return os.open(lock, os.O_RDONLY | safe)


def _same(file: int, lock: Path) -> bool:
    try:
        here, there = os.fstat(file), lock.stat()
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _sign(file: int) -> None:
    """Write who holds the lock, if there is room and the file is ours."""
    words = json.dumps(Holder(os.getpid(), socket.gethostname(), " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])))
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, words.encode(), 0)


def _holder(file: int) -> Holder:
    try:
        return Holder(*json.loads(os.pread(file, 10_000, 0)))
    except (OSError, TypeError, ValueError):  # another user's, or not written yet
        return Holder()
