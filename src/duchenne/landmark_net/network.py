"""The landmark network in training: initialisation, auxiliary head and loss, all chosen by us."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from duchenne.faces.align import apply, similarity, template
from duchenne.faces.mobilefacenet import EYE_DISTANCE, SIZE
from duchenne.faces.points import key_points
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.models.precision import in_float32


class WithAuxiliaryHead(nn.Module):
    """MobileFaceNet in training, with a head that reads the points from its maps of 14 x 14 and is dropped afterwards.

    A point of that head is the mean position of the cells, weighted by the softmax of the point's own map (Sun et
    al., "Integral Human Pose Regression", ECCV 2018), so the maps must contain the position of each part.
    """

    def __init__(self, network: MobileFaceNet) -> None:
        super().__init__()
        self.network = network
        self.read = nn.Conv2d(128, 68, 1)
        self.register_buffer("places", (torch.arange(14) + 0.5) / 14 - 0.5 / SIZE, persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; the two BatchNorms after the last map always use their initial statistics.

        They have one value per face and channel. Statistics of a batch of 32 would move every point by a sixth of its
        standard deviation at random, a noise that training cannot reduce and that inference does not have.
        """
        super().train(mode)
        for norm in (self.network.output_layer.conv_6_dw.bn, self.network.output_layer.bn):
            norm.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images (B, 3, 112, 112) -> points of both heads (B, 68, 2), x and y as shares of the width."""
        _, maps, last = self.network.forward_features(x)
        return self.network.forward_head(last).unflatten(1, (68, 2)), self.mean_places(self.read(maps))

    @in_float32
    def mean_places(self, maps: Tensor) -> Tensor:
        """Mean position (B, 68, 2), x and y, of the cells under the softmax of score maps (B, 68, 14, 14)."""
        heat = maps.flatten(2).softmax(-1).unflatten(2, (14, 14))
        return torch.stack([heat.sum(2) @ self.places, heat.sum(3) @ self.places], dim=-1)


def start_at_the_mean(network: MobileFaceNet, faces: np.ndarray) -> None:
    """Initialise the output to the mean of the aligned ``faces`` (N, 68, 2), so that training learns differences."""
    key = template(SIZE, EYE_DISTANCE)
    aligned = np.stack([apply(similarity(key_points(points), key), points) for points in faces])
    last = network.output_layer.bn
    with torch.no_grad():
        last.bias.copy_(torch.from_numpy(aligned.mean(axis=0).ravel() / SIZE))
        last.weight.fill_(0.05)


def wing_loss(error: Tensor, width: float = 10.0, curvature: float = 2.0) -> Tensor:
    """Wing loss of errors in px (Feng et al., "Wing Loss", CVPR 2018, equation 5): steeper than L1 near zero."""
    size = error.abs()
    offset = width - width * np.log1p(width / curvature)
    return torch.where(size < width, width * torch.log1p(size / curvature), size - offset).mean()


def near_crop(points: Tensor) -> Tensor:
    """Return which points (..., 2) in px are in the crop or less than a tenth of its width outside."""
    margin = SIZE / 10
    return ((points > -margin) & (points < SIZE + margin)).all(dim=-1)
