"""Prediction of the expression in a picture, video or pair of frames, with face processing and a trained network."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from scipy.special import softmax

from duchenne.datasets.index import as_schema
from duchenne.errors import UserError
from duchenne.extras import require_extra
from duchenne.faces.align import similarity, template, warp, whole
from duchenne.faces.build import align_dataset
from duchenne.faces.detect import detector
from duchenne.faces.find import TURNED, find_face, turned
from duchenne.faces.landmarks import model_digest
from duchenne.faces.points import key_points
from duchenne.faces.sample import NO_FACE, damage_of
from duchenne.faces.settings import Faces
from duchenne.faces.store import FaceStore
from duchenne.media.images import ImageError, pictures_of, read_image
from duchenne.media.paths import is_image
from duchenne.training.augment import transform
from duchenne.training.device import autocast, device_of, trained_precision
from duchenne.training.settings import Compute
from duchenne.training.trained import CARD, load_trained, not_finite
from duchenne.training.trained import predict as predict_stored

Answer = dict[str, Any]
"""Prediction for a picture or clip:

- ``emotion``, and ``probabilities`` by class;
- ``box``: the face in px (x0, y0, x1, y1); for a clip, in the first frame that shows it;
- ``score``: score of the detector; for a clip, the median over its frames;
- ``doubtful``: whether that score is below the detector's own threshold; for a clip, in most of its frames;
- ``faces``: number of faces detected, of which the largest central one is classified; for a clip, the maximum over the
  frames that were searched as a whole;
- ``note``: warning to read before using the prediction; None if there is none.

