"""68 points from MobileFaceNet, the landmark network of POSTER and POSTER++; the packaged weights are trained by us."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from duchenne.faces.align import DETECTED_BOX, apply, similarity, template, warp
from duchenne.faces.points import key_points
from duchenne.faces.settings import Faces
from duchenne.weights import PACKAGED

SIZE = 112
EYE_DISTANCE = 0.34
"""Distance of the eyes in the network's crop, a share of its width: that of an aligned face by default, so that the
landmark branch of POSTER sees what the network was trained on."""

INNER = 0.8
"""Share of the width of the closer crop that the points without the jaw fill. Weights that were trained on such crops
record it in the entry ``inner`` of their safetensors file."""

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)

MIRROR = np.array(
    [16 - i for i in range(17)] + [43 - i for i in range(17, 27)] + [27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip
"""iBUG point -> its counterpart in a mirrored picture."""


class MobileFaceNet68:
    """MobileFaceNet (Chen et al. 2018) with a head of 68 points, in a crop of 112 px.

    It runs three times (chosen by us): on the box; on the crop aligned by the five key points of the first run; and on
    a closer crop of the points inside the jaw, if the weights were trained for that (:data:`INNER`). The second and
    third runs average the crop and its mirror image; the jaw is from the second run, all other points from the third.

    ``landmark_model`` may name the file used by POSTER's authors, or another state dict of the network.
    """

    @staticmethod
    def file(config: Faces) -> Path:
        """Return the file of the weights: the configured one, or the one in this package."""
        return config.landmark_model or PACKAGED["mobilefacenet"]

    def __init__(self, config: Faces) -> None:
        import torch  # slow to import, and other landmark models do not need it

        from duchenne.models.backbones.mobilefacenet import MobileFaceNet
        from duchenne.models.official import load_official

        self._torch = torch
        self._network = MobileFaceNet().eval()
        load_official(self._network, self.file(config))
        self._inner = inner_share(self.file(config))
        for block in self._network.modules():  # 1.5 times as fast
            if hasattr(block, "conv") and hasattr(block, "bn"):
                block.conv, block.bn = torch.nn.utils.fuse_conv_bn_eval(block.conv, block.bn), torch.nn.Identity()

    def __call__(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        image, shift = _around(image, box)
        box = np.asarray(box, float) - np.tile(shift, 2)
        matrix = _from_box(box)
        (points,) = self._points(_crop(image, matrix)[None])
        points = apply(cv2.invertAffineTransform(matrix), points)
        matrix = similarity(key_points(points), template(SIZE, EYE_DISTANCE))
        aligned = self._with_mirrored(image, matrix)
        points = apply(cv2.invertAffineTransform(matrix), aligned)
        if self._inner:
            matrix = nearer(aligned, self._inner) @ np.vstack([matrix, [0, 0, 1]])
            points[17:] = apply(cv2.invertAffineTransform(matrix), self._with_mirrored(image, matrix)[17:])
        return points + shift

    def _with_mirrored(self, image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Points (68, 2) in px of the crop given by the transform (2, 3), averaged over it and its mirror image."""
        crop = _crop(image, matrix)
        there, back = self._points(np.stack([crop, crop[:, ::-1]]))
        return (there + (back * [-1, 1] + [SIZE - 1, 0])[MIRROR]) / 2

    def _points(self, crops: np.ndarray) -> np.ndarray:
        """Points (N, 68, 2) in px of each of the crops (N, SIZE, SIZE, 3)."""
        with self._torch.inference_mode():
            found = self._network(self._torch.from_numpy(crops).permute(0, 3, 1, 2))
        return found.double().numpy().reshape(-1, 68, 2) * SIZE


def inner_share(path: Path) -> float | None:
    """Return :data:`INNER` of the crops on which a file's weights were trained; ``None`` if without closer crops."""
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        inner = (file.metadata() or {}).get("inner")
    return None if inner is None else float(inner)


def nearer(points: np.ndarray, inner: float = INNER) -> np.ndarray:
    """Return the transform (2, 3) of an aligned crop to one filled by the points (68, 2) without the jaw, in px."""
    low, high = points[17:].min(axis=0), points[17:].max(axis=0)
    scale = inner * SIZE / (high - low).max()
    shift = (SIZE - 1) / 2 - scale * (low + high) / 2
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def _crop(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return (warp(image, matrix, SIZE).astype(np.float32) / 255 - MEAN) / STD


def _around(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image within one box width of the box, and its upper left corner."""
    margin = float(max(box[2] - box[0], box[3] - box[1]))
    low = np.clip(np.floor(np.asarray(box[:2]) - margin), 0, None).astype(int)
    high = np.ceil(np.asarray(box[2:]) + margin).astype(int)
    return image[low[1] : high[1], low[0] : high[0]], low.astype(float)


def _from_box(box: np.ndarray) -> np.ndarray:
    """The transform (2, 3) of a detector's box to the crop, from the eyes of the mean face in such a box."""
    width, middle = DETECTED_BOX[2] - DETECTED_BOX[0], (DETECTED_BOX[1] + DETECTED_BOX[3]) / 2
    eyes = (box[2] - box[0] + box[3] - box[1]) / 2 / width
    scale = EYE_DISTANCE * SIZE / eyes
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2 - middle * eyes
    at = template(SIZE, EYE_DISTANCE)[:2].mean(axis=0)
    return np.array([[scale, 0, at[0] - scale * x], [0, scale, at[1] - scale * y]])
