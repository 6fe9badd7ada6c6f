"""The complexity stage: sizes and time of a network -> ``results/<variant>/complexity.json``."""

from __future__ import annotations

from duchenne.config import Catalog
from duchenne.files import write_json
from duchenne.workspace import Workspace


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Count the parameters and operations of a variant's network, beside what its paper prints."""
    from duchenne.reporting.complexity import complexity_row

    write_json(workspace.results(variant) / "complexity.json", complexity_row(catalog, variant))
