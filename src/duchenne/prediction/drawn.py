"""Files of drawn predictions: a picture per picture, a video per video, clip and camera."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from duchenne.errors import UserError
from duchenne.faces.sample import FPS
from duchenne.files import replacing
from duchenne.media.frames import frame_rate
from duchenne.media.images import save_jpeg
from duchenne.prediction.draw import draw_displacement, draw_faces
from duchenne.prediction.sources import Source

QUALITY = 92
"""Of JPEG files."""
TICKS = 90_000
"""Units of a video's times in a second."""


class Drawings:
    """Draws the frames that pass, one source after another (:class:`duchenne.prediction.model.Look`).

    Pictures become ``<name>.jpg``; videos, folders of frames and cameras ``<name>.mp4`` (H.264) with the times of the
    source, or 25 frames/s where it has none. For networks that take onset and apex, ``<name>_displacement.jpg`` shows
    both and the displacement between them. Sources of the same name get that of their folder in front.

    Args:
        folder: where the files go; it is made if needed.
        sources: all sources in order, so that each has the same name when a job resumes. None may lie directly in
            ``folder``, where a drawing could replace it.

    Raises:
        UserError: A source lies in the folder, or the folder cannot be made.
    """

    def __init__(self, folder: Path, sources: Sequence[Source] = ()) -> None:
        self.folder = folder
        self._names: dict[str, str] = {}
        self._taken = {""}
        self._alike: Counter[str] = Counter()  # numbered names of each stem, so that the next number is not searched
        for source in sources:
            self._name(source)
            place = source.data.resolve() if isinstance(source.data, Path) else Path()
            linked = source.data.parent.resolve() if isinstance(source.data, Path) else Path()
            if folder.resolve() in (place, place.parent, linked):
                raise UserError(f"{source.name} lies in {folder}, where drawings go: name another folder for them")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be made: {error.strerror}") from None
        self._source: Source | None = None
        self._video: Video | None = None

    def frame(self, source: Source, image: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> None:
        """Draw the next frame of a source.

        Args:
            image: uint8 (H, W, 3) RGB.
            rows: its rows; of the window and the clip of a face, the window is drawn.
        """
        if source is not self._source:
            self.close()
            self._source = source
        drawn = draw_faces(image, _one_per_face(rows))
        if source.kind == "image":
            self._write(f"{self._name(source)}.jpg", drawn)
            return
        if self._video is None:
            rate = frame_rate(source.data) if source.kind == "video" else None
            self._video = Video(self.folder / f"{self._name(source)}.mp4", rate or FPS)
        self._video.add(drawn, next((row["time"] for row in rows if row.get("kind") == "frame"), None))

    def pair(self, source: Source, row: Mapping[str, Any], x: np.ndarray, displacement: np.ndarray) -> None:
        """Draw onset, apex and displacement of a row.

        Args:
            x: input of the network (C, 224, 224), grey onset and apex in [0, 1] first.
            displacement: (2, 224, 224), px right and down.
        """
        picture = draw_displacement(row, x, displacement, Path(source.name).name)
        self._write(f"{self._name(source)}_displacement.jpg", picture)

    def close(self) -> None:
        """Complete the file of the last source."""
        if self._video:
            self._video.close()
        self._source = self._video = None

    def _write(self, name: str, image: np.ndarray) -> None:
        save_jpeg(self.folder / name, Image.fromarray(image), QUALITY)

    def _name(self, source: Source) -> str:
        """Return the name of a source's file without its suffix, which no other source has."""
        if source.name not in self._names:
            path = Path(source.name)
            stem, parent = (_safe(part) for part in (path.stem, path.parent.name))
            names = chain([stem, f"{parent}_{stem}"], (f"{stem}_{k}" for k in count(self._alike[stem] + 2)))
            self._names[source.name] = next(name for name in names if name not in self._taken)
            self._taken.add(self._names[source.name])
            self._alike[stem] += self._names[source.name] not in (stem, f"{parent}_{stem}")
        return self._names[source.name]


def _safe(name: str) -> str:
    """Return a name without blanks and signs, and at most 100 bytes of it: a file's name may have 255."""
    cut = re.sub(r"[^\w.-]+", "_", name).encode("utf-8", "ignore")[:100]
    return cut.decode("utf-8", "ignore").strip("_.")


class Video:
    """An H.264 file that frames are added to, of the size of the first one; it appears when it is closed.

    Args:
        rate: frames/s, for frames without a time.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._count, self._first, self._last = 0, 0.0, -1
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def add(self, image: np.ndarray, time: float | None = None) -> None:
        """Add a frame, uint8 (H, W, 3) RGB, with its time in the source, s."""
        if self._container is None:
            self._open(*image.shape[:2])
        shape = (self._stream.height, self._stream.width)
        if (image.shape[0] + image.shape[0] % 2, image.shape[1] + image.shape[1] % 2) != shape:
            image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
        padding = (shape[0] - image.shape[0], shape[1] - image.shape[1])
        image = np.pad(image, ((0, padding[0]), (0, padding[1]), (0, 0)), "edge")  # H.264 needs even sides
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        at = self._count / self.rate if time is None else time
        self._first = at if self._count == 0 else self._first
        self._last = max(self._last + 1, round((at - self._first) * TICKS))  # times of a broken source may repeat
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS)
        self._count += 1
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError:  # such as a full disk: FFmpeg can crash if it is given more
            self._container = None
            with self._stack:
                raise

    def close(self) -> None:
        """Complete the file; without a frame there is none."""
        container, self._container = self._container, None
        with self._stack:  # after an error it closes the container and removes the file
            if container is not None:
                container.mux(self._stream.encode())

    def _open(self, height: int, width: int) -> None:
        with ExitStack() as stack:
            part = stack.enter_context(replacing(self.path))
            options = {"movflags": "+faststart"}
            self._container = stack.enter_context(av.open(part, "w", format="mp4", options=options))
            self._stack = stack.pop_all()
        rate = Fraction(self.rate).limit_denominator(1001)
        self._stream = self._container.add_stream("h264", rate, options={"crf": "20", "preset": "veryfast"})
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, TICKS)


def _one_per_face(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of frames and pictures, and of each track of a clip the latest window, or else its summary."""
    chosen: dict[Any, Mapping[str, Any]] = {}
    for place, row in enumerate(rows):
        key = row["track"] if row["kind"] in ("window", "clip") else (place,)
        if key not in chosen or row["kind"] == "window":
            chosen[key] = row
    return list(chosen.values())
