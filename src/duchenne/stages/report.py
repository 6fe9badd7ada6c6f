"""Report stage: from results to figures, tables and the page in ``reports``; runs are sent to MLflow."""

from __future__ import annotations

from pathlib import Path

from duchenne.config import Catalog
from duchenne.extras import require_extra
from duchenne.workspace import Workspace


def run(catalog: Catalog, workspace: Workspace) -> Path:
    """Draw the figures, write the page and send every run to MLflow; returns the page's path."""
    require_extra("the report", "report")
    from duchenne import tracking
    from duchenne.reporting.gallery import remove_pictures
    from duchenne.reporting.page import write_report

    if catalog.report.show_faces:
        _draw_sheets(catalog, workspace)
    else:
        remove_pictures(workspace.reports)  # from reports written before faces were hidden
    page = write_report(workspace, catalog, workspace.reports)
    for variant, config in catalog.variants.items():
        tracking.Tracker(workspace, variant, config, catalog.report.show_faces).publish()
    return page


def _draw_sheets(catalog: Catalog, workspace: Workspace) -> None:
    """Draw the contact sheets of the datasets into the report's folder; all of them show faces."""
    from duchenne.datasets.index import read_index
    from duchenne.faces.sheets import alignment_sheet, failure_sheet
    from duchenne.faces.store import FaceStore
    from duchenne.reporting.rendered import contact_sheets
    from duchenne.reporting.robustness import example_sheet

    for name in catalog.rendered:
        contact_sheets(workspace.raw(name), workspace.reports / name)
    for dataset in catalog.datasets:
        store = FaceStore(workspace.faces(dataset))
        rows = read_index(workspace.index(dataset)).rows
        folder = workspace.reports / dataset
        folder.mkdir(parents=True, exist_ok=True)
        alignment_sheet(store, workspace.landmarks(dataset), folder / "aligned.jpg")
        failure_sheet(store, rows, catalog.datasets[dataset].root, folder / "failures.jpg")
        if catalog.report.robustness:
            example_sheet(store, store.samples[0], folder / "damage.jpg")
        else:
            (folder / "damage.jpg").unlink(missing_ok=True)
