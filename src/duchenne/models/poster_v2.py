"""POSTER++ (POSTER V2): landmark-guided cross-attention at three scales, then a small vision transformer.

Mao, Xu, Yin, Chang, Nie, Huang: "POSTER++: A simpler and stronger facial expression recognition network",
https://arxiv.org/abs/2301.12149; official code: https://github.com/Talented-Q/POSTER_V2. Same entries and same
numbers as that code. Where the paper differs from it this follows the code: no query matrix, one attention window
per map, and the residual starts from the *normalised* map.

Official weights: the tables "Preparing Pretrained Models" (``ir50``, ``mobilefacenet``) and "Checkpoints" (RAF-DB,
AffectNet with 7 and with 8 classes, CAER-S) of that repository's README link to Google Drive and Baidu. Read them
with :func:`duchenne.models.official.load_pretrained`.
"""

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath, Mlp, calculate_drop_path_rates, trunc_normal_
from timm.models import generate_default_cfgs
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from duchenne.models.building import build
from duchenne.models.contract import register_network
from duchenne.models.landmark_guided import (
    Gate,
    LandmarkGuided,
    Maps,
    attend,
    attention_weights,
    require_option,
    tokens,
)
from duchenne.models.precision import LinearFp32
from duchenne.networks import Counting, Depth

DIM = 768  # width of a token
SCALES = {1: (64, 28), 2: (128, 14), 3: (256, 7)}  # scale: channels of its map, cells a side


class CrossAttention(nn.Module):
    """Image tokens (B, N, C) attended to by landmark tokens (B, N, C) in one window -> (B, N, C).

    ``qkv`` makes keys and values only (the name is the official one): landmark tokens are the query as they are.

    Args:
        window: cells a side, for a relative position bias per head; None: no bias.
    """

    def __init__(self, dim: int, window: int | None) -> None:
        super().__init__()
        self.heads = dim // 32
        self.qkv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = None
        if window:
            self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, self.heads))
            trunc_normal_(self.relative_position_bias_table, std=0.02)
            cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
            shift = cells[:, None] - cells[None, :] + window - 1
            self.register_buffer("relative_position_index", shift[..., 0] * (2 * window - 1) + shift[..., 1])

    def bias(self) -> Tensor | None:
        """Bias added to the scores, (heads, N, N)."""
        if self.relative_position_bias_table is None:
            return None
        # index_select: its backward is four times faster on a CPU than that of indexing
        bias = self.relative_position_bias_table.index_select(0, self.relative_position_index.flatten())
        return bias.unflatten(0, self.relative_position_index.shape).permute(2, 0, 1)

    def forward(self, image: Tensor, landmarks: Tensor) -> Tensor:
        return self.proj(attend(landmarks, self.qkv(image), self.heads, self.bias()))

    def weights(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Softmax weights (B, heads, N landmark cells, N image cells)."""
        return attention_weights(landmarks, self.qkv(image), self.heads, self.bias())


class FeedForward(nn.Module):
    """Both residual steps of a level; each branch is scaled by a learned vector that starts at 1e-5."""

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


def class_row(block: Block, x: Tensor) -> Tensor:
    """Compute ``block(x)[:, :1]`` of tokens (B, N, C) without the other rows: queries and MLP run on one."""
    dim, attn, normed = x.shape[2], block.attn, block.norm1(x)
    query = F.linear(normed[:, :1], attn.qkv.weight[:dim], attn.qkv.bias[:dim])
    key_value = F.linear(normed, attn.qkv.weight[dim:], attn.qkv.bias[dim:])
    x = x[:, :1] + attn.proj(attend(query, key_value, attn.num_heads))
    return x + block.mlp(block.norm2(x))


class Integration(nn.Module):
    """The official ``VIT`` without its blocks: tokens (B, N, 768), 49 per map -> gated features (B, 768) -> logits.

    The maps are summed ("We directly sum several different scale features", section 4.5). We assume that the mean of
    the 49 sums replaces the class token.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM, eps=1e-6)
        self.se_block = Gate(DIM)
        self.head = nn.Sequential(OrderedDict(linear=LinearFp32(DIM, num_classes)))

    def forward(self, x: Tensor) -> Tensor:
        summed = x.unflatten(1, (-1, 49)).sum(1)
        return self.se_block(self.norm(summed.mean(1)))


