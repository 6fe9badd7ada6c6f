"""POSTER++ (POSTER V2): landmark-guided cross-attention at three scales, then a small vision transformer.

Mao, Xu, Yin, Chang, Nie, Huang: "POSTER++: A simpler and stronger facial expression recognition network",
https://arxiv.org/abs/2301.12149; official code: https://github.com/Talented-Q/POSTER_V2. Same entries and same
numbers as that code. Where the paper differs from it this follows the code: no query matrix, one attention window
per map, and the residual starts from the *normalised* map.

Official weights: the tables "Preparing Pretrained Models" (``ir50``, ``mobilefacenet``) and "Checkpoints" (RAF-DB,
AffectNet with 7 and with 8 classes, CAER-S) of that repository's README link to Google Drive and Baidu. Read them
with :func:`duchenne.models.load_pretrained`.
"""

from collections import OrderedDict
from functools import partial

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath, Mlp, trunc_normal_
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from duchenne.models.backbones.ir50 import IR50
from duchenne.models.backbones.mobilefacenet import MobileFaceNet

Maps = tuple[Tensor, Tensor, Tensor]


def tokens(x: Tensor) -> Tensor:
    """Map (B, C, H, W) -> tokens (B, H * W, C), row by row; a view in either memory format."""
    return x.flatten(2).transpose(1, 2)


class CrossAttention(nn.Module):
    """Image tokens attended to by landmark tokens in one window, with a relative position bias per head.

    ``qkv`` makes keys and values only (the name is the official one): landmark tokens are the query as they are.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        trunc_normal_(self.relative_position_bias_table, std=0.02)

        cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        shift = cells[:, None] - cells[None, :] + window - 1
        self.register_buffer("relative_position_index", shift[..., 0] * (2 * window - 1) + shift[..., 1])

    def forward(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Normalised image tokens (B, N, C) and landmark tokens (B, N, C) -> (B, N, C)."""
        query = landmarks.unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.qkv(image).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        # index_select: its backward is four times faster on a CPU than that of indexing
        bias = self.relative_position_bias_table.index_select(0, self.relative_position_index.flatten())
        bias = bias.unflatten(0, self.relative_position_index.shape).permute(2, 0, 1)
        fused = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(fused.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Both residual steps of a level; each branch is scaled by a learnt vector that starts at 1e-5."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.gamma1 = nn.Parameter(torch.full((dim,), 1e-5))
        self.gamma2 = nn.Parameter(torch.full((dim,), 1e-5))
        self.drop_path = DropPath(drop_path)
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, attended: Tensor, shortcut: Tensor) -> Tensor:
        x = shortcut + self.drop_path(self.gamma1 * attended)
        return x + self.drop_path(self.gamma2 * self.mlp(self.norm(x)))


class Gate(nn.Module):
    """Squeeze-and-excitation on a vector: (B, C) -> (B, C), each feature scaled by a factor in (0, 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, dim)
        self.linear2 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.linear2(F.relu(self.linear1(x))))


def class_row(block: Block, x: Tensor) -> Tensor:
    """``block(x)[:, :1]`` of tokens (B, N, C), without the work for the other rows: queries and MLP run on one."""
    dim, attn, normed = x.shape[2], block.attn, block.norm1(x)
    query = F.linear(normed[:, :1], attn.qkv.weight[:dim], attn.qkv.bias[:dim])
    query = query.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)
    key_value = F.linear(normed, attn.qkv.weight[dim:], attn.qkv.bias[dim:])
    key, value = key_value.unflatten(2, (2, attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    x = x[:, :1] + attn.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
    return x + block.mlp(block.norm2(x))


class TokenTransformer(nn.Module):
    """Two transformer blocks over 147 tokens and a class token; the official ``VIT``."""

    def __init__(self, num_classes: int, full_last_block: bool, dim: int = 768, count: int = 148) -> None:
        super().__init__()
        self.full_last_block = full_last_block
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, count, dim))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(*(Block(dim, 8, qkv_bias=True, norm_layer=norm) for _ in range(2)))
        self.norm = norm(dim)
        self.se_block = Gate(dim)
        self.head = nn.Sequential(OrderedDict(linear=nn.Linear(dim, num_classes)))

        # ballast: see PosterV2
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(256, dim, 1)))
        self.CON1 = nn.Conv2d(256, dim, 1, bias=False)
        self.IRLinear1 = nn.Linear(1024, dim)
        self.IRLinear2 = nn.Linear(dim, 512)
        self.eca_block = nn.Sequential(OrderedDict(conv=nn.Conv1d(1, 1, 5, padding=2, bias=False)))
        for block in self.blocks:
            block.conv = nn.Conv1d(count, count, 1)

        trunc_normal_(self.cls_token, std=0.02)
        trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, 147, 768) -> gated class token (B, 768)."""
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        first, last = self.blocks
        x = first(x)
        x = last(x) if self.full_last_block else class_row(last, x)
        return self.se_block(self.norm(x)[:, 0])


