"""Conversion of an aligned face, or the faces of a clip, to a network's input, with and without augmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
        steps.append(v2.ColorJitter(**jitter.model_dump()))
    steps.append(v2.ToDtype(torch.float32, scale=True))
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
