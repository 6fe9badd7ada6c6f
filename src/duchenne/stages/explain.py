"""Explain stage: writes maps of the networks as arrays, numbers and pictures to ``results/<variant>/maps``."""

from __future__ import annotations

import pandas as pd

from duchenne.config import Catalog
from duchenne.extras import require_extra
from duchenne.workspace import Workspace


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Explain some predictions of a variant's networks, of the first seed; measure the maps if the truth is known."""
    require_extra("drawing maps", "report", "matplotlib")
    from duchenne.datasets.index import read_index
    from duchenne.evaluation.explain_run import RunToExplain, explain
    from duchenne.evaluation.statistics import of_first_seed
    from duchenne.faces.store import FaceStore
    from duchenne.reporting.maps.pictures import draw_pictures
    from duchenne.training.trained import load_trained

    config = catalog.variants[variant]
    dataset = catalog.datasets[config.dataset]
    table = read_index(workspace.index(config.dataset))
    predictions = of_first_seed(pd.read_parquet(workspace.results(variant) / "predictions.parquet"))
    known = table.rows[["sample", "emotion", "onset", "apex", "offset"]]
    run = RunToExplain(
        predictions.merge(known, on="sample", validate="many_to_one"),
        table.classes,
        FaceStore(workspace.faces(config.dataset)),
        lambda fold: load_trained(workspace.model(variant) / f"fold_{fold}"),
        catalog.compute,
        landmarks=workspace.landmarks(config.dataset),
        truth=dataset.root / "displacement" if dataset.layout == "synth" else None,
        show_faces=catalog.report.show_faces,
    )
    maps = workspace.results(variant) / "maps"
    explain(run).save(maps)
    draw_pictures(maps)