Without a face, and for a picture that seems to be turned, ``emotion``, ``box`` and ``score`` are None, ``faces`` is 0
and every probability is NaN. Faces that came aligned have neither box nor score nor number of faces.
"""


class Predictor:
    """Predicts with a trained fold, from pictures, clips, or onset and apex of a clip, as its network requires.

    Faces are detected and aligned as in training (``alignment`` on the card).

    Args:
        fold: a fold's folder, such as ``models/poster_v2_demo/fold_1``.
        files: ``detector_model`` and ``landmark_model``, if the training faces were found with your own files.

    Raises:
        UserError: The folder has no trained network, its card is damaged, the training faces were found by different
            model files, or the package that finds faces (dlib) is not installed.
    """

    def __init__(self, fold: str | Path, files: dict[str, Path] | None = None) -> None:
        fold = Path(fold)
        self._compute = Compute(jobs=1)
        self.model, self._card = load_trained(fold)
        self.takes: str = self.model.facts.takes
        self.classes: list[str] = self._card["classes"]
        self.faces = _faces(fold, self._card["alignment"], files or {})
        if self.faces.mode == "detect":
            detector(self.faces)  # a missing file stops here, not at the first picture
        self._device = device_of(self._compute)
        self._precision = trained_precision(self._card, self._device)
        if self.takes == "image":
            self._transform = transform(self._card)
        self.model.to(self._device)

    def __call__(self, source: str | Path | io.BytesIO, onset: int | None = None, apex: int | None = None) -> Answer:
        """Predict the expression in a picture or a clip (a video or a folder of frames).

        Args:
            onset, apex: frame numbers, for a network that takes these two: as in the file names of a folder, or
                counted from 0 in a video.

        Raises:
            UserError: The source cannot be read, is not of the kind that the network takes, or onset or apex are
                missing. The message names the source.
        """
        self.require_frames(onset, apex)
        if isinstance(source, io.BytesIO):
            if self.takes != "image":
                raise UserError("a network that takes clips needs the path of a video or of a folder of frames")
            return self._picture(source, "the picture")
        source = Path(source)
        if not source.exists():
            raise UserError(f"{source}: no such file or folder")
        if self.takes != "image":
            return self._clip(source, onset, apex)
        if source.is_dir():
            raise UserError(f"{source} is a folder: this network takes single pictures, so name its files")
        return self._picture(source, str(source))

    def require_frames(self, onset: int | None, apex: int | None) -> None:
        """Check that the given onset and apex fit the network.

        Raises:
            UserError: They do not.
        """
        if self.takes == "image" and (onset is not None or apex is not None):
            raise UserError("this network takes single pictures: leave out onset and apex")
        if self.takes == "pair" and (onset is None or apex is None):
            raise UserError("this network takes onset and apex: give both frame numbers")
        if (onset is None) != (apex is None):
            raise UserError("give both frame numbers, onset and apex, or neither")
        if onset is not None and apex < onset:
            raise UserError(f"the apex, frame {apex}, comes before the onset, frame {onset}")

    @torch.inference_mode()
    def _picture(self, source: Path | io.BytesIO, name: str) -> Answer:
        try:
            image = read_image(source, self.faces.max_megapixels)
            count = pictures_of(source)
        except ImageError as error:
            raise UserError(f"{name}: {error}") from None
        notes = [f"only the first of {count} pictures in the file was used"] if count > 1 else []
        size, face = self.faces.size, None
        matrix = whole(image, size)
        if self.faces.mode != "aligned":
            face = find_face(image, self.faces)
            if turn := turned(image, face, self.faces):
                return self._answer(faces=0, notes=[turn, *notes])
            if face is None:
                return self._answer(faces=0, notes=[NO_FACE, *notes])
            matrix = similarity(key_points(face.points), template(size, self.faces.eye_distance))
        aligned = torch.from_numpy(warp(image, matrix, size)).permute(2, 0, 1)
        with autocast(self._device, self._precision):
            logits = self.model(self._transform(aligned)[None].to(self._device))
        logits = logits.float().cpu().numpy()[0]
        if not np.isfinite(logits).all():
            raise UserError(not_finite(name))
        if face is None:
            return self._answer(logits, notes=notes)
        return self._answer(logits, face.box, face.score, face.doubtful, face.count, notes)

    def _clip(self, source: Path, onset: int | None, apex: int | None) -> Answer:
        """Process a clip through a face store of one sample, like every clip of a dataset."""
        path = source.absolute()
        kind = "frames" if path.is_dir() else "image" if is_image(path.name) else "video"
        row = {"sample": path.name, "path": path.name, "kind": kind, "onset": onset, "apex": apex}
        rows = as_schema(pd.DataFrame([row]))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "faces"
            align_dataset(rows, path.parent, self.faces, out, Path(folder) / "work", jobs=1)
            store = FaceStore(out)
            failures = store.failures.set_index("frame")["reason"]
            damages = [damage_of(kind, int(n), why) for n, why in failures[failures.index.notna()].items()]
            damage = _summary(damages)
            for reason in failures[failures.index.isna()]:
                if not reason.startswith((NO_FACE, TURNED)):
                    raise UserError(f"{source}: {reason}")
                return self._answer(faces=0, notes=[reason, *damage])
            face, (found,) = store.row(path.name), store.detection().to_dict("records")
            numbers = face["frame_numbers"]
            if missing := sorted({onset, apex} - {None, *numbers}):
                span = f"frames {numbers[0]} to {numbers[-1]}"
                raise UserError(f"{source}: frame {missing[0]} is not among those that can be used ({span})")
            card = self._card | {"alignment": store.meta}
            logits, _ = predict_stored(self.model, store, rows, card, self._compute)
        notes = [*damage, *self._notes(numbers, onset, apex)]
        if self.faces.mode == "aligned":
            return self._answer(logits[0], notes=notes)
        boxes = np.array(face["boxes"])
        shown = ~np.isnan(boxes).any(axis=1)
        if not shown.all():
            notes.append(f"{NO_FACE} in {(~shown).sum()} of {len(shown)} frames")
        return self._answer(logits[0], boxes[shown][0], found["score"], found["doubtful"], found["faces"], notes)

    def _notes(self, numbers: list[int], onset: int | None, apex: int | None) -> list[str]:
        """Return warnings about a clip whose usable frames are ``numbers``."""
        notes = []
        wanted = self._card["input_size"][1]
        if len(numbers) == 1:
            notes.append("there is one frame only, so no motion to see")
        elif self.takes == "clip" and len(numbers) < wanted:
            notes.append(f"there are {len(numbers)} frames, fewer than the {wanted} that the network takes")
        elif self.takes == "pair" and onset == apex:
            notes.append("onset and apex are the same frame, so no motion to see")
        return notes

    def _answer(
        self,
        logits: np.ndarray | None = None,
        box: np.ndarray | None = None,
        score: float | None = None,
        doubtful: bool = False,
        faces: int | None = None,
        notes: Sequence[str] = (),
    ) -> Answer:
        notes = [
            *(["the face is doubtful: the detector's score is below its own threshold"] if doubtful else []),
            *notes,
        ]
        # the class follows from the logits, because different logits can have equal rounded probabilities
        shares = np.full(len(self.classes), np.nan) if logits is None else softmax(logits.astype(float))
        return {
            "emotion": None if logits is None else self.classes[int(logits.argmax())],
            "probabilities": dict(zip(self.classes, shares.tolist(), strict=True)),
            "box": None if box is None else box.tolist(),
            "score": None if score is None else float(score),
            "doubtful": doubtful,
            "faces": faces,
            "note": "; ".join(notes) or None,
        }


def _summary(damages: Sequence[str]) -> list[str]:
    """Summarise the damage of a clip in at most one note."""
    match len(damages):
        case 0 | 1:
            return list(damages)
        case 2:
            return [f"{damages[0]}, and 1 more frame cannot be used"]
        case count:
            return [f"{damages[0]}, and {count - 1} more frames cannot be used"]


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
