"""Runs of docs/hard.md on the frozen rendered sets: networks, ceilings, differences and what could have been seen.

    python benchmarks/hard.py FOLDER                      # a working folder; what is finished there is not run again
    python benchmarks/hard.py FOLDER poster_t_hard        # only these runs
    python benchmarks/hard.py FOLDER --seeds 1            # with one seed each; more seeds can follow
    python benchmarks/hard.py FOLDER --prepare            # render, align and split: enough for the two readers
    python benchmarks/hard.py FOLDER --freeze             # record the sets as they were rendered there, on purpose

Writes docs/results/hard.csv and hard-differences.csv; `python benchmarks/results.py` then writes the tables.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from duchenne import config, params_file, stages
from duchenne.config import Catalog
from duchenne.datasets.frozen import freeze
from duchenne.datasets.index import read_index
from duchenne.evaluation.comparing import compare
from duchenne.evaluation.statistics import evaluate
from duchenne.faces.store import FaceStore
from duchenne.files import read_json
from duchenne.workspace import Workspace

TABLES = Path(__file__).resolve().parents[1] / "docs" / "results"
RUNS = {
    "synth_hard": (
        "poster_t_hard",
        "poster_image_only_hard",
        "poster_v2_hard",
        "poster_v2_hard_from_poster_t",
        "poster_hard",
    ),
    "synth_hard_micro": ("frl_dgt_hard", "frl_dgt_hard_farneback"),
    "synth_hard_video": ("ifdd_2dcnn_hard", "mobilenetv2_clip_hard"),
}
"""Set -> its runs; each is compared with the first."""
CEILING, FLOOR = "reader of the true action units", "linear reader of the pixels"
"""Logistic regression on the truth; discriminant analysis of 100 principal components of the aligned faces at 64 px."""
EMPTY = "compute: {device: cpu, precision: auto}\nvariants: {}\ndatasets: {}\nrendered: {}\nlandmark_nets: {}\n"
DETECTABLE = (1.960 + 0.842) / (2 * 1.960)
"""Smallest difference that a two-sided test at 5 % finds with a probability of 80 %, by the width of its 95 % interval:
(z(0.975) + z(0.8)) standard errors, and the interval is 2 z(0.975) of them wide."""


def finished(workspace: Workspace, variant: str, seeds: int = 1) -> bool:
    """Whether a run has metrics of at least this many seeds."""
    path = workspace.results(variant) / "metrics.json"
    return path.exists() and read_json(path).get("seeds", 1) >= seeds


def run(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Run all stages of a variant up to its metrics, with its dataset and the runs that it starts from."""
    block = catalog.variants[variant]
    if finished(workspace, variant, len(block.every_seed)):
        return
    if block.init_from != "scratch":
        run(catalog, workspace, block.init_from)
    prepare(catalog, workspace, variant)
    for stage in ("train", "evaluate"):
        stages.run(stage, catalog, workspace, variant)


def prepare(catalog: Catalog, workspace: Workspace, variant: str) -> None:
    """Render a variant's set, find its faces and split it."""
    dataset = catalog.variants[variant].dataset
    if not workspace.landmarks(dataset).exists():
        for stage in ("synthesize", *stages.OF_A_DATASET):
            stages.run(stage, catalog, workspace, dataset)
    if not workspace.split(variant).exists():
        stages.run("split", catalog, workspace, variant)


def read(
    catalog: Catalog, workspace: Workspace, variant: str, features: pd.DataFrame, reader: Pipeline
) -> pd.DataFrame:
    """Predict a run's test samples from features (a row for each sample) by a classifier trained on its split."""
    table = read_index(workspace.index(catalog.variants[variant].dataset))
    split = pd.read_parquet(workspace.split(variant)).merge(table.rows[["sample", "subject", "label"]], on="sample")
    split = split[split["sample"].isin(features.index)]
    predicted = []
    for _, rows in split.groupby("fold"):
        train, test = (rows[rows["part"] == part] for part in ("train", "test"))
        reader.fit(features.loc[train["sample"]].to_numpy(), train["label"])
        predicted.append(test.assign(predicted=reader.predict(features.loc[test["sample"]].to_numpy())))
    return pd.concat(predicted, ignore_index=True)


def true_units(workspace: Workspace, dataset: str) -> pd.DataFrame:
    """Return the true action units of every sample with a face (of a clip: of its apex), the stronger side."""
    truth = pd.read_parquet(workspace.raw(dataset) / "truth.parquet").set_index("sample")
    found = FaceStore(workspace.faces(dataset)).samples
    return truth.filter(regex=r"^au\d\d$").loc[found]


