"""Conversion of an aligned face, or the faces of a clip, to a network's input, with and without augmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from timm.data import Mixup
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.transforms import InterpolationMode, v2

from duchenne.training.settings import Augment, Mix

NOISE = 30**0.5
"""Standard deviation of the noise in POSTER's official code, on pixels of 0 to 255."""


class PixelNoise(v2.Transform):
    """Gaussian noise on each channel of each pixel of a uint8 image, clipped and rounded down."""

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        return (inpt + NOISE * torch.randn(inpt.shape)).clamp(0, 255).to(torch.uint8)


class ColorJitter(v2.ColorJitter):
    """torchvision's ColorJitter of uint8 images (..., 3, H, W), with the same random numbers, five times as fast.

    Brightness and contrast of bytes are tables of 256 values, and OpenCV converts colours for the hue. The result is
    torchvision's, but for one level of a byte in 10,000 that a change of hue puts on the border of two levels.
    """

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        pixels = inpt.movedim(-3, -1).numpy()
        height, width = pixels.shape[-3:-1]
        images = np.ascontiguousarray(pixels).reshape(-1, height, width, 3)
        for step in params["fn_idx"].tolist():
            name, recolour = _RECOLOUR[step]
            if (factor := params[f"{name}_factor"]) is not None:
                images = recolour(images, factor)
        return torch.from_numpy(images.reshape(pixels.shape)).movedim(-1, -3)


_LEVELS = torch.arange(256, dtype=torch.uint8)
_GREY = np.array([[0.2989, 0.587, 0.114]], np.float32)
"""Weights of red, green and blue in torchvision's grey."""


def _strip(images: np.ndarray) -> np.ndarray:
    """View images (N, H, W, 3) as one (N H, W, 3), so that OpenCV is called once."""
    return images.reshape(-1, *images.shape[2:])


def _brighter(images: np.ndarray, factor: float) -> np.ndarray:
    table = _LEVELS.mul(factor).clamp_(0, 255).to(torch.uint8)
    return cv2.LUT(_strip(images), table.numpy()).reshape(images.shape)


def _contrasted(images: np.ndarray, factor: float) -> np.ndarray:
    means = _grey(_strip(images).astype(np.float32)).reshape(len(images), -1).mean(axis=1).tolist()
    tables = [_LEVELS.mul(factor).add_(mean, alpha=1 - factor).clamp_(0, 255).to(torch.uint8) for mean in means]
    return np.stack([cv2.LUT(image, table.numpy()) for image, table in zip(images, tables, strict=True)])


def _saturated(images: np.ndarray, factor: float) -> np.ndarray:
    pixels = _strip(images).astype(np.float32)
    grey = cv2.cvtColor(_grey(pixels), cv2.COLOR_GRAY2RGB)
    mixed = torch.from_numpy(pixels).mul_(factor)  # OpenCV rounds differently
    mixed.add_(torch.from_numpy(grey), alpha=1 - factor).clamp_(0, 255)
    return mixed.numpy().astype(np.uint8).reshape(images.shape)


def _of_another_hue(images: np.ndarray, factor: float) -> np.ndarray:
    pixels = _strip(images).astype(np.float32)
    pixels /= 255
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 0] += 360 * (factor % 1)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return np.multiply(rgb, 255.999, out=rgb).astype(np.uint8).reshape(images.shape)  # torchvision's conversion


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Grey, rounded down, of float32 pixels (H, W, 3): (H, W)."""
    grey = cv2.transform(pixels, _GREY)
    return np.floor(grey, out=grey)


_RECOLOUR = (("brightness", _brighter), ("contrast", _contrasted), ("saturation", _saturated), ("hue", _of_another_hue))
"""Steps of ColorJitter by their number in ``fn_idx``."""


class ToDtype(v2.ToDtype):
    """torchvision's ToDtype; clips (T, 3, H, W) get the order of networks in memory, (3, T, H, W).

    Normalisation is faster in it, and the clip need not be copied again.
    """

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        if inpt.ndim == 4:
            inpt = inpt.transpose(0, 1).contiguous().transpose(0, 1)
        return super().transform(inpt, params)


def transform(data: dict[str, Any], augment: Augment | None = None) -> v2.Compose:
    """Build the transform of uint8 RGB images (..., 3, H, W) to normalised float images (..., 3, S, S).

    The order is that of the official recipes of POSTER (noise, mirror, resize, normalise, erase), POSTER++ (mirror,
    resize, normalise, erase) and IFDD (mirror, crop, recolour); moving the face is an addition of this package. All
    images get the same random draws. Pixels stay bytes until they are normalised. Only the official recipe of IFDD on
    FERV39k differs: it crops floats, and keeps values of bicubic interpolation outside [0, 1]. Random numbers come from
    torch's global generator.

    Args:
        data: ``input_size``, ``mean`` and ``std`` of the network (``timm.data.resolve_model_data_config``).
        augment: None for validation and test.
    """
    size = data["input_size"][-2:]
    augment = augment or Augment(hflip=0)
    steps: list[v2.Transform] = []
    if augment.noise:
        either = v2.RandomChoice([v2.RandomHorizontalFlip(1), PixelNoise()])
        steps.append(v2.RandomApply([either], augment.noise))
    if augment.hflip:
        steps.append(v2.RandomHorizontalFlip(augment.hflip))
    if crop := augment.resized_crop:
        mode = InterpolationMode(crop.interpolation)
        steps.append(v2.RandomResizedCrop(size, crop.scale, crop.ratio, mode, antialias=True))
    else:
        steps.append(v2.Resize(size, antialias=True))
    if augment.rotate or augment.translate or augment.scale != (1, 1):
        shift = (augment.translate, augment.translate)
        fill = [255 * mean for mean in data["mean"]]  # outside the frame: zero once normalised, like an erased patch
        steps.append(v2.RandomAffine(augment.rotate, shift, augment.scale, None, InterpolationMode.BILINEAR, fill))
    if jitter := augment.jitter:
        steps.append(ColorJitter(**jitter.model_dump()))
    steps.append(ToDtype(torch.float32, scale=True))
    steps.append(v2.Normalize(data["mean"], data["std"], inplace=True))
    if erase := augment.erase:
        steps.append(v2.RandomErasing(erase.probability, erase.scale, erase.ratio, value=0, inplace=True))
    return v2.Compose(steps)


def seeded(transform: Callable[[Tensor], Tensor], image: Tensor, seed: int) -> Tensor:
    """Return ``transform(image)`` with random numbers from ``seed`` alone; the global generator does not change.

    So the same draw gives the same image in any worker, for any number of workers.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed every device, which takes 0.5 ms
    try:
        return transform(image)
    finally:
        torch.set_rng_state(before)


class Mixing(Mixup):
    """timm's Mixup of whole batches, extended to clips, whose frames share one box, and to batches of odd size.

    ``(x (B, ..., H, W), labels (B,) or their shares (B, classes))`` -> x, mixed in place with the batch in reverse
    order, and the shares (B, classes) mixed in the same way. Random numbers come from NumPy's global generator.
    Zhang et al., https://arxiv.org/abs/1710.09412; Yun et al., https://arxiv.org/abs/1905.04899.
    """

    def __init__(self, mix: Mix, classes: int) -> None:
        super().__init__(
            mix.mixup, mix.cutmix, None, mix.probability, mix.switch, label_smoothing=0.0, num_classes=classes
        )

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        share = self._mix_batch(x.view(len(x), -1, *x.shape[-2:]))  # timm's own call would cut a clip along time
        if target.ndim == 1:
            target = one_hot(target, self.num_classes).float()
        return x, share * target + (1 - share) * target.flip(0)
