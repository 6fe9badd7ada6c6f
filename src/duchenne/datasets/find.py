"""Finds the owners' files and folders, also when archives were unpacked one level too deep, renamed or duplicated.

Names are compared without case, blanks and punctuation, so that ``train(single-labeled)``, ``train(single_labeled)``
and ``train_single-labeled`` are one name.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.media.frame_names import FrameNameError, numbered
from duchenne.media.paths import broken, is_folder, is_image, is_regular, is_video
from duchenne.shortage import stop_if_short

_DEPTH = 6  # levels below the root that are searched for lists
_BREADTH = 60  # a folder with this many subfolders is taken to hold samples and no lists
_NAMED = 5  # number of archives named in a message
_LENGTH = 20_000  # entries read of a folder: AffectNet has a folder of a million annotations
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".z01", ".001")
_LITTER = (
    "__macosx", "$recycle.bin", "system volume information", "lost+found",
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot",
)  # fmt: skip
"""Folders that macOS, Windows, Linux and the storage devices of Synology and QNAP add, in lower case."""


class Folder(NamedTuple):
    """A folder with its entries; ``path`` is relative to the start of the search, ``.`` for the start itself."""

    path: str
    folders: list[str]
    files: list[str]
    dead: list[str]
    """broken links"""


def plain(name: str) -> str:
    """Reduce a name to letters and digits in lower case, for comparison."""
    return re.sub(r"[\W_]", "", name.casefold())


def wanted(name: str) -> bool:
    """Whether a file or folder belongs to the dataset, not to the system, the storage or an open Excel."""
    return not name.startswith((".", "~$")) and name.lower() not in _LITTER


def walk(root: Path) -> Iterator[Folder]:
    """Yield the folders that may hold lists or samples, nearest to the root first; links to folders are followed."""
    todo, seen = deque([(".", 0)]), set()
    while todo:
        path, depth = todo.popleft()
        place = root / path
        if (real := os.path.realpath(place)) in seen:
            continue
        seen.add(real)
        folders, files, dead = [], [], []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    kind = folders if is_folder(entry) else files if is_regular(entry) else dead
                    if kind is not dead or entry.is_symlink():
                        kind.append(entry.name)
                    if len(files) > _LENGTH:
                        break
        except OSError as error:
            stop_if_short(error)
            if path == ".":
                raise
            continue  # not ours to read, or gone since
        found = Folder(path, sorted(filter(wanted, folders)), sorted(files), sorted(dead))
        yield found
        if depth < _DEPTH and len(found.folders) <= _BREADTH:
            todo.extend((name if path == "." else f"{path}/{name}", depth + 1) for name in found.folders)


def descend(root: Path, top: str) -> Iterator[tuple[str, list[str], list[os.DirEntry[str]]]]:
    """Yield every folder from ``top`` down, like ``os.walk``: (folder, names of its subfolders, its other entries).

    Subfolders whose names the caller removes from the list are skipped. Links to folders are followed.

    Args:
        root: the dataset's root.
        top: folder relative to ``root``, like the folders that are yielded.

    Raises:
        UnreadableError: A link leads back to a folder above it.
    """
    todo: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while todo:
        here, above = todo.pop()
        place = os.stat(root / here)  # noqa: PTH116  (a path of a thousand steps costs each of them again)
        real = place.st_dev, place.st_ino
        if real in above:
            raise UnreadableError(root / here, "is a link that leads back to a folder above it: remove it")
        with os.scandir(root / here) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        folders = [entry.name for entry in inside if is_folder(entry) and wanted(entry.name)]
        yield here, folders, [entry for entry in inside if not is_folder(entry)]
        todo += [(join(here, name), above | {real}) for name in reversed(folders)]


class Outside(NamedTuple):
    """The links of a dataset that lead out of its root."""

    count: int
    path: str
    """the first one, relative to the root"""
    target: str
    """where that leads"""
    folders: int
    """number of the folders that they lead to"""


_CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
"""A file in DVC's cache, wherever that is. Its name is the digest of its contents: nobody makes a link to a file there
without knowing what is in it."""


def links_out(root: Path) -> Outside | None:
    """Count the links to files and folders that lead out of the root, but for those of DVC into its cache.

    Other paths never do: lists are refused whose paths lead out (:func:`duchenne.media.paths.below`). Links are read,
    because whoever may write into the folder made them on purpose: for another disk, or by ``cp -rs``. But an archive
    can hold links as well, so they are counted and shown. Links to folders are not followed here.
    """
    top = os.path.realpath(root)
    count, folders, todo = 0, set[Path](), ["."]
    first: tuple[str, str] | None = None
    while todo:
        here = todo.pop()
        try:
            with os.scandir(root / here) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue  # the checks of the samples name it if there is one below
        for entry in inside:
            if not entry.is_symlink():
                if entry.is_dir(follow_symlinks=False):
                    todo.append(join(here, entry.name))
                continue
            if _CACHED.search(os.readlink(entry.path)):  # noqa: PTH115  (a hundred thousand of them)
                continue
            target = os.path.realpath(entry.path)
            if Path(target).is_relative_to(top):
                continue
            count += 1
            folders.add(Path(target).parent)
            first = min(first or (join(here, entry.name), target), (join(here, entry.name), target))
    return Outside(count, *first, len(folders)) if first else None


def steps(root: Path, path: str) -> list[str]:
    """Return the plain names of the folders from the root, included, down to ``path``."""
    return [plain(name) for name in (root.name, *(() if path == "." else path.split("/")))]


def find_folder(root: Path, *names: str) -> str | None:
    """Find the folder nearest to the root whose path ends in ``names`` (plain); the inner one of two nested (X/X)."""
    for folder in walk(root):
        if steps(root, folder.path)[-len(names) :] == list(names):
            twice = [name for name in folder.folders if plain(name) == names[-1]]
            return join(folder.path, twice[0]) if twice else folder.path
    return None


def find_file(root: Path, stem: str, endings: tuple[str, ...], without: str = "\0") -> Path | None:
    """Return the first result of :func:`find_files`."""
    return next(find_files(root, stem, endings, without), None)


def find_first(root: Path, stems: Iterable[str], endings: tuple[str, ...], without: str = "\0") -> Path | None:
    """Return the result of :func:`find_file` for the first of several stems that has one."""
    return next(filter(None, (find_file(root, stem, endings, without) for stem in stems)), None)


def find_files(root: Path, stem: str, endings: tuple[str, ...], without: str = "\0") -> Iterator[Path]:
    """Yield files whose plain name without ending begins with ``stem``: nearest to the root first, then shortest.

    Args:
        root: a folder to search, or the file itself.
        without: plain text that no folder of the path may contain.
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
    """Return `` (still packed: ...)`` with the first archives in or below the places; empty if there are none."""
    folders = ((place, folder) for place in dict.fromkeys(places) if place.is_dir() for folder in walk(place))
    names = [within(place, place / folder.path / name) for place, folder in folders for name in folder.files]
    archives = [name for name in names if name.lower().endswith(_ARCHIVES) and wanted(name.rpartition("/")[2])]
    more = " ..." if len(archives) > _NAMED else ""
    return f" (still packed: {', '.join(archives[:_NAMED])}{more}: unpack what is needed)" if archives else ""


