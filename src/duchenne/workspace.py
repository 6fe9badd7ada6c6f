"""Where every file of the pipeline lives, relative to one root: the project folder, or a scratch folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The paths of DVC's stages below ``root``."""

    root: Path = Path()

    def raw(self, rendered: str) -> Path:
        """Where a set is rendered; datasets of other people lie where their ``root`` says."""
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

    def results(self, variant: str) -> Path:
        return self.root / "results" / variant

    @property
    def settings(self) -> Path:
        return self.root / "data" / "settings"

    def work(self, stage: str, name: str) -> Path:
        """Resumable state of a stage: outside DVC's outs, which DVC deletes before a stage runs."""
        return self.root / "work" / stage / name

    @property
    def reports(self) -> Path:
        return self.root / "reports"
