"""Evaluation of trained networks on datasets that they were not trained on: a matrix of networks and datasets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from duchenne.config import Catalog, whole_library
from duchenne.datasets.index import Index, read_index
from duchenne.datasets.matching import Matching, documented, match
from duchenne.errors import UserError, nearest
from duchenne.evaluation.statistics import evaluate, of_first_seed
from duchenne.faces.hashing import near_pairs, pack
from duchenne.faces.store import FaceStore
from duchenne.files import file_digest
from duchenne.locks import alone
from duchenne.protocol import Protocol
from duchenne.sealed import (
    FILES,
    DamagedError,
    check_listed,
    digests,
    read_sealed,
    read_table,
    write_sealed,
    write_table,
)  # fmt: skip
from duchenne.training.calibration import probabilities as probabilities_of
from duchenne.training.trained import CARD, load_trained, predict, read_card
from duchenne.workspace import Workspace

log = logging.getLogger(__name__)

KINDS = {"image": "pictures", "clip": "clips", "pair": "clips with onset and apex"}
"""Fact ``takes`` of a network -> what a dataset must have for it."""


@dataclass(frozen=True)
class Trained:
    """A run, an imported network or one fold.

    Attributes:
        name: name in the matrix and of the folder below ``results/transfer``.
        run: run that the folds belong to; may have no results.
        folds: folds by number; of a run, all of them.
        whole: whether the whole run is meant, not one fold of it.
    """

    name: str
    run: str
    folds: dict[int, Path]
    whole: bool

    @property
    def card(self) -> dict[str, Any]:
        """Card of the first fold."""
        return read_card(next(iter(self.folds.values())))


def transfer(
    catalog: Catalog,
    workspace: Workspace,
    models: Sequence[str],
    datasets: Sequence[str],
    part: str = "test",
    average: bool = False,
    mask: bool = False,
) -> list[dict[str, Any]]:
    """Measure networks on datasets, and write each pair to ``results/transfer/<network>/<dataset>.json``.

    On its own dataset a run has the result of its own test predictions (``own``). Otherwise it predicts samples of the
    dataset; those of classes that it does not know are left out and counted (``uncovered``). Classes that only the
    network knows stay possible answers, which are then wrong, because nobody tells a network what it will not meet.

    Args:
        models: names of runs or imported networks, or folders of folds.
        datasets: names of prepared datasets of the catalog.
        part: ``test``: the owners' test part, where they have one; ``all``: every sample.
        average: average the probabilities of all folds of a run, instead of using fold 1.
        mask: leave classes that the dataset lacks out of the answers.

    Returns:
        For each pair of network and dataset: facts, and the metrics with intervals as in ``metrics.json``.

    Raises:
        UserError: A network or dataset is not there, its faces are aligned otherwise than those of the network, it has
            pictures where the network takes clips or the reverse, or fewer than two classes are known to both.
    """
    networks = [find(workspace, given) for given in models]
    for name in datasets:
        _require(catalog, workspace, name)
    pairs = [(network, name) for network in networks for name in datasets]
    for network, name in pairs:  # before any is predicted
        _check(catalog, workspace, network, name)
    with alone(workspace.work("locks", "transfer.lock"), f"{workspace.results('transfer')}"):
        return [
            _measured(catalog, workspace, network, name, part, average, mask)
            for network, name in tqdm(pairs, desc="transfer", unit="pair", delay=1)
        ]


def find(workspace: Workspace, given: str) -> Trained:
    """Find a network by the name of a run or imported network, or by the folder of a fold.

    Raises:
        UserError: There is none.
    """
    if folds := workspace.folds(given):
        return Trained(given, given, folds, True)
    folder = Path(given)
    if not (folder / CARD).exists():
        known = [path.name for path in sorted(workspace.model("").glob("*")) if workspace.folds(path.name)]
        hint = nearest(given, known) or f" (trained: {', '.join(known) or 'none; `dvc repro` trains'})"
        raise UserError(f"{given!r} is neither a trained run nor the folder of a fold{hint}")
    folder = folder.resolve()
    number, run = folder.name.removeprefix("fold_"), folder.parent.name
    if run.startswith("seed_"):  # a further seed, which is no run with results of its own
        run = f"{folder.parent.parent.name}_{run}"
    return Trained(
        f"{run}_{folder.name}",
        run,
        {int(number) if number.isdigit() else 1: folder},
        False,
    )


def _require(catalog: Catalog, workspace: Workspace, name: str) -> None:
    if name not in catalog.datasets:
        hint = nearest(name, catalog.datasets) or f" (params.yaml has {', '.join(catalog.datasets)})"
        raise UserError(f"there is no dataset {name!r}{hint}")
    for path in (workspace.index(name), workspace.faces(name) / "store.json"):
        if not path.exists():
            raise UserError(f"{path} is missing: `dvc repro align@{name}` prepares the dataset first")


def _check(catalog: Catalog, workspace: Workspace, network: Trained, name: str) -> None:
    """Raise a UserError if a network cannot be used on a dataset."""
    card, index = network.card, read_index(workspace.index(name))
    if _own(card, name, _results(workspace, network)):
        return
    takes, pictures = card.get("takes", "image"), bool((index.rows["kind"] == "image").all())
    if pictures != (takes == "image"):
        has = KINDS["image"] if pictures else KINDS["clip"]
        raise UserError(f"{network.name} takes {KINDS[takes]}, and {name} has {has}: give a dataset of the same kind")
    if takes == "pair" and index.rows[["onset", "apex"]].isna().all(axis=None):
        raise UserError(f"{network.name} takes {KINDS[takes]}, and no clip of {name} has both")
    meta = FaceStore(workspace.faces(name)).meta
    if "imported" not in card and meta != card["alignment"]:
        raise UserError(
            f"{network.name} was trained on faces that are aligned otherwise than those of {name}: "
            f"{_differences(card['alignment'], meta)}. Give datasets.{name}.faces the settings of the network, then "
            f"`dvc repro align@{name}`"
        )
    found = _matching(catalog, card, name, index)
    if len(found.covered) < 2:
        raise UserError(
            f"{network.name} knows {', '.join(card['classes'])}, and {name} has {', '.join(index.classes)}: fewer than "
            "two classes are in both, and no label set of the two says which emotions are joined"
        )


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Describe in what two alignments differ."""
    flat = [side | side.get("settings", {}) for side in (ours, theirs)]
    names = [name for name in {**flat[0], **flat[1]} if name not in ("settings", "template")]
    parts = [
        f"{name} {flat[0].get(name, 'none')} and {flat[1].get(name, 'none')}"
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    ]
    return "; ".join(parts) or "template"


