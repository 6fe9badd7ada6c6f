"""The displacement generation module (DGM) of FRL-DGT, and its self-supervised loss.

Zhai, Zhao, Long, Xu, He, Zhao: "Feature Representation Learning with Adaptive Displacement Generation and
Transformer Fusion for Micro-Expression Recognition", CVPR 2023. No code or weights are public. Layers and
normalisation are those of its supplement (Table 1, Eq. 1); the unit of the output and the loss are chosen by us.

A displacement is in px, right and down, from onset to apex. It is given at the end of the motion: the point at p in the
apex was at p - displacement(p) in the onset.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from duchenne.models.precision import in_float32

REMEMBERED = 512
"""Displacements that a fixed module remembers, 0.4 MB each: those of a small data set (chosen by us)."""


def layer(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Build a row "Conv" of Table 1 with its row "BN & LR"; we assume PyTorch's slope of the LeakyReLU, 0.01."""
    conv = nn.Conv2d(channels, width, kernel, stride, padding=(kernel - 1) // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.LeakyReLU())


class DisplacementGenerator(nn.Module):
    """Grey onset and apex (B, 2, H, W) in [0, 1] -> displacement (B, 2, H, W) in px; H and W multiples of 4.

    Table 1 of the supplement, 618,338 parameters. The last convolution starts near zero, so that training starts near
    no motion (chosen by us).

    Args:
        max_displacement: displacement in px at a tanh output of 1 (chosen by us).
    """

    def __init__(self, max_displacement: float) -> None:
        super().__init__()
        self.max_displacement = max_displacement
        self.conv1 = layer(2, 32, 3)
        self.conv2 = layer(32, 64, 4, stride=2)
        self.conv3 = layer(64, 64, 3)
        self.conv4 = layer(64, 128, 4, stride=2)
        self.conv5 = layer(128, 128, 3)
        self.conv6 = layer(128, 128, 3)
        self.conv7 = layer(128, 64, 1)
        self.conv8 = layer(128, 64, 3)
        self.conv9 = layer(64, 64, 3)
        self.conv10 = nn.Conv2d(64, 2, 3, padding=1)
        nn.init.normal_(self.conv10.weight, std=1e-3)
        nn.init.zeros_(self.conv10.bias)
        self._known: dict[bytes, Tensor] = {}
        self.register_load_state_dict_post_hook(_forget)

    @in_float32
    def forward(self, pair: Tensor) -> Tensor:
        if self.training:  # its weights are about to change
            self._known.clear()
        fine = self.conv3(self.conv2(self.conv1(pair)))
        coarse = self.conv6(self.conv5(self.conv4(fine)))
        coarse = self.conv7(F.interpolate(coarse, scale_factor=2, mode="bilinear"))
        x = self.conv9(self.conv8(torch.cat((fine, coarse), dim=1)))
        x = self.conv10(F.interpolate(x, scale_factor=2, mode="bilinear"))
        return self.max_displacement * torch.tanh(x)

    @torch.compiler.disable
    @torch.no_grad()
    def recall(self, pairs: Tensor) -> Tensor:
        """Compute the displacement of a module in ``eval()``, for pairs on a CPU; those of pairs seen before are known.

        Each pair is computed on its own, so that the numbers do not depend on what is remembered.
        """
        found = []
        for pair in pairs:
            key = hashlib.blake2b(pair.contiguous().numpy().data, digest_size=16).digest()
            known = self._known.pop(key, None)
            if known is None and len(self._known) == REMEMBERED:
                del self._known[next(iter(self._known))]  # the one not used for the longest time
            self._known[key] = self(pair[None])[0] if known is None else known
            found.append(self._known[key])
        return torch.stack(found)


def _forget(module: DisplacementGenerator, _: object) -> None:
    module._known.clear()


@in_float32
def normalise(displacement: Tensor, k: int = 5, eps: float = 1e-4) -> Tensor:
    """Divide each displacement (B, 2, H, W) by max(mean of its k largest absolute values, eps) (Eq. 1)."""
    largest = displacement.abs().flatten(1).topk(k).values.mean(1)
    return displacement / largest.clamp(min=eps)[:, None, None, None]


@in_float32
def warp(image: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
    """Move an image (B, C, H, W) by a displacement (B, 2, H, W) in px, with bilinear sampling.

    Returns:
        The moved image, and bool (B, 1, H, W): False where a pixel came from outside the frame.
    """
    height, width = image.shape[2:]
    y = torch.arange(height, device=image.device, dtype=torch.float32)
    x = torch.arange(width, device=image.device, dtype=torch.float32)
    origin = torch.stack(torch.meshgrid(x, y, indexing="xy")) - displacement
    last = origin.new_tensor([width - 1, height - 1])
    grid = 2 * origin.permute(0, 2, 3, 1) / last - 1
    moved = F.grid_sample(image, grid, padding_mode="border", align_corners=True)
    return moved, (grid.abs() <= 1).all(-1)[:, None]


@in_float32
def self_supervised_loss(pair: Tensor, displacement: Tensor, smoothness: float) -> Tensor:
    """Measure the difference between the apex and the moved onset: a scalar, the mean over pairs (chosen by us).

    Charbonnier's sqrt(difference^2 + 0.001^2) over the pixels that came from inside the frame, plus ``smoothness``
    times the mean absolute difference of neighbouring displacements in px, weighted by
    exp(-10 * |difference of neighbouring apex pixels|), so that motion may change at an edge of the image.

    Both frames are blurred by a Gaussian of 1 px first. Sampling between pixels averages them, so without the blur a
    random displacement by half a pixel would be rewarded for reducing the camera's noise.

    Args:
        pair: grey onset and apex (B, 2, H, W) in [0, 1].
        displacement: (B, 2, H, W) in px.
    """
    onset, apex = gaussian_blur(pair, [5, 5], [1.0, 1.0]).split(1, dim=1)
    moved, inside = warp(onset, displacement)
    photometric = ((moved - apex).square() + 1e-6).sqrt()
    of_pair = (photometric * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)
    loss = of_pair.mean()
    for axis in (2, 3):
        edge = torch.exp(-10 * apex.diff(dim=axis).abs())
        loss = loss + smoothness * (edge * displacement.diff(dim=axis).abs()).mean()
    return loss
