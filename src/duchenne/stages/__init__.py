"""DVC stages, one module each: a stage reads the files of earlier stages, calls the packages, and writes its own.

Each module has a function ``run`` of the catalog, the workspace and, but for settings and report, the name of a
rendered set, dataset or variant, so that the same stages run in the project folder (``dvc repro``) and in a scratch
folder (``duchenne smoke``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

from duchenne.locks import alone

if TYPE_CHECKING:
    from duchenne.config import Catalog
    from duchenne.workspace import Workspace

OF_A_DATASET = ("index", "align", "landmarks")
"""Stages of each dataset, in order."""

OF_A_VARIANT = ("split", "train", "evaluate", "robustness", "explain", "complexity")
"""Stages of each variant, in order."""


THEMSELVES = {"train"}
"""Stages of which several may run at once, for other folds, and that lock what they work on."""


def by_itself(stage: str, workspace: Workspace, *names: str) -> AbstractContextManager[None]:
    """Return a context in which no other process runs the same stage of the same names; it waits for it, and says so.

    Two at once would remove each other's files.
    """
    if stage in THEMSELVES:
        return nullcontext()
    name = " ".join([stage, *names])
    return alone(workspace.work("locks", f"{name}.lock"), f"the stage {name}")


def run(stage: str, catalog: Catalog, workspace: Workspace, *names: str) -> Any:
    """Run one stage by its name, :func:`by_itself`; returns the result of its ``run``."""
    with by_itself(stage, workspace, *names):
        return import_module(f"duchenne.stages.{stage}").run(catalog, workspace, *names)
