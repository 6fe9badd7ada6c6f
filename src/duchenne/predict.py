"""One picture in, its expression out: the pipeline's own face work and a trained network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from duchenne.catalog import Compute, Faces
from duchenne.errors import UserError
from duchenne.faces.align import similarity, template, warp, whole
from duchenne.faces.find import find_face
from duchenne.faces.images import read_image
from duchenne.faces.landmarks import key_points, model_digest
from duchenne.training import load_trained
from duchenne.training.augment import transform
from duchenne.training.device import autocast, device_of, precision_of


class Predictor:
    """A trained fold, ready for pictures.

    Faces are found and aligned as the network knows them (``alignment`` on its card).

    Args:
        fold: a fold's folder, such as ``models/poster_v2_demo/fold_1``.
        files: ``detector_model`` and ``landmark_model``, where the faces were found with files of your own.

    Raises:
        UserError: the folder holds no trained network, or it was trained on faces found by another landmark model.
    """

    def __init__(self, fold: Path, files: dict[str, Path] | None = None) -> None:
        compute = Compute()
        self.model, card = load_trained(fold)
        self.classes: list[str] = card["classes"]
        known = card["alignment"]
        mode = "aligned" if known["settings"]["mode"] == "aligned" else "detect"  # a new picture brings no box
        self.faces = Faces.model_validate({**known["settings"], **(files or {}), "mode": mode})
        if mode == "detect" and model_digest(self.faces) != known["landmark_model"]:
            raise UserError(f"{fold} was trained on faces found by another landmark model: give its file")
        self._device = device_of(compute)
        self._precision = precision_of(compute, self._device)
        self._transform = transform(card)
        self.model.to(self._device)

    @torch.inference_mode()
    def __call__(self, source: Path | io.BytesIO) -> dict[str, Any]:
        """``emotion``, ``probabilities`` by class and the face's ``box`` (x0, y0, x1, y1, px) in a picture.

        Without a face ``emotion`` and ``box`` are None and every probability NaN.

        Raises:
            ImageError: the picture cannot be read.
        """
        image = read_image(source, self.faces.max_megapixels)
        size, box = self.faces.size, None
        matrix = whole(image, size)
        if self.faces.mode != "aligned":
            face = find_face(image, self.faces)
            if face is None:
                return {"emotion": None, "probabilities": dict.fromkeys(self.classes, float("nan")), "box": None}
            box = face.box.tolist()
            matrix = similarity(key_points(face.points), template(size, self.faces.eye_distance))
        aligned = torch.from_numpy(warp(image, matrix, size)).permute(2, 0, 1)
        with autocast(self._device, self._precision):
            logits = self.model(self._transform(aligned)[None].to(self._device))
        probabilities = dict(zip(self.classes, logits.float().softmax(1)[0].tolist(), strict=True))
        return {"emotion": max(probabilities, key=probabilities.get), "probabilities": probabilities, "box": box}
