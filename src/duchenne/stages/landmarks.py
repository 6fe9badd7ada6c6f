"""Landmarks stage: from the face store to ``data/landmarks/<dataset>.parquet`` and the AU-region centres."""

from __future__ import annotations

from duchenne.config import Catalog
from duchenne.engines import engine_of
from duchenne.workspace import Workspace


def run(catalog: Catalog, workspace: Workspace, dataset: str) -> None:
    """Find the 68 points and the AU-region centres of every aligned face."""
    from duchenne.faces.annotate import landmark_dataset
    from duchenne.faces.store import FaceStore

    store = FaceStore(workspace.faces(dataset))
    points, centres = workspace.landmarks(dataset), workspace.au_centers(dataset)
    work = workspace.work("landmarks", dataset)
    with engine_of(catalog.compute, work, store.path) as engine:
        landmark_dataset(store, catalog.datasets[dataset].faces, points, centres, engine, work)
