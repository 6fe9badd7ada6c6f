"""What each DVC stage does: read the files before it, call the part of the package that knows how, write its own.

Every function takes the catalog, the workspace and the name of a dataset or variant, so that the same road can be
walked in the project folder (``dvc repro``) and in a scratch folder (``duchenne smoke``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from duchenne.catalog import NETWORKS, Catalog
from duchenne.errors import UserError
from duchenne.files import file_digest, replacing, write_json
from duchenne.workspace import Workspace

if TYPE_CHECKING:  # slow to import: a stage loads what it uses
    from torch import nn

    from duchenne.faces import FaceStore

log = logging.getLogger(__name__)


def settings(catalog: Catalog, workspace: Workspace) -> None:
    """Write the blocks of ``params.yaml`` that may be left out, with their defaults, for stages to depend on.

    DVC compares contents: after an edit only the stages whose settings changed are stale.
    """
    report = catalog.report.model_dump(mode="json")
    faces = {f"faces/{name}": catalog.datasets[name].faces.model_dump(mode="json") for name in catalog.datasets}
    parts = {"evaluate": {"bootstrap": report["bootstrap"]}, "explain": {"show_faces": report["show_faces"]}}
    for name, block in (parts | {"report": report} | faces).items():
        write_json(workspace.settings / f"{name}.json", block)


def synthesize(catalog: Catalog, workspace: Workspace, name: str) -> None:
    """Render a set of faces."""
    from duchenne.synth import generate

    work, compute = workspace.work("synthesize", name), catalog.compute
    generate(catalog.rendered[name], workspace.raw(name), work, compute.jobs, compute.backend)


def landmark_net(catalog: Catalog, workspace: Workspace, name: str) -> None:
    """Teach the landmark network on rendered faces."""
    from duchenne.landmark_net import WEIGHTS, train_landmark_net

    config = catalog.landmark_nets[name]
    root, work = workspace.raw(config.dataset), workspace.work("landmark_net", name)
    start = None if config.init_from == "scratch" else workspace.model(config.init_from) / WEIGHTS
    train_landmark_net(config, root, workspace.model(name), work, catalog.compute, start)


def index(catalog: Catalog, workspace: Workspace, dataset: str) -> None:
    """Read a dataset's layout into the common index, and compare it with what its owners publish.

    Names that only later stages need are checked here too.
    """
    from duchenne.datasets import build_index, empty_classes, limited, write_index
    from duchenne.datasets.audit import audit, flaws

    architectures = {variant.model.architecture for variant in catalog.variants.values()}
    if others := architectures - NETWORKS.keys():  # hours of face work should not precede a misspelling
        from duchenne.models import require

        for architecture in others:
            require(architecture)
    config = catalog.datasets[dataset]
    whole = build_index(dataset, config.model_copy(update={"limit": None}))
    table = limited(whole, config.limit)
    found = audit(whole, config)
    found["flaws"] = flaws(found, len(table.rows))
    for flaw in found["flaws"]:
        log.warning("%s is not as published: %s", dataset, flaw)
    if empty := empty_classes(table):
        log.warning("%s has no sample of %s, which datasets.%s.classes declares", dataset, ", ".join(empty), dataset)
    write_json(workspace.audit(dataset), found)
    write_index(table, workspace.index(dataset))


def align(catalog: Catalog, workspace: Workspace, dataset: str) -> None:
    """Find and align every face of a dataset."""
    from duchenne.datasets import read_index
    from duchenne.faces import FaceStore, align_dataset

    config, compute = catalog.datasets[dataset], catalog.compute
    rows = read_index(workspace.index(dataset)).rows
    work = workspace.work("align", dataset)
    align_dataset(rows, config.root, config.faces, workspace.faces(dataset), work, compute.jobs, compute.backend)
    for what, samples in FaceStore(workspace.faces(dataset)).findings().items():
        log.warning("%s: %d samples with %s; the first is %s", dataset, len(samples), what, samples[0])


def landmarks(catalog: Catalog, workspace: Workspace, dataset: str) -> None:
    """Find the 68 points and the AU-region centres of every aligned face."""
    from duchenne.faces import FaceStore, landmark_dataset

    compute = catalog.compute
    store = FaceStore(workspace.faces(dataset))
    points, centres = workspace.landmarks(dataset), workspace.au_centers(dataset)
    work = workspace.work("landmarks", dataset)
    landmark_dataset(store, catalog.datasets[dataset].faces, points, centres, compute.jobs, compute.backend, work)


def split(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Assign samples to train, val and test, and list the near-duplicates in two parts.

    Samples whose face was not found keep their place: the test set must not depend on which faces were detected.

    Raises:
        LeakError: a subject, a source or a near-duplicate image is on both sides.
    """
    from duchenne import splits as protocols
    from duchenne.datasets import read_index
    from duchenne.faces import FaceStore

    config = catalog.variants[variant]
    rows = read_index(workspace.index(config.dataset)).rows
    hashes = FaceStore(workspace.faces(config.dataset)).hashes()
    parts = protocols.make_splits(rows, config.protocol, hashes)
    parts, copies = protocols.check_leaks(rows, parts, hashes, config.protocol)
    if len(copies):
        log.warning("%s", protocols.told(copies, config.protocol))
    with replacing(workspace.duplicates(variant)) as path:
        copies.to_parquet(path, index=False)
    with replacing(workspace.split(variant)) as path:
        parts.to_parquet(path, index=False)


