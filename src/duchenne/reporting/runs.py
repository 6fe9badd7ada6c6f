"""What a finished run left on disk, read once for the figures, the tables and the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from duchenne.config import Catalog
from duchenne.datasets.audit import known_flaws
from duchenne.datasets.index import read_index
from duchenne.errors import UserError
from duchenne.files import read_json
from duchenne.metrics import METRICS
from duchenne.papers.printed import Cell, printed_for
from duchenne.reporting.basis import Basis, basis_of
from duchenne.training.settings import Variant
from duchenne.workspace import Workspace


@dataclass(frozen=True)
class Run:
    """One variant's results.

    ``history`` holds the epochs of all folds (column ``fold``), ``cards`` one card a fold, ``parts`` the split with
    label and subject of every sample, ``rows`` the dataset's index, ``sizes`` the network's parameters and operations
    (``complexity.json``; empty where they were not counted), ``flaws`` what keeps the dataset from being the published
    one (:func:`duchenne.datasets.audit.flaws`), ``folder`` the results themselves.
    """

    name: str
    config: Variant
    classes: list[str]
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: pd.DataFrame
    cards: dict[int, dict[str, Any]]
    parts: pd.DataFrame
    rows: pd.DataFrame
    sizes: dict[str, Any]
    flaws: list[str]
    folder: Path

    @property
    def noun(self) -> str:
        """What a sample is, in the plural."""
        return "faces" if (self.rows["kind"] == "image").all() else "clips"

    @property
    def optimistic(self) -> bool:
        """Whether the reported epoch was picked on the test part."""
        return self.config.selection == "test"

    @property
    def basis(self) -> Basis:
        """What the network rests on."""
        return basis_of(self.config.model)

    @property
    def printed(self) -> dict[str, Cell]:
        """Metric -> the value that the paper prints, of those that the overview shows."""
        return {name: cell for name, cell in printed_for(self.name, self.config).items() if name in METRICS}

    @property
    def present(self) -> list[str]:
        """The classes that have a test sample, of which UAR and UF1 are means."""
        return [name for name in self.classes if f"recall_{name}" in self.metrics]

    @property
    def selected(self) -> dict[int, int]:
        """Fold -> the epoch whose weights are reported."""
        return {fold: card["selection"]["epoch"] for fold, card in self.cards.items()}

    def features(self) -> dict[int, tuple[np.ndarray, pd.DataFrame]]:
        """Fold -> features (N, F) of its test samples by its own network, and their N predictions.

        Each fold has its own network, and features of two networks have nothing to do with each other.
        """
        with np.load(self.folder / "features.npz") as file:
            samples, folds, features = file["sample"], file["fold"], file["features"]
        predictions = self.predictions.set_index(["sample", "fold"])
        found = {}
        for fold in np.unique(folds).tolist():
            own = folds == fold
            rows = predictions.loc[[(sample, fold) for sample in samples[own]]]
            found[fold] = features[own], rows.reset_index()
        return found


def load_run(workspace: Workspace, catalog: Catalog, name: str) -> Run:
    """Read the files of one variant.

    Raises:
        UserError: the run is not finished; names the missing file and what to do.
    """
    config, folder = catalog.variants[name], workspace.results(name)
    sizes = folder / "complexity.json"
    try:
        index = read_index(workspace.index(config.dataset))
        flaws = known_flaws(workspace.audit(config.dataset))
        folds = {int(path.name.removeprefix("fold_")): path for path in workspace.model(name).glob("fold_*")}
        cards = {fold: read_json(folds[fold] / "card.json") for fold in sorted(folds)}
        histories = [pd.read_csv(folds[fold] / "history.csv").assign(fold=fold) for fold in sorted(folds)]
        parts = pd.read_parquet(workspace.split(name))
        metrics = read_json(folder / "metrics.json")
        predictions = pd.read_parquet(folder / "predictions.parquet")
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
        rows=index.rows,
        sizes=read_json(sizes) if sizes.exists() else {},
        flaws=flaws,
        folder=folder,
    )
