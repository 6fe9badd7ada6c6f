"""Sources of a prediction: files, folders, patterns, pictures in memory and cameras."""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from PIL import Image

from duchenne.errors import UserError
from duchenne.files import expanded, mistaken, regular
from duchenne.media.frames import RestError, Span, open_video, read_frames, read_video, video_stream
from duchenne.media.images import ImageError, has_several, read_image, rgb
from duchenne.media.paths import broken, is_image, is_video
from duchenne.shortage import stop_if_short

Given = str | Path | np.ndarray | Image.Image | io.BytesIO
"""What a caller may give: the path of a picture, video or folder, a pattern of such paths, or a picture."""

Timed = tuple[int, float | None, np.ndarray | ImageError]
"""A frame's number, its time (s; None if not known) and its image, uint8 (H, W, 3) RGB, or why it is missing."""

OTHERS = (".avif", ".gif", ".heic", ".heif")
"""Pictures that no dataset holds, but a folder of photographs does: they are read, or their error says why not."""


@dataclass(frozen=True)
class Source:
    """One picture, clip or camera.

    Attributes:
        name: its name in the results; bytes of a file's name that are not UTF-8 are written as ``\\xff``.
        kind: what it is; ``unusable``: nothing that can be read.
        data: path; picture in memory; number, file or address of a camera; or why it is unusable.
    """

    name: str
    kind: Literal["image", "frames", "video", "camera", "unusable"]
    data: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", os.fsencode(self.name).decode("utf-8", "backslashreplace"))

    @property
    def path(self) -> Path:
        """Return the path of a file or folder."""
        if not isinstance(self.data, Path):
            raise TypeError(f"{self.name} has no path")
        return self.data


def expand(given: Given | Iterable[Given], takes: str) -> list[Source]:
    """List the sources behind what a caller gives, in its order.

    A folder stands for all pictures and videos in it and in its subfolders, sorted by path. For networks that take
    clips or pairs, a folder that holds images is one clip, with its images as frames; pictures are then no sources of
    their own. Hidden files and folders are left out. A pattern (``*``, ``?``, ``[...]``, and ``**`` for any subfolders)
    stands for the files and folders that it matches, sorted by path, each once. Neither follows links to folders that
    it finds below: they may lead back.

    Args:
        takes: what the network takes: image, clip or pair.
    """
    if isinstance(given, (str, Path, np.ndarray, Image.Image, io.BytesIO)) or not isinstance(given, Iterable):
        given = [given]
    sources: list[Source] = []
    for number, each in enumerate(given, start=1):
        if isinstance(each, (str, Path)):
            sources += _of_path(str(each), takes)
        else:
            sources.append(_of_picture(each, f"picture {number}", takes))
    return sources


def _of_picture(picture: object, name: str, takes: str) -> Source:
    if takes != "image":
        reason = "a network that takes clips needs the path of a video or of a folder of frames"
        return Source(name, "unusable", UserError(reason))
    if isinstance(picture, np.ndarray) and not _is_picture(picture):
        reason = f"is {picture.dtype} {picture.shape}: a picture is an array uint8 (H, W, 3) in the order RGB"
        return Source(name, "unusable", UserError(f"{name}: {reason}"))
    if not isinstance(picture, (np.ndarray, Image.Image, io.BytesIO)):
        return Source(name, "unusable", UserError(f"{name}: {type(picture).__name__} is not a picture or a path"))
    return Source(name, "image", picture)


def _is_picture(array: np.ndarray) -> bool:
    return bool(array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size)


def _of_path(name: str, takes: str) -> list[Source]:
    if not name:
        return [Source(name, "unusable", UserError("an empty name is no source: is a variable of the shell not set?"))]
    path = expanded(name)
    if path.exists() or path.is_symlink():
        return _there(name, path, takes)
    if not any(sign in name for sign in "*?["):
        return [Source(name, "unusable", UserError(f"{name}: no such file or folder"))]
    matched = _matching(path)
    if not matched:
        return [Source(name, "unusable", UserError(f"{name}: no file or folder matches"))]
    found = {source.name: source for each in matched for source in _there(str(each), each, takes)}  # once each
    return list(found.values())


def _there(name: str, path: Path, takes: str) -> list[Source]:
    if why := broken(path):
        return [Source(name, "unusable", UserError(f"{name}: {why}"))]
    if path.is_dir():
        return _of_folder(path, takes)
    return [Source(name, "video" if _is_clip(path, takes) else "image", path)]


def _matching(pattern: Path) -> list[Path]:
    """List what a pattern matches, sorted; ``**`` enters no linked folder, which may lead back to one above it."""
    base = Path(pattern.anchor)
    parts = [part if part == "**" else re.sub(r"\*+", "*", part) for part in pattern.relative_to(base).parts]
    while parts[-1:] == ["**"]:  # a folder stands for all that is in it
        parts.pop()
    dotted = [part for part in parts if part.startswith(".")]
    return sorted(
        path
        for path in (base.glob(os.path.join(*parts)) if parts else [base])  # noqa: PTH118
        if all(not part.startswith(".") or any(fnmatch(part, each) for each in dotted) for part in path.parts)
    )


def _is_clip(path: Path, takes: str) -> bool:
    """Whether a file is read as a video; one without a known suffix is judged by what the network takes, or its start.

    A file of pictures given to a network of clips is a clip of one frame.
    """
    if takes != "image" or is_image(path.name):
        return not is_image(path.name)
    if is_video(path.name):
        return True
    try:
        with regular(path).open("rb") as file:
            return mistaken(file.read(64)) == "a video"
    except OSError:
        return False  # reading it as a picture reports the reason


