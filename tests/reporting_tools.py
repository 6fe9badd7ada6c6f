"""A small finished project: real index, face store and splits, with predictions drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from duchenne.config import Catalog
from duchenne.datasets.build import build_index
from duchenne.datasets.index import read_index, write_index
from duchenne.datasets.settings import Dataset
from duchenne.engines import Local
from duchenne.evaluation.groups import measure_groups
from duchenne.evaluation.rules import by_rule, measure_rules
from duchenne.evaluation.statistics import evaluate, evaluate_without
from duchenne.faces.build import align_dataset
from duchenne.faces.settings import Faces
from duchenne.faces.store import FaceStore, write_checksums
from duchenne.files import write_json
from duchenne.protocol import Protocol
from duchenne.reporting.runs import Run
from duchenne.reporting.settings import Report
from duchenne.sealed import write_table
from duchenne.splits import make_splits
from duchenne.training.settings import Model, Recipe, Variant
from duchenne.workspace import Workspace

CLASSES = ["happiness", "boredom", "anger", "disgust"]  # the second is a word of one's own, known to no list
NEVER = "disgust"  # the class that no run predicts
MACHINE = {"os": "Linux 6.1 x86_64", "cpu": "A CPU", "cores": 2, "threads": 1, "device": "cpu", "bf16": True}
PEOPLE = 12


def run_of(name: str = "r", config: Variant | None = None, **known: object) -> Run:
    """A run without files, of which only the attributes in ``known`` are known."""
    config = config or Variant(
        dataset="d",
        protocol=Protocol(kind="official"),
        model=Model(architecture="poster_v2"),
        recipe=Recipe(epochs=1, batch_size=1, lr=1),
    )
    run = Run(name, config, Workspace(Path("nowhere")), Report(bootstrap=100, tsne_iterations=250))
    for key, value in known.items():
        assert hasattr(Run, key), key
        setattr(run, key, value)
    return run


def finished_project(
    root: Path, flaws: Sequence[str] = (), spell: Callable[[str], str] = str, **report: object
) -> tuple[Workspace, Catalog]:
    """A held-out run whose epoch was picked on the test part, and two runs of a three-fold cross-validation.

    Args:
        spell: how the dataset and its user spell names of samples, people and groups, and notes.
    """
    workspace, raw = Workspace(root), root / "data" / "raw" / "drawn"
    _draw_faces(raw, spell)
    dataset = Dataset(layout="manifest", root=raw, classes=CLASSES, faces=Faces(mode="aligned", size=64))
    index = build_index("drawn", dataset)
    write_index(index, workspace.index("drawn"))
    write_json(workspace.audit("drawn"), {"flaws": flaws})
    store = workspace.faces("drawn")
    align_dataset(index.rows, raw, dataset.faces, store, workspace.work("align", "drawn"), engine=Local(1))
    partly = pd.DataFrame({"sample": FaceStore(store).samples[:4], "frame": 1, "reason": "is empty"})  # as of clips
    failures = pd.concat([FaceStore(store).failures, partly.astype({"frame": "Int64"})])
    write_table(store / "failures.parquet", failures)
    write_checksums(store)

    common = {
        "dataset": "drawn",
        "model": Model(architecture="poster_v2"),
        "recipe": Recipe(epochs=3, batch_size=8, lr=1e-3),
    }
    folds = Protocol(kind="kfold", folds=3, val_share=0.2)
    variants = {
        "picked_on_test": Variant(
            protocol=Protocol(kind="holdout", test_share=0.3, val_share=0, near_duplicates="ignore"),
            selection="test",
            reproduces="poster_v2_caer_s",
            note=spell("Numbers < chance & similar are escaped."),
            **common | {"model": Model(architecture="poster_v2", options={"fusion": "vanilla"})},
        ),
        "folds": Variant(protocol=folds, selection="val", **common),
        "folds_again": Variant(protocol=folds, selection="last", seed=1, **common),
    }
    catalog = Catalog(
        datasets={"drawn": dataset},
        variants=variants,
        report=Report(tsne_iterations=250, bootstrap=200, **report),
    )
    for name in variants:
        _finish(workspace, catalog, name)
    maps = workspace.results("folds") / "maps"
    maps.mkdir()
    Image.effect_noise((300, 200), 60).save(maps / "looks.png")
    described = {"title": "Where it looks", "caption": "Attention < 1.", "alt": "Noise instead of a map"}
    write_json(maps / "maps.json", [{"file": "looks.png"} | described])
    sheets = workspace.reports / "drawn"
    sheets.mkdir(parents=True)
    Image.effect_noise((300, 200), 60).convert("RGB").save(sheets / "aligned.jpg")
    return workspace, catalog


def _draw_faces(root: Path, spell: Callable[[str], str]) -> None:
    random = np.random.default_rng(0)
    rows = []
    for person in range(PEOPLE):
        for emotion in CLASSES:
            name = f"p{person:02d}_{emotion}"
            coarse = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
            path = root / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC).save(path)
            known = {"yaw": round(random.normal(0, 20), 2), "light": spell(["left", "right"][person % 2])}
            names = {"sample": spell(name), "subject": spell(f"p{person:02d}")}
            if spell is not str:
                names["gender"] = spell("ab"[person % 2])
            rows.append({"path": path.name, "label": emotion} | names | known)
    broken = root / "p03_anger.jpg"
    broken.write_bytes(broken.read_bytes()[:-400])  # the header is whole, the picture is not
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)


def _finish(workspace: Workspace, catalog: Catalog, name: str) -> None:
    config, random = catalog.variants[name], np.random.default_rng(catalog.variants[name].seed)
    index, store = read_index(workspace.index("drawn")), FaceStore(workspace.faces("drawn"))
    parts = make_splits(index.rows, config.protocol)
    workspace.split(name).parent.mkdir(parents=True, exist_ok=True)
    parts.to_parquet(workspace.split(name), index=False)

    tested = parts[parts["part"] == "test"].merge(index.rows[["sample", "label", "subject"]], on="sample")
    frame = tested[tested["sample"].isin(store.samples)].sort_values("fold").reset_index(drop=True)
    logits = random.normal(size=(len(frame), len(CLASSES))) + 2 * np.eye(len(CLASSES))[frame["label"].to_numpy(int)]
    logits[:, CLASSES.index(NEVER)] = -9
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame["predicted"], frame["confidence"] = probabilities.argmax(axis=1), probabilities.max(axis=1)
    frame = frame.assign(**{f"p_{emotion}": probabilities[:, i] for i, emotion in enumerate(CLASSES)})

    results = workspace.results(name)
    results.mkdir(parents=True)
    frame.to_parquet(results / "predictions.parquet", index=False)
    np.savez(
        results / "features.npz",
        sample=frame["sample"].to_numpy(str),
        fold=frame["fold"].to_numpy(),
        features=np.hstack([logits, random.normal(size=(len(frame), 8))]).astype(np.float16),
    )
    metrics = evaluate(frame, CLASSES, catalog.report.bootstrap, seed=0)
    if config.protocol.near_duplicates == "ignore":
        copied = np.arange(len(frame)) < 2
        metrics |= {"near_duplicates": 3} | evaluate_without(frame, copied, CLASSES, catalog.report.bootstrap)
    kept = {} if name == "folds_again" else _kept(config, frame, logits, np.random.default_rng(1))
    how = {"monitor": config.monitor, "bootstrap": catalog.report.bootstrap}
    metrics |= measure_rules(by_rule(frame, kept, CLASSES, config.selection), CLASSES, **how)
    write_json(
        results / "metrics.json",
        metrics | {"missed": len(tested) - len(frame), "selection": config.selection},
    )
    if name == "folds":  # older versions wrote no record
        origin = {"versions": {"duchenne": "0.1.0", "torch": "2.14.1"}, "machine": MACHINE | {"cores": 3}}
        data = {"index": "1" * 64, "faces": "2" * 64, "split": "3" * 64}
        code = {"commit": "c" * 40, "changed": True}
        command = f"dvc repro evaluate@{name}"
        write_json(results / "record.json", {"command": command, "bootstrap": 50, "data": data, "code": code} | origin)
    factors = frame["sample"].map(index.rows.set_index("sample")["factors"])
    write_json(results / "groups.json", measure_groups(frame, factors, CLASSES, catalog.report.bootstrap))
    size = 1 + list(catalog.variants).index(name)
    write_json(results / "complexity.json", {"params": 10.0 * size, "macs": 0.0015 * size})
    measured = {"val", config.selection} & set(parts["part"]) - {"train"}
    folds = [int(fold) for fold in sorted(frame["fold"].unique())]
    for fold in folds:
        _train(workspace.fold(name, fold), config, fold, measured, store, random)
        if (0, fold) in kept:
            kept[0, fold].to_parquet(workspace.fold(name, fold) / "rules.parquet", index=False)
    histories = [pd.read_csv(workspace.fold(name, fold) / "history.csv").assign(fold=fold) for fold in folds]
    pd.concat(histories, ignore_index=True).to_csv(results / "history.csv", index=False)


def _kept(
    config: Variant, frame: pd.DataFrame, logits: np.ndarray, random: np.random.Generator
) -> dict[tuple[int, int], pd.DataFrame]:
    """Test logits as training keeps them: the reported ones in epoch 2, worse ones in 3 and better ones in 1."""
    actual = np.eye(len(CLASSES))[frame["label"].to_numpy(int)]
    epochs = {1: logits + actual, 2: logits, 3: logits - 1.5 * actual + random.normal(size=logits.shape)}
    chosen = {"last": 3, "val": 1 if config.selection == "test" else 2, "test": 1}
    chosen |= {config.selection: 2}
    if not config.protocol.val_share:
        del chosen["val"]
    tables = []
    for rule, epoch in chosen.items():
        columns = {f"logit_{name}": np.float32(epochs[epoch][:, i]) for i, name in enumerate(CLASSES)}
        known = {"rule": rule, "epoch": epoch, "sample": frame["sample"], "fold": frame["fold"]}
        tables.append(pd.DataFrame(known | columns))
    folds = pd.concat(tables, ignore_index=True).groupby("fold")
    return {(0, int(fold)): table.drop(columns="fold") for fold, table in folds}


def _train(
    folder: Path, config: Variant, fold: int, measured: set[str], store: FaceStore, random: np.random.Generator
) -> None:
    folder.mkdir(parents=True)
    epochs = np.arange(1, config.recipe.epochs + 1)
    history = {
        "epoch": epochs,
        "lr": 1e-3,
        "train_loss": 1 / epochs,
        "train_war": 1 - 0.5 / epochs,
        "train_uar": 1 - 0.6 / epochs,
    }
    for part in sorted(measured):
        history |= {
            f"{part}_{metric}": random.uniform(0.4, 0.9, len(epochs)) for metric in ("loss", "war", "uar", "uf1")
        }
    pd.DataFrame(history | {"seconds": 2.0, "images_per_second": 20.0}).to_csv(folder / "history.csv", index=False)
    write_json(
        folder / "card.json",
        {
            "classes": CLASSES,
            "input_size": [3, 64, 64],
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "alignment": store.meta,
            "split": f"{fold:064x}",
            "selection": {"rule": config.selection, "monitor": config.monitor, "epoch": 2},
            "seed": config.seed,
            "precision": "fp32",
            "versions": {"duchenne": "0.1.0", "torch": "2.14.1"},
            "machine": MACHINE,
        },
    )