def grey_faces(workspace: Workspace, dataset: str) -> pd.DataFrame:
    """Return the aligned faces as 64 x 64 grey levels with mean 0 and standard deviation 1, (N, 4096)."""
    store = FaceStore(workspace.faces(dataset))
    small = [
        cv2.resize(cv2.cvtColor(store.frame(name), cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
        for name in store.samples
    ]
    levels = np.array(small, np.float32).reshape(len(small), -1)
    levels -= levels.mean(axis=1, keepdims=True)
    return pd.DataFrame(levels / levels.std(axis=1, keepdims=True), store.samples)


def readers(catalog: Catalog, workspace: Workspace, variant: str) -> dict[str, pd.DataFrame]:
    """Return the predictions of what bounds a network: a reader of the truth, and for faces one of the pixels."""
    dataset = catalog.variants[variant].dataset
    units = make_pipeline(StandardScaler(), LogisticRegression(C=10.0, max_iter=5000))
    found = {CEILING: read(catalog, workspace, variant, true_units(workspace, dataset), units)}
    if catalog.rendered[dataset].kind == "image":
        linear = make_pipeline(PCA(100, random_state=0), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
        found[FLOOR] = read(catalog, workspace, variant, grey_faces(workspace, dataset), linear)
    return found


def row(catalog: Catalog, workspace: Workspace, variant: str, metrics: dict[str, Any]) -> dict[str, object]:
    """Make a row of the table of runs."""
    split = pd.read_parquet(workspace.split(variant))
    split = split[split["sample"].isin(FaceStore(workspace.faces(catalog.variants[variant].dataset)).samples)]
    trained = split[split["part"] == "train"].groupby("fold")["sample"].nunique()
    spread = metrics.get("uar_seed_std")
    return {
        "trained on": f"{trained.iloc[0]}" if len(trained) == 1 else f"{trained.mean():.0f} in {len(trained)} folds",
        "tested on": metrics["n"],
        "seeds": metrics.get("seeds", 1),
        **{name: f"{metrics[name]:.4f}" for name in ("uar", "uar_low", "uar_high")},
        "SD of seeds, points": "" if spread is None else f"{100 * spread:.1f}",
    }


def difference(workspace: Workspace, catalog: Catalog, first: str, second: str) -> dict[str, object]:
    """Make a row of the table of differences; positive where the second is better."""
    classes = read_index(workspace.index(catalog.variants[first].dataset)).classes
    frames = [pd.read_parquet(workspace.results(name) / "predictions.parquet") for name in (first, second)]
    uar = compare(*frames, classes).metrics.loc["uar"]
    return {
        "run": second,
        "compared with": first,
        "gain": f"{uar['difference']:.4f}",
        "gain_low": f"{uar['low']:.4f}",
        "gain_high": f"{uar['high']:.4f}",
        "could be seen, points": f"{100 * DETECTABLE * (uar['high'] - uar['low']):.1f}",
    }


def tables(catalog: Catalog, workspace: Workspace) -> None:
    """Write the tables from the finished runs."""
    rows, differences = [], []
    for dataset, runs in RUNS.items():
        done = [name for name in runs if finished(workspace, name)]
        for name in done:
            metrics = read_json(workspace.results(name) / "metrics.json")
            rows.append({"set": dataset, "run": name} | row(catalog, workspace, name, metrics))
        differences += [difference(workspace, catalog, done[0], name) for name in done[1:]]
        if workspace.split(runs[0]).exists():
            classes = read_index(workspace.index(dataset)).classes
            for name, predictions in readers(catalog, workspace, runs[0]).items():
                metrics = evaluate(predictions, classes, metrics=("uar",))
                rows.append({"set": dataset, "run": name} | row(catalog, workspace, runs[0], metrics) | {"seeds": ""})
    pd.DataFrame(rows).to_csv(TABLES / "hard.csv", index=False, lineterminator="\n")
    columns = ["run", "compared with", "gain", "gain_low", "gain_high", "could be seen, points"]
    pd.DataFrame(differences, columns=columns).to_csv(TABLES / "hard-differences.csv", index=False, lineterminator="\n")


def catalog_of(params: Path, seeds: int) -> Catalog:
    """Read params.yaml, to which runs that it lacks are added, with at most this many seeds of every run."""
    if not params.exists():
        params.write_text(EMPTY, encoding="utf-8")
    params_file.add(params, [("variants", name) for runs in RUNS.values() for name in runs])
    catalog = config.load(params)
    fewer = {name: block.model_copy(update={"seeds": block.seeds[:seeds]}) for name, block in catalog.variants.items()}
    return catalog.model_copy(update={"variants": fewer})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="default: all")
    parser.add_argument("--seeds", type=int, default=3, help="train at most this many")
    parser.add_argument("--prepare", action="store_true", help="render, align and split, and train nothing")
    parser.add_argument("--freeze", action="store_true", help="record the rendered sets, and do nothing else")
    options = parser.parse_intermixed_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    here, workspace = catalog_of(Path("params.yaml"), options.seeds), Workspace()
    if options.freeze:
        for rendered in (name for name in RUNS if workspace.raw(name).exists()):
            freeze(rendered, workspace.raw(rendered))
    else:
        for variant in options.runs or [name for runs in RUNS.values() for name in runs]:
            (prepare if options.prepare else run)(here, workspace, variant)
        tables(here, workspace)
