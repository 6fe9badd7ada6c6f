"""IR50: the image branch of POSTER and POSTER++.

An improved residual network (IR) of Deng et al., "ArcFace", CVPR 2019 (https://arxiv.org/abs/1801.07698), without
its fourth stage, as Zheng et al. (POSTER, https://arxiv.org/abs/2204.04083) and Mao et al. (POSTER++,
https://arxiv.org/abs/2301.12149) use it.
"""

from itertools import accumulate, chain
from typing import Any

from torch import Tensor, nn

from duchenne.models.backbones.ir50_names import STAGES


class Subsample(nn.Module):
    """Every ``stride``-th cell of a map; the official code's max-pooling with kernel 1."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]


class Unit(nn.Module):
    """Pre-normalised residual unit, (B, c, H, W) -> (B, d, H / stride, W / stride); nothing follows the sum."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        if in_channels == channels:
            self.shortcut_layer = Subsample(stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IR50(nn.Module):
    """Three stages of residual units; the official state dict (304 entries).

    Unused: ``output_layer`` (12,847,616 parameters) is the embedding head of the face recogniser. It expects a
    fourth stage that does not exist here, so it never runs. It is kept because official files contain it.

    Args:
        split_stages: name the units by stage, ``body1.0`` to ``body3.13``, as POSTER++ does, else in a row,
            ``body.0`` to ``body.20``, as POSTER and the published ``ir50.pth`` do.
    """

    def __init__(self, split_stages: bool) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        in_channels = 64
        stages = []
        for units, channels in STAGES:
            stages.append([Unit(in_channels, channels, 2), *(Unit(channels, channels, 1) for _ in range(units - 1))])
            in_channels = channels
        self.split_stages = split_stages
        if split_stages:
            self.body1, self.body2, self.body3 = (nn.Sequential(*stage) for stage in stages)
        else:
            self.body = nn.Sequential(*chain(*stages))
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(0.0), nn.Flatten(), nn.Linear(512 * 7 * 7, 512), nn.BatchNorm1d(512)
        )

    def stages(self, prefix: str, shrunk: int) -> list[dict[str, Any]]:
        """List the stages for a network's ``feature_info``.

        Args:
            prefix: name of this module in the network.
            shrunk: height of the network's input by that of this module's.
        """
        ends = accumulate(units for units, _ in STAGES)
        return [
            {
                "module": f"{prefix}.body{number}" if self.split_stages else f"{prefix}.body.{end - 1}",
                "num_chs": channels,
                "reduction": shrunk * 2**number,
            }
            for number, (end, (_, channels)) in enumerate(zip(ends, STAGES, strict=True), 1)
        ]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images (B, 3, 112, 112) -> maps (B, 64, 56, 56), (B, 128, 28, 28), (B, 256, 14, 14)."""
        if self.split_stages:
            stage1, stage2, stage3 = self.body1, self.body2, self.body3
        else:
            end1, end2, _ = accumulate(units for units, _ in STAGES)
            stage1, stage2, stage3 = self.body[:end1], self.body[end1:end2], self.body[end2:]
        first = stage1(self.input_layer(x))
        second = stage2(first)
        return first, second, stage3(second)
