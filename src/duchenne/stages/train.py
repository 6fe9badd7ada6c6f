"""Train stage: from faces, landmarks and split to ``models/<variant>/fold_<k>``, a network for each fold and seed."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
from tqdm import tqdm

from duchenne.config import Catalog
from duchenne.engines import Engine, Needs, Task, engine_of
from duchenne.engines.folds import plan
from duchenne.errors import UserError
from duchenne.files import file_digest
from duchenne.locks import alone
from duchenne.sealed import check_table, read_sealed, read_table, write_sealed
from duchenne.shortage import explain, spoils_all
from duchenne.stages.samples import with_faces
from duchenne.training.settings import Compute, Variant
from duchenne.workspace import Network, Workspace

if TYPE_CHECKING:  # slow to import
    from duchenne.faces.store import FaceStore
    from duchenne.tracking import Tracker
    from duchenne.training.device import Precision

log = logging.getLogger(__name__)


def run(catalog: Catalog, workspace: Workspace, variant: str, *folds: str) -> None:
    """Train the folds of a variant, several at a time; finished folds are kept, interrupted ones resume.

    With ``seeds`` each fold is trained with every seed; those after the first are in ``models/<variant>/seed_<s>``.

    This process sends their epochs to MLflow, from their histories, wherever they train. A fold that fails does not
    stop the others, unless the disk is full. With ``calibration: temperature`` the temperature of every fold is fitted
    when all are trained, by this process, also of those that were finished before.

    Args:
        folds: numbers (:func:`networks_of`) of what to train, such as those of one job; default: all. Chosen folds
            stay in ``work``; a later run of all finds them finished there and only copies them to ``models``. Their
            epochs go to MLflow with that run, unless it has an address: a SQLite file is not for several machines.

    Raises:
        EngineError: The engine cannot be used, or a fold was lost again and again.
        TrainingError: A fold cannot be trained.
        UserError: The variant has no such fold, or torchrun started this stage.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("the train stage starts its processes itself: run it once, with compute.processes")

    from duchenne import tracking
    from duchenne.datasets.index import read_index
    from duchenne.faces.store import FaceStore
    from duchenne.training.calibration import calibrate
    from duchenne.training.device import device_of

    config = catalog.variants[variant]
    catalog = catalog.model_copy(update={"compute": config.on(catalog.compute)})
    store = FaceStore(workspace.faces(config.dataset))
    table = read_index(workspace.index(config.dataset))
    parts = with_faces(read_table(workspace.split(variant)), table.rows, store)
    known = networks_of(config, parts["fold"])
    networks = _chosen(variant, folds, known) if folds else list(known.values())
    compute = catalog.compute
    with engine_of(compute, workspace.work("train", variant), *_given(config)) as engine:
        needs, at_once = plan(compute, engine, len(networks), "" if engine.cluster else device_of(compute).type)
        automatic = partial(_precision_there, engine, needs, compute) if engine.cluster else None
        record, compute = _begin(catalog, workspace, variant, table.classes, parts, store, automatic)
        tracker = tracking.Tracker(workspace, variant, config)
        if not (folds and tracker.in_project):
            tracker.begin(record)
        if config.init_from == "scratch" and not config.model.published:
            packaged = f" in all but {', '.join(config.model.files)}" if config.model.files else ""
            log.warning("%s starts from random weights%s: model.pretrained names no published ones", variant, packaged)
        tasks = [
            Task(
                config.fold_title(seed, fold),
                partial(
                    _train,
                    _threads(compute, engine, needs, at_once),
                    config.with_seed(seed),
                    table.classes,
                    fold,
                    parts[parts["fold"] == fold],
                    store,
                    out=None if folds else workspace.fold(variant, fold, config.further(seed)),
                    work=workspace.fold_state(variant, fold, config.further(seed)),
                    compute=compute,
                    init=_initial(catalog, workspace, config.init_from, seed, fold),
                    landmarks=workspace.landmarks(config.dataset),
                    au_centers=workspace.au_centers(config.dataset),
                ),
            )
            for seed, fold in networks
        ]
        failed = {}
        title = f"train {variant}" if engine.cluster else None
        with (
            Following(tracker, networks, config.recipe.epochs, title),
            closing(engine.run(tasks, needs, at_once)) as ended,
        ):
            for done in ended:
                if done.error:
                    failed[done.task.name] = done.error
                    if spoils_all(done.error):  # the others could not be kept either
                        break
                    if len(networks) > 1:
                        log.error("%s of %s: %s", done.task.name, variant, explain(done.error) or done.error)
    if failed:
        raise _failure(variant, failed)
    if not folds:
        if config.calibration == "temperature":
            for (_, fold), folder in workspace.networks(variant, config.every_seed).items():
                calibrate(folder, parts[parts["fold"] == fold], store, compute)
        write_sealed(workspace.training_record(variant), record)


