"""The settings stage: what ``params.yaml`` leaves out, with its defaults, for DVC to depend on."""

from __future__ import annotations

from duchenne.catalog import Catalog
from duchenne.files import write_json
from duchenne.workspace import Workspace


def run(catalog: Catalog, workspace: Workspace) -> None:
    """Write the blocks of ``params.yaml`` that may be left out, with their defaults, for stages to depend on.

    DVC compares contents: after an edit only the stages whose settings changed are stale.
    """
    report = catalog.report.model_dump(mode="json")
    faces = {f"faces/{name}": catalog.datasets[name].faces.model_dump(mode="json") for name in catalog.datasets}
    parts = {"evaluate": {"bootstrap": report["bootstrap"]}, "explain": {"show_faces": report["show_faces"]}}
    for name, block in (parts | {"report": report} | faces).items():
        write_json(workspace.settings / f"{name}.json", block)
