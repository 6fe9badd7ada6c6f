"""Evaluate stage: from checkpoints to predictions, features and metrics in ``results/<variant>``.

``record.json`` beside them says what made them, so that `duchenne verify` and a reader can check them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from duchenne.config import Catalog
from duchenne.errors import UserError
from duchenne.files import file_digest, replacing, table_digest, write_json
from duchenne.sealed import FILES, digests, read_history, read_table, write_sealed, write_table
from duchenne.stages.samples import with_faces
from duchenne.workspace import Network, Workspace, fold_name

if TYPE_CHECKING:  # slow to import
    from torch import nn

    from duchenne.faces.store import FaceStore
    from duchenne.training.settings import Variant

LISTED = ("predictions.parquet", "features.npz", "confusion.csv", "groups.json", "metrics.json", "history.csv")
"""Files whose digests are in ``record.json`` beside them."""


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Predict every test sample with the network that was not trained on it, and measure."""
    from duchenne.evaluation.rules import read_kept
    from duchenne.training.trained import CARD, load_trained, require_own

    config, out = catalog.variants[variant], workspace.results(variant)
    folders = workspace.networks(variant, config.every_seed)
    histories = [
        read_history(folder / "history.csv").assign(seed=seed, fold=fold) for (seed, fold), folder in folders.items()
    ]
    with replacing(out / "history.csv") as path:
        pd.concat(histories, ignore_index=True).to_csv(path, index=False)
    split = read_table(workspace.split(variant))

    def network(seed: int, fold: int, store: FaceStore) -> tuple[nn.Module, dict[str, Any]]:
        folder = workspace.fold(variant, fold, config.further(seed))
        model, card = load_trained(folder)
        require_own(folder, card, fold, seed)
        own = split[(split["fold"] == fold) & split["sample"].isin(set(store.samples))]
        if card.get("split", known := table_digest(own.sort_values("sample")[["sample", "part"]])) != known:
            raise UserError(
                f"{folder / CARD}: its network was trained on other samples or parts than those of "
                f"{workspace.split(variant)}, so a test sample may have been in training: one of the two is of another "
                f"run; run `dvc repro train@{variant}`"
            )
        return model, card

    measure_folds(
        catalog,
        workspace,
        variant,
        network,
        out,
        seeds=config.every_seed,
        command=f"dvc repro evaluate@{variant}",
        networks={network: network_digests(folder) for network, folder in folders.items()},
        kept=read_kept(folders),
    )


def measure_folds(
    catalog: Catalog,
    workspace: Workspace,
    variant: str,
    network: Callable[[int, int, FaceStore], tuple[nn.Module, dict[str, Any]]],
    out: Path,
    *,
    seeds: list[int],
    command: str,
    networks: dict[Network, dict[str, str]],
    only: int | None = None,
    kept: Mapping[Network, pd.DataFrame] = MappingProxyType({}),
) -> dict[str, Any]:
    """Predict and measure the test part of each fold with that fold's network and card, those of every seed.

    Args:
        network: gives the network and its card, from its seed and fold, and the faces.
        out: folder of the results. ``features.npz`` in it is of the first seed alone.
        seeds: seeds of the networks, ascending.
        command: command that makes these results, for the record.
        networks: names and SHA-256 of the files of each network, for the record.
        only: the fold to measure; None: all.
        kept: test logits of the epochs that other rules would have reported, which are then measured too.
    """
    from duchenne.datasets.index import read_index
    from duchenne.evaluation.groups import flat_gaps, measure_groups
    from duchenne.evaluation.rules import FILE, check_kept
    from duchenne.evaluation.statistics import evaluate_uncalibrated, of_first_seed
    from duchenne.faces.store import FaceStore
    from duchenne.training.trained import predict

    config = catalog.variants[variant]
    store = FaceStore(workspace.faces(config.dataset))
    table = read_index(workspace.index(config.dataset))
    split = read_table(workspace.split(variant))
    every = split[split.part == "test"]
    if only is not None:
        if only not in set(every.fold):
            raise UserError(f"{variant} has no fold {only}: it has {', '.join(map(str, sorted(set(every.fold))))}")
        every = every[every.fold == only]
    parts = with_faces(every, table.rows, store)
    predictions, uncalibrated, features, precisions = [], [], [], {}
    for seed, (fold, samples) in product(seeds, [(int(fold), own) for fold, own in parts.groupby("fold")]):
        samples = samples.assign(seed=seed)
        model, card = network(seed, fold, store)
        logits, vectors = predict(model, store, samples, card, catalog.compute)
        if (seed, fold) in kept:
            path = workspace.fold(variant, fold, config.further(seed)) / FILE
            own = kept[seed, fold]
            check_kept(own, config.selection, samples["sample"], logits, card.get("precision", "fp32"), path)
        predictions.append(_predictions(samples, logits, table.classes, card))
        if "calibration" in card:
            uncalibrated.append(_predictions(samples, logits, table.classes, {}))
        if seed == seeds[0]:
            features.append(vectors)
        precisions[seed, fold] = card.get("precision", "fp32")
    frame = pd.concat(predictions, ignore_index=True)
    first = of_first_seed(frame)
    metrics = metrics_of(
        frame,
        table.classes,
        config,
        split,
        read_table(workspace.duplicates(variant)),
        folds=sorted(map(int, every["fold"].unique())),
        composite=bool(catalog.datasets[config.dataset].facts.parts),
        bootstrap=catalog.report.bootstrap,
        kept=kept,
    )
    how = {"classes": table.classes, "bootstrap": catalog.report.bootstrap, "seed": config.seed}
    if uncalibrated:
        metrics |= evaluate_uncalibrated(pd.concat(uncalibrated, ignore_index=True), **how)
    known = table.rows.set_index("sample")["factors"]
    groups = measure_groups(frame, frame["sample"].map(known), **how)
    metrics |= flat_gaps(groups)

    write_table(out / "predictions.parquet", frame)
    with replacing(out / "features.npz") as path, path.open("wb") as file:
        matrix = np.concatenate(features).astype(np.float16)
        np.savez(file, sample=first["sample"].to_numpy(str), fold=first["fold"].to_numpy(), features=matrix)
    names = dict(enumerate(table.classes))
    with replacing(out / "confusion.csv") as path:
        pairs = {"actual": frame.label.map(names), "predicted": frame.predicted.map(names)}
        pd.DataFrame(pairs).to_csv(path, index=False)
    write_json(out / "groups.json", groups)
    write_json(out / "metrics.json", metrics)
    made = [path for name in LISTED if (path := out / name).exists()]
    write_sealed(
        out / "record.json",
        {
            FILES: digests(made),
            "command": command,
            "variant": variant,
            "folds": sorted(map(int, every["fold"].unique())),
            "bootstrap": catalog.report.bootstrap,
            "seed": config.seed,
            "seeds": seeds,
            "data": _data(catalog, workspace, variant, store),
            "networks": {
                fold_name(fold, config.further(seed)): networks[seed, fold] | {"precision": precision}
                for (seed, fold), precision in precisions.items()
            },
        }
        | _origin(catalog, workspace),
    )
    return metrics


