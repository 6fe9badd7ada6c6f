"""A trained network and what finds its faces, ready to predict expressions."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from torch import Tensor

from duchenne.errors import UserError
from duchenne.extras import require_extra
from duchenne.faces.detect import detector
from duchenne.faces.landmarks import model_digest
from duchenne.faces.settings import Faces
from duchenne.media.images import ImageError
from duchenne.prediction.ahead import read_ahead
from duchenne.prediction.options import Options
from duchenne.prediction.reading import Item, Places, Reading, Row
from duchenne.prediction.sources import Given, Source, expand, read_clip
from duchenne.prediction.tables import FIELDS, frame_of
from duchenne.training.calibration import probabilities
from duchenne.training.device import autocast, device_of, layout_of, trained_precision
from duchenne.training.settings import Compute, Recipe
from duchenne.training.trained import CARD, load_trained, not_finite

PICTURES = 64
"""Pictures after which an interrupted job can resume (chosen by us)."""
WAITING = {"image": 16, "clip": 2, "pair": 2}
"""Largest number of inputs of a source that wait for the network, by what it takes."""


class Look(Protocol):
    """Looks at frames and their rows while a prediction runs, for example to draw them."""

    def frame(self, source: Source, image: np.ndarray, rows: Sequence[Row]) -> None:
        """Take the next frame of a source, or a picture.

        Sources come one after another, their frames in order. For networks that take clips or pairs, the frames of a
        source come after its rows are complete, from a second reading.

        Args:
            image: uint8 (H, W, 3) RGB; not to be changed.
            rows: the frame's rows: of each face in it; for clips, every window and clip that contains the frame, with
                the face's ``box`` in this frame.
        """
        ...

    def pair(self, source: Source, row: Row, x: np.ndarray, displacement: np.ndarray) -> None:
        """Take what a network of onset and apex sees, before the frames; not called for other networks.

        Args:
            x: its input, float32 (C, 224, 224): grey onset and apex in [0, 1], and optical flow if it takes it.
            displacement: from onset to apex, float32 (2, 224, 224), px right and down.
        """
        ...

    def close(self) -> None:
        """End: whoever made the object calls it after the last frame."""
        ...


class Mark(NamedTuple):
    """A point between rows at which a job can resume: all rows before it are complete.

    Attributes:
        source: position of the source that comes next.
        resume: where to resume within it; None: at its start.
    """

    source: int
    resume: dict[str, Any] | None


class Failed(NamedTuple):
    """A source that could not be read, or not to its end."""

    source: Source
    error: UserError


class Model:
    """A trained fold, ready to predict from pictures, videos, or onset and apex of a clip, as its network requires.

    Faces are detected and aligned as in training (``alignment`` on the card), and the network runs in the precision of
    its training.

    Args:
        folder: a fold's folder, such as ``models/poster_v2_demo/fold_1``.
        files: ``detector_model`` and ``landmark_model``, if the training faces were found with your own files.
        device: device of the network, such as ``cuda:1``; None: the first GPU, or the CPU without one.

    Attributes:
        network: the network, in evaluation mode, on ``device``.
        card: the card of the fold.
        classes: names of the classes, in the order of the logits.
        takes: what the network takes: image, clip or pair.
        faces: settings by which faces are found and aligned.
        device: device of the network.
        precision: fp32 or bf16.

    Raises:
        UserError: The folder has no trained network, its card is damaged, the training faces were found by different
            model files, the device does not exist, or the package that finds faces (dlib) is not installed.
    """

    def __init__(self, folder: str | Path, files: dict[str, Path] | None = None, device: str | None = None) -> None:
        self.folder = Path(folder)
        self.network: Any
        self.network, self.card = load_trained(self.folder)
        self.takes: str = self.network.facts.takes
        self.classes: list[str] = self.card["classes"]
        self.faces = _faces(self.folder, self.card["alignment"], files or {})
        if self.faces.mode == "detect":
            detector(self.faces)  # a missing file stops here, not at the first picture
        compute = Compute(device=device or "auto")
        self.device = device_of(compute)
        self.precision = trained_precision(self.card, self.device)
        self._layout = layout_of(compute, self.takes)
        self._batch_size = Recipe.model_validate(self.card["variant"]["recipe"]).eval_batch_size
        self.network.to(self.device, memory_format=self._layout)

    def __repr__(self) -> str:
        name, classes = self.card["architecture"], ", ".join(self.classes)
        return f"Model({str(self.folder)!r}: {name}, takes {self.takes}, {classes}; {self.precision} on {self.device})"

    def predict(
        self,
        sources: Given | Iterable[Given],
        *,
        faces: Literal["largest", "all"] = "largest",
        every: int = 1,
        window: int | None = None,
        stride: int | None = None,
        onset: int | None = None,
        apex: int | None = None,
        features: bool = False,
        batch_size: int | None = None,
        workers: int = 1,
    ) -> pd.DataFrame:
        """Predict the expressions in pictures and clips.

        Args:
            sources: paths of pictures, videos, folders, or patterns of paths; for networks that take pictures also
                arrays uint8 (H, W, 3) RGB, PIL images and files in memory. :func:`duchenne.prediction.sources.expand`
                says what a folder stands for.
            faces, every, window, stride, onset, apex, features: see :class:`duchenne.prediction.options.Options`.
            batch_size: inputs of the network at a time; None: ``recipe.eval_batch_size`` of the card.
            workers: number of threads that read sources and find faces.

        Returns:
            A row per face of a picture or frame, and per window and clip of a face, in the order of the sources. The
            columns are those of :mod:`duchenne.prediction.tables`.

        Raises:
            UserError: A source cannot be read, is not of the kind that the network takes, or options do not fit the
                network.
        """
        options = Options(faces, every, window, stride, onset, apex, features)
        rows = list(self.stream(sources, options, batch_size=batch_size, workers=workers))
        return frame_of(rows, self.classes, self.feature_count if features else 0)

    @property
    def feature_count(self) -> int:
        """Return the number of features of a face or clip."""
        return int(getattr(self.network, "head_hidden_size", self.network.num_features))

    def stream(
        self,
        sources: Given | Iterable[Given],
        options: Options = Options(),  # noqa: B008  (it is immutable)
        *,
        batch_size: int | None = None,
        workers: int = 1,
        look: Sequence[Look] = (),
        failed: Callable[[Failed], None] | None = None,
    ) -> Iterator[Row]:
        """Yield the rows of :meth:`predict` as dictionaries (:mod:`duchenne.prediction.tables`), a batch at a time.

        Only a few frames are in memory at a time.

        Args:
            look: objects that see the frames pass.
            failed: called with each source that cannot be read; None: the error is raised.

        Raises:
            UserError: See :meth:`predict`.
        """
        found = expand(sources, self.takes)
        for answer in self.answers(found, options, batch_size=batch_size, workers=workers, look=look):
            if isinstance(answer, Failed):
                if failed is None:
                    raise answer.error
                failed(answer)
            elif not isinstance(answer, Mark):
                yield answer

    @torch.inference_mode()
    def _run(self, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits float32 (N, C) and features float32 (N, F) of inputs, on the CPU."""
        x = torch.stack(inputs).to(self.device, memory_format=self._layout)
        with autocast(self.device, self.precision):
            last = self.network.forward_features(x)
            logits = self.network.forward_head(last).float().cpu()
            # timm's networks return maps, which their head pools
            pooled = last if last.ndim == 2 else self.network.forward_head(last, pre_logits=True)
        return logits, pooled.float().cpu()

    def answers(
        self,
        sources: Sequence[Source],
        options: Options,
        *,
        batch_size: int | None = None,
        workers: int = 1,
        look: Sequence[Look] = (),
        start: Mark = Mark(0, None),  # noqa: B008  (it is immutable)
        stop: threading.Event | None = None,
    ) -> Iterator[Row | Failed | Mark]:
        """Yield rows, failed sources and the points at which a job can resume, in the order of the sources.

        Args:
            start: a point given by an earlier call with the same arguments; the rest of its results follows.
            stop: ends a camera.

        Raises:
            UserError: The options do not fit the network.
        """
        options.check(self.takes, self.faces.mode == "aligned")
        batch_size = batch_size or self._batch_size
        stop = stop or threading.Event()
        reading = Reading(self.network, self.card, self.faces, options, bool(look), stop)
        places = range(start.source, len(sources))

        def read(place: int) -> Iterator[Item]:
            return reading(sources[place], start.resume if place == start.source else None)

        batch = _Batch(self, options.features)
        for place, items in read_ahead(places, read, workers, workers + batch_size, WAITING[self.takes]):
            source, rows = sources[place], list[Row]()
            size = 1 if source.kind == "camera" else batch_size
            boxes: Places = {}
            x: Tensor | None = None
            try:
                for item in items:
                    batch.add(item, source)
                    x = x if item.x is None else item.x
                    if item.boxes is not None:
                        boxes = item.boxes
                    if item.resume is not None or batch.size >= size:
                        for answer in batch.flush():
                            yield from _looked(answer, look, rows, self.takes)
                    if item.resume is not None:
                        yield Mark(place, item.resume)
            except UserError as error:
                batch.fail(source, error)
            last = source.kind != "image" or place % PICTURES == PICTURES - 1 or place == len(sources) - 1
            if last or look:
                for answer in batch.flush():
                    yield from _looked(answer, look, rows, self.takes)
            if look and self.takes == "pair" and rows and x is not None:
                self._show_pair(source, rows[0], x, look)
            if look and self.takes != "image" and source.kind != "camera" and rows:
                self._replay(source, rows, boxes, look)
            if last:
                yield Mark(place + 1, None)

    @torch.inference_mode()
    def _show_pair(self, source: Source, row: Row, x: Tensor, look: Sequence[Look]) -> None:
        """Show what a network of onset and apex sees, if it uses a displacement."""
        with autocast(self.device, self.precision):
            maps = self.network.explain(x[None].to(self.device))
        if "displacement" in maps:
            displacement = maps["displacement"][0].float().cpu().numpy()
            for each in look:
                each.pair(source, row, x.numpy(), displacement)

    def _replay(self, source: Source, rows: list[Row], boxes: Places, look: Sequence[Look]) -> None:
        """Show the frames of a clip whose rows are complete."""
        around = Around(rows)
        for number, _, image in read_clip(source, self.faces.max_megapixels):
            if isinstance(image, ImageError):
                continue
            there = boxes.get(number, {})
            inside = around(number)
            for each in look:
                each.frame(source, image, [row | {"box": there.get(row["track"])} for row in inside])

    def row(self, row: Row, logits: Tensor | None) -> Row:
        """Complete a row: all fields of :data:`duchenne.prediction.tables.FIELDS` in order.

        Args:
            logits: float (C,); None without a face.
        """
        answer = dict.fromkeys(FIELDS) | {"doubtful": False} | row
        if logits is not None:
            # the class follows from the logits, because different logits can have equal rounded probabilities
            answer["emotion"] = self.classes[int(logits.argmax())]
            shares = probabilities(logits.numpy(), self.card)
            answer["probabilities"] = dict(zip(self.classes, shares.tolist(), strict=True))
        return answer


