"""What lies at a path below a dataset's root: an image, a video or a folder of frames."""

from __future__ import annotations

import io
import os
import posixpath
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")


class Found(NamedTuple):
    """One sample's files."""

    kind: str | None  # image, video or frames; None when there is a problem
    n_frames: int | None  # of a folder of frames
    problem: str | None


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image; hidden files (macOS' ``._x.jpg``) are none."""
    return not name.startswith(".") and name.lower().endswith(IMAGES)


def is_video(name: str) -> bool:
    """Whether a file's name says that it is a video."""
    return not name.startswith(".") and name.lower().endswith(VIDEOS)


def look(root: Path, paths: Sequence[str], trusted: Sequence[str] = ()) -> list[Found]:
    """What lies at each path.

    Folders are listed once each instead of asking for every file, and of an image only the first bytes are read
    (14 us a file; parsing the header with Pillow takes 180 us): damage further in is found when faces are aligned.

    Args:
        root: the dataset's root.
        paths: relative to ``root``, normalised, with forward slashes.
        trusted: folders below ``root`` that may be links to a place outside.
    """
    looker = _Looker(root, trusted)
    return [looker.look(path) for path in tqdm(paths, desc="files", unit="file", delay=3, leave=False)]


def respell(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """Path -> the file that is there, for those of the paths that differ from it in the case of their ending alone.

    Cameras write ``.JPG`` and converters ``.jpg``, while lists are made on systems to which both are one.
    """
    folders: dict[str, dict[str, list[str]]] = {}
    found = {}
    for path in paths:
        folder, name = posixpath.split(path)
        if folder not in folders:
            place = root / folder
            folders[folder] = {}
            for there in place.iterdir() if place.is_dir() else ():
                folders[folder].setdefault(_same_ending(there.name), []).append(there.name)
        like = folders[folder].get(_same_ending(name), [])
        if len(like) == 1 and like[0] != name:
            found[path] = posixpath.join(folder, like[0])
    return found


def _same_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem + dot + ending.lower()


class _Looker:
    def __init__(self, root: Path, trusted: Sequence[str]) -> None:
        self.root = root
        self.real = [os.path.realpath(place) for place in (root, *(root / folder for folder in trusted))]
        self.folders: dict[str, dict[str, os.DirEntry[str]] | None] = {}
        self.plain: dict[str, dict[str, str]] = {}

    def look(self, path: str) -> Found:
        folder, name = posixpath.split(path)
        if path.startswith("/") or path[1:2] == ":" or ".." in path.split("/"):
            return Found(None, None, "leads out of the dataset's root: give a path relative to it, without '..'")
        entries = self._list(folder)
        if entries is None:
            return Found(None, None, "no such file or folder below the root")
        entry = entries.get(name)
        if entry is None:
            same = self._plain_names(folder).get(_plain(name))
            hint = f" (there is {same!r})" if same else ""
            return Found(None, None, f"no such file or folder below the root{hint}")
        if entry.is_symlink() and not self._inside(entry.path):
            return Found(None, None, "is a link that leads out of the dataset's root")
        return self._frames(path) if entry.is_dir() else _file(entry)

    def _list(self, folder: str) -> dict[str, os.DirEntry[str]] | None:
        """The entries of a folder by name; None when it does not exist or lies outside the root."""
        if folder not in self.folders:
            place = self.root / folder
            self.folders[folder] = None
            if place.is_dir() and self._inside(place):
                with os.scandir(place) as entries:
                    self.folders[folder] = {entry.name: entry for entry in entries}
        return self.folders[folder]

    def _plain_names(self, folder: str) -> dict[str, str]:
        if folder not in self.plain:
            self.plain[folder] = {_plain(name): name for name in self.folders[folder] or {}}
        return self.plain[folder]

    def _inside(self, place: str | Path) -> bool:
        real = os.path.realpath(place)
        return any(real == inside or real.startswith(inside + os.sep) for inside in self.real)

    def _frames(self, path: str) -> Found:
        with os.scandir(self.root / path) as entries:
            n = sum(is_image(entry.name) for entry in entries)
        return Found("frames", n, None) if n else Found(None, None, "the folder holds no image")


def _file(entry: os.DirEntry[str]) -> Found:
    if not (is_image(entry.name) or is_video(entry.name)):
        endings = " ".join(IMAGES + VIDEOS)
        return Found(None, None, f"is neither an image, nor a video, nor a folder of frames (known: {endings})")
    try:
        with io.FileIO(entry.path) as file:
            start = file.read(16)
    except OSError as error:
        return Found(None, None, f"cannot be read: {error.strerror}")
    if not start:
        return Found(None, None, "the file is empty")
    if is_video(entry.name):
        return Found("video", None, None)
    if not start.startswith(_SIGNATURES):
        return Found(None, None, "is no image, whatever its name says")
    return Found("image", None, None)


def _plain(name: str) -> str:
    """Case and the two ways to encode an accent differ between operating systems."""
    return unicodedata.normalize("NFC", name).casefold()