def _of_folder(folder: Path, takes: str) -> list[Source]:
    found = list(_below(folder, takes))
    if found:
        return found
    if takes != "image":
        return [Source(str(folder), "frames", folder)]  # reading it reports that it holds no frame
    return [Source(str(folder), "unusable", UserError(f"{folder}: holds no picture and no video"))]


def _below(folder: Path, takes: str) -> Iterator[Source]:
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if path.is_dir():
            if path.is_symlink() and path != folder:  # it may lead back to this folder
                continue
            try:
                entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
            except OSError as error:
                stop_if_short(error)
                yield Source(str(path), "unusable", UserError(f"{path}: cannot be read: {error.strerror}"))
                continue
            if takes != "image" and any(is_image(entry.name) and not entry.is_dir() for entry in entries):
                yield Source(str(path), "frames", path)
            waiting += reversed(entries)
        elif is_video(path.name):
            yield Source(str(path), "video", path)
        elif takes == "image" and (is_image(path.name) or path.suffix.lower() in OTHERS):
            yield Source(str(path), "image", path)


def require_no_source(path: Path, sources: Iterable[Source]) -> None:
    """Check that a file that will be written is not one of the sources, or a frame of one.

    Raises:
        UserError: It is.
    """
    place = Path(os.path.realpath(path))
    for source in sources:
        if isinstance(source.data, Path):
            found = Path(os.path.realpath(source.data))
            if place == found or (place.exists() and source.kind == "frames" and place.parent == found):
                raise UserError(f"{path} would replace {source.name}: give another file")


def camera(given: str) -> Source:
    """Return the source of a camera: its number, or a file or the address of a stream."""
    if given.isdecimal() and len(given) < 10:  # OpenCV's numbers have 32 bits
        return Source(f"camera {int(given)}", "camera", int(given))
    return Source(given, "camera", given)


def read_picture(source: Source, max_megapixels: float) -> tuple[np.ndarray, list[str]]:
    """Read a picture: uint8 (H, W, 3) RGB, and warnings.

    Raises:
        ImageError: It cannot be read.
    """
    if isinstance(source.data, np.ndarray):
        return source.data, []
    if isinstance(source.data, Image.Image):
        return rgb(source.data), []
    image = read_image(source.data, max_megapixels)
    return image, ["only the first of several pictures in the file was used"] if has_several(source.data) else []


def read_clip(
    source: Source, max_megapixels: float, first: int = 0, every: int = 1, stop: threading.Event | None = None
) -> Iterator[Timed]:
    """Yield the frames of a video, folder or camera, with one in memory at a time.

    Args:
        first: number of the first frame.
        every: only frames whose number is a multiple of it.
        stop: ends a camera, and anything else by an error.

    Raises:
        UserError: The camera cannot be opened, or reading was stopped.
    """
    match source.kind:
        case "video":
            for frame in read_video(source.path, max_megapixels, [Span(first)], every):
                require_going(stop)
                yield frame
        case "camera":
            yield from _read_camera(source, every, stop or threading.Event())
        case kind:
            for number, image in read_frames(source.path, kind, max_megapixels, [Span(first)]):
                require_going(stop)
                if number % every == 0 or isinstance(image, ImageError):
                    yield number, None, image


def require_going(stop: threading.Event | None) -> None:
    """Raise a UserError if work was stopped, because nobody waits for its result."""
    if stop is not None and stop.is_set():
        raise UserError("was stopped before its end")


def _read_camera(source: Source, every: int, stop: threading.Event) -> Iterator[Timed]:
    """Yield the frames of a camera until it ends or is stopped.

    Times of a device are measured here, from its first frame on; those of a file or stream are its own.
    """
    import cv2

    capture = cv2.VideoCapture(source.data)
    try:
        if not capture.isOpened():
            raise UserError(f"{source.name}: cannot be opened as a camera: is it connected, and not in use elsewhere?")
        if isinstance(source.data, int):
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, however long the last one took
        number, began = 0, None
        while not stop.is_set():
            read, image = capture.read()
            if not read:
                break
            began = began or time.monotonic()
            if number % every == 0:
                live = isinstance(source.data, int)
                at = time.monotonic() - began if live else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                yield number, at, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            number += 1
        if number == 0 and not stop.is_set():
            yield 0, None, RestError("gives no frame")
    finally:
        capture.release()


def frame_count(source: Source) -> int | None:
    """Return the number of frames by the header or the names of files; None if it is not known."""
    if source.kind == "video":
        try:
            with open_video(source.path) as container:
                if (stream := video_stream(container)) is None:
                    return 0  # reading it reports the reason
                if stream.frames:
                    return int(stream.frames)
                if container.duration and stream.average_rate:
                    return round(container.duration / av.time_base * stream.average_rate)
        except (av.FFmpegError, OSError, ValueError) as error:
            stop_if_short(error)
            return 0
        return None
    if source.kind == "frames":
        return sum(is_image(path.name) for path in source.path.iterdir())
    return None if source.kind == "camera" else 1


def total(sources: Sequence[Source], every: int) -> int | None:
    """Return the number of frames of all sources; None if one is not known."""
    counts = [frame_count(source) for source in sources]
    if any(count is None for count in counts):
        return None
    return sum(-(-count // every) for count in counts if count is not None)