def _failure(variant: str, failed: dict[str, Exception]) -> Exception:
    """Return one error for all folds that failed."""
    (name, error), *others = failed.items()
    also = f"; {', '.join(other for other, _ in others)} failed too" if others else ""
    text = f"{variant}, {name}: {explain(error) or error}{also}"
    if isinstance(error, UserError) or explain(error):
        return type(error)(text) if isinstance(error, UserError) else UserError(text)
    found = RuntimeError(text)
    found.__cause__ = error
    return found


def _train(threads: int | None, *arguments: Any, **further: Any) -> None:
    """Train a fold (:func:`duchenne.training.fold.train_fold`) with a number of threads; None: as it is."""
    import torch

    from duchenne.training.fold import train_fold

    before, work = torch.get_num_threads(), further["work"]
    torch.set_num_threads(threads or before)
    try:
        with alone(work.with_name(f".{work.name}.lock"), f"{work}"):  # who waits finds it finished
            train_fold(*arguments, **further)
    finally:
        torch.set_num_threads(before)


def _threads(compute: Compute, engine: Engine, needs: Needs, at_once: int) -> int | None:
    """Return the threads of a fold, or None where it has this machine for itself and nothing is said."""
    import torch

    if engine.cluster or compute.fold.cores != "auto":
        return needs.cores
    return None if at_once == 1 else min(needs.cores, torch.get_num_threads())


def _precision_there(engine: Engine, needs: Needs, compute: Compute) -> Precision:
    """Return the precision ``auto`` of a machine that can train the folds; this one may have other hardware."""
    return next(engine.run([Task("precision", _precision_here, (compute,))], needs, 1)).result()


def _precision_here(compute: Compute) -> Precision:
    from duchenne.training.device import device_of, precision_of

    return precision_of(compute, device_of(compute))


def _given(config: Variant) -> list[Path]:
    """Return files of weights that come from elsewhere; those of the package are checked with it."""
    files = config.model.files.items()
    return [path for part, path in files if part not in config.model.packaged and path.exists()]


