"""MobileFaceNet: the landmark branch of POSTER and POSTER++.

Chen et al., "MobileFaceNets", CCBR 2018 (https://arxiv.org/abs/1804.07573), with a head that places 68 facial points.
"""

from collections import OrderedDict

from torch import Tensor, nn

from duchenne.models.precision import in_float32


def conv_bn(
    in_channels: int, channels: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Build a convolution without bias, BatchNorm and, with ``act``, PReLU."""
    layers = OrderedDict(
        conv=nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=False),
        bn=nn.BatchNorm2d(channels),
    )
    if act:
        layers["prelu"] = nn.PReLU(channels)
    return nn.Sequential(layers)


class DepthWise(nn.Module):
    """Inverted bottleneck, (B, c, H, W) -> (B, d, H / stride, W / stride), linear at its end."""

    def __init__(self, in_channels: int, channels: int, expansion: int, stride: int, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.conv = conv_bn(in_channels, expansion, 1)
        self.conv_dw = conv_bn(expansion, expansion, 3, stride, 1, groups=expansion)
        self.project = conv_bn(expansion, channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.residual else y


def residuals(channels: int, expansion: int, count: int) -> nn.Sequential:
    """Build ``count`` residual bottlenecks under the official member name ``model``."""
    units = (DepthWise(channels, channels, expansion, 1, residual=True) for _ in range(count))
    return nn.Sequential(OrderedDict(model=nn.Sequential(*units)))


class MobileFaceNet(nn.Module):
    """68 facial points and the maps they are read from; the published state dict (333 entries)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv_bn(3, 64, 3, 2, 1)
        self.conv2_dw = conv_bn(64, 64, 3, 1, 1, groups=64)
        self.conv_23 = DepthWise(64, 64, 128, 2)
        self.conv_3 = residuals(64, 128, 4)
        self.conv_34 = DepthWise(64, 128, 256, 2)
        self.conv_4 = residuals(128, 256, 6)
        self.conv_45 = DepthWise(128, 128, 512, 2)
        self.conv_5 = residuals(128, 256, 2)
        self.conv_6_sep = conv_bn(128, 512, 1)
        self.output_layer = nn.Sequential(
            OrderedDict(
                conv_6_dw=conv_bn(512, 512, 7, groups=512, act=False),
                flatten=nn.Flatten(),
                linear=nn.Linear(512, 136, bias=False),
                bn=nn.BatchNorm1d(136),
            )
        )

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute maps (B, 64, 28, 28), (B, 128, 14, 14), (B, 512, 7, 7) of normalised images (B, 3, 112, 112)."""
        first = self.conv_3(self.conv_23(self.conv2_dw(self.conv1(x))))
        second = self.conv_4(self.conv_34(first))
        return first, second, self.conv_6_sep(self.conv_5(self.conv_45(second)))

    @in_float32
    def forward_head(self, x: Tensor) -> Tensor:
        """Compute points (B, 136) from the last map (B, 512, 7, 7), in float32: bfloat16 errors reach 0.2 px of 112."""
        return self.output_layer(x)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, 112, 112) -> (B, 136): x and y of 68 points."""
        return self.forward_head(self.forward_features(x)[-1])
