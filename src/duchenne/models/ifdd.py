"""IFDD: video networks that remove the static context from a clip and classify the rest; and their baselines.

Wang, Chai: "Lifting Scheme-Based Implicit Disentanglement of Emotion-Related Facial Dynamics in the Wild",
https://arxiv.org/abs/2412.13168; official code: https://github.com/CyberPegasus/IFDD.

* ``ifdd_3dvit``: on MViTv2-S. Same entries and same numbers as that code, which differs from the paper in many places;
  :class:`duchenne.models.lifting.LiftingOptions` has an option for some of them. Unlike the paper's text, the pyramid
  uses stages 3 and 4 of four.
* ``ifdd_2dcnn``: on MobileNetV2. Its code is not published: this is a reconstruction from the paper, the
  interpretation nearest to the printed 1.18 M parameters and 3.86 G operations (it has 1.19 M and 3.86 G).
* ``mvit_clip`` and ``mobilenetv2_clip``: the trunks with plain heads, the paper's baselines.

Clips are pixels in [0, 1], without further normalisation. No weights are published.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from timm.layers import trunc_normal_
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from duchenne.models.backbones import mobilenet_clip, mvit
from duchenne.models.backbones.clip_stem import FRAMES, ClipStem
from duchenne.models.building import build
from duchenne.models.contract import Network, register_network, weighted
from duchenne.models.lifting import LiftingOptions, WaveletLifting
from duchenne.models.precision import LinearFp32


class PyramidLifting(nn.Module):
    """Lifting on the maps of the trunk, which are reduced to 7 x 7 and concatenated.

    Args:
        trunk: module whose ``maps`` returns a list of maps (T B, C_i, S_i, S_i).
        levels: C_i and S_i of each map.
        channels: channels of the concatenated maps.
    """

    def __init__(
        self, trunk: nn.Module, levels: Sequence[tuple[int, int]], channels: int, lifting: WaveletLifting
    ) -> None:
        super().__init__()
        self.backbone = trunk
        self.PANLayer = nn.ModuleList()
        for width, side in levels:
            step = side // WaveletLifting.side
            conv = nn.Conv2d(width, width, 3, stride=step, padding=step, dilation=step, bias=False)
            self.PANLayer.append(conv if step > 1 else nn.Identity())
        self.CatConv = nn.Conv2d(sum(width for width, _ in levels), channels, 1, bias=False)
        self.WaveLifts = lifting

    def clip(self, x: Tensor) -> Tensor:
        """Compute X, the clip of features (B, T, channels, 7, 7), from maps of the stem (B, C, T, 56, 56)."""
        maps = [reduce(level) for reduce, level in zip(self.PANLayer, self.backbone.maps(x), strict=True)]
        return self.CatConv(torch.cat(maps, dim=1)).unflatten(0, (-1, FRAMES))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.WaveLifts(self.clip(x))


def classifier(features: int, num_classes: int, drop_rate: float) -> nn.Sequential:
    """Build dropout and a linear layer under their official names."""
    linear = LinearFp32(features, num_classes)
    trunc_normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(OrderedDict(head=nn.Sequential(nn.Dropout(drop_rate), linear)))


class IFDD(Network):
    """Clips (B, 3, frames, 224, 224) in [0, 1] -> logits (B, num_classes).

    While training, with a context loss: ``(logits, {"lifting": loss})``.
    """

    def __init__(self, embed: ClipStem, backbone: PyramidLifting, head: nn.Sequential) -> None:
        super().__init__()
        self.embed = embed
        self.backbone = backbone
        self.head = head
        linear = head.head[1]
        self.num_features, self.num_classes = linear.in_features, linear.out_features
        self.feature_info = backbone.backbone.stages("backbone.backbone")

    def stage_maps(self, output: Any) -> Tensor:
        return self.backbone.backbone.stage_maps(output)

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (B, 3, frames, 224, 224) -> features (B, num_features)."""
        return self.backbone(self.embed(x))[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features (B, num_features) -> logits (B, num_classes)."""
        drop, linear = self.head.head
        return drop(features) if pre_logits else linear(drop(features))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        features, losses = self.backbone(self.embed(x))
        logits = self.forward_head(features)
        return (logits, losses) if losses else logits

    @torch.enable_grad()
    def explain(self, x: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        """Return the maps of the paper's Figure 2a, for a network in ``eval()``.

        ``attention_static`` and ``attention_dynamic`` (B, 4, 7, 7) are Grad-CAM (Selvaraju et al., ICCV 2017) on Y_S
        and Y_D, each frame by itself. ``frames_static`` and ``frames_dynamic`` (B, 4) say where in the clip each of
        these frames was read (for ``correlation_weight``: the mean of its weights), in frames of the input: frame ``i``
        of the eight behind the stem is the middle of the ``frames / 8`` input frames from ``i * frames / 8``.

        Args:
            target: classes (B,); default: the predicted ones.
        """
        lifting = self.backbone.WaveLifts
        with torch.no_grad():
            clip = self.backbone.clip(self.embed(x))
        matrices = lifting.adapt_split(clip.requires_grad_())
        halves = lifting.lift(*lifting.halves(clip, matrices))
        logits = self.forward_head(lifting.summary(halves[1]))
        target = logits.argmax(1) if target is None else target
        chosen = logits.gather(1, target[:, None]).sum()
        gradients = torch.autograd.grad(chosen, halves, allow_unused=True, materialize_grads=True)

        maps = {}
        for name, tokens, gradient, matrix in zip(("static", "dynamic"), halves, gradients, matrices, strict=True):
            cells = (FRAMES // 2, lifting.side, lifting.side)
            maps[f"attention_{name}"] = weighted(*(t.unflatten(1, cells).movedim(-1, 2) for t in (tokens, gradient)))
            behind_stem = (matrix * torch.arange(FRAMES, device=matrix.device)).sum(2).detach()
            maps[f"frames_{name}"] = (behind_stem + 0.5) * x.shape[2] / FRAMES - 0.5
        return maps


class IFDD3DViT(IFDD):
    """IFDD on MViTv2-S: 37,577,123 parameters with 7 classes.

    State-dict names and shapes are the official ones (297 entries; 287 with ``split="even_odd"``). They include unused
    parameters (``ballast``: names of modules and parameters), on which the logits do not depend.

    Args:
        num_classes: length of the logits; 7 (DFEW, FERV39k) or 11 (MAFW) in the paper.
        frames: number of frames of a clip: 8, 16 (DFEW, FERV39k) or 32 (MAFW).
        drop_rate: dropout before the last layer.
        drop_path_rate: stochastic depth of the last block of the trunk and of the refining steps.
        options: see :class:`duchenne.models.lifting.LiftingOptions`.
    """

    ballast = (
        "backbone.WaveLifts.spatial_pos",
        "backbone.WaveLifts.temporal_pos",
        "backbone.WaveLifts.class_pos",
        "backbone.WaveLifts.adapt_split.time_project",
    )
    pretrained_parts: ClassVar = {"mvit_v2_s_stem": "embed", "mvit_v2_s": "backbone.backbone", "checkpoint": ""}
    pretrained_entries: ClassVar = {"mvit_v2_s_stem": ("conv_proj.*",)}
    pretrained_converters: ClassVar = {"mvit_v2_s": mvit.from_torchvision}

    def __init__(
        self,
        num_classes: int = 7,
        frames: int = 16,
        drop_rate: float = 0.5,
        drop_path_rate: float = 0.2,
        **options: Any,
    ) -> None:
        channels = 768
        lifting = WaveletLifting(channels, FRAMES, 8, drop_path_rate, LiftingOptions(**options))
        super().__init__(
            ClipStem(96, frames),
            PyramidLifting(mvit.ShortMViT(drop_path_rate), mvit.LEVELS, channels, lifting),
            classifier(channels, num_classes, drop_rate),
        )
        if lifting.options.ladm == "code" and lifting.refines:
            for name, shape in (("spatial", (49, channels)), ("temporal", (FRAMES, channels)), ("class", (channels,))):
                lifting.register_parameter(f"{name}_pos", nn.Parameter(trunc_normal_(torch.empty(shape), std=0.02)))
        if lifting.options.split == "correlation_interp" and lifting.options.issm == "code":
            unused = nn.Sequential(nn.Linear(FRAMES, FRAMES), nn.GELU(), nn.Linear(FRAMES, 1))
            lifting.adapt_split.time_project = unused


class IFDD2DCNN(IFDD):
    """IFDD on MobileNetV2, reconstructed: all three levels are reduced, tokens of a frame are those of Eq. 1.

    The paper leaves open the number of heads (here 8 of 16 channels) and how a convolution that keeps the channels
    can cost as little as its totals say (here depthwise). Refinement and head are those of IFDD-3DViT, 128 wide.
    Arguments as for :class:`IFDD3DViT`.
    """

    ballast = ()
    pretrained_parts: ClassVar = {"mobilenet_v2": "backbone.backbone", "ifdd_2dcnn": "", "checkpoint": ""}
    pretrained_entries: ClassVar = {
        "mobilenet_v2": mobilenet_clip.FrameMobileNet.torchvision_entries,
        "ifdd_2dcnn": ("embed.*", "backbone.*"),
    }

    def __init__(
        self,
        num_classes: int = 7,
        frames: int = 16,
        drop_rate: float = 0.5,
        drop_path_rate: float = 0.2,
        **options: Any,
    ) -> None:
        channels = 128
        choices = LiftingOptions(**{"issm": "paper", "compression": 1} | options)
        lifting = WaveletLifting(channels, FRAMES, 8, drop_path_rate, choices)
        levels = list(mobilenet_clip.LEVELS.values())
        super().__init__(
            ClipStem(32, frames),
            PyramidLifting(mobilenet_clip.FrameMobileNet(), levels, channels, lifting),
            classifier(channels, num_classes, drop_rate),
        )


class MViTClip(Network):
    """Baseline of IFDD-3DViT: clips (B, 3, frames, 224, 224) in [0, 1] -> class token -> logits (B, num_classes).

    Only the class token is read after the last block, so parameters that act only on its other queries are unused.
    """

    num_features = 768
    ballast = tuple(f"backbone.blocks.9.attn.{name}" for name in ("rel_pos_h", "rel_pos_w", "rel_pos_t", "pool_q.pool"))
    pretrained_parts: ClassVar = {"mvit_v2_s_stem": "embed", "mvit_v2_s": "backbone", "checkpoint": ""}
    pretrained_entries: ClassVar = IFDD3DViT.pretrained_entries
    pretrained_converters: ClassVar = IFDD3DViT.pretrained_converters

    def __init__(
        self, num_classes: int = 7, frames: int = 16, drop_rate: float = 0.5, drop_path_rate: float = 0.2
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embed = ClipStem(96, frames)
        self.backbone = mvit.ShortMViT(drop_path_rate)
        self.feature_info = self.backbone.stages("backbone")
        self.head = classifier(self.num_features, num_classes, drop_rate)

    def stage_maps(self, output: Any) -> Tensor:
        return self.backbone.stage_maps(output)

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (B, 3, frames, 224, 224) -> class token (B, 768)."""
        return self.backbone(self.embed(x))[1][:, 0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features (B, 768) -> logits (B, num_classes)."""
        drop, linear = self.head.head
        return drop(features) if pre_logits else linear(drop(features))

    def cam_maps(self, output: Tensor) -> Tensor:
        """Tokens (B, 1 + 8 * 49, C), the class token first -> (B, 8, C, 7, 7)."""
        side = int(((output.shape[1] - 1) // FRAMES) ** 0.5)
        return output[:, 1:].unflatten(1, (FRAMES, side, side)).movedim(-1, 2)


class MobileNetV2Clip(Network):
    """Baseline of IFDD-2DCNN: clips (B, 3, frames, 224, 224) in [0, 1] -> logits (B, num_classes).

    The paper concatenates the features of all frames, flattens them and applies an MLP, which its 1.55 M parameters
    and 3.73 G operations do not allow at 14 x 14 cells a frame. Here each frame is averaged first, and the hidden layer
    has MobileNetV2's usual 1280 (1.55 M and 3.74 G).
    """

    num_features = 1280
    pretrained_parts: ClassVar = {"mobilenet_v2": "backbone", "checkpoint": ""}
    pretrained_entries: ClassVar = {"mobilenet_v2": mobilenet_clip.FrameMobileNet.torchvision_entries}

    def __init__(self, num_classes: int = 7, frames: int = 16) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embed = ClipStem(32, frames)
        self.backbone = mobilenet_clip.FrameMobileNet()
        self.feature_info = self.backbone.stages("backbone")
        self.hidden = nn.Sequential(nn.Linear(FRAMES * 96, self.num_features), nn.ReLU6())
        self.head = LinearFp32(self.num_features, num_classes)

    def stage_maps(self, output: Any) -> Tensor:
        return self.backbone.stage_maps(output)

    def forward_features(self, x: Tensor) -> Tensor:
        """Clips (B, 3, frames, 224, 224) -> features (B, 1280)."""
        maps = self.backbone.maps(self.embed(x))[-1]
        return self.hidden(maps.mean((2, 3)).unflatten(0, (-1, FRAMES)).flatten(1))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features (B, 1280) -> logits (B, num_classes)."""
        return features if pre_logits else self.head(features)

    def cam_maps(self, output: Tensor) -> Tensor:
        """Maps of every frame (8 B, 96, 14, 14) -> (B, 8, 96, 14, 14)."""
        return output.unflatten(0, (-1, FRAMES))


def _config(head: str) -> dict[str, Any]:
    return {
        "input_size": (3, 224, 224),
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "num_classes": 7,
        "first_conv": "embed.conv_proj",
        "classifier": head,
    }


default_cfgs = generate_default_cfgs(
    {
        "ifdd_3dvit": _config("head.head.1"),
        "ifdd_2dcnn": _config("head.head.1"),
        "mvit_clip": _config("head.head.1"),
        "mobilenetv2_clip": _config("head"),
    }
)


def _build(network: type[nn.Module], name: str, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    return build(network, name, pretrained, input_size=(3, options.get("frames", 16), 224, 224), **options)


_HALVES = {"attention_dynamic": "dynamic half", "attention_static": "static half"}


@register_network(
    "IFDD (3DViT)",
    takes="clip",
    maps=_HALVES,
    in_code={
        "split": ("correlation_interp", "even_odd", "entire_interp_code", "correlation_weight_code"),
        "issm": ("code",),
        "offset_range": (2,),
        "init_index": ("even_odd",),
        "ladm": ("code", "none"),
        "relation": ("mutual_transformer", "self_transformer_code", "self_cnn_code"),
    },
)
def ifdd_3dvit(pretrained: bool = False, **kwargs) -> IFDD3DViT:
    """IFDD-3DViT of the official code."""
    return _build(IFDD3DViT, "ifdd_3dvit", pretrained, kwargs)


@register_network("IFDD (2DCNN)", takes="clip", maps=_HALVES, reconstruction=True)
def ifdd_2dcnn(pretrained: bool = False, **kwargs) -> IFDD2DCNN:
    """IFDD-2DCNN, a reconstruction."""
    return _build(IFDD2DCNN, "ifdd_2dcnn", pretrained, kwargs)


@register_network("MViT", takes="clip", layer="backbone.blocks.9.norm1")  # only the class token is read after it
def mvit_clip(pretrained: bool = False, **kwargs) -> MViTClip:
    """The MViT baseline of IFDD."""
    return _build(MViTClip, "mvit_clip", pretrained, kwargs)


@register_network("MobileNetV2", takes="clip", layer="backbone.features.13", reconstruction=True)
def mobilenetv2_clip(pretrained: bool = False, **kwargs) -> MobileNetV2Clip:
    """The MobileNetV2 baseline of IFDD, a reconstruction."""
    return _build(MobileNetV2Clip, "mobilenetv2_clip", pretrained, kwargs)
