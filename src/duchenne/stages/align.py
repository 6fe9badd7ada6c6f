"""Align stage: from index and raw files to the face store ``data/faces/<dataset>``."""

from __future__ import annotations

import logging

from duchenne.config import Catalog
from duchenne.engines import engine_of
from duchenne.workspace import Workspace

log = logging.getLogger(__name__)


def run(catalog: Catalog, workspace: Workspace, dataset: str) -> None:
    """Find and align every face of a dataset."""
    from duchenne.datasets.index import read_index
    from duchenne.faces.build import align_dataset
    from duchenne.faces.store import FaceStore

    config = catalog.datasets[dataset]
    rows = read_index(workspace.index(dataset)).rows
    work = workspace.work("align", dataset)
    with engine_of(catalog.compute, work, config.root) as engine:
        align_dataset(rows, config.root, config.faces, workspace.faces(dataset), work, engine)
    for what, samples in FaceStore(workspace.faces(dataset)).findings().items():
        log.warning("%s: %d samples with %s; the first is %s", dataset, len(samples), what, samples[0])
