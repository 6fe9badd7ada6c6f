"""Train stage: from faces, landmarks and split to ``models/<variant>/fold_<k>``."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from duchenne.config import Catalog
from duchenne.files import file_digest, write_json
from duchenne.stages.samples import with_faces
from duchenne.workspace import Workspace

if TYPE_CHECKING:  # slow to import
    from duchenne.faces.store import FaceStore

log = logging.getLogger(__name__)


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Train the folds of a variant, several at a time; finished folds are kept, interrupted ones resume.

    The process of each fold sends its epochs to MLflow during training.
    """
    from joblib import Parallel, delayed

    from duchenne import tracking
    from duchenne.datasets.index import read_index
    from duchenne.faces.store import FaceStore
    from duchenne.training.device import folds_at_once
    from duchenne.training.fold import train_fold

    config = catalog.variants[variant]
    store = FaceStore(workspace.faces(config.dataset))
    table = read_index(workspace.index(config.dataset))
    parts = with_faces(pd.read_parquet(workspace.split(variant)), table.rows, store)
    record = _begin(catalog, workspace, variant, table.classes, parts, store)
    tracker = tracking.Tracker(workspace, variant, config)
    if main := os.environ.get("RANK", "0") == "0":  # the first process of `accelerate launch` tracks
        tracker.begin(record)
    if config.init_from == "scratch" and not config.model.published:
        packaged = f" in all but {', '.join(config.model.files)}" if config.model.files else ""
        log.warning("%s starts from random weights%s: model.pretrained names no published ones", variant, packaged)
    at_once = min(folds_at_once(catalog.compute), parts["fold"].nunique())
    Parallel(n_jobs=at_once, backend="loky")(
        delayed(train_fold)(
            config,
            table.classes,
            int(fold),
            samples,
            store,
            out=workspace.fold(variant, int(fold)),
            work=workspace.fold_state(variant, int(fold)),
            compute=catalog.compute,
            init=_initial(workspace, config.init_from, int(fold)),
            landmarks=workspace.landmarks(config.dataset),
            au_centers=workspace.au_centers(config.dataset),
            on_epoch=partial(tracker.epoch, int(fold)),
        )
        for fold, samples in parts.groupby("fold")
    )
    if main:
        write_json(workspace.training_record(variant), record)


def _begin(
    catalog: Catalog, workspace: Workspace, variant: str, classes: list[str], parts: pd.DataFrame, store: FaceStore
) -> dict[str, Any]:
    """Record the training run that starts or resumes now, with the revisions of code, data and split."""
    from duchenne.reporting.provenance import code_revision, data_revisions
    from duchenne.training import record
    from duchenne.training.fingerprint import STARTS

    config = catalog.variants[variant]
    starts = [_initial(workspace, config.init_from, int(fold)) for fold in parts["fold"].unique()]
    files = [*config.model.files.values(), *(path / name for path in starts if path for name in STARTS)]
    whole = config.recipe.au_centers == "dataset"
    files.append((workspace.au_centers if whole else workspace.landmarks)(config.dataset))
    key = record.training_key(config, classes, parts, store, files, catalog.compute)
    commit, changed = code_revision(workspace.root)
    data = data_revisions(workspace.root, {config.dataset: catalog.datasets[config.dataset].root})
    facts = {"commit": commit, "changed": changed, "data": data.get(config.dataset, "")}
    split = file_digest(workspace.split(variant))[:16]
    return record.begin(workspace.work("train", variant), key, facts | {"split": split})


def _initial(workspace: Workspace, init_from: str, fold: int) -> Path | None:
    """Return the folder of a fold's initial weights: the same fold of that run, or its first fold."""
    if init_from == "scratch":
        return None
    same = workspace.fold(init_from, fold)
    return same if same.exists() else workspace.fold(init_from, 1)
