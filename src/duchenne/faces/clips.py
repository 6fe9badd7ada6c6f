"""The frames of a sample in order: one image, a folder of them, or a video decoded once from its start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from duchenne.datasets.frames import FrameNameError, numbered
from duchenne.datasets.pixels import placed, read_pixels
from duchenne.faces.display import shown, sides
from duchenne.faces.images import ImageError, depth, read_image, words
from duchenne.files import unusable

Frame = tuple[int, np.ndarray | ImageError]
"""A frame's number, and its image, uint8 (H, W, 3) RGB, or why there is none."""

WHOLE = 0.9
"""Share of the frames that a video's header promises with which it counts as whole (ours): headers are often a frame
or two off, while an interrupted download ends anywhere and most decoders say nothing."""


class RestError(ImageError):
    """Nothing more can be read of a folder or a video."""


class Span(NamedTuple):
    """The frames ``first`` to ``last``, both included; None: from the first that there is, to the last."""

    first: int | None = None
    last: int | None = None

    def __contains__(self, number: object) -> bool:
        return (self.first is None or number >= self.first) and not self.ends_before(number)

    def ends_before(self, number: int) -> bool:
        """Whether the last frame comes before ``number``."""
        return self.last is not None and self.last < number


def read_frames(path: Path, kind: str, max_megapixels: float, spans: Sequence[Span] = (Span(),)) -> Iterator[Frame]:
    """The frames of an image, a folder or a video that lie in one of the spans, in order, one in memory at a time.

    Numbers are those in the names of a folder's files (:func:`duchenne.datasets.frames.numbers`), and count from 0 in
    a video, which is decoded once from its start to the last frame wanted. An image may be a row of a table
    (:mod:`duchenne.datasets.pixels`). A video's display matrix and the aspect ratio of its pixels are applied
    (:mod:`duchenne.faces.display`). A damaged video gives the frames before the damage and then a :class:`RestError`
    with the number of the next frame, whether or not that lies in a span.

    Args:
        kind: image, frames or video.
    """
    match kind:
        case "image" if row := placed(path):
            yield 0, _pixels(*row)
        case "image":
            yield _read(0, path, max_megapixels)
        case "frames":
            try:
                files = numbered(path)
            except OSError as error:
                yield 0, RestError(f"cannot be read: {words(error)}")
                return
            except FrameNameError as error:
                yield 0, RestError(str(error))
                return
            wanted = [(number, path / name) for number, name in files if any(number in span for span in spans)]
            bits = depth((file for _, file in wanted), max_megapixels)
            for number, file in wanted:
                yield _read(number, file, max_megapixels, bits)
        case "video":
            for number, image in _decode(path, max_megapixels, spans):
                yield number, RestError(str(image)) if isinstance(image, ImageError) else image


def _pixels(table: Path, line: int) -> np.ndarray | ImageError:
    try:
        return read_pixels(table, line)
    except (OSError, ValueError) as error:
        return ImageError(words(error))


def _read(number: int, file: Path, max_megapixels: float, bits: int | None = None) -> Frame:
    try:
        return number, read_image(file, max_megapixels, bits)
    except ImageError as error:
        return number, error


def _decode(path: Path, max_megapixels: float, spans: Sequence[Span]) -> Iterator[Frame]:
    number = 0
    try:
        with av.open(path) as container:
            if not container.streams.video:
                yield 0, ImageError("holds no video stream")
                return
            stream = container.streams.video[0]
            width, height = sides(stream.width, stream.height, stream.sample_aspect_ratio)
            if width * height > max_megapixels * 1e6:
                yield 0, ImageError(f"is {width} x {height} px, over the limit of {max_megapixels:g} megapixels")
                return
            for frame in container.decode(stream):
                if all(span.ends_before(number) for span in spans):
                    return
                if any(number in span for span in spans):
                    yield number, shown(frame, stream.sample_aspect_ratio)
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
