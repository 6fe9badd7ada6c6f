"""Samples of a split, for the train and evaluate stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from duchenne.sealed import check_listed, read_table
from duchenne.workspace import Workspace

if TYPE_CHECKING:  # slow to import
    from duchenne.faces.store import FaceStore


def predictions_of(workspace: Workspace, variant: str) -> pd.DataFrame:
    """Read the predictions of a variant's evaluation, which are those that its record lists."""
    folder = workspace.results(variant)
    again = f"delete it, then `dvc checkout`, `dvc pull` or `dvc repro evaluate@{variant}` brings it back"
    return read_table(check_listed(folder / "predictions.parquet", folder / "record.json", again), again=again)


def with_faces(parts: pd.DataFrame, rows: pd.DataFrame, store: FaceStore) -> pd.DataFrame:
    """Join rows of a split with the index, for samples with a detected face."""
    parts = parts[parts["sample"].isin(set(store.samples))]
    known = rows[["sample", "label", "subject", "onset", "apex", "n_frames", "votes"]]
    return parts.merge(known, on="sample", validate="many_to_one")
