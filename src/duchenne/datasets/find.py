"""Finding the owners' files and folders: archives are unpacked one level too deep, renamed and doubled.

Names are compared without case, blanks and punctuation, so that ``train(single-labeled)``, ``train(single_labeled)``
and ``train_single-labeled`` are one name.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from duchenne.catalog import Dataset, nearest
from duchenne.datasets.files import is_image, is_video
from duchenne.datasets.problems import UnreadableError

_DEPTH = 6  # folders below the root in which lists are looked for
_BREADTH = 60  # subfolders from which on a folder holds samples and no lists
_NAMED = 5  # archives named in a message
_LENGTH = 20_000  # files after which a folder is not read on: AffectNet has one of a million annotations
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".z01", ".001")
_LITTER = (
    "__macosx", "$recycle.bin", "system volume information", "lost+found",
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot",
)  # fmt: skip
"""Folders that macOS, Windows, Linux and the storage devices of Synology and QNAP add, in lower case."""


class Folder(NamedTuple):
    """A folder with the names in it; ``path`` is relative to where the search began, ``.`` for that folder itself."""

    path: str
    folders: list[str]
    files: list[str]


def plain(name: str) -> str:
    """A name as it is compared: letters and digits in lower case."""
    return re.sub(r"[\W_]", "", name.casefold())


def wanted(name: str) -> bool:
    """Whether a file or folder is one of the dataset's, not of the system, the storage or an Excel that has it open."""
    return not name.startswith((".", "~$")) and name.lower() not in _LITTER


def walk(root: Path) -> Iterator[Folder]:
    """The folders that may hold lists or samples, the nearest to the root first; links to folders are followed."""
    todo, seen = deque([(".", 0)]), set()
    while todo:
        path, depth = todo.popleft()
        place = root / path
        if (real := os.path.realpath(place)) in seen:
            continue
        seen.add(real)
        names: tuple[list[str], list[str]] = [], []
        with os.scandir(place) as entries:
            for entry in entries:
                names[not entry.is_dir()].append(entry.name)
                if len(names[1]) > _LENGTH:
                    break
        found = Folder(path, sorted(filter(wanted, names[0])), sorted(names[1]))
        yield found
        if depth < _DEPTH and len(found.folders) <= _BREADTH:
            todo.extend((name if path == "." else f"{path}/{name}", depth + 1) for name in found.folders)


def steps(root: Path, path: str) -> list[str]:
    """The plain names of the folders from the root, itself included, down to ``path``."""
    return [plain(name) for name in (root.name, *(() if path == "." else path.split("/")))]


def find_folder(root: Path, *names: str) -> str | None:
    """The folder nearest to the root whose path ends in ``names`` (plain); the inner of two of one name (X/X)."""
    for folder in walk(root):
        if steps(root, folder.path)[-len(names) :] == list(names):
            twice = [name for name in folder.folders if plain(name) == names[-1]]
            return join(folder.path, twice[0]) if twice else folder.path
    return None


def find_file(root: Path, stem: str, endings: tuple[str, ...], without: str = "\0") -> Path | None:
    """The first of :func:`find_files`."""
    return next(find_files(root, stem, endings, without), None)


def find_files(root: Path, stem: str, endings: tuple[str, ...], without: str = "\0") -> Iterator[Path]:
    """The files whose plain name, without its ending, begins with ``stem``: nearest to the root first, then shortest.

    Args:
        root: a folder to search, or the file itself.
        without: plain text that no folder on the way may contain.
    """
    if root.is_file():
        yield root
        return
    for folder in walk(root):
        if any(without in step for step in steps(root, folder.path)[1:]):
            continue
        fitting = [
            name
            for name in filter(wanted, folder.files)
            if name.lower().endswith(endings) and plain(name.rpartition(".")[0]).startswith(stem)
        ]
        yield from (root / folder.path / name for name in sorted(fitting, key=len))


def packed(*places: Path) -> str:
    """`` (still packed: ...)``, the first archives in or below the places; nothing where there are none."""
    folders = ((place, folder) for place in dict.fromkeys(places) if place.is_dir() for folder in walk(place))
    names = [within(place, place / folder.path / name) for place, folder in folders for name in folder.files]
    archives = [name for name in names if name.lower().endswith(_ARCHIVES) and wanted(name.rpartition("/")[2])]
    more = " ..." if len(archives) > _NAMED else ""
    return f" (still packed: {', '.join(archives[:_NAMED])}{more}: unpack what is needed)" if archives else ""


def within(root: Path, path: Path) -> str:
    """A file as messages name it: from the dataset's root, where it lies below."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def join(folder: str, name: str) -> str:
    """``folder/name`` relative to the root."""
    return name if folder == "." else f"{folder}/{name}"


def lists_of(config: Dataset) -> Path:
    """Where the annotation lists are looked for.

    Raises:
        UnreadableError: ``annotations`` leads nowhere.
    """
    if config.annotations is None:
        return config.root
    if not config.annotations.exists():
        raise UnreadableError(config.annotations, "there is no such file or folder (datasets.*.annotations)")
    return config.annotations


def choose(config: Dataset, there: Mapping[str, str | None], expected: str) -> tuple[str, str]:
    """Which of several forms of the samples is used: (name, folder).

    Args:
        there: form -> its folder, or None where it is not there; the first that is there is the default.
        expected: what to unpack where, for the message.

    Raises:
        UnreadableError: none is there, or not the one that ``media`` names.
    """
    found = {name: folder for name, folder in there.items() if folder is not None}
    if config.media is not None and config.media not in found:
        hint = "" if config.media in there else nearest(config.media, there)
        problem = f"media: {config.media!r} is not there{hint}"
        raise UnreadableError(config.root, f"{problem}; there is {', '.join(found) or 'none of ' + ', '.join(there)}")
    if not found:
        raise UnreadableError(config.root, f"there is no {expected}")
    name = config.media or next(iter(found))
    return name, found[name]


def media_names(place: Path) -> list[str]:
    """The images and videos of a folder, in no order."""
    with os.scandir(place) as entries:
        return [entry.name for entry in entries if is_image(entry.name) or is_video(entry.name)]


def frame_numbers(place: Path) -> list[int]:
    """The numbers of a clip's frames in order: the last integer of each image's name; other files are no frames."""
    with os.scandir(place) as entries:
        found = [re.findall(r"\d+", entry.name.rpartition(".")[0]) for entry in entries if is_image(entry.name)]
    return sorted(int(digits[-1]) for digits in found if digits)


def clips_by_number(root: Path, folder: str) -> dict[int, str]:
    """Clip number -> path of its video or folder of frames; numbers may be padded, and lie in part folders."""
    found: dict[int, str] = {}
    parts = [folder]
    while parts:
        here = parts.pop()
        with os.scandir(root / here) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                stem = entry.name if entry.is_dir() else entry.name.rpartition(".")[0]
                clip = entry.is_dir() or is_video(entry.name)
                if clip and stem.isascii() and stem.isdigit():
                    found.setdefault(int(stem), join(here, entry.name))
                elif entry.is_dir() and wanted(entry.name):
                    parts.append(join(here, entry.name))
    return found
