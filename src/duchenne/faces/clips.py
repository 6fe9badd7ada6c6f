"""The frames of a sample in order: one image, a folder of them, or a video decoded once from its start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from duchenne.datasets.files import is_image
from duchenne.faces.images import ImageError, read_image, words
from duchenne.files import unusable

Frame = tuple[int, np.ndarray | ImageError]
"""A frame's number, and its image, uint8 (H, W, 3) RGB, or why there is none."""

WHOLE = 0.9
"""Share of the frames that a video's header promises with which it counts as whole (ours): headers are often a frame
or two off, while an interrupted download ends anywhere and most decoders say nothing."""


def read_frames(path: Path, kind: str, max_megapixels: float) -> Iterator[Frame]:
    """The frames of a sample, one in memory at a time.

    Numbers are those of the file names in a folder of frames (the last integer of each), and count from 0 in a video.
    Rotation metadata is applied. A damaged video gives the frames before the damage and then an error.

    Args:
        kind: image, frames or video.
    """
    match kind:
        case "image":
            yield _read(0, path, max_megapixels)
        case "frames":
            try:
                files = numbered_frames(path)
            except OSError as error:
                yield 0, ImageError(f"cannot be read: {words(error)}")
                return
            for number, file in files:
                yield _read(number, file, max_megapixels)
        case "video":
            yield from _decode(path, max_megapixels)


def numbered_frames(folder: Path) -> list[tuple[int, Path]]:
    """The images of a folder by the last integer in their names, as a person would sort them: 2 before 10.

    Where a name has no integer or two share one, frames are numbered from 0 in the order of their names.
    """
    files = sorted(file for file in folder.iterdir() if is_image(file.name))
    found = [re.findall(r"\d+", file.stem) for file in files]
    numbers = [int(digits[-1]) for digits in found if digits]
    if len(set(numbers)) < len(files):
        numbers = list(range(len(files)))
    return sorted(zip(numbers, files, strict=True))


def _read(number: int, file: Path, max_megapixels: float) -> Frame:
    try:
        return number, read_image(file, max_megapixels)
    except ImageError as error:
        return number, error


def _decode(path: Path, max_megapixels: float) -> Iterator[Frame]:
    number = 0
    try:
        with av.open(path) as container:
            if not container.streams.video:
                yield 0, ImageError("holds no video stream")
                return
            stream = container.streams.video[0]
            if stream.width * stream.height > max_megapixels * 1e6:
                limit = f"over the limit of {max_megapixels:g} megapixels"
                yield 0, ImageError(f"is {stream.width} x {stream.height} px, {limit}")
                return
            for frame in container.decode(stream):
                # quarter turns counter-clockwise, as phones write them
                yield number, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
                number += 1
        if number == 0:
            yield 0, ImageError("holds no frame")
        elif number < WHOLE * stream.frames:
            yield number, ImageError(f"ends after {number} of {stream.frames} frames")
    except (av.FFmpegError, ValueError) as error:
        yield number, ImageError(_why(path, number, error))


def _why(path: Path, number: int, error: Exception) -> str:
    """Why a video cannot be decoded, after ``number`` frames."""
    if number:
        return f"cannot be decoded after {number} frames: {words(error)}"
    match unusable(path):  # of whatever is not a video, FFmpeg says "Invalid data" alone
        case None | "does not exist":
            return f"cannot be read: {words(error)}"
        case "is a video":
            return f"is damaged or cut off: {words(error)}"
        case reason:
            return reason
