"""Numbers of a run against its predictions, and its files against each other.

Every value of ``metrics.json`` is computed again from ``predictions.parquet`` by the registry of metrics, the
predictions are compared with the index and the split, and what cards and records state of other files with these files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from duchenne.config import Catalog
from duchenne.datasets.index import Index, problems_file, read_index
from duchenne.errors import UserError
from duchenne.evaluation.explained import LISTED as LISTED_MAPS
from duchenne.evaluation.explained import PICTURES as RECORD_OF_PICTURES
from duchenne.evaluation.groups import flat_gaps, measure_groups
from duchenne.evaluation.robustness import CLEAN, MEASURED, summarise
from duchenne.evaluation.robustness import COLUMNS as COLUMNS_OF_DAMAGE
from duchenne.evaluation.robustness import RECORD as RECORD_OF_DAMAGE
from duchenne.evaluation.rules import FILE as RULES_FILE
from duchenne.evaluation.rules import of_rules, read_kept
from duchenne.evaluation.statistics import at_temperature, check, evaluate, evaluate_uncalibrated, of_first_seed
from duchenne.faces.store import FaceStore
from duchenne.files import file_digest, read_json, table_digest
from duchenne.sealed import FILES, DamagedError, check_listed, check_table, read_sealed
from duchenne.stages.evaluate import faces_digest, metrics_of
from duchenne.training.calibration import temperature_of
from duchenne.training.settings import Variant
from duchenne.verification.findings import TOLERANCE, Checked
from duchenne.workspace import Network, Workspace

COLUMNS = ["sample", "fold", "subject", "label", "predicted", "confidence"]
"""Columns of predictions beside the probabilities."""

STATED = ("fold", "classes", "alignment", "split", "samples", "selection")
"""Entries of a card that are compared."""

OF_THE_SPLIT = ("near_duplicates", "n_without_duplicates", "missed")
"""Keys of ``metrics.json`` that need the split."""


def verify_run(
    catalog: Catalog, workspace: Workspace, name: str, allow_missing: bool = False, before: Checked | None = None
) -> Checked:
    """Check the numbers and records of one run.

    Args:
        name: variant, or ``published/VARIANT`` for published weights that were measured on its test part.
        allow_missing: index, faces or split that are not on this machine are skipped, not wrong.
        before: result of the check of files; those that it found damaged are not compared with others.
    """
    run = _Run(catalog, workspace, name, allow_missing, before or Checked())
    run.check()
    return run.done


class _Run:
    """Check of one run; ``done`` is its result."""

    def __init__(self, catalog: Catalog, workspace: Workspace, name: str, allow_missing: bool, before: Checked) -> None:
        self.catalog, self.workspace, self.name, self.allow_missing = catalog, workspace, name, allow_missing
        self.before = before
        self.cards: dict[Path, dict[str, Any] | None] = {}
        self.damaged: dict[str, None] = {}  # files that are not compared with others
        self.published = name.startswith("published/")
        self.variant = name.removeprefix("published/")
        self.config: Variant = catalog.variants[self.variant]
        self.results = workspace.results(name)
        self.done = Checked()
        self.done.counts["runs"] = 1
        self.again = f"delete it, then `dvc checkout`, `dvc pull` or `dvc repro evaluate@{name}`"
        if self.published:
            self.again = "run `duchenne evaluate` again"

    def check(self) -> None:
        needed = [self.results / name for name in ("predictions.parquet", "metrics.json")]
        if not any(path.exists() for path in needed):
            if any(map(self._explained, needed)):
                return
            stage = self.name if self.published else f"evaluate@{self.name}"
            self.done.wrong(stage, "not run", "has not run yet: there are no results", f"dvc repro {stage}")
            self.done.counts["runs"] = 0
            return
        self._check()
        if self.damaged:
            self.done.skipped.append(f"{self.name}: comparisons with damaged files ({', '.join(self.damaged)})")

    def _check(self) -> None:
        places, dataset = self.workspace, self.config.dataset
        record = self._record()
        self.seeds: list[int] = record.get("seeds") or self.config.every_seed
        index: Index | None = None
        if not self._explained(problems_file(places.index(dataset))):  # whose digest is in the index
            index = self._input(places.index(dataset), read_index)
        split = self._input(places.split(self.variant), partial(_table, columns=["sample", "fold", "part"]))
        duplicates = self._input(places.duplicates(self.variant), partial(_table, columns=["sample", "fold", "part"]))
        store = self._input(places.faces(dataset), _store)
        frame = self._read(self.results / "predictions.parquet", partial(_table, columns=COLUMNS))
        classes = None
        if frame is not None and "seed" not in frame:  # of a version before there were several seeds
            frame = frame.assign(seed=self.seeds[0])
        if frame is not None:
            classes = [column.removeprefix("p_") for column in frame if column.startswith("p_")]
            folds = record.get("folds") or sorted(map(int, frame["fold"].unique()))
            sound = self._predictions(frame, classes)
            if index is not None:
                self._labels(frame, classes, index)
            if split is not None:
                self._tested(frame, split, folds, store)
            if sound:
                self._companions(frame, classes)
                groups = self._groups(frame, classes, index, record)
                self._metrics(frame, classes, split, duplicates, folds, record, groups)
                self._robustness(frame, classes, record)
        if not self.published:
            self._networks(record, index, split, store, classes)
        self._digests(record, store)
        self._seals(record)

    def _explained(self, path: Path) -> bool:
        """Whether a file is known to be damaged, which is noted."""
        found = self.before.explains(path)
        if found:
            self.damaged[path.as_posix()] = None
        return found

    def _wrong(self, path: Path, text: str, kind: Any = "record", fix: str = "") -> None:
        if not self._explained(path):
            self.done.wrong(path, kind, text, fix or self.again)

    def _read(self, path: Path, read: Callable[[Path], Any], fix: str = "") -> Any:
        """Return what ``read`` makes of a file; None if that fails, which is reported, or if it is damaged."""
        if self._explained(path):
            return None
        with self.done.reading(path, fix or self.again):
            return read(path)
        return None

    def _input(self, path: Path, read: Callable[[Path], Any]) -> Any:
        """Like :meth:`_read` for an input of the run, which need not be here with ``allow_missing``."""
        if not path.exists() and self.allow_missing:
            self.done.skipped.append(f"{path.as_posix()}: not on this machine, {self.name} is not compared with it")
            return None
        return self._read(path, read)

    def _record(self) -> dict[str, Any]:
        path = self.results / "record.json"
        if path.exists():
            return self._read(path, read_sealed) or {}
        if self.catalog.report.bootstrap:
            self.done.skipped.append(
                f"{path.as_posix()}: an older version wrote none; the number of resamples is taken from params.yaml"
            )
        return {}

    def _predictions(self, frame: pd.DataFrame, classes: list[str]) -> bool:
        """Check that the probabilities are such, and that the prediction is the most probable class."""
        path = self.results / "predictions.parquet"
        values = frame[[f"p_{name}" for name in classes]].to_numpy(np.float64)
        for wrong, what in (
            (~np.isfinite(values).all(axis=1), "probabilities that are not finite"),
            ((values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > 1e-9), "probabilities that do not sum to 1"),
            (~frame["predicted"].between(0, len(classes) - 1).to_numpy(), "a prediction outside the classes"),
            (frame.duplicated(["seed", "sample"]).to_numpy(), "a second row"),
            (~frame["seed"].isin(self.seeds).to_numpy(), "a seed that is none of the run's"),
        ):
            if wrong.any():
                self._wrong(path, f"{_some(frame['sample'][wrong])} with {what}", "numbers")
                return False
        best = values.max(axis=1)
        own = values[np.arange(len(values)), frame["predicted"].to_numpy(np.int64)]
        for wrong, what in (
            (own < best, "a prediction that is not the most probable class"),
            (frame["confidence"].to_numpy() != own, "a confidence that is not the probability of the prediction"),
        ):
            if wrong.any():
                self._wrong(path, f"{_some(frame['sample'][wrong])} with {what}", "numbers")
        try:
            check(frame, classes)
        except UserError as error:
            self._wrong(path, str(error), "numbers")
            return False
        return True

    def _labels(self, frame: pd.DataFrame, classes: list[str], index: Index) -> None:
        """Compare samples, labels, subjects and the order of classes with the index."""
        path = self.results / "predictions.parquet"
        if classes != index.classes:
            said = f"its classes are {', '.join(classes)}, those of the index {', '.join(index.classes)}"
            self._wrong(path, said)
        known = frame[["sample"]].merge(index.rows[["sample", "label", "subject"]], on="sample", how="left")
        unknown = known["label"].isna().to_numpy() & ~frame["sample"].isin(index.rows["sample"]).to_numpy()
        if unknown.any():
            self._wrong(path, f"{_some(frame['sample'][unknown])} that the index does not have")
        for column in ("label", "subject"):
            mine, theirs = (table[column].astype("string").fillna("").to_numpy() for table in (frame, known))
            wrong = (mine != theirs) & ~unknown
            if wrong.any():
                self._wrong(path, f"{_some(frame['sample'][wrong])} with another {column} than in the index")

    def _tested(self, frame: pd.DataFrame, split: pd.DataFrame, folds: list[int], store: FaceStore | None) -> None:
        """Compare samples and folds with the test parts of the split."""
        path = self.results / "predictions.parquet"
        tested = split[(split["part"] == "test") & split["fold"].isin(folds)]
        if store is not None:
            tested = tested[tested["sample"].isin(set(store.samples))]
        wanted = set(zip(tested["fold"].astype(int), tested["sample"], strict=True))
        given = set(zip(frame["fold"].astype(int), frame["sample"], strict=True))
        if more := sorted(given - wanted):
            self._wrong(path, f"{_some(pd.Series([name for _, name in more]))} not in the test part of its fold")
        if store is not None and (less := sorted(wanted - given)):
            self._wrong(path, f"{_some(pd.Series([name for _, name in less]))} of the test part without a prediction")

    def _companions(self, frame: pd.DataFrame, classes: list[str]) -> None:
        """Compare the table behind the confusion matrix, and the names in the features, with the predictions."""
        path = self.results / "confusion.csv"
        table = self._read(path, lambda file: pd.read_csv(file, dtype=str, keep_default_na=False))
        if table is not None:
            names = np.array(classes, dtype=object)
            for column, own in (("actual", "label"), ("predicted", "predicted")):
                wanted = names[frame[own].to_numpy(np.int64)].tolist()
                if table.get(column, pd.Series(dtype=str)).tolist() != wanted:
                    self._wrong(path, f"its column {column} is not that of the predictions", "numbers")
        path = self.results / "features.npz"
        if path.exists() or not self.published:
            features = self._read(path, _rows_of_features)
            first = of_first_seed(frame)
            if features is not None and features != list(zip(first["sample"], first["fold"].astype(int), strict=True)):
                self._wrong(path, "its samples and folds are not those of the predictions")

    def _metrics(
        self,
        frame: pd.DataFrame,
        classes: list[str],
        split: pd.DataFrame | None,
        duplicates: pd.DataFrame | None,
        folds: list[int],
        record: dict[str, Any],
        groups: dict[str, Any] | None,
    ) -> None:
        """Compute every metric again and compare; the gaps are those of ``groups``."""
        path = self.results / "metrics.json"
        stated = self._read(path, read_json)
        if not isinstance(stated, dict):
            return
        whole = split is not None and duplicates is not None
        kept, how = self._kept(stated), self._how(classes, record)
        try:
            computed = metrics_of(
                frame,
                classes,
                self.config.model_copy(update={"seed": how["seed"]}),
                split if whole else pd.DataFrame(columns=["sample", "fold", "part"]),
                duplicates if whole else pd.DataFrame(columns=["sample", "other", "fold", "part", "other_part"]),
                folds=folds,
                composite=bool(self.catalog.datasets[self.config.dataset].facts.parts),
                bootstrap=how["bootstrap"],
                kept=kept,
            )
        except UserError as error:
            self._wrong(self.results / "predictions.parquet", str(error), "numbers")
            return
        uncalibrated = self._uncalibrated(frame, classes, record)
        computed |= (uncalibrated or {}) | flat_gaps(groups or {"columns": []})
        left_out: list[tuple[bool, Callable[[str], bool]]] = [
            (not whole, lambda key: key in OF_THE_SPLIT or "_without_duplicates" in key),
            (not kept, of_rules),
            (groups is None, lambda key: "_gap_" in key),
            (uncalibrated is None, lambda key: "_uncalibrated" in key),
        ]
        unknown = [which for missing, which in left_out if missing]
        stated, computed = (
            {key: value for key, value in values.items() if not any(which(key) for which in unknown)}
            for values in (stated, computed)
        )
        self.done.compare(path, stated, computed, "the predictions", self.again)
        recalls = [key for key in stated if key.removeprefix("recall_") in classes and key.startswith("recall_")]
        if recalls != [f"recall_{name}" for name in classes if f"recall_{name}" in stated]:
            self._wrong(path, "the recalls of the classes are in another order than the classes of the predictions")

    def _how(self, classes: list[str], record: dict[str, Any]) -> dict[str, Any]:
        """Return how a run was measured, as functions of :mod:`duchenne.evaluation` take it."""
        bootstrap = record.get("bootstrap", self.catalog.report.bootstrap)
        return {"classes": classes, "bootstrap": bootstrap, "seed": record.get("seed", self.config.seed)}

    def _uncalibrated(self, frame: pd.DataFrame, classes: list[str], record: dict[str, Any]) -> dict[str, float] | None:
        """Measure the probabilities before calibration, by the temperatures on the cards; None without all cards."""
        networks = pd.MultiIndex.from_frame(frame[["seed", "fold"]].astype(int))
        folders = self.workspace.networks(self.name, self.seeds)
        if self.published or not networks.isin(list(folders)).all():
            return None  # published weights may lie elsewhere
        cards = {network: self._card_of(folders[network]) for network in networks.unique()}
        if None in cards.values():
            return None
        known = {network: temperature_of(card) for network, card in cards.items() if card and "calibration" in card}
        own = networks.isin(list(known))
        if not own.any():
            return {}
        before = at_temperature(frame[own], classes, networks[own].map(known).to_numpy(float))
        return evaluate_uncalibrated(before, **self._how(classes, record))

    def _card_of(self, folder: Path) -> dict[str, Any] | None:
        """Return the card of a network; None if it cannot be read, which is reported once."""
        if folder not in self.cards:
            self.cards[folder] = self._read(folder / "card.json", _card, self.again.replace("evaluate@", "train@"))
        return self.cards[folder]

    def _groups(
        self, frame: pd.DataFrame, classes: list[str], index: Index | None, record: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Measure groups of people again and compare; None without the index, which knows them."""
        if index is None:
            return None
        factors = frame["sample"].map(index.rows.set_index("sample")["factors"])
        groups = measure_groups(frame, factors, **self._how(classes, record))
        path = self.results / "groups.json"
        stated = self._read(path, read_json)
        if stated is not None:
            self.done.compare(path, _flat(stated), _flat(groups), "the predictions", self.again)
        return groups

    def _robustness(self, frame: pd.DataFrame, classes: list[str], record: dict[str, Any]) -> None:
        """Compare the values of undamaged faces with the predictions, and the means with the table."""
        table_path, path = (self.results / f"robustness.{kind}" for kind in ("csv", "json"))
        if not table_path.exists() and not path.exists():  # published, or the stage has not run
            return
        again = self.again.replace("evaluate@", "robustness@")
        table = self._read(table_path, partial(_table, columns=COLUMNS_OF_DAMAGE), again)
        if table is None:
            return
        for _, clean in table[table["corruption"] == CLEAN].iterrows():
            computed = evaluate(of_first_seed(frame), **self._how(classes, record), metrics=MEASURED)
            computed = {key: computed[key] for key in COLUMNS_OF_DAMAGE if key in computed}
            stated = {key: clean[key] for key in computed}
            self.done.compare(table_path, stated, computed, "the predictions", again)
        if isinstance(stated := self._read(path, read_json, again), dict):
            self.done.compare(path, stated, summarise(table), "the values in robustness.csv", again)

    def _kept(self, stated: dict[str, Any]) -> dict[Network, pd.DataFrame]:
        """Read the test logits of other epochs, which must be there where metrics were computed of them."""
        folders = {} if self.published else self.workspace.networks(self.name, self.seeds)
        files = [folder / name for folder in folders.values() for name in (RULES_FILE, "card.json")]
        if any(self._explained(path) for path in files):  # a card lists the digest of the kept logits
            return {}
        kept = None
        with self.done.reading(self.workspace.model(self.name), self.again):
            kept = read_kept(folders)
        if kept is None:  # which is reported
            return {}
        if not kept and any(map(of_rules, stated)):
            path = self.workspace.fold(self.name, 1) / RULES_FILE
            if self.allow_missing:
                self.done.skipped.append(
                    f"{path.as_posix()}: not on this machine, values under other rules are not computed again"
                )
            else:
                self._wrong(path, "is missing, or that of another fold; metrics.json has values of them", "missing")
        return kept

    def _networks(
        self,
        record: dict[str, Any],
        index: Index | None,
        split: pd.DataFrame | None,
        store: FaceStore | None,
        classes: list[str] | None,
    ) -> None:
        """Check weights, cards, histories and the record of training against each other."""
        again = f"delete it, then `dvc checkout`, `dvc pull` or `dvc repro train@{self.name}`"
        histories = []
        model, found = self.workspace.model(self.name), self.workspace.networks(self.name, self.seeds)
        folders = {folder.relative_to(model).as_posix(): network for network, folder in found.items()}
        for name in dict.fromkeys([*folders, *record.get("networks", {})]):
            folder = model / name
            seed, fold = folders.get(name) or (self.seeds[0], int(name.rpartition("_")[2]))
            if not folder.exists() and self.allow_missing:
                self.done.skipped.append(f"{folder.as_posix()}: not on this machine")
                continue
            card = self._card_of(folder)
            history = self._read(folder / "history.csv", _history, again)
            if card is not None:
                self._card(folder, fold, card, index, split, store, classes, again)
            if history is not None:
                histories.append(history.assign(seed=seed, fold=fold))
            if card is not None and history is not None:
                self._selected(folder, card, history, again)
            self._weights(folder, name, card or {}, record, again)
        if histories and len(histories) == len(folders):
            path = self.results / "history.csv"
            own = self._read(path, _history)
            if own is not None and not _same_table(own, pd.concat(histories, ignore_index=True)):
                self._wrong(path, f"is not the histories in {self.workspace.model(self.name).as_posix()}", "numbers")
        path = self.workspace.training_record(self.name)
        if path.exists() and split is not None:
            stated = (self._read(path, read_sealed, again) or {}).get("split", "")
            if not file_digest(self.workspace.split(self.name)).startswith(stated):
                self._wrong(path, "its networks were trained on another split than that of the evaluation", fix=again)

    def _card(
        self,
        folder: Path,
        fold: int,
        card: dict[str, Any],
        index: Index | None,
        split: pd.DataFrame | None,
        store: FaceStore | None,
        classes: list[str] | None,
        again: str,
    ) -> None:
        path = folder / "card.json"
        for key, wanted, whose in (
            ("fold", fold, "of its folder"),
            ("classes", index.classes if index else None, "of the index"),
            ("classes", classes, "of the predictions"),
            ("alignment", store.meta if store else None, "of the faces"),
        ):
            if wanted is not None and card[key] != wanted:
                self._wrong(path, f"{key} is {card[key]}, that {whose} {wanted}", fix=again)
        if split is None or store is None:
            return
        own = split[(split["fold"] == fold) & split["sample"].isin(set(store.samples))]
        digest = table_digest(own.sort_values("sample")[["sample", "part"]])
        if card["split"] != digest or card["samples"] != own["part"].value_counts().to_dict():
            self._wrong(path, "its network was trained on other samples or parts than those of the split", fix=again)

    def _selected(self, folder: Path, card: dict[str, Any], history: pd.DataFrame, again: str) -> None:
        """Pick the reported epoch again from the history."""
        from duchenne.training.measure import score  # imports torch

        said = card["selection"]
        rule = self.config.model_copy(update={"selection": said["rule"], "monitor": said["monitor"]})
        with self.done.reading(folder / "history.csv", again):
            scores = [score(row, rule) or [] for row in history.to_dict("records")]
            place = len(scores) - 1 if rule.selection == "last" else scores.index(max(scores))
            picked = int(history["epoch"].iloc[place])
            if picked != said["epoch"]:
                text = f"its epoch is {said['epoch']}; by its rule ({said['rule']}) history.csv gives epoch {picked}"
                self._wrong(folder / "card.json", text, "numbers", again)

    def _weights(self, folder: Path, name: str, card: dict[str, Any], record: dict[str, Any], again: str) -> None:
        """Compare the files of a network with the digests on its card and in the record of the evaluation."""
        weights = folder / "weights.safetensors"
        paths = {"weights": weights, "card": folder / "card.json"}
        digests = {
            name: file_digest(path) for name, path in paths.items() if path.exists() and not self._explained(path)
        }
        if not weights.exists():
            self._wrong(weights, "is missing", "missing", again)
        elif "weights" in digests and card.get("weights_sha256", digests["weights"]) != digests["weights"]:
            self._wrong(weights, "are not the weights of its card.json (SHA-256)", fix=again)
        measured = record.get("networks", {}).get(name)
        if measured is None and record:
            self._wrong(self.results / "record.json", f"does not name the network {name}")
        for name, digest in digests.items():
            if measured and measured.get(name, digest) != digest:
                self._wrong(
                    paths[name], f"is not what was evaluated ({self.results.as_posix()}/record.json)", fix=again
                )

    def _digests(self, record: dict[str, Any], store: FaceStore | None) -> None:
        """Compare the data with the digests in the record."""
        places, dataset, stated = self.workspace, self.config.dataset, record.get("data", {})
        paths = {
            "index": places.index(dataset),
            "split": places.split(self.variant),
            "duplicates": places.duplicates(self.variant),
        }
        digests = {
            name: file_digest(path) for name, path in paths.items() if path.exists() and not self._explained(path)
        }
        if store is not None:
            paths["faces"], digests["faces"] = places.faces(dataset), faces_digest(store)
        for name, digest in digests.items():
            if stated.get(name, digest) != digest:
                self._wrong(paths[name], f"is not what {self.name} was measured on (record.json)")

    def _seals(self, record: dict[str, Any]) -> None:
        """Check the seals of all files of the run of which nothing wrong was found, and those that records list."""
        places, dataset, out = self.workspace, self.config.dataset, self.results
        sealed: list[tuple[Path, Callable[[Path], Any], str]] = [
            (places.audit(dataset), read_sealed, f"index@{dataset}"),
            (places.landmarks(dataset), check_table, f"landmarks@{dataset}"),
            (places.au_centers(dataset), read_sealed, f"landmarks@{dataset}"),
            (places.split(self.variant), check_table, f"split@{self.variant}"),
            (places.duplicates(self.variant), check_table, f"split@{self.variant}"),
            (out / "complexity.json", read_sealed, f"complexity@{self.name}"),
        ]
        for owner, names, stage in (
            (out / "record.json", record.get(FILES, {}), "evaluate"),
            (out / RECORD_OF_DAMAGE, ("robustness.csv", "robustness.json"), "robustness"),
            (out / "maps" / "explained.json", LISTED_MAPS, "explain"),
            (out / "maps" / RECORD_OF_PICTURES, ("maps.json",), "explain"),
        ):
            sealed.append((owner, read_sealed, f"{stage}@{self.name}"))
            sealed += [(owner.parent / name, partial(_listed, record=owner), f"{stage}@{self.name}") for name in names]
        for folder in [] if self.published else self.workspace.networks(self.name, self.seeds).values():
            owner = folder / "card.json"
            sealed.append((owner, read_sealed, f"train@{self.name}"))
            names = sorted(path.name for path in folder.iterdir() if path.suffix in (".csv", ".parquet"))
            sealed += [(folder / name, partial(_listed, record=owner), f"train@{self.name}") for name in names]
        for path, read, stage in sealed:
            known = {finding.path for finding in self.done.findings}
            if not path.exists() or path.as_posix() in known or self._explained(path):
                continue
            try:
                read(path)
            except DamagedError:
                again = f"delete it, then `dvc checkout`, `dvc pull` or `dvc repro {stage}`"
                text = "is not as it was written: its digest, or that in the record beside it, is another one"
                self.done.wrong(path, "record", text, self.again if self.published else again)