class Around:
    """Finds the rows of windows and clips that contain a frame, for one frame after the other.

    Args:
        rows: with ``frame`` and ``last``; those without are in no frame.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        placed = [(row["frame"], place, row) for place, row in enumerate(rows) if row["frame"] is not None]
        self._coming = deque(sorted(placed, key=lambda each: each[:2]))
        self._inside: list[tuple[int, Row]] = []

    def __call__(self, number: int) -> list[Row]:
        """Return the rows of a frame, whose number is not below that of the last call, in the order of all rows."""
        while self._coming and self._coming[0][0] <= number:
            self._inside.append(self._coming.popleft()[1:])
        self._inside = sorted((each for each in self._inside if each[1]["last"] >= number), key=lambda each: each[0])
        return [row for _, row in self._inside]


class _Batch:
    """Items whose inputs wait for the network."""

    def __init__(self, model: Model, features: bool) -> None:
        self._model, self._features = model, features
        self._items: deque[tuple[Item | UserError, Source]] = deque()
        self._failed: set[int] = set()
        self.size = 0

    def add(self, item: Item, source: Source) -> None:
        self._items.append((item, source))
        self.size += item.x is not None

    def fail(self, source: Source, error: UserError) -> None:
        self._items.append((error, source))

    def flush(self) -> Iterator[Row | Failed | tuple[Source, np.ndarray]]:
        """Yield the rows, failures and frames of all items."""
        inputs = [item.x for item, _ in self._items if isinstance(item, Item) and item.x is not None]
        answers = iter(zip(*self._model._run(inputs), strict=True) if inputs else ())
        self.size = 0
        while self._items:
            item, source = self._items.popleft()
            if isinstance(item, UserError):
                yield from self._fail(source, item)
                continue
            answer = next(answers) if item.x is not None else None
            if answer is not None and item.mean is not None:
                item.mean.add(*answer)
            if item.row is not None:
                logits, features = answer or (item.mean.value if item.mean is not None else (None, None))
                if logits is not None and not bool(logits.isfinite().all()):
                    yield from self._fail(source, UserError(not_finite(source.name)))
                else:
                    row = self._model.row(item.row, logits)
                    if self._features:
                        row["features"] = None if features is None else features.tolist()
                    yield row
            if item.image is not None:
                yield source, item.image

    def _fail(self, source: Source, error: UserError) -> Iterator[Failed]:
        if id(source) not in self._failed:
            self._failed.add(id(source))
            yield Failed(source, error)


def _looked(
    answer: Row | Failed | tuple[Source, np.ndarray], look: Sequence[Look], rows: list[Row], takes: str
) -> Iterator[Row | Failed]:
    """Yield rows and failures, and show frames with the rows since the last one; ``rows`` holds these."""
    if isinstance(answer, tuple) and not isinstance(answer, Failed):
        source, image = answer
        for each in look:
            each.frame(source, image, list(rows))
        rows.clear()
        return
    if look and isinstance(answer, dict):
        rows.append(answer)
    yield answer


def _faces(fold: Path, known: dict[str, Any], files: dict[str, Path]) -> Faces:
    """Return face settings for a network that was trained on a store with the settings ``known``."""
    settings = known.get("settings", {})
    mode = "aligned" if settings.get("mode") == "aligned" else "detect"  # a new picture has no box
    try:
        faces = Faces.model_validate({**settings, **files, "mode": mode})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{fold / CARD}: its faces cannot be found again: {reason}") from None
    if mode == "detect" and faces.detector == "dlib":
        require_extra(
            f"finding faces as {fold} knows them", "dlib", "dlib",
            otherwise="a network does without that was trained on faces of `detector: yunet` or `mode: aligned`",
        )  # fmt: skip
    if mode == "detect" and model_digest(faces) != known.get("landmark_model"):
        raise UserError(
            f"{fold} was trained on faces found by another landmark model: give its file (--landmark-model)"
        )
    return faces
