"""The explain stage: what the networks look at -> ``results/<variant>/maps``."""

from __future__ import annotations

import pandas as pd

from duchenne.config import Catalog
from duchenne.extras import require_extra
from duchenne.workspace import Workspace


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Show what the networks of a variant look at in some test samples, and measure it where the truth is known."""
    require_extra("drawing maps", "report", "matplotlib")
    from duchenne.datasets.index import read_index
    from duchenne.faces.store import FaceStore
    from duchenne.reporting.maps import Exhibit, write_maps
    from duchenne.training.trained import load_trained

    config = catalog.variants[variant]
    dataset = catalog.datasets[config.dataset]
    table = read_index(workspace.index(config.dataset))
    predictions = pd.read_parquet(workspace.results(variant) / "predictions.parquet")
    known = table.rows[["sample", "emotion", "onset", "apex", "offset"]]
    exhibit = Exhibit(
        predictions.merge(known, on="sample", validate="many_to_one"),
        table.classes,
        FaceStore(workspace.faces(config.dataset)),
        lambda fold: load_trained(workspace.fold(variant, fold)),
        catalog.compute,
        landmarks=workspace.landmarks(config.dataset),
        truth=dataset.root / "displacement" if dataset.facts.rendered else None,
        show_faces=catalog.report.show_faces,
    )
    write_maps(exhibit, workspace.results(variant) / "maps")
