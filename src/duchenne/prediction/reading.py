"""Reads a source and finds its faces: inputs of the network, and the rows of results that they will complete."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from duchenne.datasets.index import as_schema
from duchenne.errors import UserError
from duchenne.faces.align import similarity, template, warp, whole
from duchenne.faces.find import TURNED, Face, clear, face_in, find_boxes, find_face, turned
from duchenne.faces.points import key_points
from duchenne.faces.sample import NO_FACE, align_file, damage_of
from duchenne.faces.settings import Faces
from duchenne.faces.store import decode, encode
from duchenne.media.frames import frame_rate
from duchenne.media.images import ImageError
from duchenne.prediction.apex import apex_of
from duchenne.prediction.options import Options
from duchenne.prediction.sources import Source, read_clip, read_picture, require_going
from duchenne.prediction.tracks import Crop, Tracked, Tracker, Trajectory
from duchenne.training.augment import transform
from duchenne.training.inputs import inputs
from duchenne.training.settings import Recipe

Row = dict[str, Any]
"""One result; see :mod:`duchenne.prediction.tables`."""

Places = dict[int, dict[int | None, list[float]]]
"""Boxes of the faces in the frames of a clip: frame number -> track -> box (x0, y0, x1, y1), px."""

CHUNK = 1000
"""Frames of a video after which an interrupted job can resume (chosen by us)."""


class Mean:
    """Mean of the logits and features of a clip's windows."""

    def __init__(self) -> None:
        self._sums: tuple[Tensor, Tensor] | None = None
        self.count = 0

    def add(self, logits: Tensor, features: Tensor) -> None:
        """Add a window: logits (C,), features (F,)."""
        self._sums = (logits, features) if self._sums is None else (self._sums[0] + logits, self._sums[1] + features)
        self.count += 1

    @property
    def value(self) -> tuple[Tensor, Tensor]:
        """Return the means: logits (C,), features (F,)."""
        if self._sums is None:
            raise ValueError("no window was added")
        return self._sums[0] / self.count, self._sums[1] / self.count


@dataclass
class Item:
    """What reading a source gives, in order.

    Attributes:
        row: a row without its prediction.
        x: input of the network; its answer completes the row, and is added to ``mean``.
        mean: without ``x``, its value completes the row.
        image: a frame, uint8 (H, W, 3) RGB, all of whose rows have been given; only where somebody looks at frames.
        boxes: places of the faces in the frames of a clip: frame number -> track -> box.
        resume: what reading can resume from after this item; all items before it belong to finished work.
    """

    row: Row | None = None
    x: Tensor | None = None
    mean: Mean | None = None
    image: np.ndarray | None = None
    boxes: Places | None = None
    resume: dict[str, Any] | None = None


