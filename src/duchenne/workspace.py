"""Paths of all files of the pipeline, relative to one root: the project folder, or a scratch folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duchenne.files import read_json


@dataclass(frozen=True)
class Workspace:
    """The paths of DVC's stages below ``root``."""

    root: Path = Path()

    def raw(self, rendered: str) -> Path:
        """Folder of a rendered set; other datasets are in their ``root``."""
        return self.root / "data" / "raw" / rendered

    def index(self, dataset: str) -> Path:
        return self.root / "data" / "index" / f"{dataset}.parquet"

    def audit(self, dataset: str) -> Path:
        return self.root / "data" / "index" / f"{dataset}.audit.json"

    def faces(self, dataset: str) -> Path:
        return self.root / "data" / "faces" / dataset

    def landmarks(self, dataset: str) -> Path:
        return self.root / "data" / "landmarks" / f"{dataset}.parquet"

    def au_centers(self, dataset: str) -> Path:
        return self.root / "data" / "landmarks" / f"{dataset}.au_centers.json"

    def split(self, variant: str) -> Path:
        return self.root / "data" / "splits" / f"{variant}.parquet"

    def duplicates(self, variant: str) -> Path:
        return self.root / "data" / "splits" / f"{variant}.duplicates.parquet"

    def model(self, variant: str) -> Path:
        return self.root / "models" / variant

    def fold(self, variant: str, number: int) -> Path:
        """Folder of a trained fold: weights, card and history; folds are counted from 1."""
        return self.model(variant) / f"fold_{number}"

    def folds(self, variant: str) -> dict[int, Path]:
        """The trained folds of a variant by number, in order."""
        numbers = (int(path.name.removeprefix("fold_")) for path in self.model(variant).glob("fold_*"))
        return {number: self.fold(variant, number) for number in sorted(numbers)}

    def card(self, name: str) -> dict[str, Any]:
        """Card of a run's first fold, unchecked; {} if it cannot be read."""
        try:
            card = read_json(self.fold(name, 1) / "card.json")
        except (OSError, ValueError):
            return {}
        return card if isinstance(card, dict) else {}

    def imported(self, name: str) -> dict[str, Any] | None:
        """Origin of a network that ``duchenne import`` wrote: ``imported`` on its card; None if there is none."""
        return self.card(name).get("imported")

    def fold_state(self, variant: str, number: int) -> Path:
        """Folder of the state from which a fold resumes, outside DVC's outs."""
        return self.work("train", variant) / f"fold_{number}"

    def training_record(self, variant: str) -> Path:
        """Record of the training run of a variant's folds."""
        return self.model(variant) / "training.json"

    def results(self, variant: str) -> Path:
        return self.root / "results" / variant

    @property
    def settings(self) -> Path:
        return self.root / "data" / "settings"

    def work(self, stage: str, name: str) -> Path:
        """Folder of a stage's resumable state, outside DVC's outs, which DVC deletes before a stage runs."""
        return self.root / "work" / stage / name

    @property
    def reports(self) -> Path:
        return self.root / "reports"