class TokenTransformer(Integration):
    """Transformer blocks over all tokens and a class token; the official ``VIT``."""

    def __init__(self, num_classes: int, count: int, depth: int, full_last_block: bool) -> None:
        super().__init__(num_classes)
        self.full_last_block = full_last_block
        self.cls_token = nn.Parameter(torch.empty(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + count, DIM))
        self.blocks = nn.Sequential(
            *(Block(DIM, 8, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)) for _ in range(depth))
        )

        # unused parameters: see PosterV2
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(256, DIM, 1)))
        self.CON1 = nn.Conv2d(256, DIM, 1, bias=False)
        self.IRLinear1 = nn.Linear(1024, DIM)
        self.IRLinear2 = nn.Linear(DIM, 512)
        self.eca_block = nn.Sequential(OrderedDict(conv=nn.Conv1d(1, 1, 5, padding=2, bias=False)))
        for block in self.blocks:
            block.conv = nn.Conv1d(1 + count, 1 + count, 1)

        trunc_normal_(self.cls_token, std=0.02)
        trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        x = self.blocks[:-1](x)
        x = self.blocks[-1](x) if self.full_last_block else class_row(self.blocks[-1], x)
        return self.se_block(self.norm(x)[:, 0])


class PosterV2(LandmarkGuided):
    """POSTER++: normalised images (B, 3, 224, 224) -> logits (B, num_classes).

    State-dict names and shapes are the official ones (747 entries), so official checkpoints load one to one. They
    include 14,562,653 unused parameters, on which the logits do not depend.

    The options after ``full_last_block`` are ablated in the paper. The code of the ablations is not published: they
    follow the description, and our assumptions are given here.

    Published weights of a vision transformer (``pretrained_parts["vit"]``; Table 7) are those of a ViT-B/16 trained
    on ImageNet-21k with biases in ``qkv``, such as timm's ``vit_base_patch16_224.augreg_in21k``. We chose to load its
    first blocks, class token and norm; its 12 heads of 64 become 8 of 96, and the positions of its 196 patches are not
    used.

    Args:
        num_classes: length of the logits; 7 or 8 in the paper.
        drop_path_rate: stochastic depth. The three levels use the first three of five even steps from 0 to this rate.
        landmark_bn_frozen: keep the BatchNorms of the landmark branch in evaluation mode while training.
        full_last_block: run the last transformer block on all 148 tokens as the official code does, although only
            the class token is read after it. Logits and gradients are the same, with about 0.9 GMACs more; for
            counting the operations of the published network.
        vit_depth: transformer blocks (Figure 6: 2, 4, 6, 8); 0 sums the scales instead (Table 8, "w/o ViT").
        multi_scale: ``False`` uses only the last map of each branch (Table 8).
        fusion: Table 8. "window": as published. "vanilla" (w/o W-MCSA): without the relative position bias, because at
            this input size the window is the whole map, so that nothing else can be removed. "none" (w/o
            cross-fusion): image and landmark maps become separate tokens, by the same embedding, which the transformer
            integrates.

    Raises:
        UserError: An option has an invalid value.
    """

    pretrained_parts: Mapping[str, str] = {**LandmarkGuided.pretrained_parts, "vit": "VIT"}

    def __init__(
        self,
        num_classes: int = 7,
        drop_path_rate: float = 0.5,
        landmark_bn_frozen: bool = False,
        full_last_block: bool = False,
        vit_depth: int = 2,
        multi_scale: bool = True,
        fusion: str = "window",
    ) -> None:
        require_option("fusion", fusion, ("window", "vanilla", "none"))
        super().__init__(num_classes, DIM, landmark_bn_frozen, split_stages=True)
        self.cross = fusion != "none"
        self.scales = tuple(SCALES) if multi_scale else (3,)
        self.last_face_conv = nn.Conv2d(512, 256, 3, padding=1)
        rates = calculate_drop_path_rates(drop_path_rate, 5)
        for scale in self.scales:
            dim, side = SCALES[scale]
            self.add_module(f"conv{scale}", nn.Conv2d(dim, dim, 3, 2, 1))
            if self.cross:
                self.add_module(f"window{scale}", nn.Sequential(OrderedDict(norm=nn.LayerNorm(dim))))
                self.add_module(f"attn{scale}", CrossAttention(dim, side if fusion == "window" else None))
                self.add_module(f"ffn{scale}", FeedForward(dim, rates[scale - 1]))
        # embeddings to 7 x 7 x 768; "q", "k" and "v" have no attention meaning
        if multi_scale:
            self.embed_q = nn.Sequential(nn.Conv2d(64, DIM, 3, 2, 1), nn.Conv2d(DIM, DIM, 3, 2, 1))
            self.embed_k = nn.Sequential(nn.Conv2d(128, DIM, 3, 2, 1))
        self.embed_v = nn.Sequential(OrderedDict(proj=nn.Conv2d(256, DIM, 1)))
        count = 49 * len(self.scales) * (1 if self.cross else 2)
        blocks = [f"blocks.{number}" for number in range(vit_depth)]
        if vit_depth:
            self.VIT = TokenTransformer(num_classes, count, vit_depth, full_last_block)
            unused = ("patch_embed", "CON1", "IRLinear1", "IRLinear2", "eca_block", *(f"{b}.conv" for b in blocks))
            self.ballast = (*LandmarkGuided.ballast, *(f"VIT.{module}" for module in unused))
        else:
            self.VIT = Integration(num_classes)
        for module in self.VIT.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        parts = ("norm1", "attn", "norm2", "mlp")
        self.pretrained_entries = {"vit": ("cls_token", "norm.*", *(f"{b}.{p}.*" for b in blocks for p in parts))}

    def fuse(self, images: Maps, landmarks: Maps) -> Tensor:
        landmarks = (*landmarks[:2], self.last_face_conv(landmarks[2]))
        embed = {1: "embed_q", 2: "embed_k", 3: "embed_v"}
        embedded = []
        for scale in self.scales:
            image, landmark = getattr(self, f"conv{scale}")(images[scale - 1]), landmarks[scale - 1]
            maps = [self._cross_fused(scale, image, landmark)] if self.cross else [image, landmark]
            embedded += [tokens(getattr(self, embed[scale])(x)) for x in maps]
        return self.VIT(torch.cat(embedded, dim=1))

    def _cross_fused(self, scale: int, image: Tensor, landmark: Tensor) -> Tensor:
        """Compute the image map (B, C, S, S) of a scale, guided by its landmark map of the same shape."""
        shortcut = getattr(self, f"window{scale}")(tokens(image))
        attended = getattr(self, f"attn{scale}")(shortcut, tokens(landmark))
        fused = getattr(self, f"ffn{scale}")(attended, shortcut)
        return fused.transpose(1, 2).unflatten(2, image.shape[2:])

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features if pre_logits else self.VIT.head(features)

    def attentions(self) -> dict[str, nn.Module]:
        """Attention of landmarks to the image at ``scale1`` (28 x 28), ``scale2`` (14 x 14) and ``scale3`` (7 x 7)."""
        return {f"scale{scale}": getattr(self, f"attn{scale}") for scale in self.scales} if self.cross else {}


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


@register_network(
    "POSTER++",
    layer="ir_back.body3",
    maps={
        "scale1": "attention\n28 × 28",
        "scale2": "attention\n14 × 14",
        "scale3": "attention\n7 × 7",
    },
    packaged=("mobilefacenet",),
    counting=Counting(options={"full_last_block": True}, discarded=("face_landback.output_layer",)),
    depth=Depth("POSTER++", "vit_depth", 2),
    in_code={"multi_scale": (True,), "fusion": ("window",), "vit_depth": range(1, 1000)},
    # the paper does not say which pre-trained transformer Table 7 means, and no code loads one
    read_parts=("vit",),
)
def poster_v2(pretrained: bool = False, **kwargs) -> PosterV2:
    """POSTER++ as published: 58,316,594 parameters with 7 classes."""
    return build(PosterV2, "poster_v2", pretrained, **kwargs)
