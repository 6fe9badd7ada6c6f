"""From an aligned face to what a network takes, with and without augmentation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from duchenne.catalog import Augment


def transform(data: dict, augment: Augment | None = None) -> v2.Compose:
    """uint8 RGB image (3, H, W) -> normalised float image (3, S, S).

    The order is that of the official POSTER recipes: resize, mirror, (ours: move, recolour,) normalise, erase. Random
    numbers come from torch's global generator.

    Args:
        data: ``input_size``, ``mean`` and ``std`` of the network (``timm.data.resolve_model_data_config``).
        augment: None for validation and test.
    """
    steps: list[v2.Transform] = [v2.Resize(data["input_size"][1:], antialias=True)]
    steps.append(v2.ToDtype(torch.float32, scale=True))
    augment = augment or Augment(hflip=0)
    if augment.hflip:
        steps.append(v2.RandomHorizontalFlip(augment.hflip))
    if augment.rotate or augment.translate or augment.scale != (1, 1):
        shift = (augment.translate, augment.translate)
        fill = list(data["mean"])  # outside the frame: zero once normalised, like an erased patch
        steps.append(v2.RandomAffine(augment.rotate, shift, augment.scale, None, InterpolationMode.BILINEAR, fill))
    if augment.brightness or augment.contrast:
        steps.append(v2.ColorJitter(augment.brightness, augment.contrast))
    steps.append(v2.Normalize(data["mean"], data["std"], inplace=True))
    if erase := augment.erase:
        steps.append(v2.RandomErasing(erase.probability, erase.scale, erase.ratio, value=0, inplace=True))
    return v2.Compose(steps)


def seeded(transform: v2.Transform, image: Tensor, seed: int) -> Tensor:
    """``transform(image)`` with random numbers that follow from ``seed`` alone; the global generator is left as it was.

    So the same draw looks the same whichever worker makes it, and however many there are.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every device there is, for 0.5 ms
    try:
        return transform(image)
    finally:
        torch.set_rng_state(before)
