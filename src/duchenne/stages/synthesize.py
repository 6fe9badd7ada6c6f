"""Synthesize stage: from parameters to ``data/raw/<name>``."""

from __future__ import annotations

from duchenne.config import Catalog
from duchenne.engines import engine_of
from duchenne.extras import require_extra
from duchenne.workspace import Workspace


def run(catalog: Catalog, workspace: Workspace, name: str) -> None:
    """Render a set of faces."""
    require_extra("rendering faces", "synth")
    from duchenne.synth.generate import generate

    work = workspace.work("synthesize", name)
    with engine_of(catalog.compute, work) as engine:
        generate(catalog.rendered[name], workspace.raw(name), work, engine)
