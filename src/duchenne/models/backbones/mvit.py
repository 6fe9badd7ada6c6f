"""MViTv2-S without six of its blocks: the trunk of IFDD-3DViT and of its baseline.

Li et al., "MViTv2", CVPR 2022 (https://arxiv.org/abs/2112.01526), shortened as in the official code of IFDD,
https://github.com/CyberPegasus/IFDD: stages of 1, 2, 5 and 2 blocks, where MViTv2-S has 1, 2, 11 and 2. Positions enter
only through the relative bias of every attention. The blocks are torchvision's.

Weights for Kinetics-400: torchvision's ``mvit_v2_s`` (``MViT_V2_S_Weights.KINETICS400_V1``), which expects pixels of
mean 0.45 and standard deviation 0.225.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models.video.mvit import MSBlockConfig, MViT

from duchenne.models.backbones.clip_stem import FRAMES

# for each block: heads, channels in and out, spatial stride of the queries and of keys and values
BLOCKS = (
    (1, 96, 96, 1, 8),
    (2, 96, 192, 2, 4),
    (2, 192, 192, 1, 4),
    (4, 192, 384, 2, 2),
    *4 * ((4, 384, 384, 1, 2),),
    (8, 384, 768, 2, 1),
    (8, 768, 768, 1, 1),
)
STAGE_3 = 7  # last block of the third stage
LEVELS = ((384, 14), (768, 7))  # channels and side of the maps of stages 3 and 4


class ShortMViT(nn.Module):
    """Ten blocks; the official names of the entries, which are also torchvision's.

    Args:
        drop_path_rate: stochastic depth of the last block; from 0 in the first one it grows in even steps.
    """

    def __init__(self, drop_path_rate: float = 0.2) -> None:
        super().__init__()
        settings = [
            MSBlockConfig(heads, inputs, outputs, [3] * 3, [3] * 3, [1, q, q], [1, kv, kv])
            for heads, inputs, outputs, q, kv in BLOCKS
        ]
        network = MViT(
            spatial_size=(224, 224),
            temporal_size=2 * FRAMES,  # frames before the stem, which is not part of this module
            block_setting=settings,
            residual_pool=True,
            residual_with_cls_embed=False,
            rel_pos_embed=True,
            proj_after_attn=True,
            stochastic_depth_prob=drop_path_rate,
        )
        self.pos_encoding = network.pos_encoding
        self.blocks = network.blocks
        self.norm = network.norm

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 96, 8, 56, 56) -> tokens of stage 3 (B, 1569, 384) and, normalised, of stage 4 (B, 393, 768).

        The class token comes first, then the patches frame by frame, row by row.
        """
        size = tuple(x.shape[2:])
        x = self.pos_encoding(x.flatten(2).transpose(1, 2))
        for number, block in enumerate(self.blocks):
            x, size = block(x, size)
            if number == STAGE_3:
                third = x
        return third, self.norm(x)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Compute maps of every frame, (8 B, 384, 14, 14) and (8 B, 768, 7, 7), from maps (B, 96, 8, 56, 56)."""
        return [
            tokens[:, 1:].unflatten(1, (FRAMES, side, side)).flatten(0, 1).permute(0, 3, 1, 2)
            for tokens, (_, side) in zip(self(x), LEVELS, strict=True)
        ]


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert torchvision's ``mvit_v2_s`` to entries of :class:`ShortMViT`: its blocks 14 and 15 become 8 and 9.

    Blocks 8 to 13, the classifier and the stem, which is a separate module, are left out.
    """
    kept = {}
    for name, value in state.items():
        if match := re.match(r"blocks\.(\d+)\.(.+)", name):
            source = int(match[1])
            if source <= STAGE_3 or source >= 14:
                kept[f"blocks.{source if source <= STAGE_3 else source - 6}.{match[2]}"] = value
        elif not name.startswith(("conv_proj.", "head.")):
            kept[name] = value
    return kept
