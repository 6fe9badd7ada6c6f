"""ISSM, the split of IFDD, which assigns the frames of a clip to its static and its dynamic half.

Wang, Chai (IFDD, https://arxiv.org/abs/2412.13168), Eq. 1 to 4, Tables 2, 8 and 9, Figure 3; official code:
https://github.com/CyberPegasus/IFDD.

Every splitter maps a clip of features (B, T, C, H, W) to two *reading matrices* (B, T/2, T), static and dynamic. Row i
holds the weights with which the frames make up frame i of a half, so that ``matrix @ clip`` is that half. The rows are
not negative and sum to one. They are computed in float32: the softmax, tanh and interpolation behind the similarity of
frames amplify what bfloat16 rounds off.

Tables 2 and 8 name variants in a sentence each; their classes in the official code, which no published experiment uses,
differ from the sentence and are here beside it.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from timm.layers import DropPath, trunc_normal_
from torch import Tensor, nn
from torchvision.ops import MLP

from duchenne.models.precision import in_float32

Pair = tuple[Tensor, Tensor]


def interpolation(index: Tensor, frames: int, form: str) -> Tensor:
    """Compute the reading matrix (B, N, frames) of linear interpolation at ``index`` (B, N), counted in frames.

    ``paper`` (Eq. 3 and 4): at the index itself, limited to [0, T-1]. As printed both weights vanish for a whole
    index; here the frame is then read as it is. ``code``: the official code normalises the index for grid sampling
    with aligned corners and samples without, so that it reads at I T / (T-1) - 1/2, limited to [0, T-1].
    """
    position = index * frames / (frames - 1) - 0.5 if form == "code" else index
    distance = position.clamp(0, frames - 1)[..., None] - torch.arange(frames, device=index.device)
    return F.relu(1 - distance.abs())


class CodeTokens(nn.Sequential):
    """Maps of every frame (T B, C, 7, 7) -> (T B, 7, 7, 7): the tokens of the official code, not normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 7, 1), nn.GELU())
        self.scale = 1 / channels


class PaperTokens(nn.Module):
    """Maps of every frame (T B, C, 7, 7) -> one normalised token per frame (T B, 128): Eq. 1.

    Args:
        compression: quotient of the channels before and after the convolution; 1 is read as a depthwise one.
    """

    dim = 128
    scale = dim**-0.5

    def __init__(self, channels: int, frames: int, compression: int) -> None:
        super().__init__()
        compressed = channels // compression
        self.embed = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(channels, compressed, 3, padding=1, groups=channels if compression == 1 else 1),
            nn.Flatten(),
            nn.Linear(compressed * 3 * 3, self.dim, bias=False),
        )
        self.bias = nn.Parameter(torch.zeros(frames, self.dim))
        self.norm = nn.LayerNorm(self.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.embed(x).unflatten(0, (-1, len(self.bias))) + self.bias).flatten(0, 1)


Tokens = CodeTokens | PaperTokens


def correlation(tokens: Tokens, x: Tensor) -> Tensor:
    """Compute scaled products of the tokens of any two frames (B, T, T) of clips (B, T, C, 7, 7)."""
    z = tokens(x.flatten(0, 1)).flatten(1).unflatten(0, x.shape[:2])
    return tokens.scale * z @ z.transpose(1, 2)


def shares(similarity: Tensor) -> Pair:
    """Softmax over the rows of (B, T, T) and of its negative, flattened: similar and dissimilar frames (Eq. 2)."""
    return similarity.softmax(2).flatten(1), (-similarity).softmax(2).flatten(1)


class Splitter(nn.Module):
    """Base class of all splits: the frames that are read, and the processing of the halves afterwards."""

    def values(self, x: Tensor) -> Tensor:
        """Return the frames that the matrices read, of the shape of clips (B, T, C, 7, 7); default: the clip's own."""
        return x

    def finish(self, static: Tensor, dynamic: Tensor) -> Pair:
        """Process the tokens (B, N, C) of both halves after reading; default: unchanged."""
        return static, dynamic


