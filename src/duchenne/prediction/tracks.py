"""Faces followed from frame to frame, and the smooth alignment of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from duchenne.faces.align import similarity, smooth, template, warp
from duchenne.faces.find import Face, face_in, find_boxes, find_face, near
from duchenne.faces.points import key_points
from duchenne.faces.sample import FPS
from duchenne.faces.settings import Faces

FULL = 10
"""Frames from one search of the whole frame for new faces to the next (chosen by us)."""
GAP = 12
"""Frames in which a face may not be found before its track ends (chosen by us: half a second at 25 frames/s)."""
SAME = 0.3
"""Overlap (intersection over union) of two boxes from which they may be the same face, as in SORT (Bewley et al. 2016,
https://arxiv.org/abs/1602.00763)."""


class Tracked(NamedTuple):
    """A face in a frame."""

    track: int
    face: Face


class _Track:
    def __init__(self, number: int, face: Face, missed: int = 0) -> None:
        self.number, self.face, self.missed = number, face, missed


class Tracker:
    """Finds faces in consecutive frames and gives each person's face one number.

    A face is searched around its last place. Where all faces are wanted, the whole frame is searched in every
    :data:`FULL`-th frame and while there is no track; boxes are assigned to tracks so that the sum of their overlaps is
    the largest. A face is the same as in the frame before if the boxes overlap by :data:`SAME`. A track that is lost
    for more than :data:`GAP` frames ends, and its number is not used again. Faces that appear together are numbered
    from left to right.

    Args:
        everyone: follow all faces; otherwise the largest central one, until it is lost.
    """

    def __init__(self, config: Faces, everyone: bool = False) -> None:
        self.config, self.everyone = config, everyone
        self._tracks: list[_Track] = []
        self._frames = self._next = 0

    def __call__(self, image: np.ndarray) -> list[Tracked]:
        """Find the faces of the next frame, uint8 (H, W, 3) RGB, sorted by track."""
        found = self._everyone(image) if self.everyone else self._largest(image)
        self._frames += 1
        for track in self._tracks:
            track.missed = 0 if track in found else track.missed + 1
        self._tracks = [track for track in self._tracks if track.missed <= GAP]
        return [Tracked(track.number, track.face) for track in sorted(found, key=lambda track: track.number)]

    @property
    def active(self) -> set[int]:
        """Return the numbers of the tracks that have not ended."""
        return {track.number for track in self._tracks}

    @property
    def state(self) -> dict[str, Any]:
        """Return what the next frame depends on, for JSON; may be set."""
        tracks = [
            {
                "number": track.number, "missed": track.missed, "points": track.face.points.tolist(),
                "box": track.face.box.tolist(), "score": track.face.score,
            }
            for track in self._tracks
        ]  # fmt: skip
        return {"frames": self._frames, "next": self._next, "tracks": tracks}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._frames, self._next = state["frames"], state["next"]
        self._tracks = [
            _Track(each["number"], Face(np.array(each["points"]), np.array(each["box"]), each["score"]), each["missed"])
            for each in state["tracks"]
        ]

    def _new(self, face: Face) -> _Track:
        track = _Track(self._next, face)
        self._next += 1
        self._tracks.append(track)
        return track

    def _largest(self, image: np.ndarray) -> list[_Track]:
        last = self._tracks[0] if self._tracks else None
        face = find_face(image, self.config, last=last.face if last else None)
        if face is None:
            return []
        if last and _covered(face.box, [last.face.box]):
            last.face = face
            return [last]
        self._tracks = []
        return [self._new(face)]

    def _everyone(self, image: np.ndarray) -> list[_Track]:
        from scipy.optimize import linear_sum_assignment  # slow to import, and pictures do without

        boxes, scores, count = np.zeros((0, 4)), np.zeros(0), None
        if self._frames % FULL == 0 or not self._tracks:
            boxes, scores = find_boxes(image, self.config)
            order, count = np.argsort(boxes[:, 0], kind="stable"), len(boxes)
            boxes, scores = boxes[order], scores[order]
        last = np.array([track.face.box for track in self._tracks]).reshape(-1, 4)
        shared = overlaps(last, boxes)
        places: dict[_Track, tuple[np.ndarray, float]] = {}
        for row, column in zip(*linear_sum_assignment(-shared), strict=True):
            if shared[row, column] >= SAME:
                places[self._tracks[row]] = boxes[column], float(scores[column])
        for track, box, score in self._nearby(image, [track for track in self._tracks if track not in places]):
            same = _covered(box, [track.face.box])  # a person who is gone may have neighbours
            if same and not _covered(box, [taken for taken, _ in places.values()]):
                places[track] = box, score
        for track, (box, score) in places.items():
            track.face = face_in(image, self.config, box, score, count, track.face)
        taken = [box for box, _ in places.values()]
        new = [
            self._new(face_in(image, self.config, box, float(score), count))
            for box, score in zip(boxes, scores, strict=True)
            if not _covered(box, taken)
        ]
        return [*places, *new]

    def _nearby(self, image: np.ndarray, tracks: list[_Track]) -> list[tuple[_Track, np.ndarray, float]]:
        """Find tracks around their last places; those that moved least come first."""
        found = []
        for track in tracks:
            boxes, scores = near(image, self.config, track.face.box)
            found += [(track, box, float(score)) for box, score in zip(boxes, scores, strict=True)]
        return sorted(found, key=lambda each: -overlaps(each[0].face.box[None], each[1][None])[0, 0])


def _covered(box: np.ndarray, taken: list[np.ndarray]) -> bool:
    return bool(taken) and bool(overlaps(box[None], np.array(taken)).max() >= SAME)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes a (N, 4) and b (M, 4): (N, M).

    >>> overlaps(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2], [4, 4, 5, 5]])).round(3)
    array([[0.333, 0.   ]])
    """
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)


class Crop(NamedTuple):
    """An aligned face of a track."""

    number: int
    """number of its frame"""
    time: float | None
    """s"""
    image: np.ndarray
    """uint8 (S, S, 3) RGB"""
    face: Face | None
    """None where it was not found, between frames where it was"""


class Trajectory:
    """Aligns the face of a track by its smoothed key points, a few frames late and with few frames in memory.

    The transforms are those that :func:`duchenne.faces.align.smooth` gives for the whole track.
    """

    def __init__(self, config: Faces) -> None:
        self.config = config
        self._sigma = config.smoothing * FPS
        self._reach = int(4 * self._sigma + 0.5)  # scipy's gaussian_filter1d cuts the Gaussian there
        self._target = template(config.size, config.eye_distance)
        self._known: deque[np.ndarray] = deque()  # key points (5, 2) of frames, gaps filled
        self._held: deque[tuple[int, float | None, np.ndarray, Face | None]] = deque()
        self._before = 0  # frames in _known before the first one held

    def push(self, number: int, time: float | None, image: np.ndarray, face: Face | None) -> Iterator[Crop]:
        """Add the track's next frame, without a face in a gap, and yield the faces that can be aligned."""
        self._held.append((number, time, image, face))
        if face is not None:
            points = key_points(face.points)
            missing = len(self._held) + self._before - len(self._known)
            last = self._known[-1] if self._known else points
            self._known.extend(last + (points - last) * k / missing for k in range(1, missing))
            self._known.append(points)
        while len(self._known) - self._before > self._reach:
            yield self._next()

    def close(self) -> Iterator[Crop]:
        """End the track at the last frame with its face, and yield the remaining faces."""
        while len(self._known) > self._before:
            yield self._next()
        self._held.clear()

    def _next(self) -> Crop:
        around = np.stack([self._known[i] for i in range(min(self._before + self._reach + 1, len(self._known)))])
        points = smooth(around, self._sigma)[self._before]
        number, time, image, face = self._held.popleft()
        if self._before == self._reach:
            self._known.popleft()
        else:
            self._before += 1
        return Crop(number, time, warp(image, similarity(points, self._target), self.config.size), face)
