"""DVC stages, one module each: a stage reads the files of earlier stages, calls the packages, and writes its own.

Each module has a function ``run`` of the catalog, the workspace and, but for settings and report, the name of a
rendered set, dataset or variant, so that the same stages run in the project folder (``dvc repro``) and in a scratch
folder (``duchenne smoke``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duchenne.config import Catalog
    from duchenne.workspace import Workspace

OF_A_DATASET = ("index", "align", "landmarks")
"""Stages of each dataset, in order."""

OF_A_VARIANT = ("split", "train", "evaluate", "robustness", "explain", "complexity")
"""Stages of each variant, in order."""


def run(stage: str, catalog: Catalog, workspace: Workspace, *names: str) -> Any:
    """Run one stage by its name; returns the result of its ``run``."""
    return import_module(f"duchenne.stages.{stage}").run(catalog, workspace, *names)
