"""Alignment of the samples of one file: their frames, faces, transforms, and their rows of the face store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from duchenne.errors import UserError
from duchenne.faces.align import similarity, smooth, template, warp, whole
from duchenne.faces.find import Face, clear, find_face, turned
from duchenne.faces.hashing import face_hash
from duchenne.faces.points import key_points
from duchenne.faces.settings import Faces
from duchenne.faces.store import encode
from duchenne.media.frames import RestError, Span, read_frames
from duchenne.media.images import ImageError

FPS = 25.0
"""Frames per second of a clip whose index does not give it (assumed)."""
HELD = 256_000_000
"""Bytes of decoded frames that a clip holds until its transforms are known (chosen): 96 frames of 1280 x 720."""

NO_FACE = "no face found"
"""Start of the reason for a sample that was read and shows no face."""

Failure = dict[str, Any]
"""A failure: sample, frame (None: the whole sample), reason."""


Row = dict[str, Any]
"""A row of the face store, or of the dataset's index."""


def align_file(
    rows: Sequence[Row], root: Path, config: Faces, going: Callable[[], None] = lambda: None
) -> list[tuple[Row | None, list[Failure]]]:
    """Align the samples of one file: for each the store's row, or None without a face to store, and its failures.

    The file is read once from its start to the last frame needed. Clips whose frames do not fit into :data:`HELD`
    before their transforms are known are read a second time, together.

    Args:
        rows: rows of the dataset's index, all with the same path.
        root: the dataset's root.
        going: called before each frame; ends the work by an error.
    """
    path, kind = root / rows[0]["path"], rows[0]["kind"]
    samples = [_Sample(row, config) for row in rows]
    read = partial(read_frames, path, kind, config.max_megapixels)
    for number, image in read([sample.span for sample in samples]):
        going()
        for sample in samples:
            if sample.span.ends_before(number):
                sample.close()
            elif number in sample.span or isinstance(image, RestError):
                sample.see(number, image)
    for sample in samples:
        sample.close()
    if again := [sample for sample in samples if sample.again]:
        for number, image in read([sample.span for sample in again]):
            going()
            for sample in again:
                if number in sample.span and not isinstance(image, ImageError):
                    sample.keep(image)
    return [sample.result() for sample in samples]


