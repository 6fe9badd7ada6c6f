"""The lifting scheme of IFDD, which splits a clip into a static and a dynamic half and keeps the dynamic one.

Wang, Chai (IFDD, https://arxiv.org/abs/2412.13168), Eq. 1 to 9, Tables 1 to 4 and 8 to 10; official code:
https://github.com/CyberPegasus/IFDD. The split (ISSM) is in :mod:`duchenne.models.splitting`; here are the updater and
predictor (LADM), the steps after them in the official code, and the loss that keeps the static half near the clip.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from timm.layers import DropPath, trunc_normal_
from torch import Tensor, nn
from torchvision.ops import MLP

from duchenne.errors import UserError, nearest
from duchenne.models.batch import whole_batch_factor
from duchenne.models.precision import in_float32
from duchenne.models.splitting import (
    AttentionWeight,
    CodeTokens,
    ConvolvedInterp,
    CorrelationInterp,
    CorrelationWeight,
    EntireInterp,
    EvenOdd,
    Pair,
    PaperTokens,
    Splitter,
)

CHOICES = {
    "split": (
        "correlation_interp",
        "even_odd",
        "entire_interp",
        "entire_interp_code",
        "correlation_weight",
        "correlation_weight_code",
    ),
    "issm": ("code", "paper"),
    "init_index": ("even_odd", "midpoint"),
    "ladm": ("code", "paper", "none"),
    "order": ("update_predict", "predict_update"),
    "relation": (
        "mutual_transformer",
        "self_transformer",
        "self_transformer_code",
        "self_cnn",
        "self_cnn_code",
    ),
    "context_loss": ("TC", "THWC", "none"),
    "lifting_reduction": ("sum", "mean"),
}
OTHER = {"a": "d", "d": "a"}  # static (approximation) and dynamic (detail) half


@dataclass(frozen=True)
class LiftingOptions:
    """Options ablated in the paper, or that differ between its text and its code; the defaults are the official code.

    Attributes:
        split: how a clip is halved (Table 2): see :mod:`duchenne.models.splitting`. ``even_odd`` is "without ISSM";
            ``..._code`` is the official class for this row, the name without it follows the paper's sentence.
        issm: tokens of a frame and reading of an index as in the ``code`` or as in the ``paper`` (Eq. 1 to 4).
        offset_range: L of Eq. 3, in frames of the eight behind the stem; 2 is T/4 (Table 9).
        init_index: where the indices start (Table 9); ``midpoint`` is T/2 for all.
        compression: quotient of channels in Eq. 1 (``issm="paper"``); 4 for IFDD-3DViT, 1 for IFDD-2DCNN.
        ladm: ``code``: halves are normalised, 8 heads, the values are added to what attention gives, one linear layer
            follows. ``paper`` (Eq. 5 to 7): no norm, one head, no added values, an MLP with GELU, no bias before it
            (its scale is unreadable, here 1 / sqrt(C)). ``none``: the dynamic half as it was split (Table 1).
        order: which of updater and predictor comes first (Table 10).
        relation: inputs of updater and predictor (Table 3): both halves; the other half alone, by attention to itself;
            or the other half alone, by two convolutions. The second of them then sees the half as it was split, as in
            the paper's U(X_D|X_D) and P(X_S|X_S). ``..._code`` are the official classes, where it sees what the first
            one made. ``self_transformer_code`` (``WaveSF_trans_CLS_Self``) also takes the context loss of means over
            3 x 3 areas; ``self_cnn_code`` (``WaveSF_CNN``) has neither norms nor refining steps, a slower BatchNorm,
            and in the code no other split than ``even_odd``.
        context_loss: axes over which the static half may differ from the clip without a loss (Table 4).
        lifting_weight: weight of the context loss beside a cross-entropy that is a mean over the batch.
        lifting_reduction: how the context losses of the clips are reduced. ``mean`` with a weight of 1 is Eq. 9, which
            treats both losses alike. ``sum`` with 0.1 is the official code: the weight of the context loss then grows
            with the batch size, so that at 16 clips it is 1.6 times that of the paper.

    Raises:
        UserError: A value is not one of :data:`CHOICES`.
    """

    split: str = "correlation_interp"
    issm: str = "code"
    offset_range: float = 2.0
    init_index: str = "even_odd"
    compression: int = 4
    ladm: str = "code"
    order: str = "update_predict"
    relation: str = "mutual_transformer"
    context_loss: str = "TC"
    lifting_weight: float = 0.1
    lifting_reduction: str = "sum"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in CHOICES and value not in CHOICES[field.name]:
                known = CHOICES[field.name]
                raise UserError(f"{field.name}: {value!r} is not one of {', '.join(known)}{nearest(str(value), known)}")


def splitter(channels: int, frames: int, drop_path_rate: float, options: LiftingOptions) -> Splitter:
    """Build the module of ``options.split``."""
    start = (frames, options.issm, options.offset_range, options.init_index)
    if options.split == "even_odd":
        return EvenOdd(frames)
    if options.split == "entire_interp":
        return EntireInterp(channels, *start)
    if options.split == "entire_interp_code":
        return ConvolvedInterp(channels, *start)
    if options.split == "correlation_weight_code":
        return AttentionWeight(channels, drop_path_rate)
    tokens = CodeTokens(channels) if options.issm == "code" else PaperTokens(channels, frames, options.compression)
    if options.split == "correlation_weight":
        return CorrelationWeight(tokens, frames)
    return CorrelationInterp(tokens, *start)


def convolutions(channels: int, **norm: float) -> nn.Sequential:
    """Build an updater or predictor without the mutual relation: (B, C, T, H, W), over space and then over time.

    Args:
        norm: options of the BatchNorms that differ from PyTorch's defaults.
    """
    layers = []
    for kernel in ((1, 3, 3), (3, 1, 1)):
        padding = tuple(size // 2 for size in kernel)
        layers += [nn.Conv3d(channels, channels, kernel, padding=padding, bias=False)]
        layers += [nn.BatchNorm3d(channels, **norm)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers)


class WaveletLifting(nn.Module):
    """Clips of features (B, T, C, 7, 7) -> the dynamic half as one vector (B, C); names as in the official code.

    Args:
        channels: C.
        frames: T, even.
        heads: heads of the attention; ``ladm="paper"`` has one in updater and predictor.
        drop_path_rate: stochastic depth of the two refining steps. The second has no skip connection, as in the
            official code, so that in training this share of the samples has a feature of zeros.
    """

    side = 7

    def __init__(self, channels: int, frames: int, heads: int, drop_path_rate: float, options: LiftingOptions) -> None:
        super().__init__()
        self.options = options
        self.heads = heads
        count = frames // 2 * self.side**2
        self.adapt_split = splitter(channels, frames, drop_path_rate, options)
        for module in self.adapt_split.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.03)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

        self.project_compress = nn.Linear(count, 1, bias=options.ladm == "none")
        self.refines = False
        if options.ladm == "none":
            return
        bare = options.relation == "self_cnn_code"
        self.refines = not bare
        as_code = options.ladm == "code" and not bare
        self.xa_norm = nn.LayerNorm(channels) if as_code else nn.Identity()
        self.xd_norm = nn.LayerNorm(channels) if as_code else nn.Identity()
        for half, other in OTHER.items():
            if options.relation.startswith("self_cnn"):
                norm = {"eps": 1e-3, "momentum": 1e-3} if bare else {}
                self.add_module(f"cnn_{half}", convolutions(channels, **norm))
                continue
            self.add_module(f"q_{half}", nn.Linear(channels, channels, bias=as_code))
            self.add_module(f"kv_{other}", nn.Linear(channels, 2 * channels, bias=as_code))
            hidden = [] if as_code else [nn.Linear(channels, channels), nn.GELU()]
            self.add_module(f"project_{half}", nn.Sequential(*hidden, nn.Linear(channels, channels)))
        if bare:
            return
        self.drop_path = DropPath(drop_path_rate)
        self.out_norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Sequential(nn.Linear(channels, channels))
        self.out_norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, [4 * channels, channels], activation_layer=nn.GELU, inplace=None)

    @in_float32
    def halves(self, clip: Tensor, matrices: Pair) -> Pair:
        """Read clips (B, T, C, 7, 7) with matrices (B, T/2, T) to tokens of X_S and X_D (B, T/2 * 49, C)."""
        values = self.adapt_split.values(clip)
        read = (torch.cat(matrices, dim=1) @ values.flatten(2)).unflatten(2, (-1, self.side**2))
        return self.adapt_split.finish(*(half.transpose(2, 3).flatten(1, 2) for half in read.chunk(2, dim=1)))

    @in_float32
    def lift(self, static: Tensor, dynamic: Tensor) -> Pair:
        """Compute the tokens of Y_S and Y_D from those of X_S and X_D (Eq. 5).

        In float32: the predictor is subtracted, and the difference is normalised next, however small it is.
        """
        if self.options.ladm == "none":
            return static, dynamic
        static, dynamic = self.xa_norm(static), self.xd_norm(dynamic)
        as_split = self.options.relation in ("self_transformer", "self_cnn")  # input of the second step
        if self.options.order == "update_predict":
            updated = static + self._estimate("a", dynamic, static)
            return updated, dynamic - self._estimate("d", static if as_split else updated, dynamic)
        predicted = dynamic - self._estimate("d", static, dynamic)
        return static + self._estimate("a", dynamic if as_split else predicted, static), predicted

    def _estimate(self, half: str, source: Tensor, target: Tensor) -> Tensor:
        """Estimate ``target`` from ``source``: the updater for half ``a``, the predictor for half ``d``."""
        if self.options.relation.startswith("self_cnn"):
            maps = source.unflatten(1, (-1, self.side, self.side)).permute(0, 4, 1, 2, 3)
            return self.get_submodule(f"cnn_{half}")(maps).flatten(2).transpose(1, 2)
        if self.options.relation.startswith("self_transformer"):
            target = source
        heads, as_code = (self.heads, True) if self.options.ladm == "code" else (1, False)
        query = self.get_submodule(f"q_{half}")(target).unflatten(2, (heads, -1)).transpose(1, 2)
        key_value = self.get_submodule(f"kv_{OTHER[half]}")(source).unflatten(2, (2, heads, -1))
        key, value = key_value.permute(2, 0, 3, 1, 4).unbind()
        found = F.scaled_dot_product_attention(query, key, value)
        if as_code:
            found = found + value
        return self.get_submodule(f"project_{half}")(found.transpose(1, 2).flatten(2))

    def summary(self, dynamic: Tensor) -> Tensor:
        """Refine tokens (B, N, C) of Y_D by attention and an MLP, and return their learned sum (B, C)."""
        if self.refines:
            query, key, value = (
                self.qkv(self.out_norm1(dynamic)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
            )
            attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            dynamic = dynamic + self.drop_path(self.project(attended))
            dynamic = self.drop_path(self.mlp(self.out_norm2(dynamic)))
        return self.project_compress(dynamic.transpose(1, 2)).squeeze(2)

    def context_loss(self, clip: Tensor, static: Tensor) -> Tensor:
        """Smooth L1 of the difference between X, averaged over pairs of frames, and Y_S (Eq. 9): a scalar.

        ``TC``: of the mean difference over frames and channels, averaged over the cells of the map; ``THWC``: of the
        difference itself, averaged over all elements. ``lifting_reduction`` chooses the sum or the mean of the clips'
        losses. The sum is over the whole batch, also if several processes share it.
        """
        pairs = clip.float().unflatten(1, (-1, 2)).mean(2).flatten(3).transpose(2, 3)
        difference = pairs - static.float().unflatten(1, (-1, self.side**2))
        if self.options.context_loss == "TC":
            difference = difference.mean((1, 3))
            if self.options.relation == "self_transformer_code":
                difference = F.adaptive_avg_pool2d(difference.unflatten(1, (self.side, self.side)), 3)
        huber = F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none")
        clips = huber.flatten(1).mean(1)
        return clips.mean() if self.options.lifting_reduction == "mean" else clips.sum() * whole_batch_factor()

    def forward(self, clip: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Clips (B, T, C, 7, 7) -> features (B, C) and, while training, the weighted losses by name."""
        static, dynamic = self.lift(*self.halves(clip, self.adapt_split(clip)))
        losses = {}
        if self.training and "none" not in (self.options.ladm, self.options.context_loss):
            losses["lifting"] = self.options.lifting_weight * self.context_loss(clip, static)
        return self.summary(dynamic), losses
