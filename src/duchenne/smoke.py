"""Smoke test: runs the whole pipeline on a few samples in a separate folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from duchenne import stages
from duchenne.config import Catalog
from duchenne.extras import require_extra
from duchenne.sealed import read_table, write_table
from duchenne.workspace import Workspace

FOLDS = 2
"""Number of folds that are tried; more folds would not find more errors."""


def shrink(catalog: Catalog, variant: str, samples: int, scratch: Workspace) -> Catalog:
    """Reduce the catalog to ``variant``, about ``samples`` samples of its dataset and one epoch."""
    config = catalog.variants[variant]
    dataset = catalog.datasets[config.dataset]
    rendered = {}
    if config.dataset in catalog.rendered:
        synth = catalog.rendered[config.dataset]
        subjects = max(4, samples // (len(dataset.classes) * synth.per_class))
        rendered[config.dataset] = synth.model_copy(update={"subjects": min(subjects, synth.subjects)})
        root = scratch.raw(config.dataset)
    else:
        root = dataset.root.resolve()
    dataset = dataset.model_copy(update={"root": root, "limit": samples})
    quick = {"epochs": 1, "pretrain_epochs": min(1, config.recipe.pretrain_epochs), "schedule": "constant"}
    quick |= {"warmup_epochs": 0, "batch_size": min(8, config.recipe.batch_size)}
    recipe = config.recipe.model_copy(update=quick)
    config = config.model_copy(update={"recipe": recipe, "init_from": "scratch"})
    only = {"rendered": rendered, "datasets": {config.dataset: dataset}, "variants": {variant: config}}
    return catalog.model_copy(update=only | {"landmark_nets": {}})


def run(catalog: Catalog, variant: str, samples: int, scratch: Path | None) -> Path:
    """Run every stage with ``samples`` samples and one epoch; returns the page's path.

    Raises:
        UserError: A package that a stage needs is not installed (checked before any work), or a stage fails.
    """
    require_extra("duchenne smoke, which runs every stage up to the report,", "report")
    folder = scratch or Path(tempfile.mkdtemp(prefix="duchenne-smoke-"))
    workspace = Workspace(folder)
    small = shrink(catalog, variant, samples, workspace)
    dataset = small.variants[variant].dataset
    stages.run("settings", small, workspace)
    if dataset in small.rendered:
        stages.run("synthesize", small, workspace, dataset)
    for stage in stages.OF_A_DATASET:
        stages.run(stage, small, workspace, dataset)
    for stage in stages.OF_A_VARIANT:
        stages.run(stage, small, workspace, variant)
        if stage == "split":
            parts = read_table(workspace.split(variant))
            write_table(workspace.split(variant), parts[parts.fold <= FOLDS])
    return stages.run("report", small, workspace)
