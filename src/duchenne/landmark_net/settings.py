"""Settings of a landmark network: a block of ``landmark_nets`` in ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from duchenne.blocks import Seed, Strict


class LandmarkNet(Strict):
    """Data and training recipe of a landmark network."""

    dataset: str = Field(description="a synth image set")
    limit: int | None = Field(None, ge=2, description="use only this many training faces, the first ones")
    epochs: int = Field(ge=1, le=1_000_000, description="passes over the training faces")
    batch_size: int = Field(64, ge=2, le=65_536, description="faces a step")
    lr: float = Field(2e-3, gt=0, description="highest learning rate of one cycle")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    bend: float = Field(0.0, ge=0, le=0.2, description="largest SD by which parts of a face are moved, eye distances")
    map_weight: float = Field(0.0, ge=0, description="weight of the auxiliary head's loss, on maps of 14 x 14")
    init_from: str = Field("scratch", description="landmark net whose weights training starts from")
    seed: Seed = Field(0, description="of weights, order of faces and augmentation")
