"""First layer of IFDD's networks and of their baselines: from clips to eight maps of 56 x 56."""

from torch import Tensor, nn

from duchenne.errors import UserError

FRAMES = 8  # number of frames after the stem, for every length of clip
TEMPORAL_STRIDES = {8: 1, 16: 2, 32: 2}


class ClipStem(nn.Module):
    """Clips (B, 3, frames, 224, 224) -> maps (B, channels, 8, 56, 56); no norm, no activation.

    A clip of 32 frames is halved twice, by the stride and by averaging pairs; the paper's text halves it once.

    Raises:
        UserError: ``frames`` is not 8, 16 or 32.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        if frames not in TEMPORAL_STRIDES:
            raise UserError(f"frames: {frames} is not one of {', '.join(map(str, TEMPORAL_STRIDES))}")
        self.conv_proj = nn.Conv3d(3, channels, (3, 7, 7), (TEMPORAL_STRIDES[frames], 4, 4), (1, 3, 3))
        self.pool = nn.AvgPool3d((2, 1, 1)) if frames == 32 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv_proj(x))
