"""Train stage: from faces, landmarks and split to ``models/<variant>/fold_<k>``."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from duchenne.config import Catalog
from duchenne.errors import UserError
from duchenne.files import file_digest, write_json
from duchenne.stages.samples import with_faces
from duchenne.training.settings import Compute
from duchenne.workspace import Workspace

if TYPE_CHECKING:  # slow to import
    from duchenne.faces.store import FaceStore

log = logging.getLogger(__name__)


def run(catalog: Catalog, workspace: Workspace, variant: str, *folds: str) -> None:
    """Train the folds of a variant, several at a time; finished folds are kept, interrupted ones resume.

    The process of each fold sends its epochs to MLflow during training.

    Args:
        folds: numbers of the folds to train, such as those of one job of several; default: all. Chosen folds stay in
            ``work``; a later run of all finds them finished there and only copies them to ``models``. Their epochs go
            to MLflow with that run, unless it has an address: a SQLite file is not for several machines.

    Raises:
        UserError: The variant has no such fold, or torchrun started this stage.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("the train stage starts its processes itself: run it once, with compute.processes")

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
    chosen = parts[parts["fold"].isin(_chosen(variant, folds, parts["fold"]))] if folds else parts
    record, compute = _begin(catalog, workspace, variant, table.classes, parts, store)
    tracker = tracking.Tracker(workspace, variant, config)
    if not (folds and tracker.in_project):
        tracker.begin(record)
    if config.init_from == "scratch" and not config.model.published:
        packaged = f" in all but {', '.join(config.model.files)}" if config.model.files else ""
        log.warning("%s starts from random weights%s: model.pretrained names no published ones", variant, packaged)
    at_once = min(folds_at_once(compute), chosen["fold"].nunique())
    Parallel(n_jobs=at_once, backend="loky")(
        delayed(train_fold)(
            config,
            table.classes,
            int(fold),
            samples,
            store,
            out=None if folds else workspace.fold(variant, int(fold)),
            work=workspace.fold_state(variant, int(fold)),
            compute=compute,
            init=_initial(workspace, config.init_from, int(fold)),
            landmarks=workspace.landmarks(config.dataset),
            au_centers=workspace.au_centers(config.dataset),
            on_epoch=partial(tracker.epoch, int(fold)),
        )
        for fold, samples in chosen.groupby("fold")
    )
    if not folds:
        write_json(workspace.training_record(variant), record)


def _chosen(variant: str, folds: tuple[str, ...], known: pd.Series) -> set[int]:
    """Return the numbers of the chosen folds.

    Raises:
        UserError: One of them is not a fold of the variant.
    """
    numbers = sorted(int(fold) for fold in known.unique())
    for fold in folds:
        if fold not in map(str, numbers):
            raise UserError(f"{variant} has no fold {fold!r}: its folds are {', '.join(map(str, numbers))}")
    return {int(fold) for fold in folds}


def _begin(
    catalog: Catalog, workspace: Workspace, variant: str, classes: list[str], parts: pd.DataFrame, store: FaceStore
) -> tuple[dict[str, Any], Compute]:
    """Record the training run that starts or resumes now, with the revisions of code, data and split.

    Returns:
        The record, and ``compute`` with the precision of the run.
    """
    from duchenne.reporting.provenance import code_revision, data_revisions
    from duchenne.training import record
    from duchenne.training.fingerprint import STARTS

    config = catalog.variants[variant]
    starts = [_initial(workspace, config.init_from, int(fold)) for fold in parts["fold"].unique()]
    files = [*config.model.files.values(), *(path / name for path in starts if path for name in STARTS)]
    whole = config.recipe.au_centers == "dataset"
    files.append((workspace.au_centers if whole else workspace.landmarks)(config.dataset))
    key = partial(record.training_key, config, classes, parts, store, files)
    commit, changed = code_revision(workspace.root)
    data = data_revisions(workspace.root, {config.dataset: catalog.datasets[config.dataset].root})
    facts = {"commit": commit, "changed": changed, "data": data.get(config.dataset, "")}
    split = file_digest(workspace.split(variant))[:16]
    return record.begin(workspace.work("train", variant), key, catalog.compute, facts | {"split": split})


def _initial(workspace: Workspace, init_from: str, fold: int) -> Path | None:
    """Return the folder of a fold's initial weights: the same fold of that run, or its first fold."""
    if init_from == "scratch":
        return None
    same = workspace.fold(init_from, fold)
    return same if same.exists() else workspace.fold(init_from, 1)
