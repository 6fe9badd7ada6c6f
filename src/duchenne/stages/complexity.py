"""Complexity stage: writes size and time of a network to ``results/<variant>/complexity.json``."""

from __future__ import annotations

from duchenne.config import Catalog
from duchenne.sealed import write_sealed
from duchenne.workspace import Workspace


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Count the parameters and operations of a variant's network, with the values printed in its paper."""
    write_sealed(workspace.results(variant) / "complexity.json", row(catalog, variant))


def row(catalog: Catalog, variant: str) -> dict[str, object]:
    """Measure size and time of a variant's network: see :func:`duchenne.reporting.complexity.complexity_row`."""
    from duchenne.evaluation.complexity import measured
    from duchenne.reporting.complexity import complexity_row

    config = catalog.variants[variant]
    classes = len(catalog.datasets[config.dataset].classes)
    return complexity_row(catalog, variant, measured(config.model.architecture, classes, config.model.options))