class PosterV2(nn.Module):
    """POSTER++: normalised images (B, 3, 224, 224) -> logits (B, num_classes).

    Both branches see the image at 112 x 112, every second pixel; other sizes are reduced to it likewise.

    The weights of the landmark branch are frozen. Its BatchNorms are not in the official code: in ``train()`` they
    normalise by the batch and their statistics move (``landmark_bn_frozen=False``). With ``landmark_bn_frozen=True``
    the branch stays in evaluation mode, so that it gives the same maps whenever it sees the same images.

    State-dict names and shapes are the official ones (747 entries), so official checkpoints load one to one. That
    includes *ballast* (``ballast``: names of modules), 14,562,653 parameters that never touch the logits. The
    official code runs the head of the landmark branch and discards its result; here it does not run at all.

    Args:
        num_classes: length of the logits; 7 or 8 in the paper.
        drop_path_rate: stochastic depth. The three levels use the first three of five even steps from 0 to this rate.
        landmark_bn_frozen: keep the BatchNorms of the landmark branch in evaluation mode while training.
        full_last_block: run the last transformer block on all 148 tokens as the official code does, although only
            the class token is read after it. Logits and gradients are the same, with about 0.9 GMACs more; for
            counting the operations of the published network.
    """

    ballast = (
        "face_landback.output_layer",
        "ir_back.output_layer",
        "VIT.patch_embed",
        "VIT.CON1",
        "VIT.IRLinear1",
        "VIT.IRLinear2",
        "VIT.eca_block",
        "VIT.blocks.0.conv",
        "VIT.blocks.1.conv",
    )
    pretrained_parts = {"ir50": "ir_back", "mobilefacenet": "face_landback", "checkpoint": ""}  # noqa: RUF012

    def __init__(
        self,
        num_classes: int = 7,
        drop_path_rate: float = 0.5,
        landmark_bn_frozen: bool = False,
        full_last_block: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = 768
        self.landmark_bn_frozen = landmark_bn_frozen

        self.face_landback = MobileFaceNet().requires_grad_(False)
        self.ir_back = IR50()
        self.last_face_conv = nn.Conv2d(512, 256, 3, padding=1)
        rates = torch.linspace(0, drop_path_rate, 5).tolist()
        for level, (dim, window) in enumerate(((64, 28), (128, 14), (256, 7)), 1):
            self.add_module(f"conv{level}", nn.Conv2d(dim, dim, 3, 2, 1))
            self.add_module(f"window{level}", nn.Sequential(OrderedDict(norm=nn.LayerNorm(dim))))
            self.add_module(f"attn{level}", CrossAttention(dim, dim // 32, window))
            self.add_module(f"ffn{level}", FeedForward(dim, rates[level - 1]))
        # three embeddings to 7 x 7 x 768; "q", "k" and "v" have no attention meaning
        self.embed_q = nn.Sequential(nn.Conv2d(64, 768, 3, 2, 1), nn.Conv2d(768, 768, 3, 2, 1))
        self.embed_k = nn.Sequential(nn.Conv2d(128, 768, 3, 2, 1))
        self.embed_v = nn.Sequential(OrderedDict(proj=nn.Conv2d(256, 768, 1)))
        self.VIT = TokenTransformer(num_classes, full_last_block)

    def train(self, mode: bool = True) -> "PosterV2":
        super().train(mode)
        if self.landmark_bn_frozen:
            self.face_landback.eval()
        return self

    @torch.no_grad()
    def landmark_maps(self, x: Tensor) -> Maps:
        """Images (B, 3, 224, 224) -> maps (B, 64, 28, 28), (B, 128, 14, 14), (B, 512, 7, 7), without gradient."""
        return self.face_landback.forward_features(F.interpolate(x, 112))

    def forward_features(self, x: Tensor, landmarks: Maps | None = None) -> Tensor:
        """Images (B, 3, 224, 224) -> features (B, 768).

        Args:
            landmarks: ``landmark_maps(x)``, to spare its second computation when the same images come again.

        Raises:
            ValueError: maps are given while the landmark branch must see the images to update its statistics.
        """
        if landmarks is None:
            landmarks = self.landmark_maps(x)
        elif self.face_landback.training:
            raise ValueError("landmark maps can be reused in train() only with landmark_bn_frozen=True")
        landmarks = (*landmarks[:2], self.last_face_conv(landmarks[2]))
        embeddings = (self.embed_q, self.embed_k, self.embed_v)
        images = self.ir_back(F.interpolate(x, 112))
        levels = []
        for level, (image, landmark, embed) in enumerate(zip(images, landmarks, embeddings, strict=True), 1):
            image = getattr(self, f"conv{level}")(image)
            shortcut = getattr(self, f"window{level}")(tokens(image))
            attended = getattr(self, f"attn{level}")(shortcut, tokens(landmark))
            fused = getattr(self, f"ffn{level}")(attended, shortcut)
            levels.append(tokens(embed(fused.transpose(1, 2).unflatten(2, image.shape[2:]))))
        return self.VIT(torch.cat(levels, dim=1))

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, 768) -> logits (B, num_classes)."""
        return self.VIT.head(features)

    def forward(self, x: Tensor, landmarks: Maps | None = None) -> Tensor:
        return self.forward_head(self.forward_features(x, landmarks))


default_cfgs = generate_default_cfgs(
    {
        "poster_v2": {
            "input_size": (3, 224, 224),
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "num_classes": 7,
            "first_conv": ("ir_back.input_layer.0", "face_landback.conv1.conv"),
            "classifier": "VIT.head.linear",
        }
    }
)


@register_model
def poster_v2(pretrained: bool = False, **kwargs) -> PosterV2:
    """POSTER++ as published: 58,316,594 parameters with 7 classes."""
    return build_model_with_cfg(PosterV2, "poster_v2", pretrained, kwargs_filter=("in_chans",), **kwargs)
