"""The first five groups of MobileNetV2 on every frame: the trunk of IFDD-2DCNN and of its baseline.

Sandler et al., "MobileNetV2", CVPR 2018 (https://arxiv.org/abs/1801.04381). IFDD's paper gives the number of groups and
the widths 56, 28 and 14 of the maps of the last three; its code for this network is not published, and these strides
are the only ones that give those widths. The blocks are torchvision's.

Weights for ImageNet: torchvision's ``mobilenet_v2`` (``MobileNet_V2_Weights.IMAGENET1K_V1``).
"""

from typing import Any

from torch import Tensor, nn
from torchvision.models import MobileNetV2

from duchenne.models.backbones.clip_stem import FRAMES

# for each group: expansion, channels, blocks, stride of its first block
GROUPS = ([1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 1], [6, 64, 4, 2], [6, 96, 3, 2])
LEVELS = {6: (32, 56), 10: (64, 28), 13: (96, 14)}  # last block of groups 3, 4 and 5: channels and side of its map


class FrameMobileNet(nn.Module):
    """Thirteen inverted residuals with BatchNorm and ReLU6; torchvision's ``features.1`` to ``features.13``."""

    torchvision_entries = ("features.[1-9].*", "features.1[0-3].*")

    def __init__(self) -> None:
        super().__init__()
        # without MobileNetV2's own stem and its last, 1280 wide, layer
        self.features = MobileNetV2(inverted_residual_setting=GROUPS).features[1:-1]  # keeps their numbers

    def stages(self, prefix: str) -> list[dict[str, Any]]:
        """List the stages for the ``feature_info`` of a network in which this module has the name ``prefix``."""
        return [
            {"module": f"{prefix}.features.{number}", "num_chs": channels, "reduction": 224 // side}
            for number, (channels, side) in LEVELS.items()
        ]

    @staticmethod
    def stage_maps(output: Tensor) -> Tensor:
        """Reshape the output of a stage (8 B, C, H, W), frame by frame, to (B, C, 8, H, W)."""
        return output.unflatten(0, (-1, FRAMES)).transpose(1, 2)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Compute maps of every frame, (T B, 32, 56, 56), (T B, 64, 28, 28) and (T B, 96, 14, 14)."""
        x = x.transpose(1, 2).flatten(0, 1)
        maps = []
        for number, block in enumerate(self.features, 1):
            x = block(x)
            if number in LEVELS:
                maps.append(x)
        return maps
