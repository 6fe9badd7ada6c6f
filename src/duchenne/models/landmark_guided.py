"""Shared parts of POSTER and POSTER++: an image branch, a frozen landmark branch, and attention between them.

Zheng et al. (POSTER), https://arxiv.org/abs/2204.04083, and Mao et al. (POSTER++), https://arxiv.org/abs/2301.12149.
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duchenne.errors import UserError, nearest
from duchenne.models.backbones.ir50 import IR50
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.models.contract import Network
from duchenne.models.precision import in_float32

Maps = tuple[Tensor, Tensor, Tensor]


def require_option(option: str, value: object, allowed: Collection) -> None:
    """Check that ``value`` is one of ``allowed``.

    Raises:
        UserError: It is not.
    """
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        raise UserError(f"{option}: {value!r} is not one of {listed}{nearest(str(value), map(str, allowed))}")


def tokens(x: Tensor) -> Tensor:
    """Reshape a map (B, C, H, W) to tokens (B, H * W, C), row by row; a view in either memory format."""
    return x.flatten(2).transpose(1, 2)


def attend(query: Tensor, key_value: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Attention of queries (B, N, C) to [keys | values] (B, M, 2 * C), with a bias (heads, N, M): (B, N, C)."""
    key, value = key_value.unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    query = query.unflatten(2, (heads, -1)).transpose(1, 2)
    if bias is not None and bias.requires_grad and query.device.type == "cpu":
        # torch's form for a bias with gradient also tests every row of the scores for being masked out
        found = (query * query.shape[-1] ** -0.5 @ key.mT + bias).softmax(-1) @ value
    else:  # a bias of three dimensions, without the batch, has no fused kernel on a CPU
        bias = None if bias is None else bias[None]
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return found.transpose(1, 2).flatten(2)


@in_float32
def attention_weights(query: Tensor, key_value: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Return the weights (B, heads, N, M) of :func:`attend`; each row sums to one."""
    key = key_value.unflatten(2, (2, heads, -1))[:, :, 0].transpose(1, 2)
    query = query.unflatten(2, (heads, -1)).transpose(1, 2)
    scores = query @ key.mT * query.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(-1)


class Gate(nn.Module):
    """Squeeze-and-excitation on a vector: (B, C) -> (B, C), each feature scaled by a factor in (0, 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, dim)
        self.linear2 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.linear2(F.relu(self.linear1(x))))


class LandmarkGuided(Network):
    """Normalised images (B, 3, 224, 224) -> logits (B, num_classes).

    Both branches see the image at 112 x 112, every second pixel; other sizes are reduced to it likewise.

    The weights of the landmark branch are frozen. Its BatchNorms are not frozen in the official code: in ``train()``
    they normalise by the batch and update their statistics (``landmark_bn_frozen=False``). With
    ``landmark_bn_frozen=True`` the branch stays in evaluation mode, so that equal images give equal maps.

    ``ballast`` names modules with unused parameters: official checkpoints contain them, but the logits do not depend on
    them. The official code runs the head of the landmark branch and discards its result; here it does not run.
    """

    ballast: tuple[str, ...] = ("face_landback.output_layer", "ir_back.output_layer")
    pretrained_parts: Mapping[str, str] = {"ir50": "ir_back", "mobilefacenet": "face_landback", "checkpoint": ""}

    def __init__(self, num_classes: int, num_features: int, landmark_bn_frozen: bool, split_stages: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = num_features
        self.landmark_bn_frozen = landmark_bn_frozen
        self.face_landback = MobileFaceNet().requires_grad_(False)
        self.ir_back = IR50(split_stages)
        self.feature_info = self.ir_back.stages("ir_back", shrunk=2)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.landmark_bn_frozen:
            self.face_landback.eval()
        return self

    def reduce(self, x: Tensor) -> Tensor:
        """Reduce images (B, 3, 224, 224) to the input of both branches, (B, 3, 112, 112)."""
        return F.interpolate(x, 112)

    @torch.no_grad()
    def landmark_maps(self, x: Tensor) -> Maps:
        """Images (B, 3, 224, 224) -> maps (B, 64, 28, 28), (B, 128, 14, 14), (B, 512, 7, 7), without gradient."""
        return self.face_landback.forward_features(self.reduce(x))

    def forward_features(self, x: Tensor, landmarks: Maps | None = None) -> Tensor:
        """Images (B, 3, 224, 224) -> features (B, num_features).

        Args:
            landmarks: ``landmark_maps(x)``, to avoid computing it again for the same images.

        Raises:
            ValueError: Maps are given although the landmark branch needs the images to update its statistics.
        """
        if landmarks is None:
            landmarks = self.landmark_maps(x)
        elif self.face_landback.training:
            raise ValueError("landmark maps can be reused in train() only with landmark_bn_frozen=True")
        return self.fuse(self.ir_back(self.reduce(x)), landmarks)

    @abstractmethod
    def fuse(self, images: Maps, landmarks: Maps) -> Tensor:
        """Compute features (B, num_features) from the maps of both branches.

        Args:
            images: maps of the image branch, (B, 64, 56, 56), (B, 128, 28, 28), (B, 256, 14, 14).
            landmarks: maps of the landmark branch.
        """

    def forward(self, x: Tensor, landmarks: Maps | None = None) -> Tensor:
        return self.forward_head(self.forward_features(x, landmarks))

    def reusable(self, x: Tensor) -> tuple[Maps, ...]:
        """Return the landmark maps, if the landmark branch normalises by fixed statistics."""
        return (self.landmark_maps(x),) if self.landmark_bn_frozen else ()

    @abstractmethod
    def attentions(self) -> dict[str, nn.Module]:
        """Return the attention layers shown by :meth:`explain`, with ``weights`` of the same arguments."""

    @torch.no_grad()
    def explain(self, x: Tensor) -> dict[str, Tensor]:
        """Return attention maps of images (B, 3, 224, 224), for a network in evaluation mode.

        Returns:
            Maps (B, H, W) of the share of attention of each cell, averaged over heads and queries. Their sum is one
            minus the share of a class token.
        """
        seen: dict[str, Tensor] = {}

        def keep(name: str):
            return lambda layer, args: seen.__setitem__(name, layer.weights(*args).mean((1, 2)))

        handles = [layer.register_forward_pre_hook(keep(name)) for name, layer in self.attentions().items()]
        try:
            self(x)
        finally:
            for handle in handles:
                handle.remove()
        # a square number of cells, behind a class token where there is one more
        sides = {name: int(share.shape[1] ** 0.5) for name, share in seen.items()}
        return {name: share[:, -(sides[name] ** 2) :].unflatten(1, (sides[name], -1)) for name, share in seen.items()}