class Following:
    """Sends the epochs of folds to MLflow while other processes train them, from the histories that they write.

    So the folds need no address and no MLflow, and a slow server delays none. When the context ends, what is new is
    sent.

    Args:
        tracker: what sends them; it does nothing if it has no run.
        networks: seed and fold of each.
        epochs: number of epochs of a fold, for the progress bar.
        title: title of the progress bar; None: there is none.
    """

    SECONDS = 2.0
    """Time between two looks (chosen by us)."""

    def __init__(self, tracker: Tracker, networks: list[Network], epochs: int, title: str | None) -> None:
        self._tracker, self._networks, self._epochs, self._title = tracker, networks, epochs, title
        self._files = {network: tracker.state(*network) / "history.csv" for network in networks}
        self._seen = {network: self._state(network) for network in networks}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._bar = tqdm(
            total=len(self._networks) * self._epochs, desc=self._title, unit="epoch", disable=not self._title
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        self._bar.close()

    def _follow(self) -> None:
        while not self._ended.wait(self.SECONDS):
            self._look()

    def _look(self) -> None:
        for network in self._networks:
            if (state := self._state(network)) != self._seen[network]:
                self._seen[network] = state
                if state:
                    self._tracker.epoch(*network)
        done = 0
        for network in self._networks if self._title else []:
            if self._seen[network]:
                done += self._files[network].read_text(encoding="utf-8").count("\n") - 1
        if done != self._bar.n:
            self._bar.update(done - self._bar.n)

    def _state(self, network: Network) -> tuple[int, int] | None:
        """Return what changes when the history of a fold does; None: there is none."""
        try:
            found = self._files[network].stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def networks_of(config: Variant, folds: pd.Series) -> dict[int, Network]:
    """Number the networks of a variant, for jobs: the folds of the first seed by their own numbers, then the others.

    With three folds, the numbers 1 to 3 are the folds of the first seed, 4 to 6 those of the second.

    Args:
        folds: column ``fold`` of the split.

    Returns:
        Number -> seed and fold, ascending.
    """
    numbers = sorted(int(fold) for fold in folds.unique())
    step = max(numbers)
    return {place * step + fold: (seed, fold) for place, seed in enumerate(config.every_seed) for fold in numbers}


def _chosen(variant: str, folds: tuple[str, ...], known: dict[int, Network]) -> list[Network]:
    """Return the chosen networks.

    Raises:
        UserError: One of the numbers is not of the variant.
    """
    for fold in folds:
        if fold not in map(str, known):
            raise UserError(f"{variant} has no fold {fold!r}: its folds are {', '.join(map(str, known))}")
    return [known[number] for number in sorted(set(map(int, folds)))]


def _begin(
    catalog: Catalog,
    workspace: Workspace,
    variant: str,
    classes: list[str],
    parts: pd.DataFrame,
    store: FaceStore,
    automatic: Callable[[], Precision] | None = None,
) -> tuple[dict[str, Any], Compute]:
    """Record the training run that starts or resumes now, with the revisions of code, data and split.

    Returns:
        The record, and ``compute`` with the precision of the run.
    """
    from duchenne.reporting.provenance import code_revision, data_revisions
    from duchenne.training import record
    from duchenne.training.fingerprint import STARTS

    config = catalog.variants[variant]
    networks = networks_of(config, parts["fold"]).values()
    starts = [_initial(catalog, workspace, config.init_from, *network) for network in networks]
    files = [*config.model.files.values(), *(path / name for path in starts if path for name in STARTS)]
    whole = config.recipe.au_centers == "dataset"
    points = (workspace.au_centers if whole else workspace.landmarks)(config.dataset)
    if points.exists():  # a damaged one would pass for that of another training run
        (read_sealed if whole else check_table)(points)
    files.append(points)
    key = partial(record.training_key, config, classes, parts, store, files)
    commit, changed = code_revision(workspace.root)
    data = data_revisions(workspace.root, {config.dataset: catalog.datasets[config.dataset].root})
    facts = {"commit": commit, "changed": changed, "data": data.get(config.dataset, "")}
    split = file_digest(workspace.split(variant))[:16]
    return record.begin(workspace.work("train", variant), key, catalog.compute, facts | {"split": split}, automatic)


def _initial(catalog: Catalog, workspace: Workspace, init_from: str, seed: int, fold: int) -> Path | None:
    """Return the folder of a fold's initial weights: same seed and fold of that run, or where it lacks one its first.

    An imported network has no seeds.
    """
    if init_from == "scratch":
        return None
    start = catalog.variants.get(init_from)
    further = start.further(seed) if start and seed in start.every_seed else None
    same = workspace.fold(init_from, fold, further)
    return same if same.exists() else workspace.fold(init_from, 1, further)