def within(root: Path, path: Path) -> str:
    """Return a path for messages: relative to the dataset's root if it lies below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def join(folder: str, name: str) -> str:
    """Join to ``folder/name``, relative to the root."""
    return name if folder == "." else f"{folder}/{name}"


def lists_of(config: Dataset) -> Path:
    """Return the file or folder in which annotation lists are searched.

    Raises:
        UnreadableError: ``annotations`` does not exist.
    """
    if config.annotations is None:
        return config.root
    if not config.annotations.exists():
        raise UnreadableError(config.annotations, "there is no such file or folder (datasets.*.annotations)")
    return config.annotations


def choose(config: Dataset, there: Mapping[str, str | None], expected: str) -> tuple[str, str]:
    """Choose one of several forms of the samples: (name, folder).

    Args:
        there: form -> its folder, or None if it does not exist; the first existing one is the default.
        expected: for the message: what to unpack where.

    Raises:
        UnreadableError: No form exists, or not the one that ``media`` names.
    """
    found = {name: folder for name, folder in there.items() if folder is not None}
    if config.media is not None and config.media not in found:
        problem = f"media: {config.media!r} is not there"
        raise UnreadableError(config.root, f"{problem}; there is {', '.join(found) or 'none of ' + ', '.join(there)}")
    if not found:
        raise UnreadableError(config.root, f"there is no {expected}")
    name = config.media or next(iter(found))
    return name, found[name]


def media_names(place: Path) -> list[str]:
    """List the images and videos of a folder, in no particular order."""
    with os.scandir(place) as entries:
        return [entry.name for entry in entries if is_image(entry.name) or is_video(entry.name)]


def frame_numbers(place: Path) -> list[int]:
    """Return the numbers of a clip's frames in order.

    Empty if the folder is missing or its names have no frame numbers; the checks of all datasets report that.
    """
    try:
        return [number for number, _ in numbered(place)]
    except (OSError, FrameNameError) as error:
        stop_if_short(error)
        return []


def dead_links(root: Path) -> list[str]:
    """List the broken links among the folders and lists below a root, each with its target."""
    found = [join(folder.path, name) for folder in walk(root) for name in folder.dead]
    return [f"{name} {why}" for name in found if (why := broken(root / name))]


def clips_by_number(root: Path, folder: str) -> dict[int, str]:
    """Map clip numbers to their videos or folders of frames; numbers may be padded, and lie in part folders.

    A broken link counts as the file named; the checks of all datasets report it.
    """
    found: dict[int, str] = {}
    for here, folders, others in descend(root, folder):
        clips = [name for name in folders if _is_number(name)]
        folders[:] = [name for name in folders if not _is_number(name)]
        for entry in others:
            stem = entry.name.rpartition(".")[0] if is_video(entry.name) else entry.name
            if _is_number(stem) and (is_video(entry.name) or broken(entry.path)):
                clips.append(entry.name)
        for name in sorted(clips):
            found.setdefault(int(name.partition(".")[0]), join(here, name))
    return found


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
