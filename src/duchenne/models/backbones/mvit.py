"""MViTv2-S without six of its blocks: the trunk of IFDD-3DViT and of its baseline.

Li et al., "MViTv2", CVPR 2022 (https://arxiv.org/abs/2112.01526), shortened as in the official code of IFDD,
https://github.com/CyberPegasus/IFDD: stages of 1, 2, 5 and 2 blocks, where MViTv2-S has 1, 2, 11 and 2. Positions enter
only through the relative bias of every attention. The blocks are torchvision's, with the same numbers in fewer passes
over memory (:class:`FusedAttention`, :class:`Block`).

Weights for Kinetics-400: torchvision's ``mvit_v2_s`` (``MViT_V2_S_Weights.KINETICS400_V1``), which expects pixels of
mean 0.45 and standard deviation 0.225.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video.mvit import MSBlockConfig, MultiscaleAttention, MultiscaleBlock, MViT, Pool

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
STAGES = {0: (96, 56), 2: (192, 28), 7: (384, 14), 9: (768, 7)}  # last block of each: channels and side of its map
STAGE_3 = 7  # last block of the third stage
LEVELS = ((384, 14), (768, 7))  # channels and side of the maps of stages 3 and 4


Size = tuple[int, int, int]
"""Frames, rows and columns of a clip of tokens."""


def pooled(pool: Pool, tokens: Tensor, size: Size) -> tuple[Tensor, Size]:
    """Apply torchvision's ``Pool`` to tokens (B, heads, 1 + N, C), the class token first; returns them and their size.

    The order of tokens is that of a channels-last map, in which pooling is 4 to 25 times as fast on a CPU.
    """
    maps = tokens[:, :, 1:].flatten(0, 1).contiguous().unflatten(1, size).permute(0, 4, 1, 2, 3)
    maps = pool.pool(maps)
    patches = maps.flatten(2).transpose(1, 2).unflatten(0, tokens.shape[:2])
    joined = torch.cat((tokens[:, :, :1], patches), dim=2)
    return (pool.norm_act(joined) if pool.norm_act else joined), tuple(maps.shape[2:])


def distances(queries: int, keys: int, table: Tensor) -> Tensor:
    """Rows of a table of relative positions (2 max(queries, keys) - 1, C) for every pair on an axis: (Q, K, C)."""
    device = table.device
    query = torch.arange(queries, device=device)[:, None] * max(keys / queries, 1.0)
    key = (torch.arange(keys, device=device) + 1.0 - keys) * max(queries / keys, 1.0)
    return table[(query - key).long()]


class FusedAttention(MultiscaleAttention):
    """torchvision's ``MultiscaleAttention`` with relative positions, as one fused attention of longer vectors.

    A score is q · k / sqrt(C) plus the products of q with the relative positions of the key's row, column and frame.
    The products are further entries of q, and a key has ones at its own row, column and frame. So the scores, of which
    a clip has 20 million in the second block, are never in memory.
    """

    def forward(self, x: Tensor, thw: Size) -> tuple[Tensor, Size]:
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        query, q_size = pooled(self.pool_q, qkv[0], thw)
        key, k_size = pooled(self.pool_k, qkv[1], thw)
        value, _ = pooled(self.pool_v, qkv[2], thw)

        patches = query[:, :, 1:].unflatten(2, q_size)
        tables = zip(q_size, k_size, (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w), strict=True)
        frame, row, column = (distances(*pair) for pair in tables)
        products = (
            torch.einsum("bnthwc,tkc->bnthwk", patches, frame),
            torch.einsum("bnthwc,hkc->bnthwk", patches, row),
            torch.einsum("bnthwc,wkc->bnthwk", patches, column),
        )
        further = torch.cat(products, dim=-1).flatten(2, 4)
        ones = [torch.eye(count, dtype=key.dtype, device=key.device) for count in k_size]
        cells = torch.cartesian_prod(*(torch.arange(count, device=key.device) for count in k_size)).unbind(1)
        where = torch.cat([one[cell] for one, cell in zip(ones, cells, strict=True)], dim=1)

        count = where.shape[1]
        spare = -(self.head_dim + count) % 8  # fused kernels of GPUs need a multiple of 8
        query_ = torch.cat((self.scaler * query, F.pad(further, (0, spare, 1, 0)).to(query.dtype)), dim=3)
        where = F.pad(where, (0, spare, 1, 0)).expand(*key.shape[:2], -1, -1)
        found = F.scaled_dot_product_attention(
            query_, torch.cat((key, where), dim=3), F.pad(value, (0, count + spare)), scale=1.0
        )[..., : self.head_dim]
        found = torch.cat((found[:, :, :1], found[:, :, 1:] + query[:, :, 1:]), dim=2)
        return self.project(found.transpose(1, 2).flatten(2)), q_size


class Block(MultiscaleBlock):
    """torchvision's ``MultiscaleBlock`` with :class:`FusedAttention` and :func:`pooled`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.attn.__class__ = FusedAttention  # torchvision's block makes its attention itself

    def forward(self, x: Tensor, thw: Size) -> tuple[Tensor, Size]:
        normed = self.norm1(x)
        attended, size = self.attn(normed, thw)
        skip = x if self.project is None else self.project(normed)
        if self.pool_skip is not None:
            skip = pooled(self.pool_skip, skip[:, None], thw)[0].squeeze(1)
        x = skip + self.stochastic_depth(attended)
        return x + self.stochastic_depth(self.mlp(self.norm2(x))), size


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
            block=Block,
            stochastic_depth_prob=drop_path_rate,
        )
        self.pos_encoding = network.pos_encoding
        self.blocks = network.blocks
        self.norm = network.norm

    def stages(self, prefix: str) -> list[dict[str, Any]]:
        """List the stages for the ``feature_info`` of a network in which this module has the name ``prefix``."""
        return [
            {"module": f"{prefix}.blocks.{number}", "num_chs": channels, "reduction": 224 // side}
            for number, (channels, side) in STAGES.items()
        ]

    @staticmethod
    def stage_maps(output: tuple[Tensor, Size]) -> Tensor:
        """Reshape the output of a block, tokens (B, 1 + N, C) and their size, to maps (B, C, 8, H, W)."""
        tokens, size = output
        return tokens[:, 1:].transpose(1, 2).unflatten(2, size)

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
