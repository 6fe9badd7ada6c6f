"""POSTER: cross-attention between image and landmark tokens on a pyramid of feature widths.

Zheng, Mendieta, Chen: "POSTER: A Pyramid Cross-Fusion Transformer Network for Facial Expression Recognition", ICCV
Workshops 2023, https://arxiv.org/abs/2204.04083; official code: https://github.com/zczcwh/POSTER. Same entries and
same numbers as that code. Where formulas differ from it this follows the code: no query matrix, and a convolution
over tokens at the end of each block.

Two properties of the official code look like mistakes here: an image token is 1024 consecutive values of the
channel-major map, some five channel planes and not a place in the image; and all sampling between the levels of the
pyramid runs over features, with tokens as channels.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath, Mlp, calculate_drop_path_rates
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from duchenne.models.backbones.ir50 import IR50
from duchenne.models.building import build
from duchenne.models.contract import Network, register_network
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

WIDTH = 512  # width of the pyramid's first layer; each further one halves it
ROWS = 50  # tokens of a stream: its class token and 7 x 7 others
LAYERS = ("l", "m", "s", "xs")  # the code's names: large, medium, small; the fourth is chosen by us
IMAGE, LANDMARK = 0, 1
STREAM_MODULES = (("norm1", "attn_img", "norm2", "mlp1"), ("norm3", "attn_lm", "norm4", "mlp2"))
BRANCHES = {"both": (IMAGE, LANDMARK), "landmark_to_image": (IMAGE,), "image_to_landmark": (LANDMARK,)}

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class CrossAttention(nn.Module):
    """Attention of 8 heads to tokens (B, M, C) by queries (B, N, C), which are used as they are -> (B, N, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        return self.proj(attend(query, self.kv(x), heads=8))

    def weights(self, x: Tensor, query: Tensor) -> Tensor:
        """Softmax weights (B, 8, N, M)."""
        return attention_weights(query, self.kv(x), heads=8)


class Block(nn.Module):
    """One transformer step of each stream at one width: (B, 50 * streams, dim) -> the same.

    Args:
        streams: 2 (image rows first, then landmark rows) or 1 (image rows alone).
        updated: streams that have attention and MLP; rows of other streams pass unchanged.
        swap: a stream is attended to by the other one's tokens, else by its own.
        token_conv: mix all rows by a convolution at the end.
    """

    def __init__(
        self, dim: int, streams: int, updated: Sequence[int], swap: bool, token_conv: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.updated = updated
        self.swap = swap
        for stream in updated:
            norm1, attention, norm2, mlp = STREAM_MODULES[stream]
            self.add_module(norm1, LayerNorm(dim))
            self.add_module(attention, CrossAttention(dim))
            self.add_module(norm2, LayerNorm(dim))
            self.add_module(mlp, Mlp(dim, 2 * dim))
        self.drop_path = DropPath(drop_path)
        self.conv = nn.Conv1d(ROWS * streams, ROWS * streams, 1) if token_conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        rows = list(x.split(ROWS, dim=1))
        for stream in self.updated:  # computed from x: neither stream sees the other's new rows
            norm1, attention, norm2, mlp = (getattr(self, name) for name in STREAM_MODULES[stream])
            normed = norm1(x).split(ROWS, dim=1)
            query = normed[1 - stream if self.swap else stream]
            rows[stream] = rows[stream] + self.drop_path(attention(normed[stream], query))
            rows[stream] = rows[stream] + self.drop_path(mlp(norm2(rows[stream])))
        return self.conv(torch.cat(rows, dim=1))


class PyramidBlock(nn.Module):
    """A :class:`Block` on every layer of the pyramid, then each layer adds the narrower one below, from the last up."""

    def __init__(self, layers: int, streams: int, **block: Any) -> None:
        super().__init__()
        self.layers = LAYERS[:layers]
        for number, layer in enumerate(self.layers):
            self.add_module(f"block_{layer}", Block(WIDTH >> number, streams, **block))
        for layer in self.layers[1:]:
            self.add_module(f"upsample_{layer}", nn.ConvTranspose1d(ROWS * streams, ROWS * streams, 2, 2))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        levels = [getattr(self, f"block_{layer}")(x) for layer, x in zip(self.layers, levels, strict=True)]
        for number in reversed(range(1, len(levels))):
            upsample = getattr(self, f"upsample_{self.layers[number]}")
            levels[number - 1] = levels[number - 1] + upsample(levels[number])
        return levels


class PyramidTransformer(nn.Module):
    """Streams of tokens (B, 49, 512), image first -> normalised image class token (B, 512).

    The class token of a stream is the mean of its tokens; ``cls_token`` is unused. Only the image has positions.
    """

    def __init__(
        self, depth: int, drop_path_rate: float, layers: int, streams: int, swapped: int, **block: Any
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, ROWS, WIDTH))
        self.layers = LAYERS[:layers]
        for number, layer in enumerate(self.layers[1:], 1):
            self.add_module(f"downsample_{layer}", nn.Conv1d(ROWS * streams, ROWS * streams, 1 << number, 1 << number))
        rates = calculate_drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.Sequential(
            *(PyramidBlock(layers, streams, swap=i < swapped, drop_path=rates[i], **block) for i in range(depth))
        )
        self.norm = LayerNorm(WIDTH)

    def forward(self, *streams: Tensor) -> Tensor:
        image, *landmarks = (torch.cat((x.mean(1, keepdim=True), x), dim=1) for x in streams)
        x = torch.cat((image + self.pos_embed, *landmarks), dim=1)
        levels = [x, *(getattr(self, f"downsample_{layer}")(x) for layer in self.layers[1:])]
        return self.norm(self.blocks(levels)[0])[:, 0]


def image_tokens(maps: Maps) -> Tensor:
    """Reshape the last map (B, 256, 14, 14) of the image branch to (B, 49, 1024), with its values in order."""
    return maps[-1].flatten(1).unflatten(1, (49, 1024))


class Poster(LandmarkGuided):
    """POSTER: normalised images (B, 3, 224, 224) -> logits (B, num_classes).

    State-dict names and shapes are the official ones (981, 1145 and 1309 entries at depth 4, 6 and 8), including
    12,944,144 unused parameters.

    The options after ``landmark_bn_frozen`` are ablated in the papers. The code of the ablations is not published: they
    follow the description, and our assumptions are given here.

    Args:
        num_classes: length of the logits; 7 or 8 in the paper.
        depth: pyramid blocks: 4 (T), 6 (S), 8 (L). Supplement, Figure 1.
        token_conv: each block ends with a convolution over its 100 tokens, which no formula shows. ``False`` is the
            form that the official AffectNet scripts train; then the landmark half of the last large block is unused.
        channels: the order in which the official script of the weights read its files, "rgb" or "bgr". Images are
            RGB in either case. With "bgr" the network reverses them itself, and its configuration has mean and
            standard deviation in reverse, because that script normalised BGR pixels by the values of RGB. The RAF-DB
            weights expect "bgr", the AffectNet weights "rgb".
        drop_path_rate: stochastic depth, rising evenly from 0 at the first block to this at the last.
        landmark_bn_frozen: keep the BatchNorms of the landmark branch in evaluation mode while training.
        pyramid_layers: 1 to 4 layers of widths 512, 256, 128, 64. Supplement, Table 1. The fourth, which the code
            does not have, continues the rule of the others: 8 heads, a convolution of stride 8 from the first layer.
        swapped_blocks: number of blocks, from the first, with attention across streams instead of within; None: all.
            Supplement, Table 2. Without swaps the streams are still mixed by ``token_conv`` and between pyramid layers.
        branches: "both", or the only one kept: "landmark_to_image" (landmark queries update image tokens) or
            "image_to_landmark". POSTER++ paper, Table 1. The rows of the other stream pass a block without attention
            and MLP. The "baseline" of that table, whose description we have not seen, is read as neither pyramid nor
            swap (``pyramid_layers=1, swapped_blocks=0``).

    Raises:
        UserError: An option has an invalid value.
    """

    def __init__(
        self,
        num_classes: int = 7,
        depth: int = 8,
        token_conv: bool = True,
        channels: str = "rgb",
        drop_path_rate: float = 0.1,
        landmark_bn_frozen: bool = False,
        pyramid_layers: int = 3,
        swapped_blocks: int | None = None,
        branches: str = "both",
    ) -> None:
        require_option("channels", channels, ("rgb", "bgr"))
        require_option("pyramid_layers", pyramid_layers, range(1, len(LAYERS) + 1))
        require_option("swapped_blocks", swapped_blocks, (None, *range(depth + 1)))
        require_option("branches", branches, BRANCHES)
        super().__init__(num_classes, WIDTH, landmark_bn_frozen, split_stages=False)
        self.bgr = channels == "bgr"
        self.ir_layer = nn.Linear(1024, WIDTH)
        self.pyramid_fuse = PyramidTransformer(
            depth,
            drop_path_rate,
            layers=pyramid_layers,
            streams=2,
            swapped=depth if swapped_blocks is None else swapped_blocks,
            updated=BRANCHES[branches],
            token_conv=token_conv,
        )
        self.se_block = Gate(WIDTH)
        self.head = nn.Sequential(OrderedDict(linear=LinearFp32(WIDTH, num_classes)))
        self.ballast = (*LandmarkGuided.ballast, "pyramid_fuse.cls_token")
        if not token_conv:
            last = f"pyramid_fuse.blocks.{depth - 1}.block_l"
            self.ballast += tuple(f"{last}.{module}" for module in STREAM_MODULES[LANDMARK])

    def reduce(self, x: Tensor) -> Tensor:
        x = super().reduce(x)
        return x.flip(1) if self.bgr else x

    def fuse(self, images: Maps, landmarks: Maps) -> Tensor:
        return self.se_block(self.pyramid_fuse(self.ir_layer(image_tokens(images)), tokens(landmarks[-1])))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features if pre_logits else self.head(features)

    def attentions(self) -> dict[str, nn.Module]:
        """Return the attention layers of the last large block, as far as it has them.

        ``landmarks`` attends to 7 x 7 landmark tokens, ``images`` to the image tokens.
        """
        last = self.pyramid_fuse.blocks[-1].block_l
        names = {LANDMARK: ("landmarks", "attn_lm"), IMAGE: ("images", "attn_img")}
        return {names[stream][0]: getattr(last, names[stream][1]) for stream in last.updated}

    @torch.no_grad()
    def explain(self, x: Tensor) -> dict[str, Tensor]:
        """Return attention maps of the last block for images (B, 3, 224, 224), in evaluation mode.

        Returns:
            ``landmarks`` (B, 7, 7): the share of attention each cell gets, averaged over heads and queries; one in
            all, less what the class token gets. ``images`` (B, 14, 14): an image token is some five channel planes and
            not a place, so this is the size of the image branch's last map, each value weighted by the attention that
            its token gets, as shares of the sum (chosen by us: POSTER++ does not say how its Figure 4 is made).
        """
        seen: list[Tensor] = []
        handle = self.ir_layer.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
        try:
            maps = super().explain(x)
        finally:
            handle.remove()
        if "images" in maps:
            weighted = seen[0].abs() * maps["images"].flatten(1)[..., None]
            places = weighted.flatten(1).unflatten(1, (256, 14, 14)).sum(1)
            maps["images"] = places / places.sum((1, 2), keepdim=True).clamp(min=torch.finfo(places.dtype).tiny)
        return maps


class PosterImageOnly(Network):
    """POSTER without landmarks: normalised images (B, 3, 224, 224) -> logits (B, num_classes).

    A reconstruction of the row "Image only" of the supplement's Table 4, for which there is no code: "8 (single ViT)"
    blocks of width 512, 50.8 M parameters and 13.1 G FLOPs with the backbone. It has 51.04 M (0.5 % more) and twice
    6.53 G MACs: POSTER-L with the image stream alone, whose tokens attend to each other without a query matrix on the
    same pyramid. A conventional encoder of width 512 has 5 % less, pyramid blocks with a query matrix 6 % more.
    """

    ballast = ("ir_back.output_layer", "pyramid_fuse.cls_token")
    pretrained_parts: Mapping[str, str] = {"ir50": "ir_back", "checkpoint": ""}

    def __init__(self, num_classes: int = 7, depth: int = 8, drop_path_rate: float = 0.1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = WIDTH
        self.ir_back = IR50(split_stages=False)
        self.feature_info = self.ir_back.stages("ir_back", shrunk=2)
        self.ir_layer = nn.Linear(1024, WIDTH)
        self.pyramid_fuse = PyramidTransformer(
            depth, drop_path_rate, layers=3, streams=1, swapped=0, updated=(IMAGE,), token_conv=True
        )
        self.se_block = Gate(WIDTH)
        self.head = nn.Sequential(OrderedDict(linear=LinearFp32(WIDTH, num_classes)))

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, 3, 224, 224) -> features (B, 512)."""
        maps = self.ir_back(nn.functional.interpolate(x, 112))
        return self.se_block(self.pyramid_fuse(self.ir_layer(image_tokens(maps))))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features (B, 512) -> logits (B, num_classes)."""
        return features if pre_logits else self.head(features)


_CONFIG = {
    "input_size": (3, 224, 224),
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "num_classes": 7,
    "classifier": "head.linear",
}
_FIRST = {"first_conv": ("ir_back.input_layer.0", "face_landback.conv1.conv")}
default_cfgs = generate_default_cfgs(
    {
        "poster_t": {**_CONFIG, **_FIRST},
        "poster_s": {**_CONFIG, **_FIRST},
        "poster_l": {**_CONFIG, **_FIRST},
        "poster_image_only": {**_CONFIG, "first_conv": "ir_back.input_layer.0"},
    }
)


def _poster(name: str, pretrained: bool, **kwargs) -> Poster:
    if kwargs.get("channels") == "bgr":
        kwargs["pretrained_cfg_overlay"] = {
            **(kwargs.get("pretrained_cfg_overlay") or {}),
            "mean": IMAGENET_DEFAULT_MEAN[::-1],
            "std": IMAGENET_DEFAULT_STD[::-1],
        }
    return build(Poster, name, pretrained, **kwargs)


_LAYER = "ir_back.body.20"
_FACTS = {
    "layer": _LAYER,
    "maps": {"images": "attention to\nimage\n14 × 14", "landmarks": "attention to\nlandmarks\n7 × 7"},
    "caption": "To the image (the branch from landmarks to image): the tokens are groups of channels and not places, "
    "so it is the size of the image features, each weighted by the attention that its token gets.",
    "packaged": ("mobilefacenet",),
    "counting": Counting(discarded=("face_landback.output_layer",), blocks="pyramid_fuse"),
}
_IN_CODE = {"pyramid_layers": (3,), "branches": ("both",)}


@register_network(
    "POSTER-T", depth=Depth("POSTER", "depth", 4), in_code=_IN_CODE | {"swapped_blocks": (None, 4)}, **_FACTS
)
def poster_t(pretrained: bool = False, **kwargs) -> Poster:
    """POSTER-T, four pyramid blocks: 52,229,135 parameters with 7 classes."""
    return _poster("poster_t", pretrained, **{"depth": 4, **kwargs})


@register_network(
    "POSTER-S", depth=Depth("POSTER", "depth", 6), in_code=_IN_CODE | {"swapped_blocks": (None, 6)}, **_FACTS
)
def poster_s(pretrained: bool = False, **kwargs) -> Poster:
    """POSTER-S, six pyramid blocks: 62,039,767 parameters with 7 classes."""
    return _poster("poster_s", pretrained, **{"depth": 6, **kwargs})


@register_network(
    "POSTER", depth=Depth("POSTER", "depth", 8), in_code=_IN_CODE | {"swapped_blocks": (None, 8)}, **_FACTS
)
def poster_l(pretrained: bool = False, **kwargs) -> Poster:
    """POSTER, eight pyramid blocks: 71,850,399 parameters with 7 classes."""
    return _poster("poster_l", pretrained, **{"depth": 8, **kwargs})


@register_network("POSTER, image only", layer=_LAYER, counting=Counting(blocks="pyramid_fuse"), reconstruction=True)
def poster_image_only(pretrained: bool = False, **kwargs) -> PosterImageOnly:
    """The image stream of POSTER alone, eight pyramid blocks: a reconstruction."""
    return build(PosterImageOnly, "poster_image_only", pretrained, **kwargs)