def _matching(catalog: Catalog, card: dict[str, Any], name: str, index: Index) -> Matching:
    """Match the classes by name, or as label sets of the two layouts join them."""
    blocks = whole_library().datasets | catalog.datasets
    layouts = [catalog.datasets[name].layout]
    if (source := card["variant"].get("dataset")) in blocks:
        layouts.append(blocks[source].layout)
    return match(card["classes"], index.classes, documented(layouts, index.classes, card["classes"]))


def _results(workspace: Workspace, network: Trained) -> Path:
    return workspace.results(network.run) / "predictions.parquet"


def _own(card: dict[str, Any], name: str, predictions: Path) -> bool:
    """Whether a run has test predictions of its own on this dataset."""
    return card["variant"].get("dataset") == name and "imported" not in card and predictions.exists()


def _measured(
    catalog: Catalog, workspace: Workspace, network: Trained, name: str, part: str, average: bool, mask: bool
) -> dict[str, Any]:
    """Measure a network on a dataset, or read what was measured before of the same files."""
    card = network.card
    own = _own(card, name, _results(workspace, network))
    used = dict(network.folds) if own or average else dict(list(network.folds.items())[:1])
    made_from = {
        "cards": {str(fold): file_digest(folder / CARD) for fold, folder in used.items()},
        "data": file_digest(_results(workspace, network) if own else workspace.index(name)),
        "options": {"part": part, "average": average, "mask": mask, "bootstrap": catalog.report.bootstrap},
    }
    path = workspace.results("transfer") / network.name / f"{name}.json"
    if before := _before(path, made_from):
        return before
    facts = {
        "network": network.name,
        "run": network.run,
        "dataset": name,
        "own": own,
        "trained_on": card["variant"].get("dataset"),
        "used_folds": sorted(used),
        "folds_of_the_run": len(network.folds),
    }
    if own:
        found, more = _of_own(network, catalog, workspace), {}
    else:
        found, more = _predicted(catalog, workspace, network, used, name, part, mask)
        write_table(path.with_suffix(".parquet"), found)
    metrics = measure(found, catalog, facts, catalog.report.bootstrap)
    record = facts | more | metrics | {"made_from": made_from}
    beside = {} if own else {FILES: digests([path.with_suffix(".parquet")])}
    write_sealed(path, record | beside)
    return record


