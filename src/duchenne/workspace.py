"""Paths of all files of the pipeline, relative to one root: the project folder, or a scratch folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duchenne.files import read_json

Network = tuple[int, int]
"""Seed and fold of a trained network."""


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

    def fold(self, variant: str, number: int, further_seed: int | None = None) -> Path:
        """Folder of a trained fold: weights, card and history; folds are counted from 1.

        Args:
            further_seed: a seed of the variant after the first; None: the first.
        """
        return self.model(variant) / fold_name(number, further_seed)

    def networks(self, variant: str, seeds: Iterable[int]) -> dict[Network, Path]:
        """The folders of the trained networks of a variant's ``every_seed``, in order."""
        return _of_seeds(self.model(variant), seeds)

    def folds(self, variant: str) -> dict[int, Path]:
        """The trained folds of a variant's first seed by number, in order."""
        return _numbered(self.model(variant))

    def card(self, name: str) -> dict[str, Any]:
        """Card of a run's first fold, unchecked; {} if it cannot be read."""
        try:
            card = read_json(self.fold(name, 1) / "card.json")
        except (OSError, ValueError):
            return {}
        return card if isinstance(card, dict) else {}

    def imported(self, name: str) -> dict[str, Any] | None:
        """Origin of a network that ``duchenne import`` wrote: ``imported`` on its card; None if there is none."""
        found = self.card(name).get("imported")
        return found if isinstance(found, dict) else None

    def fold_state(self, variant: str, number: int, further_seed: int | None = None) -> Path:
        """Folder of the state from which a fold resumes, outside DVC's outs; arguments as for :meth:`fold`."""
        return self.work("train", variant) / fold_name(number, further_seed)

    def fold_states(self, variant: str, seeds: Iterable[int]) -> dict[Network, Path]:
        """The folders of the states of a variant's ``every_seed``, in order."""
        return _of_seeds(self.work("train", variant), seeds)

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


def fold_name(number: int, further_seed: int | None = None) -> str:
    """Name of a fold's folder in that of its variant.

    >>> fold_name(2), fold_name(2, further_seed=1)
    ('fold_2', 'seed_1/fold_2')
    """
    return f"fold_{number}" if further_seed is None else f"seed_{further_seed}/fold_{number}"


def _of_seeds(folder: Path, seeds: Iterable[int]) -> dict[Network, Path]:
    """Folders of the folds of all seeds, of which the first has no folder of its own."""
    found: dict[Network, Path] = {}
    for place, seed in enumerate(seeds):
        own = _numbered((folder / fold_name(1, seed if place else None)).parent)
        found |= {(seed, number): path for number, path in own.items()}
    return found


def _numbered(folder: Path) -> dict[int, Path]:
    """Folders of folds by number, in order."""
    found = (re.fullmatch(r"fold_([1-9]\d{0,8})", path.name) for path in folder.glob("fold_*"))
    return {number: folder / f"fold_{number}" for number in sorted(int(name[1]) for name in found if name)}