class EvenOdd(Splitter):
    """Frames 0, 2, 4, ... are static, frames 1, 3, 5, ... dynamic: the split of the classical lifting scheme."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.register_buffer("frames", torch.eye(frames), persistent=False)

    def forward(self, x: Tensor) -> Pair:
        matrices = self.frames.expand(len(x), -1, -1)
        return matrices[:, 0::2], matrices[:, 1::2]


class IndexSplit(Splitter, ABC):
    """Base class of splits by interpolation: an index is a starting value plus a bounded offset (Eq. 3)."""

    def __init__(self, frames: int, form: str, offset_range: float, init_index: str) -> None:
        super().__init__()
        self.frames = frames
        self.form = form
        self.offset_range = offset_range
        even = torch.arange(0, frames, 2)
        midpoint = torch.full_like(even, frames // 2)
        static, dynamic = (even, even + 1) if init_index == "even_odd" else (midpoint, midpoint.clone())
        self.register_buffer("index_even", static)
        self.register_buffer("index_odd", dynamic)

    @abstractmethod
    def offsets(self, x: Tensor) -> Pair:
        """Compute offsets (B, T/2) of both halves, in (-1, 1), from clips (B, T, C, 7, 7)."""

    def indices(self, x: Tensor) -> Pair:
        """Compute indices (B, T/2) of both halves in frames, not limited to the clip."""
        static, dynamic = (self.offset_range * offset for offset in self.offsets(x))
        return self.index_even + static, self.index_odd + dynamic

    @in_float32
    def forward(self, x: Tensor) -> Pair:
        static, dynamic = self.indices(x)
        return interpolation(static, self.frames, self.form), interpolation(dynamic, self.frames, self.form)


class CorrelationInterp(IndexSplit):
    """ISSM: the offsets come only from the similarity of the frames."""

    def __init__(self, tokens: Tokens, frames: int, form: str, offset_range: float, init_index: str) -> None:
        super().__init__(frames, form, offset_range, init_index)
        self.dim_project = tokens
        for half in ("approx", "detail"):
            linear = nn.Linear(frames**2, frames // 2, bias=form == "paper")
            self.add_module(f"offset_project_{half}", nn.Sequential(linear, nn.Tanh()))

    def offsets(self, x: Tensor) -> Pair:
        likeness, contrast = shares(correlation(self.dim_project, x))
        return self.offset_project_approx(likeness), self.offset_project_detail(contrast)


class EntireInterp(IndexSplit):
    """The offsets come from all features: a global token attends to the patches of all frames (Table 8, first dagger).

    The paper names one self-attention and one MLP. We chose 8 heads, a hidden layer as wide as the token, and learned
    positions, without which the token could not distinguish frames. Only the row of the global token is computed,
    because no other is read.
    """

    heads = 8

    def __init__(self, channels: int, frames: int, form: str, offset_range: float, init_index: str) -> None:
        super().__init__(frames, form, offset_range, init_index)
        self.global_token = nn.Parameter(torch.empty(1, 1, channels))
        self.spatial_pos = nn.Parameter(torch.empty(49, channels))
        self.temporal_pos = nn.Parameter(torch.empty(frames, 1, channels))
        for parameter in self.parameters():
            trunc_normal_(parameter, std=0.02)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, frames), nn.Tanh())

    def offsets(self, x: Tensor) -> Pair:
        patches = x.flatten(3).transpose(2, 3) + self.temporal_pos + self.spatial_pos
        token = self.global_token.expand(len(x), -1, -1)
        query = self.q(token).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key_value = self.kv(torch.cat((token, patches.flatten(1, 2)), dim=1))
        key, value = key_value.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        token = self.project(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1))
        static, dynamic = self.mlp(token).chunk(2, dim=1)
        return static, dynamic


class ConvolvedInterp(IndexSplit):
    """The offsets come from all features by convolutions only: the official class ``adaptIndexSplit_dimLearn``.

    Every frame is reduced to C/8 channels and 4 x 4 cells, then a convolution over time makes one number of it.
    """

    def __init__(self, channels: int, frames: int, form: str, offset_range: float, init_index: str) -> None:
        super().__init__(frames, form, offset_range, init_index)
        width = channels // 8
        self.frame_project = nn.Sequential(
            nn.Conv2d(channels, width, 1), nn.GELU(), nn.Conv2d(width, width, 3, stride=2, padding=1), nn.GELU()
        )
        self.time_convolution = nn.Sequential(nn.Conv1d(16 * width, 1, 3, padding=1), nn.GELU())
        self.offset_project = nn.Linear(frames, frames, bias=False)

    def offsets(self, x: Tensor) -> Pair:
        tokens = self.frame_project(x.flatten(0, 1)).flatten(1).unflatten(0, x.shape[:2])
        numbers = self.time_convolution(tokens.transpose(1, 2)).squeeze(1)
        static, dynamic = self.offset_project(numbers).tanh().chunk(2, dim=1)
        return static, dynamic


class CorrelationWeight(Splitter):
    """The similarity of the frames becomes their weights themselves (Table 8, second dagger).

    The paper projects it to two matrices T x T/2. We add a softmax, so that every frame read is a weighted mean.
    """

    def __init__(self, tokens: Tokens, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.dim_project = tokens
        self.weight_project_approx = nn.Linear(frames**2, frames**2 // 2)
        self.weight_project_detail = nn.Linear(frames**2, frames**2 // 2)

    @in_float32
    def forward(self, x: Tensor) -> Pair:
        likeness, contrast = shares(correlation(self.dim_project, x))
        static = self.weight_project_approx(likeness).unflatten(1, (-1, self.frames))
        dynamic = self.weight_project_detail(contrast).unflatten(1, (-1, self.frames))
        return static.softmax(2), dynamic.softmax(2)


class AttentionWeight(Splitter):
    """The frames are weighted by attention: the official class ``adaptIndexSplit_dotsim_weightedScore``.

    The weights are applied not to the clip but to the output of a transformer block over all its patches: 4 heads, and
    an MLP without a skip connection. The weights are products of the frames' means and maxima with T/2 queries per
    half, which a strided convolution over time computes from them. All products are divided by C.

    Args:
        drop_path_rate: stochastic depth of the two steps of the block.
    """

    heads = 4

    def __init__(self, channels: int, drop_path_rate: float) -> None:
        super().__init__()
        self.scale = 1 / channels
        self.qkv = nn.Linear(channels, 3 * channels)
        self.attended = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = MLP(channels, [4 * channels, channels], activation_layer=nn.GELU, inplace=None)
        self.drop_path = DropPath(drop_path_rate)
        self.frame_project = nn.Sequential(nn.Linear(2 * channels, channels), nn.LayerNorm(channels))
        self.query = nn.Conv1d(channels, 2 * channels, 3, stride=2, padding=1)
        self.key = nn.Linear(channels, channels)
        self.project_approx = nn.Linear(channels, channels)
        self.project_detail = nn.Linear(channels, channels)

    @in_float32
    def forward(self, x: Tensor) -> Pair:
        frames = self.frame_project(torch.cat((x.mean((3, 4)), x.amax((3, 4))), dim=2))  # (B, T, C)
        queries = self.query(frames.transpose(1, 2)).transpose(1, 2).chunk(2, dim=2)
        key = self.key(frames).transpose(1, 2)
        static, dynamic = ((self.scale * query @ key).softmax(2) for query in queries)
        return static, dynamic

    def values(self, x: Tensor) -> Tensor:
        patches = x.flatten(3).transpose(2, 3).flatten(1, 2)
        query, key, value = self.qkv(patches).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        found = F.scaled_dot_product_attention(query, key, value, scale=self.scale).transpose(1, 2).flatten(2)
        patches = self.norm(patches + self.drop_path(self.attended(found)))
        patches = self.drop_path(self.mlp(patches))
        return patches.unflatten(1, (x.shape[1], -1)).transpose(2, 3).unflatten(3, x.shape[3:])

    def finish(self, static: Tensor, dynamic: Tensor) -> Pair:
        return self.project_approx(static), self.project_detail(dynamic)