def metrics_of(
    frame: pd.DataFrame,
    classes: list[str],
    config: Variant,
    split: pd.DataFrame,
    duplicates: pd.DataFrame,
    folds: list[int],
    composite: bool,
    bootstrap: int,
    kept: Mapping[Network, pd.DataFrame] = MappingProxyType({}),
) -> dict[str, Any]:
    """Compute the contents of ``metrics.json`` from predictions.

    Args:
        frame: predictions, as :func:`duchenne.evaluation.statistics.evaluate` takes them.
        classes: class names in order.
        config: the variant, for its seed and selection.
        split: rows of the split with sample, fold and part.
        duplicates: near-duplicates of the split.
        folds: folds that were measured.
        composite: whether names of samples begin with the name of a set, which is also measured alone.
        bootstrap: number of resamples.
        kept: test logits of the epochs that other rules would have reported.
    """
    from duchenne.evaluation.rules import by_rule, measure_rules
    from duchenne.evaluation.statistics import evaluate, evaluate_parts, evaluate_without
    from duchenne.splits import count_tested, remaining

    how = {"classes": classes, "bootstrap": bootstrap, "seed": config.seed}
    metrics = evaluate(frame, **how)
    if composite:
        metrics |= evaluate_parts(frame, frame["sample"].str.partition("/")[0], **how)
    copies = remaining(duplicates, split)
    copies = copies[copies["fold"].isin(folds)]
    tested = copies[copies["part"] == "test"]
    copied = pd.MultiIndex.from_frame(frame[["fold", "sample"]]).isin(
        pd.MultiIndex.from_frame(tested[["fold", "sample"]])
    )
    metrics |= {"near_duplicates": count_tested(copies)} | evaluate_without(frame, copied, **how)
    metrics |= measure_rules(by_rule(frame, kept, classes, config.selection), monitor=config.monitor, **how)
    tested = split[(split["part"] == "test") & split["fold"].isin(folds)]
    return metrics | {"missed": len(tested) - metrics["n"], "selection": config.selection}


def network_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the weights and of the card in the folder of a network."""
    from duchenne.training.trained import CARD, WEIGHTS

    return {"weights": file_digest(folder / WEIGHTS), "card": file_digest(folder / CARD)}


def faces_digest(store: FaceStore) -> str:
    """Return the SHA-256 of the names and perceptual hashes of a store's faces, with its settings.

    DVC hashes the files themselves; this needs none of it, and no pass over gigabytes.
    """
    hashes = pd.DataFrame(sorted(store.hashes().items()), columns=["sample", "phash"])
    return table_digest(hashes.assign(settings=repr(sorted(store.meta.items()))))


def _data(catalog: Catalog, workspace: Workspace, variant: str, store: FaceStore) -> dict[str, str]:
    """Digests of what was measured: SHA-256, but of the raw files DVC's hash, if DVC knows them."""
    from duchenne.reporting.provenance import data_revisions

    dataset = catalog.variants[variant].dataset
    return {
        "raw": data_revisions(workspace.root, {dataset: catalog.datasets[dataset].root}).get(dataset, ""),
        "index": file_digest(workspace.index(dataset)),
        "faces": faces_digest(store),
        "split": file_digest(workspace.split(variant)),
        "duplicates": file_digest(workspace.duplicates(variant)),
    }


def _origin(catalog: Catalog, workspace: Workspace) -> dict[str, Any]:
    """Revision of the code, versions and hardware."""
    from duchenne.reporting.provenance import code_revision
    from duchenne.training.device import device_of
    from duchenne.training.environment import machine, versions

    commit, changed = code_revision(workspace.root)
    return {
        "code": {"commit": commit, "changed": changed},
        "versions": versions(),
        "machine": machine(device_of(catalog.compute)),
    }


def _predictions(samples: pd.DataFrame, logits: np.ndarray, classes: list[str], card: dict[str, Any]) -> pd.DataFrame:
    """Return a row per sample: the class of its largest logit, and probabilities (float64) of logits (N, classes)."""
    from duchenne.training.calibration import probabilities as probabilities_of

    probabilities = probabilities_of(logits, card)
    frame = samples[["sample", "seed", "fold", "subject", "label"]].reset_index(drop=True)
    frame["predicted"] = logits.argmax(axis=1)
    frame["confidence"] = probabilities.max(axis=1)
    columns = {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    return frame.assign(**columns)