def _listed(path: Path, record: Path) -> None:
    """Compare a file with its digest in a record; a damaged record is a finding of its own."""
    try:
        read_sealed(record)
    except DamagedError:
        return
    check_listed(path, record)


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    table = pd.read_csv(path, float_precision="round_trip") if path.suffix == ".csv" else pd.read_parquet(path)
    if missing := [name for name in columns if name not in table]:
        raise UserError(f"its columns do not include {', '.join(missing)}")
    return table


def _store(path: Path) -> FaceStore:
    store = FaceStore(path)
    store.hashes()  # opens the shards
    return store


def _card(path: Path) -> dict[str, Any]:
    card = read_json(path)  # its seal is checked at the end, after what is wrong in it
    if missing := [name for name in STATED if name not in (card if isinstance(card, dict) else {})]:
        raise UserError(f"its entries do not include {', '.join(missing)}")
    return card


def _history(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, float_precision="round_trip")


def _rows_of_features(path: Path) -> list[tuple[str, int]]:
    with np.load(path) as file:
        return list(zip(file["sample"].tolist(), file["fold"].tolist(), strict=True))


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return the values in nested lists and dictionaries by their place, such as ``columns 0 gaps uar low``."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {place: each for name, inside in items for place, each in _flat(inside, f"{key} {name}").items()}
    return {key.strip(): value}


def _same_table(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    try:
        pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=TOLERANCE, atol=TOLERANCE)
    except AssertionError:
        return False
    return True


def _some(samples: pd.Series) -> str:
    count = len(samples)
    return f"sample {samples.iloc[0]!r}" if count == 1 else f"{count} samples, the first {samples.iloc[0]!r},"
