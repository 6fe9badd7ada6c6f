"""Split stage: from index and face hashes to ``data/splits/<variant>.parquet``."""

from __future__ import annotations

import logging

from duchenne.config import Catalog
from duchenne.sealed import write_table
from duchenne.workspace import Workspace

log = logging.getLogger(__name__)


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Assign samples to train, val and test, and list near-duplicates in different parts.

    Samples without a detected face keep their part: the test set must not depend on which faces were detected.

    Raises:
        LeakError: A subject, a source or a near-duplicate image is in both training and test.
    """
    from duchenne import splits as protocols
    from duchenne.datasets.index import read_index
    from duchenne.faces.store import FaceStore

    config = catalog.variants[variant]
    rows = read_index(workspace.index(config.dataset)).rows
    hashes = FaceStore(workspace.faces(config.dataset)).hashes()
    parts = protocols.make_splits(rows, config.protocol, hashes)
    parts, copies = protocols.check_leaks(rows, parts, hashes, config.protocol)
    if len(copies):
        log.warning("%s", protocols.told(copies, config.protocol))
    write_table(workspace.duplicates(variant), copies)
    write_table(workspace.split(variant), parts)
