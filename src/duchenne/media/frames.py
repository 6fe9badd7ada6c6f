"""Reads the frames of a sample in order: one image, a folder of images, or a video decoded once from its start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition

from duchenne.files import regular, unusable
from duchenne.media.display import Display, sides
from duchenne.media.frame_names import FrameNameError, numbered
from duchenne.media.images import ImageError, depth, read_image, words
from duchenne.media.pixel_tables import placed, read_pixels
from duchenne.shortage import stop_if_short

Frame = tuple[int, np.ndarray | ImageError]
"""A frame's number, and its image, uint8 (H, W, 3) RGB, or the error that prevented reading it."""

WHOLE = 0.9
"""Share of the header's frame count and duration at which a video counts as whole (chosen by us): headers are often
a frame or two off, while an interrupted download ends anywhere and most decoders do not report it."""

UNCOUNTED = ("matroska,webm", "flv")
"""FFmpeg's names of containers whose header has a duration but no number of frames. For other containers without that
number, FFmpeg estimates the duration from the size of the file."""

CONTAINERS = "mov,matroska,avi,asf,flv,mpeg,mpegvideo,mpegts,m4v,h264,hevc,ogg,mxf,dv,gif,apng"
"""FFmpeg's names of the containers that are read, by content and not by name. FFmpeg knows more: playlists (HLS, DASH,
concat) make it open other files and addresses, and text is drawn as a film."""


class RestError(ImageError):
    """Raised when nothing more can be read of a folder or a video."""


class Span(NamedTuple):
    """The frames ``first`` to ``last``, both included; None: from the first or to the last existing frame."""

    first: int | None = None
    last: int | None = None

    def __contains__(self, number: object) -> bool:
        return (self.first is None or number >= self.first) and not self.ends_before(number)

    def ends_before(self, number: int) -> bool:
        """Whether the last frame comes before ``number``."""
        return self.last is not None and self.last < number


def read_frames(path: Path, kind: str, max_megapixels: float, spans: Sequence[Span] = (Span(),)) -> Iterator[Frame]:
    """Yield the frames of an image, folder or video inside the spans, in order, with one in memory at a time.

    In a folder frames are numbered by their names (:func:`duchenne.media.frame_names.numbers`), in a video from 0. A
    video is decoded once from its start to the last frame needed. An image may be a row of a table
    (:mod:`duchenne.media.pixel_tables`). A video's display matrix and the aspect ratio of its pixels are applied
    (:mod:`duchenne.media.display`). A damaged video gives the frames before the damage and then a :class:`RestError`
    with the number of the next frame, whether or not that is in a span.

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
                stop_if_short(error)
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
            for number, _, image in read_video(path, max_megapixels, spans):
                yield number, image


def _pixels(table: Path, line: int) -> np.ndarray | ImageError:
    try:
        return read_pixels(table, line)
    except (OSError, ValueError) as error:
        stop_if_short(error)
        return ImageError(words(error))


def _read(number: int, file: Path, max_megapixels: float, bits: int | None = None) -> Frame:
    try:
        return number, read_image(file, max_megapixels, bits)
    except ImageError as error:
        return number, error


def read_video(
    path: Path, max_megapixels: float, spans: Sequence[Span] = (Span(),), every: int = 1
) -> Iterator[tuple[int, float | None, np.ndarray | RestError]]:
    """Yield number, time (s; None if the file has none) and image of a video's frames, as :func:`read_frames` does.

    Args:
        every: only frames whose number is a multiple of it.
    """
    number, end, show = 0, 0.0, Display()
    try:
        with open_video(path) as container:
            if (stream := video_stream(container)) is None:
                yield 0, None, RestError("holds no video stream")
                return
            if stream.codec_context is None:
                yield 0, None, RestError("is in a coding that FFmpeg does not decode here: convert it to H.264")
                return
            if reason := _too_large(stream.width, stream.height, stream, max_megapixels):
                yield 0, None, RestError(f"is {reason}")
                return
            # without a number of frames only the container's duration is known, which includes sound
            for packet in container.demux(stream) if stream.frames else container.demux():
                if packet.stream.index != stream.index:
                    end = max(end, _end(packet))
                    continue
                for frame in packet.decode():
                    if all(span.ends_before(number) for span in spans):
                        return
                    if reason := _too_large(
                        frame.width, frame.height, stream, max_megapixels
                    ):  # not that of the header
                        yield number, None, RestError(f"has a frame {number} of {reason}")
                        return
                    if number % every == 0 and any(number in span for span in spans):
                        yield number, frame.time, show(frame, stream.sample_aspect_ratio)
                    number += 1
                    end = max(end, _end(frame))
            if number == 0:
                yield 0, None, RestError("holds no frame")
            elif reason := _cut(container, stream, number, end):
                yield number, None, RestError(reason)
    except (av.FFmpegError, OSError, ValueError) as error:
        stop_if_short(error, path)
        yield number, None, RestError(_why(path, number, error))


def open_video(path: Path) -> av.container.InputContainer:
    """Open a video in one of :data:`CONTAINERS`; nothing but this file is opened.

    Raises:
        av.FFmpegError, OSError, ValueError: It cannot be read.
    """
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    return av.open(f"file:{regular(path)}", options=options)  # a name such as concat:x is a file's


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """Return the first video stream that is not the picture of a cover; None if there is none."""
    cover = Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def _too_large(width: int, height: int, stream: av.VideoStream, max_megapixels: float) -> str | None:
    """Return the size of a frame as shown and the limit that it exceeds; None if it does not."""
    width, height = sides(width, height, stream.sample_aspect_ratio)
    if width * height <= max_megapixels * 1e6:
        return None
    return f"{width} x {height} px, over the limit of {max_megapixels:g} megapixels"


def _end(piece: av.Packet | av.VideoFrame) -> float:
    """Time at which a packet or a frame ends (s); 0 if it has no time."""
    return 0.0 if piece.pts is None else float((piece.pts + (piece.duration or 0)) * piece.time_base)


def _cut(container: av.container.InputContainer, stream: av.VideoStream, number: int, end: float) -> str | None:
    """Return why a video that gave ``number`` frames until ``end`` (s) is incomplete; None if it seems complete.

    The header of an AVI of variable frame rate counts empty frames, so the duration must be short as well.
    """
    if count := stream.frames:
        # not the stream's own duration, which FFmpeg corrects by the size of the file
        timed = stream.average_rate and end >= WHOLE * count / stream.average_rate
        return f"ends after {number} of {count} frames" if number < WHOLE * count and not timed else None
    promised = (container.duration or 0) / av.time_base
    if container.format.name in UNCOUNTED and end < WHOLE * promised:
        return f"ends after {end:.2f} of {promised:.2f} seconds"
    return None


def _why(path: Path, number: int, error: Exception) -> str:
    """Return why a video cannot be decoded after ``number`` frames."""
    if number:
        return f"cannot be decoded after {number} frames: {words(error)}"
    match unusable(path):  # FFmpeg only says "Invalid data" about a file that is not a video
        case None if isinstance(error, ValueError):
            return "is not a video of a kind that is read here, or is damaged"
        case None | "does not exist":
            return f"cannot be read: {words(error)}"
        case "is a video":
            return f"is damaged or cut off: {words(error)}"
        case reason:
            return reason


def frame_rate(path: Path) -> float | None:
    """Return the average frames/s of a video by its header; None if it has none, or cannot be read."""
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            rate = stream.average_rate if stream else None
    except (av.FFmpegError, OSError, ValueError) as error:
        stop_if_short(error)
        return None
    return float(rate) if rate else None
