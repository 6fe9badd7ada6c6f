"""Helpers for files: atomic writing, digests, and recognition of files of a wrong kind."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import socket
import stat
import time
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from duchenne.errors import UserError
from duchenne.shortage import naming, stop_if_short

if TYPE_CHECKING:  # slow to import
    import pandas as pd

_STARTS = (
    (rb"version https://git-lfs", "a Git LFS pointer: run `git lfs pull` to get the file itself"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)", "a web page: download the file itself"),
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "a HEIC picture: convert it to JPEG or PNG"),
    (rb"....ftyp(avif|avis)", "an AVIF picture: convert it to JPEG or PNG"),
    (rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3|\x00\x00\x01\xba", "a video"),
    (rb"%PDF-", "a PDF document"),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!", "an archive: unpack it"),
)
"""First bytes (regular expression) -> kind of a wrong file, and what to do."""


IRREGULAR = "it is a device, a pipe or a socket, which is not opened"


def expanded(path: str | Path) -> Path:
    """Expand a leading ``~`` or ``~user``, if there is such a user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def regular(path: Path) -> Path:
    """Return ``path`` if it is safe to open: opening a device, a pipe or a socket could block forever or never end.

    Raises:
        OSError: It is one of these. A path that does not exist is returned: opening it gives the reason.
    """
    try:
        found = path.stat()
    except OSError:
        return path
    plain = stat.S_ISREG(found.st_mode) and (found.st_size > 0 or _is_empty(path))
    if not (plain or stat.S_ISDIR(found.st_mode)):
        raise OSError(errno.EINVAL, IRREGULAR, str(path))
    return path


def _is_empty(path: Path) -> bool:
    """Whether a file of size 0 is empty; files of ``/proc`` are not, and some, such as ``/proc/kmsg``, never end."""
    try:
        with io.FileIO(path, opener=without_waiting) as file:
            return file.read(1) == b""
    except OSError:  # opening it gives the reason
        return True


def without_waiting(path: str, flags: int) -> int:
    """Open a file so that reading it gives None where it would wait (``opener`` of ``io.FileIO``)."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def require_output(path: Path) -> None:
    """Check before any work that a path can be that of a file to write.

    Raises:
        UserError: It is a folder, or not UTF-8, which the libraries that write files require.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: the name is not UTF-8 text: give another one") from None


_MACHINE = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_LEFT = re.compile(r"\..+\.([0-9a-f]{8})\.(\d+)\.part")
_DAY = 86_400.0
LONGEST_NAME = 255
"""Largest number of bytes of a file's name on most disks."""


def temporary(path: Path) -> Path:
    """Return a path beside ``path`` that only this process uses; missing folders are created.

    It must not exist when the process ends. What killed processes have left in the folder is deleted first: of this
    machine at once, of others, whose processes cannot be seen, after a day.

    Raises:
        OSError: The folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy(path.parent, os.getpid())
    ending = f".{_MACHINE}.{os.getpid()}.part"
    name, length = path.name, len(os.fsencode(path.name))
    if length <= LONGEST_NAME < 1 + length + len(ending):  # too long by the ending alone
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    part = path.with_name(f".{name}{ending}")
    with naming(path, part):
        remove(part)  # of a killed process that had the same number, as in a container
    return part


@lru_cache(maxsize=256)
def _tidy(folder: Path, own: int) -> None:
    """Delete temporary files of killed processes in a folder, once in each process."""
    for path in folder.iterdir():
        if (found := _LEFT.fullmatch(path.name)) and int(found[2]) != own and _abandoned(path, *found.groups()):
            with contextlib.suppress(OSError):  # another process deletes it too, or it is another user's
                remove(path)


def _abandoned(path: Path, machine: str, pid: str) -> bool:
    if machine == _MACHINE:
        try:
            return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE  # dead, and its parent has not asked yet
        except psutil.NoSuchProcess:
            return True
    try:
        return time.time() - path.lstat().st_mtime > _DAY
    except OSError:  # its process has finished it
        return False


def remove(path: Path) -> None:
    """Delete a file or a folder, if there is one.

    Raises:
        OSError: It cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which replaces ``path`` when the block ends without an error.

    Missing folders are created. If the process is killed inside the block, the old file does not change. The bytes are
    on the disk before the old ones are given up, because a full network disk or quota may only be told then.

    Raises:
        OSError: The file cannot be written; the error names ``path``, also where a library hid it behind its own.
    """
    part = temporary(path)
    try:
        with naming(path, part):
            yield part
            sync(part)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file is on the disk.

    Raises:
        OSError: It cannot be kept there.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8, independent of the locale.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not UTF-8, or not JSON (json.JSONDecodeError), or nested too deeply.
    """
    try:
        return json.loads(regular(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} has too many lists or objects inside each other") from None


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as :func:`as_json`, in UTF-8."""
    with replacing(path) as part:
        part.write_text(as_json(value), encoding="utf-8")


def as_json(value: Any) -> str:
    """Return ``value`` as indented JSON; NaN is refused, because it is not valid JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table_digest(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a table as CSV, without its index."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def no_formula(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula, with an apostrophe before one that begins like it.

    >>> no_formula("=1+1"), no_formula("light")
    ("'=1+1", 'light')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def mistaken(start: bytes) -> str | None:
    """Recognise a file of a wrong kind by its first 64 bytes; None: not known."""
    return next((what for pattern, what in _STARTS if re.match(pattern, start, re.IGNORECASE | re.DOTALL)), None)


def unusable(path: Path) -> str | None:
    """Return why a file cannot be used for any purpose here, and what to do; None: no reason found.

    >>> unusable(Path("nowhere.pth"))
    'does not exist'

    Raises:
        OSError: It cannot be opened now, because too many files are open.
    """
    if path.is_dir():
        return "is a folder, not a file"
    try:
        with regular(path).open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        stop_if_short(error, path)
        return f"cannot be read: {error.strerror}"
    what = mistaken(start)
    return "is empty" if not start else f"is {what}" if what else None
