"""Finds the files of samples below a dataset's root: an image, a video or a folder of frames."""

from __future__ import annotations

import io
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from tqdm import tqdm

from duchenne.files import without_waiting
from duchenne.media.frame_names import FrameNameError, numbered
from duchenne.media.frames import open_video, video_stream
from duchenne.media.paths import IMAGES, VIDEOS, below, broken, is_folder, is_image, is_regular, is_video
from duchenne.shortage import stop_if_short

LONGEST = 4095
"""Largest number of bytes of a path on Linux."""
_PICTURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM|RIFF|II[*+]\0|MM\0[*+]|GIF8|P[1-6]\s|....ftypavi[fs]|\xff\x4f\xff\x51|"
    rb"\0\0\0\x0cjP  ",
    re.DOTALL,
)
"""First bytes of the formats of :data:`duchenne.media.images.FORMATS`."""


class Found(NamedTuple):
    """The files of one sample."""

    kind: str | None  # image, video or frames; None when there is a problem
    numbers: np.ndarray | None  # int (T,), ascending: the frames of a folder
    problem: str | None


def find_samples(root: Path, paths: Sequence[str]) -> list[Found]:
    """Find what is at each path; links to files and folders are followed, wherever they lead.

    Each folder is listed once instead of testing every file, and only the first bytes of an image are read (14 us per
    file; parsing the header with Pillow takes 180 us). Other damage is found when faces are aligned.

    Args:
        root: the dataset's root.
        paths: relative to ``root``, normalised, with forward slashes.
    """
    finder = _Finder(root)
    return [finder.find(path) for path in tqdm(paths, desc="files", unit="file", delay=3, leave=False)]


def respell(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """Return path -> existing file for the paths that differ from a file only in the case of the ending.

    Cameras write ``.JPG`` and converters ``.jpg``, while lists are made on systems that do not distinguish them.
    """
    folders: dict[str, dict[str, list[str]]] = {}
    found = {}
    for path in paths:
        folder, name = posixpath.split(path)
        if folder not in folders:
            place = root / folder
            folders[folder] = {}
            try:
                names = os.listdir(place)  # noqa: PTH208  (names alone)
            except OSError as error:
                stop_if_short(error)
                names = []
            for there in names:
                folders[folder].setdefault(_same_ending(there), []).append(there)
        like = folders[folder].get(_same_ending(name), [])
        if len(like) == 1 and like[0] != name:
            found[path] = posixpath.join(folder, like[0])
    return found


def _same_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem + dot + ending.lower()


def linked_folders(root: Path, folders: Iterable[str]) -> list[str]:
    """List the links among folders below ``root`` and the folders that lead to them, sorted."""
    seen: set[str] = set()
    for folder in folders:
        while folder and folder not in seen:
            seen.add(folder)
            folder = posixpath.dirname(folder)
    return sorted(folder for folder in seen if (root / folder).is_symlink() and (root / folder).is_dir())


def video_frames(path: Path, number: int) -> int | None:
    """Return the number of frames of a video; None if it cannot be read.

    Args:
        number: frame that is needed. The header's count is used if it is larger; otherwise the frames are counted
            without decoding them, because the count in a header may be missing or a few frames off.
    """
    try:
        with open_video(path) as container:
            if (stream := video_stream(container)) is None:
                return None
            if stream.frames > number:
                return stream.frames
            return sum(packet.size > 0 for packet in container.demux(stream))
    except (av.FFmpegError, OSError, ValueError) as error:
        stop_if_short(error)
        return None


class _Finder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[str, dict[str, os.DirEntry[str]]] = {}
        self.plain: dict[str, dict[str, str]] = {}
        self.clips: dict[str, Found] = {}

    def find(self, path: str) -> Found:
        if below(self.root, path) != path:
            return Found(None, None, "leads out of the dataset's root: give a path below it, without '..'")
        if len(os.fsencode(path)) > LONGEST:
            return Found(None, None, "is longer than a path may be")
        folder, name = posixpath.split(path)
        entry = self._list(folder).get(name)
        if entry is None:
            return Found(None, None, self._absent(path))
        if is_folder(entry):
            if path not in self.clips:
                self.clips[path] = self._frames(path)
            return self.clips[path]
        if not is_regular(entry):
            return Found(None, None, broken(entry.path) or "is a device, a pipe or a socket, which is not opened")
        return _file(entry)

    def _list(self, folder: str) -> dict[str, os.DirEntry[str]]:
        """The entries of a folder by name; none if the folder does not exist."""
        if folder not in self.folders:
            try:
                with os.scandir(self.root / folder) as entries:
                    self.folders[folder] = {entry.name: entry for entry in entries}
            except OSError as error:
                stop_if_short(error)
                self.folders[folder] = {}
        return self.folders[folder]

    def _absent(self, path: str) -> str:
        """The reason why nothing is at a path: a broken link above it, or another spelling."""
        steps = path.split("/")
        for depth in range(1, len(steps)):
            step = "/".join(steps[:depth])
            if why := broken(self.root / step):
                return f"{step} {why}"
        folder, name = posixpath.split(path)
        if folder not in self.plain:
            self.plain[folder] = {_plain(name): name for name in self._list(folder)}
        same = self.plain[folder].get(_plain(name))
        return "no such file or folder below the root" + (f" (there is {same!r})" if same else "")

    def _frames(self, path: str) -> Found:
        try:
            numbers = [number for number, _ in numbered(self.root / path)]
        except OSError as error:
            stop_if_short(error)
            return Found(None, None, f"cannot be read: {error.strerror}")
        except FrameNameError as error:
            return Found(None, None, str(error))
        return Found("frames", np.array(numbers), None) if numbers else Found(None, None, "the folder holds no image")


def _file(entry: os.DirEntry[str]) -> Found:
    if not (is_image(entry.name) or is_video(entry.name)):
        endings = " ".join(IMAGES + VIDEOS)
        return Found(None, None, f"is neither an image, nor a video, nor a folder of frames (known: {endings})")
    try:
        with io.FileIO(entry.path, opener=without_waiting) as file:
            start = file.read(16)
    except OSError as error:
        stop_if_short(error, Path(entry.path))
        return Found(None, None, f"cannot be read: {error.strerror}")
    if not start:
        return Found(None, None, "the file is empty")
    if is_video(entry.name):
        return Found("video", None, None)
    if not _PICTURE.match(start):
        return Found(None, None, "is not an image, although its name says so")
    return Found("image", None, None)


def _plain(name: str) -> str:
    """Normalise case and the encoding of accents, which differ between operating systems."""
    return unicodedata.normalize("NFC", name).casefold()
