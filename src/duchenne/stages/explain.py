"""Explain stage: writes maps of the networks as arrays, numbers and pictures to ``results/<variant>/maps``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from duchenne.config import Catalog
from duchenne.extras import require_extra
from duchenne.workspace import Workspace

if TYPE_CHECKING:  # slow to import
    from torch import nn


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Explain some predictions of a variant's networks, of the first seed; measure the maps if the truth is known."""
    require_extra("drawing maps", "report", "matplotlib")
    from duchenne.datasets.index import read_index
    from duchenne.evaluation.explain_run import RunToExplain, explain
    from duchenne.evaluation.statistics import of_first_seed
    from duchenne.faces.store import FaceStore
    from duchenne.reporting.maps.pictures import draw_pictures
    from duchenne.stages.samples import predictions_of
    from duchenne.training.trained import load_trained, require_own

    config = catalog.variants[variant]
    dataset = catalog.datasets[config.dataset]
    table = read_index(workspace.index(config.dataset))
    predictions = of_first_seed(predictions_of(workspace, variant))

    def network(fold: int) -> tuple[nn.Module, dict[str, Any]]:
        folder = workspace.fold(variant, fold)
        model, card = load_trained(folder)
        require_own(folder, card, fold, config.seed)
        return model, card

    known = table.rows[["sample", "emotion", "onset", "apex", "offset"]]
    run = RunToExplain(
        predictions.merge(known, on="sample", validate="many_to_one"),
        table.classes,
        FaceStore(workspace.faces(config.dataset)),
        network,
        catalog.compute,
        landmarks=workspace.landmarks(config.dataset),
        truth=dataset.root / "displacement" if dataset.layout == "synth" else None,
        show_faces=catalog.report.show_faces,
    )
    maps = workspace.results(variant) / "maps"
    explain(run).save(maps)
    draw_pictures(maps)
