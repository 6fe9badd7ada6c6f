"""How the landmark network is trained: a block of ``landmark_nets`` in ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from duchenne.blocks import Strict


class LandmarkNet(Strict):
    """How the landmark network is trained."""

    dataset: str = Field(description="a synth image set")
    limit: int | None = Field(None, ge=2, description="use the first so many training faces")
    epochs: int = Field(ge=1)
    batch_size: int = Field(64, ge=2)
    lr: float = Field(2e-3, gt=0, description="the highest of one cycle")
    weight_decay: float = Field(0.01, ge=0)
    bend: float = Field(0.0, ge=0, le=0.2, description="largest SD by which parts of a face are moved, eye distances")
    map_weight: float = Field(0.0, ge=0, description="of the loss of the points that are read from the maps of 14 x 14")
    init_from: str = Field("scratch", description="landmark net whose weights training starts from")
    seed: int = 0
