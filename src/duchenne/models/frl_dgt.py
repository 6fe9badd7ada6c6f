"""FRL-DGT: a learned displacement from onset to apex, then transformers over action-unit regions and the whole face.

Zhai, Zhao, Long, Xu, He, Zhao: "Feature Representation Learning with Adaptive Displacement Generation and
Transformer Fusion for Micro-Expression Recognition", CVPR 2023. No code or weights are public.

From its supplement: the displacement generation module (Table 1), its normalisation (Eq. 1), the displacement
concatenated with the pair as the input of the fusion, fusion modules of transformer layers and a fusion layer (Fig. 1)
with depths 2 (local), 2 (global) and 4 (full face), the six AU regions and their fixed mean centres (Sec. 3).
Chosen by us: the meaning of each region (duchenne.faces.regions), patches, widths, the form of the fusion layer, the
head, the loss of the displacement and how it is added to the classification loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models import generate_default_cfgs
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from duchenne.errors import UserError
from duchenne.models.building import build
from duchenne.models.contract import Network, register_network
from duchenne.models.displacement import DisplacementGenerator, normalise, self_supervised_loss
from duchenne.models.precision import LinearFp32

SIZE = 224
WIDTH, HEADS, MLP_RATIO = 256, 8, 2
BOX, BOX_PATCH, FACE_PATCH = 48, 8, 16
"""Sides in px of an AU region's box, of its patches and of the patches of the full face."""

FLOWS = ("farneback", "dis")
"""Kinds of ``displacement`` that are optical flow in two channels of the input."""

AU_CENTERS = {
    "eyes": ((74, 72), (150, 72)),
    "brows": ((67.5, 47.5), (156.5, 47.5)),
    "cheeks": ((70.5, 113.5), (153.5, 113.5)),
    "nose": ((112, 107.5),),
    "mouth": ((112, 153),),
    "chin": ((112, 187.5),),
}
"""Region (#1 to #6) -> centres of its boxes, x and y in px, left in the image first: the mean of 65 neutral adults
(Face Research Lab London Set, dlib's points) in the canonical alignment, made symmetric. What a network starts with."""

REGION_SETS = {
    "all": tuple(AU_CENTERS),
    "positive": ("eyes", "cheeks", "mouth"),
    "surprise": ("eyes", "brows", "mouth", "chin"),
}
"""Regions in which a class shows (supplement, Sec. 3); a negative expression shows in all six."""

DISPLACEMENTS = ("dgm", "none", "farneback", "dis")
FUSIONS = ("learned", "mean")


