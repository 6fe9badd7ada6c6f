"""Settings of the split into train, val and test: block ``protocol`` of a variant, used by :mod:`duchenne.splits`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from duchenne.blocks import Seed, Share, Strict


class Protocol(Strict):
    """Assignment of samples to train, val and test."""

    kind: Literal["official", "kfold", "loso", "holdout"] = Field(
        description="the dataset's own parts or folds; k folds of whole subjects; leave one subject out; or one share "
        "of the subjects held out"
    )
    folds: int = Field(5, ge=2, le=10_000, description="for kfold")
    test_share: Share = Field(0.2, description="share of the subjects in the test part (holdout)")
    val_share: Share = Field(0.1, description="share of each training part's subjects moved to val")
    seed: Seed = Field(0, description="of every random choice of the split")
    near_duplicates: Literal["stop", "drop", "ignore"] = Field(
        "stop",
        description="near-duplicate images in two parts of a fold: stop; drop the copy in training; or ignore: keep "
        "both, count them, and measure without them too",
    )
    hash_distance: int = Field(24, ge=0, le=64, description="bits of 256 by which near-duplicates may differ")