def _before(path: Path, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was measured before of the same files; None if that is not there, or is damaged."""
    try:
        before = read_sealed(path)
        if before.get("made_from") != made_from:
            return None
        if FILES in before:
            check_listed(path.with_suffix(".parquet"), path)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        log.warning("%s; it is measured again", error)
        return None
    return {name: value for name, value in before.items() if name != FILES}


def measure(predictions: pd.DataFrame, catalog: Catalog, record: dict[str, Any], bootstrap: int) -> dict[str, Any]:
    """Measure a pair of network and dataset: metrics as in ``metrics.json``, and ``known_classes``, their number.

    Args:
        predictions: as for :func:`duchenne.evaluation.statistics.evaluate`.
        record: facts of the pair, ``run`` and ``own``.
        bootstrap: number of resamples.
    """
    classes = [column.removeprefix("p_") for column in predictions if column.startswith("p_")]
    seed = catalog.variants[record["run"]].seed if record["own"] and record["run"] in catalog.variants else 0
    metrics: dict[str, Any] = evaluate(predictions, classes, bootstrap, seed)
    return metrics | {"known_classes": int(predictions["label"].nunique())}


def _of_own(network: Trained, catalog: Catalog, workspace: Workspace) -> pd.DataFrame:
    """Return the run's own test predictions, of one fold, with the first seed, if one fold is meant."""
    path = _results(workspace, network)
    table = read_table(check_listed(path, path.with_name("record.json")))
    return table if network.whole else of_first_seed(table[table["fold"].isin(list(network.folds))])


def _predicted(
    catalog: Catalog,
    workspace: Workspace,
    network: Trained,
    used: dict[int, Path],
    name: str,
    part: str,
    mask: bool,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict a dataset's samples; returns the predictions in the classes of both, and facts."""
    card, index = network.card, read_index(workspace.index(name))
    store, found = FaceStore(workspace.faces(name)), _matching(catalog, card, name, index)
    rows = index.rows
    tested = "test" if part == "test" and (rows["split"] == "test").any() else "all"
    if tested == "test":
        rows = rows[rows["split"] == "test"]
    known = rows["emotion"].isin(found.labels)
    uncovered = {str(label): int(n) for label, n in rows.loc[~known, "emotion"].value_counts().items()}
    rows = rows[known]
    seen = rows["sample"].isin(set(store.samples))
    marked = rows[["onset", "apex"]].notna().all(axis=1) if card.get("takes") == "pair" else True
    samples = rows[seen & marked].reset_index(drop=True)
    if samples.empty:
        raise UserError(f"no sample of {name} has a face and a class that {network.name} knows")
    shared = _shared(catalog, workspace, network, used, card, name, store, samples)
    for what, count in shared.items():
        if count:
            log.warning("%s on %s: %d %s", network.name, name, count, SHARED[what])

    probabilities = np.zeros((len(samples), len(card["classes"])))
    for folder in used.values():
        model, own = load_trained(folder)
        if own["classes"] != card["classes"]:
            raise UserError(f"{folder} has its classes in another order than fold 1 of {network.run}")
        if "imported" in own:
            own = own | {"alignment": store.meta}
        logits, _ = predict(model, store, samples, own, catalog.compute)
        probabilities += probabilities_of(logits, own) / len(used)
    table = answers(samples, probabilities, card["classes"], found, mask)
    facts = {
        "part": tested,
        "uncovered": uncovered,
        "extra": found.extra,
        "masked": mask and bool(found.extra),
        "merged": found.merged,
        "missed": int((~seen).sum()),
        "without_onset_or_apex": int((seen & ~marked).sum()) if card.get("takes") == "pair" else 0,
        "shared": shared,
    }
    return table, facts


def answers(
    samples: pd.DataFrame, probabilities: np.ndarray, outputs: list[str], found: Matching, mask: bool = False
) -> pd.DataFrame:
    """Return predictions as :func:`duchenne.evaluation.statistics.evaluate` takes them, in the measured classes.

    Probabilities of outputs that count as one class are added.

    Args:
        samples: sample, subject and emotion (a class of the target that the network knows).
        probabilities: (N, outputs), rows sum to 1.
        outputs: classes of the network, in the order of the columns.
        found: how the classes match.
        mask: leave out the classes that the target lacks, and scale the others to a sum of 1.
    """
    classes = found.covered if mask else found.classes
    table = np.zeros((len(samples), len(classes)))
    for column, name in zip(probabilities.T, outputs, strict=True):
        if found.outputs[name] in classes:
            table[:, classes.index(found.outputs[name])] += column
    table /= table.sum(axis=1, keepdims=True)
    label = [classes.index(found.labels[name]) for name in samples["emotion"]]
    frame = pd.DataFrame({"sample": samples["sample"].to_numpy(), "fold": 1, "subject": samples["subject"].to_numpy()})
    frame["label"], frame["predicted"], frame["confidence"] = label, table.argmax(axis=1), table.max(axis=1)
    return frame.assign(**{f"p_{name}": table[:, i] for i, name in enumerate(classes)})


SHARED = {
    "near_duplicates": "tested samples have a near-duplicate among those of training",
    "people": "tested people are also in training",
}
"""What a network's training part and the tested samples may share -> words for it, after a number."""


def _shared(
    catalog: Catalog,
    workspace: Workspace,
    network: Trained,
    used: dict[int, Path],
    card: dict[str, Any],
    name: str,
    store: FaceStore,
    samples: pd.DataFrame,
) -> dict[str, int | None]:
    """Count tested samples with a near-duplicate in training, and tested people in training; None: not known.

    Names of subjects of two datasets can only be compared where both have the same files, or are rendered from the
    same seed. Near-duplicates are compared with the faces of the network's own dataset, if it is prepared.
    """
    source = card["variant"].get("dataset")
    split = workspace.split(network.run)
    if source not in catalog.datasets or not split.exists() or not (workspace.faces(source) / "store.json").exists():
        return {"near_duplicates": None, "people": None}
    parts = read_table(split)
    trained = set(parts[parts["fold"].isin(list(used)) & (parts["part"] != "test")]["sample"])
    theirs = FaceStore(workspace.faces(source)).hashes()
    mine = store.hashes()
    left = pack([mine[sample] for sample in samples["sample"]])
    right = pack([hash_ for sample, hash_ in theirs.items() if sample in trained])
    distance = Protocol.model_fields["hash_distance"].default
    near = {int(i) for pairs in near_pairs(left, right, distance) for i in pairs.left} if len(right) else set()
    if (same := _same_names(catalog, source, name)) is None:
        return {"near_duplicates": len(near), "people": None}
    rows = read_index(workspace.index(source)).rows
    known = set(rows.loc[rows["sample"].isin(trained), "subject"].dropna())
    people = set(samples["subject"].dropna()) & known if same else set()
    return {"near_duplicates": len(near), "people": len(people)}


def _same_names(catalog: Catalog, first: str, second: str) -> bool | None:
    """Whether equal names of subjects in two datasets mean the same person; None: not known."""
    if catalog.datasets[first].root == catalog.datasets[second].root:
        return True
    a, b = (catalog.rendered.get(name) for name in (first, second))
    return (a.seed, a.variety) == (b.seed, b.variety) if a and b else None
