"""Networks of a few weights with the inputs of the real ones; registered with timm on import."""

from typing import ClassVar

import torch
from timm.layers import BatchNormAct2d, DropPath
from torch import Tensor, nn

from duchenne.models.contract import Network, register_network


class Tiny(Network):
    """A linear classifier of a picture's means over 4 x 4 fields."""

    size = (3, 64, 64)

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.num_features, self.num_classes = 16 * channels, num_classes
        self.head = nn.Linear(self.num_features, num_classes)
        self.pretrained_cfg = self.default_cfg = {
            "input_size": self.size, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "classifier": "head",
        }  # fmt: skip

    def forward_features(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        return self.head(features)


class TinyClip(Tiny):
    """The same of a clip's mean over time, with a loss of its own: 0.01 times the mean square of the logits."""

    size = (3, 4, 64, 64)
    pretrained_parts: ClassVar = {"stem": "stem"}

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.stem = nn.Conv3d(3, 3, 1)

    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(self.stem(x).mean(2))

    def forward(self, x: Tensor):
        logits = super().forward(x)
        return (logits, {"small": 0.01 * logits.square().mean()}) if self.training else logits


class TinyPair(Tiny):
    """The same of onset and apex, with places of AU regions and something to learn without labels."""

    size = (2, 224, 224)
    learns_without_labels = has_au_regions = True

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, channels=2)
        self.mean = nn.Parameter(torch.zeros(self.num_features))
        self.drop = nn.Dropout(0.2)
        self.register_buffer("centers", torch.zeros(9, 2))

    def set_au_centers(self, centers: Tensor) -> None:
        self.centers.copy_(centers)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.drop(super().forward_features(x) - self.mean)

    def pretraining_loss(self, x: Tensor) -> Tensor:
        return self.forward_features(x).square().mean()


class TinyNorm(TinyPair):
    """The same behind BatchNorm of four and of two dimensions, with stochastic depth."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.stem = nn.Sequential(nn.Conv2d(2, 2, 3, 8, bias=False), BatchNormAct2d(2))
        self.path, self.last = DropPath(0.3), nn.BatchNorm1d(self.num_features)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        means = Tiny.forward_features(self, x + self.path(x.square()))
        return self.drop(self.last(means) - self.mean)

    def pretraining_loss(self, x: Tensor) -> Tensor:
        return super().forward_features(self.stem(x)).square().mean()


@register_network("Tiny")
def tiny(pretrained: bool = False, num_classes: int = 3, **kwargs) -> Tiny:
    return Tiny(num_classes)


@register_network("Tiny, clips", takes="clip")
def tiny_clip(pretrained: bool = False, num_classes: int = 3, **kwargs) -> TinyClip:
    return TinyClip(num_classes)


@register_network("Tiny, clips, with a norm", takes="clip")
def tiny_clip_norm(pretrained: bool = False, num_classes: int = 3, **kwargs) -> TinyClip:
    network = TinyClip(num_classes)
    network.norm = nn.LayerNorm(network.num_features)
    return network


@register_network("Tiny, pairs", takes="pair")
def tiny_pair(pretrained: bool = False, num_classes: int = 3, **kwargs) -> TinyPair:
    return TinyPair(num_classes)


@register_network("Tiny, pairs, with BatchNorm", takes="pair")
def tiny_norm(pretrained: bool = False, num_classes: int = 3, **kwargs) -> TinyNorm:
    return TinyNorm(num_classes)