@dataclass(frozen=True)
class Reading:
    """Reads sources as a network takes them.

    Attributes:
        looked_at: whether somebody looks at the frames.
        stop: ends a camera.
    """

    network: Any
    card: dict[str, Any]
    faces: Faces
    options: Options
    looked_at: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def takes(self) -> str:
        """Return what the network takes: image, clip or pair."""
        return str(self.network.facts.takes)

    @cached_property
    def transformed(self) -> Callable[[Tensor], Tensor]:
        """Return the conversion of aligned faces, uint8 (..., 3, S, S), to inputs of the network."""
        return transform(self.card)

    def __call__(self, source: Source, resume: dict[str, Any] | None = None) -> Iterator[Item]:
        """Yield the items of a source.

        Args:
            resume: ``resume`` of the last item that was finished.

        Raises:
            UserError: The source cannot be read, or not be used as the options say; the message names it.
        """
        if source.kind == "unusable":
            raise source.data
        if source.kind != "camera":
            require_going(self.stop)
        if self.takes == "image":
            yield from self._picture(source) if source.kind == "image" else self._frames(source, resume)
        elif self.options.window is not None or self.options.faces == "all":
            yield from self._tracks(source)
        elif source.kind == "camera":
            raise UserError(f"{source.name}: a camera has no end: give a window, which a network of clips then takes")
        else:
            yield from self._clip(source)

    # Single pictures

    def _picture(self, source: Source) -> Iterator[Item]:
        try:
            image, notes = read_picture(source, self.faces.max_megapixels)
        except ImageError as error:
            raise UserError(f"{source.name}: {error}") from None
        row = {"source": source.name, "kind": "picture"}
        if self.faces.mode == "aligned":
            yield self._input(row | {"note": _note(notes)}, image)
        else:
            faces = self._faces(image)
            if turn := turned(image, max(faces, key=lambda face: face.score, default=None), self.faces):
                faces, notes = [], [turn, *notes]
            elif not faces:
                notes = [NO_FACE, *notes]
            for face in faces:
                yield self._input(row | _of_face(face, notes), image, face)
            if not faces:
                yield Item(row | {"faces": 0, "note": _note(notes)})
        if self.looked_at:
            yield Item(image=image)

    def _faces(self, image: np.ndarray) -> list[Face]:
        """Find the largest or all faces of a picture, the largest first."""
        if self.options.faces == "largest":
            face = find_face(image, self.faces)
            return [] if face is None else [face]
        boxes, scores = find_boxes(image, self.faces)
        order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
        return [face_in(image, self.faces, boxes[i], float(scores[i]), len(boxes)) for i in order]

    def _input(self, row: Row, image: np.ndarray, face: Face | None = None) -> Item:
        size = self.faces.size
        matrix = whole(image, size)
        if face is not None:
            matrix = similarity(key_points(face.points), template(size, self.faces.eye_distance))
        aligned = torch.from_numpy(warp(image, matrix, size)).permute(2, 0, 1)
        return Item(row, self.transformed(aligned))

    def _frames(self, source: Source, resume: dict[str, Any] | None) -> Iterator[Item]:
        """Yield a row for each face of each frame; for a frame without a face, a row that says so."""
        aligned = self.faces.mode == "aligned"
        tracker = Tracker(self.faces, self.options.faces == "all")
        first, clearly, turn, done = 0, aligned, None, 0
        if resume:
            first, clearly, turn = resume["frame"], resume["clear"], resume["turn"]
            tracker.state = resume["tracker"]
        for number, time, image in read_clip(source, self.faces.max_megapixels, first, self.options.every, self.stop):
            row = {"source": source.name, "kind": "frame", "frame": number, "time": time}
            if isinstance(image, ImageError):
                if number == 0:
                    raise UserError(f"{source.name}: {image}")
                yield Item(row | {"note": str(image)})
                continue
            if aligned:
                yield self._input(row, image)
            else:
                found = tracker(image)
                if not clearly and turn is None:  # searching for turned faces takes long: once is enough
                    best = max((face for _, face in found), key=lambda face: face.score, default=None)
                    clearly = clear(best, self.faces)
                    turn = turned(image, best, self.faces) or ""
                clearly = clearly or any(clear(face, self.faces) for _, face in found)
                if turn and not clearly:
                    found = []
                for track, face in found:
                    yield self._input(row | {"track": track} | _of_face(face), image, face)
                if not found:
                    yield Item(row | {"faces": 0, "note": turn if turn and not clearly else NO_FACE})
            done += 1
            state = None
            if done % CHUNK == 0 and source.kind == "video" and not self.looked_at:
                state = {"frame": number + 1, "clear": clearly, "turn": turn, "tracker": tracker.state}
            if self.looked_at or state:
                yield Item(image=image if self.looked_at else None, resume=state)

    # Whole clips, as the align stage makes them

    def _clip(self, source: Source) -> Iterator[Item]:
        onset, apex = self.options.onset, self.options.apex
        if unknown := self.takes == "pair" and onset is None:
            onset = apex = self._first(source)  # all frames are aligned by that of the onset
        face, failures = align_clip(source, self.faces, onset, apex, self.stop)
        damage = _summary([damage_of(source.kind, f["frame"], f["reason"]) for f in failures if f["frame"] is not None])
        reason = next((failure["reason"] for failure in failures if failure["frame"] is None), None)
        row: Row = {"source": source.name, "kind": "clip"}
        if not unknown:
            row |= {"onset": onset, "apex": apex}
        if reason is not None:
            if not reason.startswith((NO_FACE, TURNED)):
                raise UserError(f"{source.name}: {reason}")
            yield Item(row | {"faces": 0, "note": _note([reason, *damage])})
            return
        numbers = face["frame_numbers"]
        if missing := sorted({frame for frame in (onset, apex) if frame is not None} - {*numbers}):
            span = f"frames {numbers[0]} to {numbers[-1]}"
            raise UserError(f"{source.name}: frame {missing[0]} is not among those that can be used ({span})")
        notes = damage
        if unknown:
            onset = numbers[0]
            apex, assumed = self._apex(source, face["frames"], numbers)
            notes = [assumed, *damage]
        mean = yield from self._views(face["frames"], numbers, onset, apex)
        notes = [*notes, *self._remarks(len(numbers), onset, apex)]
        _, time, _ = next(read_clip(source, self.faces.max_megapixels, numbers[0]))
        row |= {"frame": numbers[0], "last": numbers[-1], "time": time, "onset": onset, "apex": apex}
        boxes = np.array(face["boxes"])
        shown = ~np.isnan(boxes).any(axis=1)
        if self.faces.mode != "aligned":
            if not shown.all():
                notes.append(f"{NO_FACE} in {(~shown).sum()} of {len(shown)} frames")
            if (jump := _jump(boxes[shown])) is not None:
                frame = np.array(numbers)[shown][jump]
                notes.append(f"the face jumps at frame {frame}, perhaps to another person: faces all tells them apart")
            row |= {"track": 0, "box": boxes[shown][0].tolist()} | _detection(
                np.array(face["confidence"])[shown], np.array(face["doubtful"])[shown], face["faces"]
            )
        row["note"] = _note([*_doubt(bool(row.get("doubtful"))), *notes])
        places: Places = {n: {0: box.tolist()} for n, box, known in zip(numbers, boxes, shown, strict=True) if known}
        yield Item(row, mean=mean, boxes=places)

    def _first(self, source: Source) -> int:
        """Return the number of the first frame that can be read; 0 if there is none."""
        frames = read_clip(source, self.faces.max_megapixels)
        return next((number for number, _, image in frames if not isinstance(image, ImageError)), 0)

    def _apex(self, source: Source, frames: list[bytes], numbers: list[int]) -> tuple[int, str]:
        """Find the number of the apex frame in an aligned clip; the second value says what was assumed."""
        rate = frame_rate(source.path) if source.kind == "video" else None
        faces = [cv2.cvtColor(decode(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
        return apex_of(faces, numbers, len(frames) / rate if rate else None)

    def _views(
        self,
        frames: list[bytes],
        numbers: list[int],
        onset: int | None = None,
        apex: int | None = None,
    ) -> Generator[Item, None, Mean]:
        """Yield the inputs that the pipeline makes of a clip, and return their mean."""
        mean = Mean()
        rows = pd.DataFrame({"sample": ["clip"], "label": 0, "onset": [onset], "apex": [apex]})
        recipe = Recipe.model_validate(self.card["variant"]["recipe"])
        dataset: Any = inputs(self.network, _Clip(frames, numbers), rows, recipe)  # type: ignore[arg-type]
        for item in dataset.items:
            yield Item(x=dataset[item][0], mean=mean)
        return mean

    # Windows of a clip, and every face of it

    def _tracks(self, source: Source) -> Iterator[Item]:
        """Yield the windows and the clip of each track, in the order in which they end."""
        tracker = Tracker(self.faces, self.options.faces == "all")
        tracks: dict[int | None, _TrackClip] = {}
        places: Places = {}
        damages: list[str] = []
        unclear: tuple[np.ndarray, Face | None] | None = None
        clearly, frames = self.faces.mode == "aligned", 0
        for number, time, image in read_clip(source, self.faces.max_megapixels, stop=self.stop):
            if isinstance(image, ImageError):
                damages.append(damage_of(source.kind, number, str(image)))
                continue
            frames += 1
            found: list[Tracked] | list[tuple[None, None]] = [(None, None)]
            if self.faces.mode != "aligned":
                found = tracker(image)
                clearly = clearly or any(clear(face, self.faces) for _, face in found)
                unclear = unclear or (image, found[0].face if found else None)
                for track in tracks.keys() - tracker.active:
                    yield from tracks.pop(track).close()
            for track, face in found:
                if track not in tracks:
                    tracks[track] = _TrackClip(self, source, track)
                if self.looked_at and face is not None:
                    places.setdefault(number, {})[track] = face.box.tolist()
            seen = dict(found)
            for track, clip in tracks.items():
                yield from clip.push(number, time, image, seen.get(track))
        if not frames:
            raise UserError(f"{source.name}: {damages[0] if damages else 'holds no frame'}")
        for clip in tracks.values():
            clip.notes += _summary(damages)
            yield from clip.close()
        if not places and not clearly and not tracker.state["next"]:
            turn = unclear and turned(*unclear, self.faces)
            notes = [turn or NO_FACE, *_summary(damages)]
            yield Item({"source": source.name, "kind": "clip", "faces": 0, "note": _note(notes)})
        yield Item(boxes=places)

    def _remarks(self, length: int, onset: int | None = None, apex: int | None = None) -> list[str]:
        """Return warnings about a clip of ``length`` usable frames."""
        wanted = self.card["input_size"][1]
        if length == 1:
            return ["there is one frame only, so no motion to see"]
        if self.takes == "clip" and length < wanted:
            return [f"there are {length} frames, fewer than the {wanted} that the network takes"]
        if self.takes == "pair" and onset == apex:
            return ["onset and apex are the same frame, so no motion to see"]
        return []


def align_clip(
    source: Source, faces: Faces, onset: int | None, apex: int | None, stop: threading.Event | None = None
) -> tuple[Row, list[Row]]:
    """Align a clip as the align stage does: its row of the face store, and its failures.

    The row is empty if a failure without a frame number says why nothing can be used.

    Raises:
        UserError: ``stop`` was set.
    """
    path = source.path.absolute()
    sample = {"sample": "clip", "path": "clip", "kind": source.kind, "onset": onset, "apex": apex}
    rows = as_schema(pd.DataFrame([sample])).to_dict("records")
    rows[0]["path"] = path.name  # which a table cannot hold if it is not UTF-8
    ((face, failures),) = align_file(rows, path.parent, faces, partial(require_going, stop))
    return face or {}, failures


class _Clip:
    """One clip in memory, read like a face store."""

    def __init__(self, frames: list[bytes], numbers: list[int]) -> None:
        self._frames, self._numbers = frames, numbers

    def frame_numbers(self, sample: str) -> list[int]:
        return self._numbers

    def frame(self, sample: str, i: int = 0) -> np.ndarray:
        return decode(self._frames[i])


class _TrackClip:
    """The clip of one track: its windows, or the whole of it, and the summary at its end."""

    def __init__(self, reading: Reading, source: Source, track: int | None) -> None:
        self._reading, self._source, self._track = reading, source, track
        options = reading.options
        self._window = options.window
        self._stride = options.stride or options.window or 1
        self._trajectory = Trajectory(reading.faces)
        self._crops: deque[Crop] = deque(maxlen=self._window)
        self._encoded: list[bytes] = []
        self._numbers: list[int] = []
        self._count, self._windows, self._mean = 0, 0, Mean()
        self._first: Crop | None = None
        self._last: Crop | None = None
        self._scores: list[float] = []
        self._doubtful: list[bool] = []
        self._counts: list[int | None] = []
        self.notes: list[str] = []

    def push(self, number: int, time: float | None, image: np.ndarray, face: Face | None) -> Iterator[Item]:
        """Add a frame, and yield the windows that end."""
        if self._reading.faces.mode == "aligned":
            size = self._reading.faces.size
            yield from self._add(Crop(number, time, warp(image, whole(image, size), size), None))
        else:
            for crop in self._trajectory.push(number, time, image, face):
                yield from self._add(crop)

    def close(self) -> Iterator[Item]:
        """End the track: yield its last window, if there is none yet, and its summary."""
        for crop in self._trajectory.close():
            yield from self._add(crop)
        if self._first is None:
            return
        if self._window is None:
            mean = yield from self._reading._views(self._encoded, self._numbers)
        else:
            mean = self._mean
            if not self._windows:
                yield self._input()
        row = self._row("clip", self._first, self._last or self._first, self._first.face)
        row |= _detection(np.array(self._scores), np.array(self._doubtful), self._counts)
        missed = self._count - len(self._scores)
        if missed and self._reading.faces.mode != "aligned":
            self.notes.append(f"{NO_FACE} in {missed} of {self._count} frames")
        remarks = self._reading._remarks(self._count)
        row["note"] = _note([*_doubt(bool(row["doubtful"])), *self.notes, *remarks])
        yield Item(row, mean=mean)

    def _add(self, crop: Crop) -> Iterator[Item]:
        without = crop._replace(image=crop.image[:0])
        self._first, self._last = self._first or without, without
        self._count += 1
        if crop.face is not None:
            self._scores.append(crop.face.score)
            self._doubtful.append(crop.face.doubtful)
            self._counts.append(crop.face.count)
        faces = self._reading.faces
        if self._window is None:
            self._encoded.append(encode(crop.image, faces.encoding, faces.quality))
            self._numbers.append(crop.number)
            return
        self._crops.append(crop)
        if self._count >= self._window and (self._count - self._window) % self._stride == 0:
            yield self._input()

    def _input(self) -> Item:
        """The window of the crops that are held, from which the network's frames are taken evenly."""
        self._windows += 1
        crops = list(self._crops)
        places = np.linspace(0, len(crops) - 1, self._reading.card["input_size"][1]).round().astype(int)
        frames = torch.from_numpy(np.stack([crops[i].image for i in places])).permute(0, 3, 1, 2)
        x = self._reading.transformed(frames).transpose(0, 1).contiguous()
        row = self._row("window", crops[0], crops[-1], next((crop.face for crop in crops if crop.face), None))
        known = [crop.face for crop in crops if crop.face is not None]
        row |= _detection(
            np.array([face.score for face in known]),
            np.array([face.doubtful for face in known]),
            [face.count for face in known],
        )
        row["note"] = _note([*_doubt(bool(row["doubtful"])), *self._reading._remarks(len(crops))])
        return Item(row, x, self._mean)

    def _row(self, kind: str, first: Crop, last: Crop, face: Face | None) -> Row:
        row = {"source": self._source.name, "kind": kind, "frame": first.number, "last": last.number}
        return row | {"time": first.time, "track": self._track, "box": face.box.tolist() if face else None}


def _of_face(face: Face, notes: Sequence[str] = ()) -> Row:
    """The part of a row that describes the face of a frame."""
    row = {"box": face.box.tolist(), "score": face.score, "doubtful": bool(face.doubtful), "faces": face.count}
    return row | {"note": _note([*_doubt(face.doubtful), *notes])}


def _detection(scores: np.ndarray, doubtful: np.ndarray, counts: Sequence[int | None]) -> Row:
    """The part of a row that describes the face of a clip, from the frames that show it.

    ``score`` is the median; a clip is ``doubtful`` if most of its frames are; ``faces`` is the maximum of the frames
    that were searched as a whole.
    """
    return {
        "score": float(np.median(scores)) if len(scores) else None,
        "doubtful": bool(len(doubtful) and doubtful.mean() > 0.5),
        "faces": max((count for count in counts if count is not None), default=None),
    }


def _jump(boxes: np.ndarray) -> int | None:
    """Return the place of the first of the boxes (T, 4) that does not touch the one before; None if all do."""
    low, high = np.maximum(boxes[1:, :2], boxes[:-1, :2]), np.minimum(boxes[1:, 2:], boxes[:-1, 2:])
    apart = np.flatnonzero((high <= low).any(axis=1))
    return int(apart[0]) + 1 if len(apart) else None


def _doubt(doubtful: bool) -> list[str]:
    return ["the face is doubtful: the detector's score is below its own threshold"] if doubtful else []


def _note(notes: Sequence[str]) -> str | None:
    return "; ".join(notes) or None


def _summary(damages: Sequence[str]) -> list[str]:
    """Summarise the damage of a clip in at most one note."""
    match len(damages):
        case 0 | 1:
            return list(damages)
        case 2:
            return [f"{damages[0]}, and 1 more frame cannot be used"]
        case count:
            return [f"{damages[0]}, and {count - 1} more frames cannot be used"]