def train(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Train every fold of a variant, some at once; a finished fold is kept, a killed one resumes.

    MLflow gets every epoch while the folds train, from the process of the fold.
    """
    from joblib import Parallel, delayed

    from duchenne import tracking
    from duchenne.datasets import read_index
    from duchenne.faces import FaceStore
    from duchenne.training import folds_at_once, train_fold

    config = catalog.variants[variant]
    store = FaceStore(workspace.faces(config.dataset))
    table = read_index(workspace.index(config.dataset))
    parts = _parts(pd.read_parquet(workspace.split(variant)), table.rows, store)
    record = _begin(catalog, workspace, variant, table.classes, parts, store)
    tracker = tracking.Tracker(workspace, variant, config)
    if main := os.environ.get("RANK", "0") == "0":  # of the processes of `accelerate launch`, the first tracks
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
            out=workspace.model(variant) / f"fold_{fold}",
            work=workspace.work("train", variant) / f"fold_{fold}",
            compute=catalog.compute,
            init=_initial(workspace, config.init_from, int(fold)),
            landmarks=workspace.landmarks(config.dataset),
            au_centers=workspace.au_centers(config.dataset),
            on_epoch=partial(tracker.epoch, int(fold)),
        )
        for fold, samples in parts.groupby("fold")
    )
    if main:
        write_json(workspace.model(variant) / "training.json", record)


def _begin(
    catalog: Catalog, workspace: Workspace, variant: str, classes: list[str], parts: pd.DataFrame, store: FaceStore
) -> dict[str, Any]:
    """The record of the training run that starts or resumes now, with the revisions of code, data and split."""
    from duchenne.reporting.provenance import code_revision, data_revisions
    from duchenne.training import record

    config = catalog.variants[variant]
    starts = [_initial(workspace, config.init_from, int(fold)) for fold in parts["fold"].unique()]
    files = [*config.model.files.values(), *(path / "weights.safetensors" for path in starts if path)]
    whole = config.recipe.au_centers == "dataset"
    files.append((workspace.au_centers if whole else workspace.landmarks)(config.dataset))
    key = record.training_key(config, classes, parts, store, files, catalog.compute)
    commit, changed = code_revision(workspace.root)
    data = data_revisions(workspace.root, {config.dataset: catalog.datasets[config.dataset].root})
    facts = {"commit": commit, "changed": changed, "data": data.get(config.dataset, "")}
    split = file_digest(workspace.split(variant))[:16]
    return record.begin(workspace.work("train", variant), key, facts | {"split": split})


def evaluate(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Predict every test sample with the network that never saw it, and measure."""
    from duchenne.training import load_trained

    out = workspace.results(variant)
    folders = {int(path.name.removeprefix("fold_")): path for path in workspace.model(variant).glob("fold_*")}
    measure_folds(
        catalog, workspace, variant, lambda fold, *_: load_trained(workspace.model(variant) / f"fold_{fold}"), out
    )
    histories = [pd.read_csv(folders[fold] / "history.csv").assign(fold=fold) for fold in sorted(folders)]
    with replacing(out / "history.csv") as path:
        pd.concat(histories, ignore_index=True).to_csv(path, index=False)


def explain(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Show what the networks of a variant look at in some test samples, and measure it where the truth is known."""
    from duchenne.datasets import read_index
    from duchenne.faces import FaceStore
    from duchenne.reporting.maps import Exhibit, write_maps
    from duchenne.training import load_trained

    config = catalog.variants[variant]
    dataset = catalog.datasets[config.dataset]
    table = read_index(workspace.index(config.dataset))
    predictions = pd.read_parquet(workspace.results(variant) / "predictions.parquet")
    known = table.rows[["sample", "emotion", "onset", "apex", "offset"]]
    exhibit = Exhibit(
        predictions.merge(known, on="sample", validate="many_to_one"),
        table.classes,
        FaceStore(workspace.faces(config.dataset)),
        lambda fold: load_trained(workspace.model(variant) / f"fold_{fold}"),
        catalog.compute,
        landmarks=workspace.landmarks(config.dataset),
        truth=dataset.root / "displacement" if dataset.layout == "synth" else None,
        show_faces=catalog.report.show_faces,
    )
    write_maps(exhibit, workspace.results(variant) / "maps")


def measure_folds(
    catalog: Catalog,
    workspace: Workspace,
    variant: str,
    network: Callable[[int, pd.DataFrame, FaceStore], tuple[nn.Module, dict[str, Any]]],
    out: Path,
    only: int | None = None,
) -> dict[str, Any]:
    """Predictions, features, confusion and metrics of each fold's network and card on that fold's test part."""
    from duchenne.datasets import read_index
    from duchenne.evaluation import evaluate as measure
    from duchenne.evaluation import evaluate_parts, evaluate_without
    from duchenne.faces import FaceStore
    from duchenne.splits import remaining
    from duchenne.training import predict

    config = catalog.variants[variant]
    store = FaceStore(workspace.faces(config.dataset))
    table = read_index(workspace.index(config.dataset))
    split = pd.read_parquet(workspace.split(variant))
    every = split[split.part == "test"]
    if only is not None:
        if only not in set(every.fold):
            raise UserError(f"{variant} has no fold {only}: it has {', '.join(map(str, sorted(set(every.fold))))}")
        every = every[every.fold == only]
    parts = _parts(every, table.rows, store)
    predictions, features = [], []
    for fold, samples in parts.groupby("fold"):
        model, card = network(int(fold), samples, store)
        logits, vectors = predict(model, store, samples, card, catalog.compute)
        predictions.append(_predictions(samples, logits, table.classes))
        features.append(vectors)
    frame = pd.concat(predictions, ignore_index=True)

    how = {"classes": table.classes, "bootstrap": catalog.report.bootstrap, "seed": config.seed}
    metrics = measure(frame, **how)
    if catalog.datasets[config.dataset].layout == "megc2019":  # its samples are named <set>/<subject>/<clip>
        metrics |= evaluate_parts(frame, frame["sample"].str.partition("/")[0], **how)
    copies = remaining(pd.read_parquet(workspace.duplicates(variant)), split)
    copies = copies[copies["fold"].isin(every["fold"])]
    tested = copies[copies["part"] == "test"]
    copied = pd.MultiIndex.from_frame(frame[["fold", "sample"]]).isin(
        pd.MultiIndex.from_frame(tested[["fold", "sample"]])
    )
    metrics |= {"near_duplicates": len(copies)} | evaluate_without(frame, copied, **how)
    metrics |= {"missed": len(every) - len(parts), "selection": config.selection}

    with replacing(out / "predictions.parquet") as path:
        frame.to_parquet(path, index=False)
    with replacing(out / "features.npz") as path, path.open("wb") as file:
        matrix = np.concatenate(features).astype(np.float16)
        np.savez(file, sample=frame["sample"].to_numpy(str), fold=frame["fold"].to_numpy(), features=matrix)
    names = dict(enumerate(table.classes))
    with replacing(out / "confusion.csv") as path:
        pairs = {"actual": frame.label.map(names), "predicted": frame.predicted.map(names)}
        pd.DataFrame(pairs).to_csv(path, index=False)
    write_json(out / "metrics.json", metrics)
    return metrics


def complexity(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Count the parameters and operations of a variant's network, beside what its paper prints."""
    from duchenne.reporting.complexity import complexity_row

    write_json(workspace.results(variant) / "complexity.json", complexity_row(catalog, variant))


def report(catalog: Catalog, workspace: Workspace) -> Path:
    """Draw the figures, write the page and send every run to MLflow; returns the page's path."""
    from duchenne import tracking
    from duchenne.reporting import write_report
    from duchenne.reporting.gallery import remove_pictures

    if catalog.report.show_faces:
        _draw_sheets(catalog, workspace)
    else:
        remove_pictures(workspace.reports)  # of reports written before faces were hidden
    page = write_report(workspace, catalog, workspace.reports)
    for variant, config in catalog.variants.items():
        tracking.Tracker(workspace, variant, config, catalog.report.show_faces).publish()
    return page


def _draw_sheets(catalog: Catalog, workspace: Workspace) -> None:
    """Draw the contact sheets of the datasets into the report's folder; faces are seen on all of them."""
    from duchenne.datasets import read_index
    from duchenne.faces import FaceStore
    from duchenne.faces.sheets import alignment_sheet, failure_sheet
    from duchenne.synth.sheets import contact_sheets

    for name in catalog.rendered:
        contact_sheets(workspace.raw(name), workspace.reports / name)
    for dataset in catalog.datasets:
        store = FaceStore(workspace.faces(dataset))
        rows = read_index(workspace.index(dataset)).rows
        folder = workspace.reports / dataset
        folder.mkdir(parents=True, exist_ok=True)
        alignment_sheet(store, workspace.landmarks(dataset), folder / "aligned.jpg")
        failure_sheet(store, rows, catalog.datasets[dataset].root, folder / "failures.jpg")


def _parts(parts: pd.DataFrame, rows: pd.DataFrame, store: FaceStore) -> pd.DataFrame:
    """Rows of a split with what the index says of their samples, of those whose face was found."""
    parts = parts[parts["sample"].isin(set(store.samples))]
    known = rows[["sample", "label", "subject", "onset", "apex", "n_frames", "votes"]]
    return parts.merge(known, on="sample", validate="many_to_one")


def _initial(workspace: Workspace, init_from: str, fold: int) -> Path | None:
    """The folder whose weights a fold starts from: the same fold where that run has it, else its first."""
    if init_from == "scratch":
        return None
    same = workspace.model(init_from) / f"fold_{fold}"
    return same if same.exists() else workspace.model(init_from) / "fold_1"


def _predictions(samples: pd.DataFrame, logits: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """A row a sample: the class of its largest logit, and the probabilities (float64) of logits (N, classes)."""
    from scipy.special import softmax

    probabilities = softmax(logits.astype(float), axis=1)
    frame = samples[["sample", "fold", "subject", "label"]].reset_index(drop=True)
    frame["predicted"] = logits.argmax(axis=1)
    frame["confidence"] = probabilities.max(axis=1)
    columns = {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    return frame.assign(**columns)
