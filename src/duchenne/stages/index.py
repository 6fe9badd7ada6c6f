"""Index stage: from a dataset's layout to ``data/index/<dataset>.parquet`` and its audit."""

from __future__ import annotations

import logging

from duchenne.config import Catalog
from duchenne.sealed import write_sealed
from duchenne.workspace import Workspace

log = logging.getLogger(__name__)


def run(catalog: Catalog, workspace: Workspace, dataset: str) -> None:
    """Read a dataset's layout into the common index, and compare it with the published counts."""
    from duchenne.datasets.audit import audit, flaws
    from duchenne.datasets.build import build_index, limited
    from duchenne.datasets.index import empty_classes, write_index

    config = catalog.datasets[dataset]
    whole = build_index(dataset, config.model_copy(update={"limit": None}))
    table = limited(whole, config.limit)
    found = audit(whole, config)
    found["flaws"] = flaws(found, len(table.rows))
    for flaw in found["flaws"]:
        log.warning("%s is not as published: %s", dataset, flaw)
    if empty := empty_classes(table):
        log.warning("%s has no sample of %s, which datasets.%s.classes declares", dataset, ", ".join(empty), dataset)
    write_sealed(workspace.audit(dataset), found)
    write_index(table, workspace.index(dataset))
