"""What a finished run left on disk, read once for the figures, the tables and the page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from duchenne.catalog import Catalog, Variant
from duchenne.datasets import read_index
from duchenne.errors import UserError
from duchenne.reporting.papers import Cell, printed_for
from duchenne.workspace import Workspace

COMPARED = ("war", "uar", "uf1")
"""Metrics of ours that papers print."""


@dataclass(frozen=True)
class Run:
    """One variant's results.

    ``history`` holds the epochs of all folds (column ``fold``), ``cards`` one card a fold, ``parts`` the split with
    label and subject of every sample, ``indexed`` the samples of the dataset's index, ``noun`` what a sample is.
    """

    name: str
    config: Variant
    classes: list[str]
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: pd.DataFrame
    cards: dict[int, dict[str, Any]]
    parts: pd.DataFrame
    indexed: int
    noun: str
    features_file: Path

    @property
    def optimistic(self) -> bool:
        """Whether the reported epoch was picked on the test part."""
        return self.config.selection == "test"

    @property
    def printed(self) -> dict[str, Cell]:
        """Metric -> the value that the paper prints, of those that the overview shows."""
        return {name: cell for name, cell in printed_for(self.name, self.config).items() if name in COMPARED}

    @property
    def present(self) -> list[str]:
        """The classes that have a test sample, of which UAR and UF1 are means."""
        return [name for name in self.classes if f"recall_{name}" in self.metrics]

    @property
    def selected(self) -> dict[int, int]:
        """Fold -> the epoch whose weights are reported."""
        return {fold: card["selection"]["epoch"] for fold, card in self.cards.items()}

    def features(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Fold, features (N, F) and labels (N,) of the fold with the most test samples.

        Each fold has its own network, and features of two networks have nothing to do with each other.
        """
        with np.load(self.features_file) as file:
            samples, folds, features = file["sample"], file["fold"], file["features"]
        numbers, sizes = np.unique(folds, return_counts=True)
        fold = int(numbers[sizes.argmax()])
        labels = self.predictions.set_index("sample")["label"]
        return fold, features[folds == fold], labels.loc[samples[folds == fold]].to_numpy(np.int64)


def load_run(workspace: Workspace, catalog: Catalog, name: str) -> Run:
    """Read the files of one variant.

    Raises:
        UserError: the run is not finished; names the missing file and what to do.
    """
    config = catalog.variants[name]
    try:
        index = read_index(workspace.index(config.dataset))
        folders = sorted(workspace.model(name).glob("fold_*"), key=lambda folder: int(folder.name[5:]))
        cards = {int(folder.name[5:]): json.loads((folder / "card.json").read_text()) for folder in folders}
        histories = [pd.read_csv(folder / "history.csv").assign(fold=int(folder.name[5:])) for folder in folders]
        parts = pd.read_parquet(workspace.split(name))
        metrics = json.loads((workspace.results(name) / "metrics.json").read_text())
        predictions = pd.read_parquet(workspace.results(name) / "predictions.parquet")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: `dvc repro` finishes the run {name!r} first") from None
    return Run(
        name=name,
        config=config,
        classes=index.classes,
        metrics=metrics,
        predictions=predictions,
        history=pd.concat(histories, ignore_index=True),
        cards=cards,
        parts=parts.merge(index.rows[["sample", "label", "subject"]], on="sample", validate="many_to_one"),
        indexed=len(index.rows),
        noun="faces" if (index.rows["kind"] == "image").all() else "clips",
        features_file=workspace.results(name) / "features.npz",
    )
