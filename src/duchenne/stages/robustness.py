"""Robustness stage: predicts the test faces under damage, where ``report.robustness`` asks for it."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from duchenne.chunks import Chunk, digest, resumable
from duchenne.config import Catalog
from duchenne.engines import Local
from duchenne.evaluation.corruptions import CORRUPTIONS, STRENGTHS, CorruptedStore
from duchenne.evaluation.robustness import COLUMNS, RECORD, curves, summarise
from duchenne.evaluation.statistics import of_first_seed
from duchenne.files import file_digest, replacing, write_json
from duchenne.sealed import FILES, digests, write_sealed
from duchenne.sources import network_digest, source_digest
from duchenne.stages.samples import predictions_of
from duchenne.workspace import Workspace

log = logging.getLogger(__name__)


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Write ``robustness.csv`` and ``robustness.json`` of a variant; both are empty unless ``report.robustness``.

    Each fold's network, that of the first seed, predicts its own test part 35 times, seven kinds of damage in five
    strengths. A finished kind is kept in ``work/robustness``, so that an interrupted stage resumes with the next.
    """
    table = _measure(catalog, workspace, variant) if catalog.report.robustness else pd.DataFrame(columns=COLUMNS)
    out = workspace.results(variant)
    with replacing(out / "robustness.csv") as path:
        table.to_csv(path, index=False)
    write_json(out / "robustness.json", summarise(table))
    made = digests([out / "robustness.csv", out / "robustness.json"])
    write_sealed(out / RECORD, {"variant": variant, FILES: made})


def _measure(catalog: Catalog, workspace: Workspace, variant: str) -> pd.DataFrame:
    from duchenne.datasets.index import read_index

    config = catalog.variants[variant]
    table = read_index(workspace.index(config.dataset))
    clean = of_first_seed(predictions_of(workspace, variant))
    samples = clean[["sample", "fold"]].merge(
        table.rows[["sample", "onset", "apex"]], on="sample", validate="many_to_one"
    )
    times = len(CORRUPTIONS) * len(STRENGTHS)
    log.info("%s: %d test samples are predicted %d times", variant, len(samples), times)
    logging.getLogger("duchenne.training.workers").setLevel(logging.WARNING)  # says the same before each of them
    work = workspace.work("robustness", variant)
    known = _digest(workspace, variant, config.model.architecture, samples)
    arguments = catalog, workspace, variant, samples
    size = len(samples) * len(STRENGTHS)
    chunks = [Chunk(work / f"{name}_{known}.parquet", size, _predict, (*arguments, name)) for name in CORRUPTIONS]
    found = resumable(chunks, f"damage of {variant}", Local(1))
    for path in set(work.glob("*.parquet")) - set(found):  # of other weights
        path.unlink()
    damaged = {name: pd.read_parquet(path) for name, path in zip(CORRUPTIONS, found, strict=True)}
    return curves(clean, damaged, table.classes, catalog.report.bootstrap, config.seed)


def _digest(workspace: Workspace, variant: str, architecture: str, samples: pd.DataFrame) -> str:
    """Digest of everything that the predictions depend on; the cards hold how the faces were aligned."""
    folds = {
        fold: [file_digest(folder / name) for name in ("weights.safetensors", "card.json")]
        for fold, folder in workspace.folds(variant).items()
    }
    code = source_digest("duchenne.evaluation.corruptions", "duchenne.training.trained")
    return digest(folds, samples.to_csv(index=False), code, network_digest(architecture))


def _predict(catalog: Catalog, workspace: Workspace, variant: str, samples: pd.DataFrame, name: str, out: Path) -> None:
    """Predict all test samples under one kind of damage in every strength."""
    from duchenne.training.trained import load_trained, predict, require_own

    faces = workspace.faces(catalog.variants[variant].dataset)
    found = []
    for fold, own in samples.groupby("fold"):
        model, card = load_trained(workspace.fold(variant, int(fold)))
        require_own(workspace.fold(variant, int(fold)), card, int(fold))
        for strength in STRENGTHS:
            logits, _ = predict(model, CorruptedStore(faces, name, strength), own, card, catalog.compute)
            predicted = own[["sample", "fold"]].assign(severity=strength, predicted=logits.argmax(axis=1))
            found.append(predicted)
    pd.concat(found, ignore_index=True).to_parquet(out, index=False)