class Patches(nn.Conv2d):
    """Convolution of patches that do not overlap, (B, C, H, W) -> (B, D, H / P, W / P), as one product of matrices.

    On processors with AMX, PyTorch 2.14's convolution in bf16 gives other numbers than any other processor where it has
    4, 6 or 8 channels and a kernel of 16 x 16 (measured: an error as large as the output).
    """

    def forward(self, x: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(x, self.kernel_size[0]).movedim(1, -1)
        return F.linear(patches, self.weight.flatten(1), self.bias).movedim(-1, 1)


class Fusion(nn.Module):
    """A fusion module (supplement, Fig. 1): pre-norm transformer layers, then a weighted sum of their tokens.

    The fusion layer (chosen by us) is a linear score of each token and a softmax over the tokens; with
    ``learned=False`` all weights are equal.
    """

    def __init__(self, count: int, depth: int, learned: bool) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, count, WIDTH))
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, MLP_RATIO, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(WIDTH)
        self.score = LinearFp32(WIDTH, 1, bias=False) if learned else None
        trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, 256) -> their sum (B, 256) and its weights (B, N), which add up to 1."""
        x = self.norm(self.blocks(x + self.pos_embed))
        scores = x.new_zeros(x.shape[:2]) if self.score is None else self.score(x).squeeze(2)
        weights = scores.softmax(1)
        return (weights[..., None] * x).sum(1), weights


class FrlDgt(Network):
    """FRL-DGT: grey onset and apex, float (B, 2, 224, 224) in [0, 1] -> logits (B, num_classes).

    In ``train()`` returns ``(logits, {"displacement": loss})`` while the DGM learns with the classification.

    Options marked "supplement" have the paper's default; the defaults of the others are chosen by us.

    Args:
        num_classes: 3 or 5 in the paper.
        displacement: input of the fusion besides the pair. ``dgm``: the learned displacement (supplement);
            ``none``: nothing; ``farneback`` or ``dis``: optical flow, which the input then brings as channels 2 and 3,
            (B, 4, 224, 224), in px.
        joint: whether the DGM is trained with the classifier, by the gradient of both losses. False: it stays as
            trained by :meth:`pretraining_loss`, including BatchNorm statistics.
        regions: AU regions used, a key of :data:`REGION_SETS` (supplement).
        local_fusion: attention among the patches of a box, two layers (supplement). False: the patches' mean.
        global_fusion: attention among the boxes, two layers (supplement). False: the boxes' mean. Without
            ``local_fusion`` too, the regions are not used.
        full_face: attention among the patches of the face, four layers (supplement).
        fusion: weights of the fusion layers: ``learned`` (supplement) or all equal, ``mean``.
        drop_rate: dropout before the last layer.
        max_displacement: px that the DGM can reach in x and in y.
        displacement_weight: weight of the displacement's loss, added to the classification loss.
        smoothness: weight of the smoothness within the displacement's loss.

    Raises:
        UserError: An option has an invalid value, or no part of the face is used.
    """

    has_au_regions = True
    pretrained_parts: Mapping[str, str] = {"dgm": "dgm"}

    def __init__(
        self,
        num_classes: int = 3,
        displacement: str = "dgm",
        joint: bool = True,
        regions: str = "all",
        local_fusion: bool = True,
        global_fusion: bool = True,
        full_face: bool = True,
        fusion: str = "learned",
        drop_rate: float = 0.1,
        max_displacement: float = 8.0,
        displacement_weight: float = 1.0,
        smoothness: float = 0.03,
    ) -> None:
        super().__init__()
        for option, value, known in (
            ("displacement", displacement, DISPLACEMENTS),
            ("regions", regions, REGION_SETS),
            ("fusion", fusion, FUSIONS),
        ):
            if value not in known:
                raise UserError(f"option {option} is {value!r}: give one of {', '.join(known)}")
        branches = int(local_fusion or global_fusion) + full_face
        if not branches:
            raise UserError("local_fusion, global_fusion and full_face are all off: leave one on")
        self.num_classes = num_classes
        self.num_features = branches * WIDTH
        self.flow = displacement if displacement in FLOWS else None
        self.joint = joint
        self.displacement_weight = displacement_weight
        self.smoothness = smoothness

        self.dgm = DisplacementGenerator(max_displacement) if displacement == "dgm" else None
        self.learns_without_labels = self.dgm is not None
        if self.dgm is None:
            self.pretrained_parts = {}
        channels = 2 if displacement == "none" else 4
        centers = [(name in REGION_SETS[regions], centre) for name, all_ in AU_CENTERS.items() for centre in all_]
        self.register_buffer("au_centers", torch.tensor([centre for _, centre in centers], dtype=torch.float32))
        used = torch.tensor([i for i, (looked_at, _) in enumerate(centers) if looked_at])
        self.register_buffer("boxes", used, persistent=False)
        learned, side = fusion == "learned", BOX // BOX_PATCH
        self.local_fusion = self.global_fusion = self.face_fusion = None
        if local_fusion or global_fusion:
            self.embed_patch = nn.Linear(channels * BOX_PATCH**2, WIDTH)
            self.local_fusion = Fusion(side**2, 2 * local_fusion, learned and local_fusion)
            self.global_fusion = Fusion(len(used), 2 * global_fusion, learned and global_fusion)
        if full_face:
            self.embed_face = Patches(channels, WIDTH, FACE_PATCH, FACE_PATCH)
            self.face_fusion = Fusion((SIZE // FACE_PATCH) ** 2, 4, learned)
            names = ["embed_face", *(f"face_fusion.blocks.{number}" for number in range(4))]
            self.feature_info = [{"module": name, "num_chs": WIDTH, "reduction": FACE_PATCH} for name in names]
        self.norm = nn.LayerNorm(self.num_features)
        self.drop = nn.Dropout(drop_rate)
        self.head = LinearFp32(self.num_features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def train(self, mode: bool = True) -> FrlDgt:
        super().train(mode)
        if self.dgm is not None and not self.joint:
            self.dgm.eval()
        return self

    def set_au_centers(self, centers: Tensor) -> None:
        """Set the centres of the boxes of the AU regions: the mean over a data set (supplement, Sec. 3).

        Args:
            centers: (9, 2), x and y in px of a face of 224 px, in the order of :data:`AU_CENTERS`. A box that would
                leave the face is moved back inside.

        Raises:
            UserError: The shape is different, or a centre is outside the face.
        """
        centers = torch.as_tensor(centers, dtype=torch.float32)
        if centers.shape != self.au_centers.shape or not ((centers >= 0) & (centers <= SIZE)).all():
            raise UserError(f"AU centres must be (9, 2) within 0 to {SIZE} px, got {centers.tolist()}")
        self.au_centers.copy_(centers)

    def pretraining_loss(self, x: Tensor) -> Tensor:
        """Compute the loss of the displacement, which needs no labels: pairs (B, 2, 224, 224) -> scalar.

        Raises:
            UserError: The network has no DGM.
        """
        if self.dgm is None:
            raise UserError("without displacement: dgm there is nothing to pre-train: set recipe.pretrain_epochs to 0")
        frozen = self.training and not self.joint
        if frozen:
            self.dgm.train()
        loss = self_supervised_loss(x, self.dgm(x), self.smoothness)
        if frozen:
            self.dgm.eval()
        return loss

    def displacement(self, x: Tensor) -> Tensor | None:
        """Return the displacement from onset to apex (B, 2, 224, 224) in px, or None when the network uses none."""
        if self.flow:
            return x[:, 2:].float()
        if self.dgm is None:
            return None
        if self.joint:
            return self.dgm(x)
        if self.training and x.device.type == "cpu":  # where the DGM costs more than all that is trained behind it
            return self.dgm.recall(x)
        with torch.no_grad():
            return self.dgm(x)

    def box_pixels(self) -> Tensor:
        """Return the pixels of the boxes, counted row by row in the face: (boxes, 36 patches, 64 pixels)."""
        corner = (self.au_centers[self.boxes] - BOX / 2).round().long().clamp(0, SIZE - BOX)
        step = torch.arange(BOX, device=corner.device)
        x, y = (corner[:, axis, None] + step for axis in (0, 1))
        pixels = y[:, :, None] * SIZE + x[:, None, :]
        pixels = pixels.unflatten(2, (-1, BOX_PATCH)).unflatten(1, (-1, BOX_PATCH))
        return pixels.transpose(2, 3).flatten(3).flatten(1, 2)

    def fuse(self, x: Tensor, displacement: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Input and displacement -> features (B, F) and weights: local (B, boxes, 36), global, full_face (B, 196)."""
        x = x[:, :2]
        if displacement is not None:
            x = torch.cat((x, normalise(displacement).to(x.dtype)), dim=1)
        features, weights = [], {}
        if self.local_fusion is not None:
            pixels = self.box_pixels()
            # index_select: its backward is faster than that of indexing
            patches = x.flatten(2).index_select(2, pixels.flatten()).unflatten(2, pixels.shape)
            patches = self.embed_patch(patches.permute(0, 2, 3, 1, 4).flatten(3))
            boxes, local = self.local_fusion(patches.flatten(0, 1))
            boxes, weights["local"] = (part.unflatten(0, (-1, len(pixels))) for part in (boxes, local))
            vector, weights["global"] = self.global_fusion(boxes)
            features.append(vector)
        if self.face_fusion is not None:
            vector, weights["full_face"] = self.face_fusion(self.embed_face(x).flatten(2).transpose(1, 2))
            features.append(vector)
        return torch.cat(features, dim=1), weights

    def stage_maps(self, output: Tensor) -> Tensor:
        """Maps (B, 256, 14, 14) of the patches of the full face, or tokens (B, 196, 256) -> (B, 256, 14, 14)."""
        return output if output.ndim == 4 else output.transpose(1, 2).unflatten(2, (SIZE // FACE_PATCH, -1))

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute features (B, F): the vector of the regions, followed by that of the full face."""
        return self.fuse(x, self.displacement(x))[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features (B, F) -> logits (B, num_classes)."""
        features = self.drop(self.norm(features))
        return features if pre_logits else self.head(features)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        displacement = self.displacement(x)
        logits = self.forward_head(self.fuse(x, displacement)[0])
        if self.training and self.joint and self.dgm is not None:
            loss = self_supervised_loss(x, displacement, self.smoothness)
            return logits, {"displacement": self.displacement_weight * loss}
        return logits

    @torch.no_grad()
    def explain(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps of Fig. 2 of the supplement, as far as the network has them.

        Returns:
            ``displacement`` (B, 2, 224, 224) in px, and maps (B, 224, 224) of weights as multiples of an even share:
            ``local``, of the patches within each box; ``global``, the same times the weight of the box; ``full_face``,
            of the patches of the face. Where boxes overlap, a pixel has the mean of their patches; outside all boxes
            it is 0.
        """
        displacement = self.displacement(x)
        weights = self.fuse(x, displacement)[1]
        maps = {} if displacement is None else {"displacement": displacement}
        if "local" in weights:
            local = weights["local"] * weights["local"].shape[2]
            boxes = weights["global"] * weights["global"].shape[1]
            maps["local"] = self._on_face(local)
            maps["global"] = self._on_face(boxes[:, :, None] * local)
        if "full_face" in weights:
            face = weights["full_face"].unflatten(1, (1, SIZE // FACE_PATCH, -1))
            maps["full_face"] = F.interpolate(face * weights["full_face"].shape[1], scale_factor=FACE_PATCH).squeeze(1)
        return maps

    def _on_face(self, patches: Tensor) -> Tensor:
        """Average the values of the boxes' patches (B, boxes, 36) on each pixel (B, 224, 224); 0 outside boxes."""
        pixels = self.box_pixels()
        values = patches[..., None].expand(-1, -1, -1, pixels.shape[2]).flatten(1)
        total = patches.new_zeros(len(patches), SIZE * SIZE).index_add(1, pixels.flatten(), values)
        covering = pixels.flatten().bincount(minlength=SIZE * SIZE)
        return (total / covering.clamp(min=1)).unflatten(1, (SIZE, SIZE))


default_cfgs = generate_default_cfgs(
    {
        "frl_dgt": {
            "input_size": (2, SIZE, SIZE),
            "mean": (0.0,),
            "std": (1.0,),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "num_classes": 3,
            "first_conv": None,
            "classifier": "head",
        }
    }
)


@register_network(
    "FRL-DGT",
    takes="pair",
    maps={
        "displacement": "learnt displacement",
        "local": "within\nthe boxes",
        "global": "with the\nboxes' weights",
        "full_face": "full face",
    },
    caption="Weights of the fusion layers as multiples of an even share: of the patches of each box, the same times "
    "the weight of the box, and of the patches of the full face. Where boxes overlap, the mean of their patches is "
    "shown.",
    reconstruction=True,
)
def frl_dgt(pretrained: bool = False, **kwargs) -> FrlDgt:
    """FRL-DGT with its displacement generation module, with optical flow or with neither, by ``displacement``."""
    channels = 4 if kwargs.get("displacement") in FLOWS else 2
    return build(FrlDgt, "frl_dgt", pretrained, input_size=(channels, SIZE, SIZE), **kwargs)
