"""Files and folders of datasets: kinds of names and entries, links and paths."""

from __future__ import annotations

import errno
import os
import posixpath
from pathlib import Path

from duchenne.files import expanded
from duchenne.shortage import stop_if_short

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image; hidden files (``._x.jpg`` of macOS) are not images."""
    return not name.startswith(".") and name.lower().endswith(IMAGES)


def is_video(name: str) -> bool:
    """Whether a file's name is that of a video."""
    return not name.startswith(".") and name.lower().endswith(VIDEOS)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a circular link is not."""
    try:
        return entry.is_dir()
    except OSError as error:
        stop_if_short(error)
        return False


def is_regular(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a regular file or a link to one; opening a device, pipe or socket could block forever."""
    try:
        return entry.is_file()
    except OSError as error:
        stop_if_short(error)
        return False


def broken(path: str | Path) -> str | None:
    """Return what is wrong with a broken link or an impossible path; None for anything else."""
    path = Path(path)
    try:
        if not path.is_symlink():
            return None
        path.stat()
    except OSError as error:
        stop_if_short(error)
        if error.errno == errno.ELOOP:
            return "is a link that leads to itself"
        if error.errno == errno.ENAMETOOLONG:
            return "is longer than a path may be"
        why = "does not exist" if error.errno == errno.ENOENT else f"cannot be read ({error.strerror})"
        return f"is a link to {path.readlink()}, which {why}"
    return None


def below(root: Path, path: str) -> str | None:
    """Convert a path of a list (relative to the root, or absolute) to one relative to the root, with forward slashes.

    Only the text is converted: links below the root may lead anywhere.

    Returns:
        The path; None if it leads out of the root.
    """
    if path.startswith("~"):
        path = str(expanded(path))
    path = posixpath.normpath(path.replace("\\", "/"))
    if path.startswith("/") or path[1:2] == ":":
        for base in (root.absolute(), root.resolve()):
            inside = os.path.normpath(base).replace("\\", "/").rstrip("/") + "/"
            if path.startswith(inside):
                return path.removeprefix(inside)
        return None
    return None if path.split("/")[0] == ".." else path
