"""Small work on files: writing them whole or not at all, digests, and what a file of the wrong kind is."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STARTS = (
    (rb"version https://git-lfs", "a Git LFS pointer: run `git lfs pull` to get the file itself"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)", "a web page: download the file itself"),
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "a HEIC picture: convert it to JPEG or PNG"),
    (rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3|\x00\x00\x01\xba", "a video"),
    (rb"%PDF-", "a PDF document"),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!", "an archive: unpack it"),
)
"""First bytes (regular expression) -> what a file is that is given for another kind of file, and what to do."""


def expanded(path: str | Path) -> Path:
    """A path with ``~`` or ``~user`` in front as that home, where there is such a user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes ``path``'s place only when the block ends without an error.

    Missing folders are made. A process killed inside the block leaves the old file as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file holds; as written by :func:`write_json`, in UTF-8 whatever the locale.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8, or not JSON (json.JSONDecodeError).
    """
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN is refused, for it is not JSON."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mistaken(start: bytes) -> str | None:
    """What a file that could not be read as what it should be really is, by its first 64 bytes; None: not known."""
    return next((what for pattern, what in _STARTS if re.match(pattern, start, re.IGNORECASE | re.DOTALL)), None)


def unusable(path: Path) -> str | None:
    """Why a file cannot hold what is looked for in it, whatever that is, and what to do; None: it may.

    >>> unusable(Path("nowhere.pth"))
    'does not exist'
    """
    if path.is_dir():
        return "is a folder, not a file"
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    what = mistaken(start)
    return "is empty" if not start else f"is {what}" if what else None
