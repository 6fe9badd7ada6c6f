"""Results of one run for tables, figures, page and MLflow; each of its files is read once, when first needed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from duchenne.config import Catalog
from duchenne.datasets.audit import known_flaws
from duchenne.datasets.index import read_index
from duchenne.errors import UserError
from duchenne.evaluation.robustness import COLUMNS
from duchenne.evaluation.robustness import RECORD as RECORD_OF_DAMAGE
from duchenne.evaluation.rules import by_rule, measured_under, read_kept
from duchenne.evaluation.statistics import by_fold, by_seed, evaluate, of_first_seed
from duchenne.faces.store import FaceStore
from duchenne.files import file_digest, read_json
from duchenne.metrics import METRICS
from duchenne.networks import Basis
from duchenne.papers.printed import Cell, printed_for
from duchenne.reporting.basis import basis_of
from duchenne.reporting.factors import Factor, factors_of
from duchenne.reporting.feature_map import FeatureMap, feature_map
from duchenne.reporting.settings import Report
from duchenne.sealed import DamagedError, check_listed, damaged, read_sealed, read_table, swapped
from duchenne.training.settings import Variant
from duchenne.workspace import Workspace, fold_name

T = TypeVar("T")

KNOWN = ["sample", "kind", "onset", "apex", "factors"]
"""Columns of the index that :attr:`Run.samples` adds to the predictions."""

RESULTS = ("metrics.json", "groups.json", "predictions.parquet", "features.npz", "history.csv")
"""Files of the evaluate stage that the page needs."""


@dataclass(eq=False)
class Run:
    """Results of one variant, or of published weights that were measured like one.

    Everything that is read or computed is cached. A missing file raises a :class:`UserError` that names it when it
    is first needed; :meth:`require` checks all files at once.

    Attributes:
        name: name of the folder below ``results``.
        config: block of ``params.yaml``; None if there is none: then only ``metrics``, ``predictions`` and values
            computed from these two are available.
        report: settings of the page: number of resamples, and mapping of the features.
    """

    name: str
    config: Variant | None = None
    workspace: Workspace = field(default_factory=Workspace)
    report: Report = field(default_factory=Report)

    def require(self) -> None:
        """Check that the run is finished, before anything is drawn.

        Raises:
            UserError: It is not; the message names the missing file and what to do.
        """
        places = self.workspace
        needed = [
            *(self.results / name for name in RESULTS),
            places.index(self.config.dataset),
            places.split(self.name),
            *(folder / "card.json" for folder in places.folds(self.name).values() or [places.fold(self.name, 1)]),
        ]
        for path in needed:
            if not path.exists():
                raise self._unfinished(path)

    def _unfinished(self, path: str | Path) -> UserError:
        return UserError(f"{path} is missing: `dvc repro` finishes the run {self.name!r} first")

    def _read(self, read: Callable[[Path], T], path: Path) -> T:
        try:
            return read(path)
        except FileNotFoundError:
            raise self._unfinished(path) from None
        except UserError:
            raise
        except (ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:  # of versions without digests
            raise damaged(path, self._again, error) from None

    def _listed(self, path: Path) -> Path:
        """Return a file of the results that is as its record lists it."""
        return check_listed(path, self.results / "record.json", self._again)

    @property
    def _again(self) -> str:
        return f"delete it, then `dvc checkout`, `dvc pull` or `dvc repro evaluate@{self.name}` brings it back"

    @property
    def results(self) -> Path:
        """The folder of the results."""
        return self.workspace.results(self.name)

    @property
    def status(self) -> Literal["run", "running", "not run"]:
        """Status of the run: finished, in training, or neither."""
        if (self.results / "metrics.json").exists():
            return "run"
        begun = any(self.workspace.fold_state(self.name, 1).parent.glob("fold_*"))
        return "running" if begun else "not run"

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``."""
        return self._read(lambda path: read_json(self._listed(path)), self.results / "metrics.json")

    @cached_property
    def every_prediction(self) -> pd.DataFrame:
        """Row per test sample and seed.

        Columns: ``sample``, ``seed``, ``fold``, ``subject``, ``label``, ``predicted``, ``confidence``, ``p_*``.
        """
        return self._read(lambda path: read_table(self._listed(path)), self.results / "predictions.parquet")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The predictions by the networks of the first seed, a row per test sample: what is shown of single samples."""
        return of_first_seed(self.every_prediction).reset_index(drop=True)

    @cached_property
    def seed_metrics(self) -> pd.DataFrame:
        """Every metric of each seed: a row per seed, NaN where it is not defined."""
        return by_seed(self.every_prediction, self.classes)

    @cached_property
    def classes(self) -> list[str]:
        """Class names in the order of the network's outputs."""
        return [column.removeprefix("p_") for column in self.predictions if column.startswith("p_")]

    @cached_property
    def fold_metrics(self) -> pd.DataFrame:
        """Every metric of each fold, the mean over seeds: a row per fold, NaN where it is not defined."""
        return by_fold(self.every_prediction, self.classes)

    @cached_property
    def rules(self) -> dict[str, pd.DataFrame]:
        """Rule -> predictions at the epochs that it chooses, with a column ``epoch``; empty if they were not kept."""
        if "epoch_rule_last" not in self.metrics:
            return {}
        kept = read_kept(self.workspace.networks(self.name, self.config.every_seed))
        return by_rule(self.every_prediction, kept, self.classes, self.metrics["selection"])

    @cached_property
    def under(self) -> dict[str, dict[str, Any]]:
        """Rule -> what ``metrics.json`` would have under it; intervals only of metrics that it has for every rule."""
        found = {}
        for rule, frame in self.rules.items():
            names = tuple(measured_under(self.config.monitor))
            whole = evaluate(frame, self.classes, bootstrap=1, metrics=names)
            plain = {key: value for key, value in whole.items() if not key.endswith(("_low", "_high"))}
            ends = {f"{name}{end}": f"{name}_rule_{rule}{end}" for name in names for end in ("_low", "_high")}
            found[rule] = plain | {key: self.metrics[own] for key, own in ends.items() if own in self.metrics}
        return found

    @cached_property
    def history(self) -> pd.DataFrame:
        """The epochs of all folds with the first seed, with a column ``fold``."""
        return of_first_seed(self.every_epoch).reset_index(drop=True)

    @cached_property
    def every_epoch(self) -> pd.DataFrame:
        """The epochs of all networks, with columns ``seed`` and ``fold``."""
        return self._read(
            lambda path: pd.read_csv(self._listed(path), float_precision="round_trip"), self.results / "history.csv"
        )

    @cached_property
    def cards(self) -> dict[int, dict[str, Any]]:
        """Fold -> card of its network of the first seed, which is the one that was evaluated."""
        found, evaluated = {}, self.record.get("networks", {})
        for fold, folder in self.workspace.folds(self.name).items():
            path = folder / "card.json"
            found[fold] = self._read(read_sealed, path)
            known = evaluated.get(fold_name(fold), {}).get("card")
            if known is not None and file_digest(path) != known:
                raise DamagedError(
                    f"{path} is not the card that {self.results / 'record.json'} lists (SHA-256): one of the two is "
                    f"damaged, or the network was trained again; `dvc repro` measures it"
                )
        return found

    @property
    def temperatures(self) -> dict[int, float]:
        """Fold -> temperature of its network; empty if the run is not calibrated."""
        known = {fold: card.get("calibration") for fold, card in self.cards.items()}
        return {fold: entry["temperature"] for fold, entry in known.items() if entry}

    @cached_property
    def record(self) -> dict[str, Any]:
        """``record.json``: what made the results; empty for results of versions that wrote none."""
        path = self.results / "record.json"
        return read_sealed(path, self._again) if path.exists() else {}

    @property
    def origin(self) -> dict[str, Any]:
        """What made the run: ``evaluation``, its record, and ``training``, of each fold what its card states of it."""
        stated = ("precision", "seed", "code", "split", "weights_sha256", "versions", "machine")
        cards = {fold: {key: card[key] for key in stated if key in card} for fold, card in self.cards.items()}
        path = self.workspace.training_record(self.name)
        begun = read_sealed(path) if path.exists() else {}
        begun = {key: begun[key] for key in ("commit", "changed", "data") if key in begun}
        return {"evaluation": self.record, "training": begun | {"folds": cards}}

    @cached_property
    def training(self) -> str:
        """Id of the training run, MLflow's tag ``training``; empty if none is recorded."""
        path = self.workspace.training_record(self.name)
        return read_sealed(path)["id"] if path.exists() else ""

    @cached_property
    def sizes(self) -> dict[str, Any]:
        """Parameters and operations of the network; empty if they were not counted."""
        path = self.results / "complexity.json"
        found = read_sealed(path) if path.exists() else {}
        if (of := found.get("variant", self.name)) != self.name:
            raise swapped(path, f"that of {of}", self.name)
        return found

    @cached_property
    def robustness(self) -> pd.DataFrame:
        """``robustness.csv``: every metric under damage, by kind and strength; empty if that was not asked for."""
        path = self.results / "robustness.csv"
        if not path.exists():
            return pd.DataFrame(columns=COLUMNS)
        return pd.read_csv(check_listed(path, self.results / RECORD_OF_DAMAGE), float_precision="round_trip")

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The index of the dataset."""
        return self._read(read_index, self.workspace.index(self.config.dataset)).rows

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The predictions, with the columns :data:`KNOWN` of the index."""
        return self.predictions.merge(self.rows[KNOWN], on="sample", validate="many_to_one")

    @cached_property
    def parts(self) -> pd.DataFrame:
        """The split: ``sample``, ``fold``, ``part``, and ``label`` and ``subject`` of the index."""
        split = self._read(read_table, self.workspace.split(self.name))
        return split.merge(self.rows[["sample", "label", "subject"]], on="sample", validate="many_to_one")

    @cached_property
    def faces(self) -> FaceStore:
        """The stored faces of the dataset."""
        return FaceStore(self.workspace.faces(self.config.dataset))

    @cached_property
    def flaws(self) -> list[str]:
        """Differences between the dataset and the published one (:func:`duchenne.datasets.audit.flaws`)."""
        path = self.workspace.audit(self.config.dataset)
        return known_flaws(path) if path.exists() else ["it was not compared: run the index stage"]

    @property
    def maps(self) -> Path:
        """The folder of the explain stage."""
        return self.results / "maps"

    @property
    def noun(self) -> str:
        """Plural noun for the samples."""
        return "faces" if (self.rows["kind"] == "image").all() else "clips"

    @property
    def optimistic(self) -> bool:
        """Whether the reported epoch was picked on the test part."""
        return self.metrics.get("selection") == "test"

    @property
    def basis(self) -> Basis:
        """Basis of the network: official code or an interpretation of a paper."""
        return basis_of(self.config.model)

    @property
    def printed(self) -> dict[str, Cell]:
        """Metric -> printed value, for the metrics of the overview."""
        return {name: cell for name, cell in printed_for(self.name, self.config).items() if name in METRICS}

    @property
    def present(self) -> list[str]:
        """The classes with a test sample, over which UAR and UF1 are means."""
        return [name for name in self.classes if f"recall_{name}" in self.metrics]

    @property
    def selected(self) -> dict[int, int]:
        """Fold -> the epoch whose weights are reported."""
        return {fold: card["selection"]["epoch"] for fold, card in self.cards.items()}

    @cached_property
    def features(self) -> dict[int, tuple[np.ndarray, pd.DataFrame]]:
        """Fold -> features (N, F) of its test samples by its own network, and their N predictions.

        Each fold has its own network, and features of two networks are unrelated.
        """
        samples, folds, features = self._read(lambda path: _arrays(self._listed(path)), self.results / "features.npz")
        predictions = self.predictions.set_index(["sample", "fold"])
        found = {}
        for fold in np.unique(folds).tolist():
            own = folds == fold
            rows = predictions.loc[[(sample, fold) for sample in samples[own]]]
            found[fold] = features[own], rows.reset_index()
        return found

    @cached_property
    def factors(self) -> list[Factor]:
        """Accuracy by known conditions of the samples."""
        return factors_of(self.samples, self.classes, self.report.bootstrap, self.config.seed)

    @cached_property
    def groups(self) -> dict[str, Any]:
        """``groups.json``: metrics by group of people (:func:`duchenne.evaluation.groups.measure_groups`)."""
        return self._read(lambda path: read_json(self._listed(path)), self.results / "groups.json")

    @cached_property
    def feature_map(self) -> FeatureMap:
        """Map of the samples in the plane."""
        how = self.report.tsne_perplexity, self.report.tsne_iterations, self.config.seed
        return feature_map(self.features, self.predictions, *how)


def _arrays(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in ("sample", "fold", "features")]


def open_run(workspace: Workspace, catalog: Catalog, name: str) -> Run:
    """Open a run by the name of its variant, or of another folder below ``results``; reads nothing yet."""
    return Run(name, catalog.variants.get(name), workspace, catalog.report)
