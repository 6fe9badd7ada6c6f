"""68 points from MobileFaceNet, the landmark network of POSTER and POSTER++; the packaged weights are trained by us."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

from duchenne.faces.align import DETECTED_BOX, apply, similarity, template, warp
from duchenne.faces.points import key_points
from duchenne.faces.settings import Faces
from duchenne.weights import PACKAGED, require_packaged

SIZE = 112
"""Side of the network's input, px."""
EYE_DISTANCE = 0.34
"""Distance of the eyes in the network's crop, a share of its width: that of an aligned face by default, so that the
landmark branch of POSTER sees what the network was trained on."""

INNER = 0.8
"""Share of the width of the closer crop that the points without the jaw fill. Weights that were trained on such crops
record it in the entry ``inner`` of their safetensors file."""

BLEND, BLEND_CLIP = 0.2, 0.3
"""Share of the aligned crop in the points without the jaw, next to the closer crop: in a picture, and in a clip, where
the closer crop is not mirrored. In noise the points shake by 0.22 % of the eyes' distance instead of 0.24, and in a
clip by 0.24 % instead of 0.29; lips and nose are more exact (London)."""
MOVED = 4.0
"""Mean distance of an aligned crop's key points from their places, px, over which the crop is aligned again (chosen by
us: the network's training crops are out of place by 2 px in each direction, standard deviation)."""

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)

MIRROR = np.array(
    [16 - i for i in range(17)] + [43 - i for i in range(17, 27)] + [27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip
"""iBUG point -> its counterpart in a mirrored picture."""


class MobileFaceNet68:
    """MobileFaceNet (Chen et al. 2018) with a head of 68 points, in a crop of 112 px.

    It runs on the box; on the crop aligned by the five key points of that run; and, if the weights were trained for it
    (:data:`INNER`), on a closer crop of the points inside the jaw and on its mirror image (chosen by us). The jaw is
    from the aligned crop; of the other points the mean of the closer crop and its mirror image counts ``1 - BLEND`` and
    the aligned crop :data:`BLEND`. Weights without closer crops run on the aligned crop and its mirror image.

    In a clip the points of the previous frame replace the run on the box, and nothing is mirrored: two crops instead of
    four. A crop that turns out to be more than :data:`MOVED` off is aligned again.

    ``landmark_model`` may name the file used by POSTER's authors, or another state dict of the network.
    """

    @staticmethod
    def file(config: Faces) -> Path:
        """Return the file of the weights: the configured one, or the one in this package."""
        return config.landmark_model or PACKAGED["mobilefacenet"]

    def __init__(self, config: Faces) -> None:
        from duchenne.faces.mobilefacenet_onnx import onnx_model  # slow to import

        path = self.file(config)
        self._model = np.frombuffer(onnx_model(_state(path), MEAN, STD), np.uint8)
        self._inner = inner_share(path)
        self._local = threading.local()  # a network of OpenCV serves one thread

    def __call__(self, image: np.ndarray, box: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        still, target = start is None, template(SIZE, EYE_DISTANCE)
        if still:
            start = self._points(image, _from_box(np.asarray(box, float)))
        matrix = similarity(key_points(start), target)
        points = self._points(image, matrix, mirrored=still and self._inner is None)
        if not still and np.linalg.norm(apply(matrix, key_points(points)) - target, axis=1).mean() > MOVED:
            matrix = similarity(key_points(points), target)
            points = self._points(image, matrix)
        if self._inner:
            matrix = nearer(apply(matrix, points), self._inner) @ np.vstack([matrix, [0, 0, 1]])
            closer = self._points(image, matrix, mirrored=still)
            share = BLEND if still else BLEND_CLIP
            points[17:] = share * points[17:] + (1 - share) * closer[17:]
        return points

    def _points(self, image: np.ndarray, matrix: np.ndarray, mirrored: bool = False) -> np.ndarray:
        """Points (68, 2) in px of the image, found in the crop given by the transform (2, 3) of the image.

        Args:
            mirrored: average over the crop and its mirror image.
        """
        crop = warp(image, matrix, SIZE)
        points = self._run(crop)
        if mirrored:
            points = (points + (self._run(crop[:, ::-1]) * [-1, 1] + [SIZE - 1, 0])[MIRROR]) / 2
        return apply(cv2.invertAffineTransform(matrix), points)

    def _run(self, crop: np.ndarray) -> np.ndarray:
        """Points (68, 2) in px of a crop, uint8 (SIZE, SIZE, 3)."""
        if not hasattr(self._local, "network"):
            self._local.network = cv2.dnn.readNetFromONNX(self._model)
        self._local.network.setInput(cv2.dnn.blobFromImage(crop, mean=255 * MEAN.astype(float)))
        return self._local.network.forward().reshape(68, 2).astype(float) * SIZE


def _state(path: Path) -> dict[str, np.ndarray]:
    """Read the state dict of a file of weights.

    Raises:
        OfficialWeightsError: The file cannot be read, or does not fit the network.
    """
    if path == PACKAGED["mobilefacenet"]:
        from safetensors.numpy import load_file

        return load_file(require_packaged(path))

    # the published files are PyTorch's, whose import takes longer than a hundred faces
    from duchenne.models.backbones.mobilefacenet import MobileFaceNet
    from duchenne.models.official import load_official

    network = MobileFaceNet()
    load_official(network, path)
    return {name: value.numpy() for name, value in network.state_dict().items()}


def inner_share(path: Path) -> float | None:
    """Return :data:`INNER` of the crops on which a file's weights were trained; ``None`` if without closer crops."""
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return None
    with safe_open(path, "np") as file:
        inner = (file.metadata() or {}).get("inner")
    return None if inner is None else float(inner)


def nearer(points: np.ndarray, inner: float = INNER) -> np.ndarray:
    """Return the transform (2, 3) of an aligned crop to one filled by the points (68, 2) without the jaw, in px."""
    low, high = points[17:].min(axis=0), points[17:].max(axis=0)
    scale = inner * SIZE / (high - low).max()
    shift = (SIZE - 1) / 2 - scale * (low + high) / 2
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def _from_box(box: np.ndarray) -> np.ndarray:
    """The transform (2, 3) of a detector's box to the crop, from the eyes of the mean face in such a box."""
    width, middle = DETECTED_BOX[2] - DETECTED_BOX[0], (DETECTED_BOX[1] + DETECTED_BOX[3]) / 2
    eyes = (box[2] - box[0] + box[3] - box[1]) / 2 / width
    scale = EYE_DISTANCE * SIZE / eyes
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2 - middle * eyes
    at = template(SIZE, EYE_DISTANCE)[:2].mean(axis=0)
    return np.array([[scale, 0, at[0] - scale * x], [0, scale, at[1] - scale * y]])
