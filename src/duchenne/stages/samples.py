"""Samples of a split, for the train and evaluate stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:  # slow to import
    from duchenne.faces.store import FaceStore


def with_faces(parts: pd.DataFrame, rows: pd.DataFrame, store: FaceStore) -> pd.DataFrame:
    """Join rows of a split with the index, for samples with a detected face."""
    parts = parts[parts["sample"].isin(set(store.samples))]
    known = rows[["sample", "label", "subject", "onset", "apex", "n_frames", "votes"]]
    return parts.merge(known, on="sample", validate="many_to_one")
