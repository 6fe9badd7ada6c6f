"""One picture, video or pair of frames in, its expression out: the pipeline's own face work and a trained network."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax

from duchenne.catalog import Compute, Faces
from duchenne.datasets.index import as_schema
from duchenne.errors import UserError
from duchenne.faces import FaceStore, align_dataset
from duchenne.faces.align import similarity, template, warp, whole
from duchenne.faces.find import find_face
from duchenne.faces.images import read_image
from duchenne.faces.landmarks import model_digest
from duchenne.faces.points import key_points
from duchenne.training import load_trained
from duchenne.training import predict as predict_stored
from duchenne.training.augment import transform
from duchenne.training.device import autocast, device_of, precision_of

Answer = dict[str, Any]
"""``emotion``, ``probabilities`` by class and ``box`` (x0, y0, x1, y1, px: the face in the picture, or in the clip's
first frame that shows it). Without a face ``emotion`` and ``box`` are None and every probability NaN."""


class Predictor:
    """A trained fold, ready for what its network takes: pictures, clips, or onset and apex of a clip.

    Faces are found and aligned as the network knows them (``alignment`` on its card).

    Args:
        fold: a fold's folder, such as ``models/poster_v2_demo/fold_1``.
        files: ``detector_model`` and ``landmark_model``, where the faces were found with files of your own.

    Raises:
        UserError: the folder holds no trained network, or it was trained on faces found by another landmark model.
    """

    def __init__(self, fold: Path, files: dict[str, Path] | None = None) -> None:
        self._compute = Compute(jobs=1)
        self.model, self._card = load_trained(fold)
        self.takes: str = getattr(self.model, "takes", "image")
        self.classes: list[str] = self._card["classes"]
        known = self._card["alignment"]
        mode = "aligned" if known["settings"]["mode"] == "aligned" else "detect"  # a new picture brings no box
        self.faces = Faces.model_validate({**known["settings"], **(files or {}), "mode": mode})
        if mode == "detect" and model_digest(self.faces) != known["landmark_model"]:
            raise UserError(f"{fold} was trained on faces found by another landmark model: give its file")
        self._device = device_of(self._compute)
        self._precision = precision_of(self._compute, self._device)
        if self.takes == "image":
            self._transform = transform(self._card)
        self.model.to(self._device)

    def __call__(self, source: Path | io.BytesIO, onset: int | None = None, apex: int | None = None) -> Answer:
        """The expression in a picture, or in a clip: a video, or a folder of frames.

        Args:
            onset, apex: frame numbers, for a network that takes these two: as in the names of the files of a folder,
                counted from 0 in a video.

        Raises:
            ImageError: the picture cannot be read.
            UserError: the network does not take this; or it needs onset and apex.
        """
        if self.takes == "image":
            return self._picture(source)
        if not isinstance(source, Path):
            raise UserError("a network that takes clips needs the path of a video or of a folder of frames")
        if self.takes == "pair" and (onset is None or apex is None):
            raise UserError(f"{source}: the network looks at onset and apex: give both frame numbers")
        return self._clip(source, onset, apex)

    @torch.inference_mode()
    def _picture(self, source: Path | io.BytesIO) -> Answer:
        image = read_image(source, self.faces.max_megapixels)
        size, box = self.faces.size, None
        matrix = whole(image, size)
        if self.faces.mode != "aligned":
            face = find_face(image, self.faces)
            if face is None:
                return self._answer(None, None)
            box = face.box
            matrix = similarity(key_points(face.points), template(size, self.faces.eye_distance))
        aligned = torch.from_numpy(warp(image, matrix, size)).permute(2, 0, 1)
        with autocast(self._device, self._precision):
            logits = self.model(self._transform(aligned)[None].to(self._device))
        return self._answer(logits.float().cpu().numpy()[0], box)

    def _clip(self, source: Path, onset: int | None, apex: int | None) -> Answer:
        """Through a face store of one sample, the road of every clip of a dataset."""
        source = source.absolute()
        row = {"sample": source.name, "path": source.name, "kind": "frames" if source.is_dir() else "video"}
        rows = as_schema(pd.DataFrame([row | {"onset": onset, "apex": apex}]))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "faces"
            align_dataset(rows, source.parent, self.faces, out, Path(folder) / "work", jobs=1)
            store = FaceStore(out)
            if source.name not in store:
                return self._answer(None, None)
            card = self._card | {"alignment": store.meta}
            logits, _ = predict_stored(self.model, store, rows, card, self._compute)
            boxes = np.array(store.row(source.name)["boxes"], dtype=float)
        known = boxes[~np.isnan(boxes).any(axis=1)]
        return self._answer(logits[0], known[0] if len(known) else None)

    def _answer(self, logits: np.ndarray | None, box: np.ndarray | None) -> Answer:
        shares = np.full(len(self.classes), np.nan) if logits is None else softmax(logits.astype(float))
        return {
            "emotion": None if logits is None else self.classes[int(shares.argmax())],
            "probabilities": dict(zip(self.classes, shares.tolist(), strict=True)),
            "box": None if box is None else box.tolist(),
        }