class _Sample:
    """One sample while its file is read.

    Frames are aligned and encoded as soon as their transform is known: at once where faces come aligned, from the
    onset on in a micro-expression, after the last frame in any other clip. Until then they are held.

    Attributes:
        span: frames of the sample.
        again: whether its frames were too many to hold and must be read again (:meth:`keep`).
        turn: how the sample seems to be turned; detections in a turned sample do not count as faces.
    """

    def __init__(self, row: Row, config: Faces) -> None:
        self.row, self.config = row, config
        self.span = Span(*(None if pd.isna(row.get(name)) else int(row[name]) for name in ("first", "last")))
        self.micro = row["kind"] != "image" and pd.notna(row["onset"]) and pd.notna(row["apex"])
        self.numbers: list[int] = []
        self.faces: list[Face | None] = []
        self.failures: list[Failure] = []
        self.pictures: list[bytes] = []
        self.transforms: list[list[float]] = []
        self.phash, self.again, self.closed, self.lost = "", False, False, False
        self.turn: str | None = None
        self._unclear: tuple[np.ndarray, Face | None] | None = None  # first frame whose face is not clear
        self._held: list[np.ndarray] = []
        self._bytes = 0
        self._matrix: Callable[[int], np.ndarray | None] | None = None  # position of a frame -> its transform
        if config.mode == "aligned":
            self._matrix = lambda position: None

    def see(self, number: int, image: np.ndarray | ImageError) -> None:
        """Process a frame, or the reason why it cannot be read."""
        if isinstance(image, ImageError):
            self._fail(number, str(image))
            return
        wanted = self.config.mode != "aligned" and (not self.micro or number == self.row["onset"])
        face = find_face(image, self.config, self.row["box"], self._last()) if wanted else None
        if wanted and not clear(face, self.config):
            self._unclear = self._unclear or (image, face)
            if self.micro and self._turned():  # now, because the transform depends on this frame alone
                face = None
        self.numbers.append(number)
        self.faces.append(face)
        if self.micro and face:
            matrix = similarity(key_points(face.points), template(self.config.size, self.config.eye_distance))
            self._matrix = lambda position: matrix
        if self.again:
            return
        self._held.append(image)
        self._bytes += image.nbytes
        if self._matrix:
            self._keep_held()
        elif self._bytes > HELD and len(self._held) > 1:
            self.again, self._held = True, []

    def close(self) -> None:
        """Finish the sample after its last frame."""
        if self.closed:
            return
        self.closed = True
        if self._turned():
            self.faces = [None] * len(self.faces)
        missing = _missing(self.row, self.config, self.micro, self.numbers, self.faces, self._damaged(), self.span)
        if reason := self.turn or missing:
            self.lost = not self.numbers or self.config.misses == "drop"
            if self.lost:
                reason += self._where_a_face_may_be(reason)
                self.failures, self._held, self.again = [], [], False
            self._fail(None, reason)
        if not self.lost and not self._matrix:
            self._matrix = _trajectory(self.faces, self.row, self.config).__getitem__
        self._keep_held()

    def keep(self, image: np.ndarray) -> None:
        """Align and encode the next frame."""
        matrix = self._matrix(len(self.pictures))
        matrix = whole(image, self.config.size) if matrix is None else matrix
        aligned = warp(image, matrix, self.config.size)
        self.phash = self.phash or face_hash(aligned)
        self.pictures.append(encode(aligned, self.config.encoding, self.config.quality))
        self.transforms.append(matrix.ravel().tolist())

    def result(self) -> tuple[Row | None, list[Failure]]:
        """Return the store's row and the failures."""
        if self.lost:
            return None, self.failures
        if len(self.pictures) != len(self.numbers):
            raise UserError(f"{self.row['path']}: its frames changed while they were read; run the stage again")
        faces = [self._last()] * len(self.faces) if self.micro else self.faces
        nobody = 0 if self.config.mode == "detect" else None
        return {
            "sample": self.row["sample"],
            "frame_numbers": self.numbers,
            "frames": self.pictures,
            "transforms": self.transforms,
            "points": [face.points.ravel() if face else None for face in self.faces],
            "boxes": [(face.box if face else np.full(4, np.nan)).tolist() for face in faces],
            "confidence": [face.score if face else float("nan") for face in faces],
            "doubtful": [face.doubtful if face else False for face in faces],
            "faces": [face.count if face else nobody for face in faces],
            "phash": self.phash,
        }, self.failures

    def _keep_held(self) -> None:
        for image in self._held:
            self.keep(image)
        self._held = []

    def _turned(self) -> bool:
        """Whether the sample seems to be turned; only tested if no frame has a clear face."""
        if self._unclear and not any(clear(face, self.config) for face in self.faces):
            self.turn = turned(*self._unclear, self.config)
            self._unclear = None
        return self.turn is not None

    def _last(self) -> Face | None:
        return next((face for face in reversed(self.faces) if face), None)

    def _where_a_face_may_be(self, reason: str) -> str:
        """Append the first damaged frame to the reason for a missing face, unless no face was expected there."""
        video = self.row["kind"] == "video"
        if self.micro and not (video and self.row["onset"] not in self.numbers):
            return ""
        number, damage = next(iter(self._damaged().items()), (0, ""))
        return "" if damage in reason else f"; {damage_of(self.row['kind'], number, damage)}"

    def _fail(self, number: int | None, reason: str) -> None:
        self.failures.append({"sample": self.row["sample"], "frame": number, "reason": reason})

    def _damaged(self) -> dict[int, str]:
        return {failure["frame"]: failure["reason"] for failure in self.failures}


def damage_of(kind: str, number: int, reason: str) -> str:
    """Describe what is wrong with a frame; a video's ``reason`` applies to the video from that frame on."""
    return reason if kind == "video" else f"frame {number} {reason}"


def _missing(
    row: dict[str, Any],
    config: Faces,
    micro: bool,
    numbers: Sequence[int],
    faces: Sequence[Face | None],
    damaged: dict[int, str],
    span: Span,
) -> str | None:
    """Return why a sample has no face; None when it has one, or needs none."""
    if not numbers:
        none = "holds no frame" if span == Span() else f"none of its frames {span.first} to {span.last} is there"
        return next(iter(damaged.values()), none)
    if config.mode == "aligned" or any(faces):
        return None
    none = "the face box lies outside the picture" if config.mode == "boxes" else NO_FACE
    if not micro:
        return none
    if row["onset"] in numbers:
        return f"{none} in the onset frame"
    if row["onset"] in damaged:
        return f"the onset frame {row['onset']} {damaged[row['onset']]}"
    return f"the onset frame {row['onset']} is not among frames {numbers[0]} to {numbers[-1]}"


def _trajectory(faces: Sequence[Face | None], row: Row, config: Faces) -> Sequence[np.ndarray | None]:
    """The smoothed transform of each frame; None, for the whole frame, if no frame has a face."""
    if not any(faces):
        return [None] * len(faces)
    unknown = np.full((68, 2), np.nan)
    points = key_points(np.stack([face.points if face else unknown for face in faces]))
    fps = row["fps"] if pd.notna(row["fps"]) else FPS
    target = template(config.size, config.eye_distance)
    return [similarity(p, target) for p in smooth(points, config.smoothing * fps)]
