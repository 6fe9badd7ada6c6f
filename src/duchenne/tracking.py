"""MLflow tracking: a parent run per variant, with a child run per fold.

Results are files first. Results that a server did not receive, because it was down or the process was killed, are read
from those files and sent the next time, so a failure of MLflow never loses a training run or delays it by more than
seconds.

The server is asked what it has; nothing about that is stored here. A run is found by the id of its training run
(``training.json``), so deleted runs, and a removed database, are created again.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd

from duchenne.datasets.settings import ANSWERED
from duchenne.errors import UserError, short
from duchenne.extras import how_to_install, installed, require_extra, requirements
from duchenne.faces.settings import Faces
from duchenne.files import file_digest, remove, sync, temporary, write_json
from duchenne.locks import alone
from duchenne.sealed import read_history, read_sealed, read_table
from duchenne.shortage import naming
from duchenne.training.settings import Variant
from duchenne.workspace import Network, Workspace

logger = logging.getLogger(__name__)

T = TypeVar("T")

EXPERIMENT = "duchenne"

SERVED = {
    "image": {"image": "string", "faces": "string"},
    "clip": {"video": "string", "faces": "string"},
    "pair": {"video": "string", "onset": "long", "apex": "long"},
}
"""What a network takes -> columns and types of the served model's input, of which only the first must be there; see
``duchenne.prediction.requests``."""

TAG = 4997
"""Largest number of characters of a tag, which gets three dots where it is cut: older servers of MLflow take 5,000."""

OURS = """
SELECT experiment_id, artifact_location FROM experiments
WHERE (name = :name OR name LIKE :name || '-%') AND artifact_location LIKE 'file://%/mlartifacts'
AND artifact_location != :here
"""
PLACES = (("runs", "run_uuid", "artifact_uri"), ("logged_models", "model_id", "artifact_location"))
"""Tables of MLflow's database with a location of artifacts: table, key, column."""

HALF_MADE = re.compile(r"already exists|duplicate column name|no such (table|column|index)")
"""What SQLite says of a store whose tables were being made when their process was killed."""

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
"""MLflow's setting of how often a request without an answer is repeated."""

PAUSE = 3600.0
"""Seconds for which training does not retry a server that did not answer (chosen by us); the report always does."""

_failed: set[str] = set()
"""Addresses that failed in this process: after one failure it tries no more, and the report sends what is missing."""


def uri(workspace: Workspace) -> str:
    """Return ``MLFLOW_TRACKING_URI``, or a SQLite file in the workspace (MLflow's default is in the current folder)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _own(workspace)


def _own(workspace: Workspace) -> str:
    return f"sqlite:///{workspace.root.resolve() / 'mlflow.db'}"


def _database(address: str) -> Path | None:
    """Return the file of a SQLite address; None for any other address, and for SQLite's in memory."""
    of_file = address.startswith("sqlite:///") and ":memory:" not in address
    return Path(address.removeprefix("sqlite:///")) if of_file else None


def prepare(workspace: Workspace) -> None:
    """Make the store of a SQLite address, if there is none, and correct its locations: see :func:`relocate`.

    Raises:
        UserError: The store cannot be used.
        OSError: It cannot be written.
    """
    address = uri(workspace)
    with _lock(workspace, address):
        _make_store(address)
    relocate(workspace)


def _lock(workspace: Workspace, address: str) -> AbstractContextManager[None]:
    """Return the context of the lock under which one process at a time creates what the store lacks.

    MLflow makes the tables of a new SQLite file without one, and has no call that finds or creates a run. Processes
    on other machines respect it too if the folder is on a shared file system that supports locks.
    """
    file = _database(address)
    lock = file.with_name(f"{file.name}.lock") if file else workspace.work("track", "lock")
    return alone(lock, f"the MLflow store {_masked(address)}")


def _make_store(address: str) -> None:
    """Make a SQLite file with all tables, if there is none; the caller holds the lock.

    MLflow makes the tables in steps of which it cannot repeat one that was cut off, so the file appears when it is
    whole.
    """
    file = _database(address)
    if file is None or file.exists() or "?" in address:  # options of SQLite's: MLflow reads them
        return
    _be_brief()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file = file.resolve()  # what a link to another disk means
    folder = temporary(file)
    try:
        with naming(file, folder):
            folder.mkdir()
            part = folder / file.name
            SqlAlchemyStore(f"sqlite:///{part}", str(file.with_name("mlartifacts"))).engine.dispose()
            sync(part)
            for kind in ("-journal", "-wal", "-shm"):  # SQLite would repeat in this file what was done to a removed one
                file.with_name(file.name + kind).unlink(missing_ok=True)
            try:
                file.hardlink_to(part)  # it replaces no file that another program has made meanwhile
            except FileExistsError:
                logger.info("%s was made by another program", file)
            except OSError:  # a disk without links
                part.rename(file)
    finally:
        remove(folder)


def shown_uri(workspace: Workspace) -> str:
    """Return :func:`uri` for messages, without user and password."""
    return _masked(uri(workspace))


def count_runs(workspace: Workspace) -> int | None:
    """Count the active runs of the store, without changing it; None if it is a file that does not exist yet.

    Raises:
        UserError: The store cannot be read, or a server does not answer within :func:`deadline`.
    """
    address = uri(workspace)
    if file := _database(address):
        if not file.exists():
            return None
        try:
            with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as store:
                return store.execute("SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise UserError(f"MLflow cannot use {file}: {error}") from None
    import mlflow  # noqa: F401  (seconds that are not the server's)

    count, reason = _within(deadline(), lambda: _count(_client(address)))
    if reason:
        raise UserError(f"MLflow at {_masked(address)} does not answer: {reason}")
    return count


def _count(client: Any) -> int:
    experiments = [each.experiment_id for each in client.search_experiments()]
    found, token = 0, None
    while experiments:
        page = client.search_runs(experiments, max_results=1000, page_token=token)
        found, token = found + len(page), page.token
        if not token:
            break
    return found


def _client(address: str) -> Any:
    _be_brief()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=address)


def _be_brief() -> None:
    """Let an unreachable server cost seconds, not MLflow's default of minutes of retries, and one warning of ours."""
    os.environ.setdefault(RETRIES, "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, round(deadline()))))
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of each run, with its password
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # the same error, with a traceback


def _within(limit: float | None, function: Callable[[], T]) -> tuple[T | None, str]:
    """Call in a thread that is abandoned after ``limit`` seconds; returns the result, and why there is none or ""."""
    done: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            done.append(function())
        except BaseException as error:  # training continues after any error of a tracking server
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)  # one that hangs does not keep the process alive
    thread.start()
    thread.join(limit)
    if done:
        return done[0], ""
    return None, _line(errors[0]) if errors else f"no answer within {limit:g} s"


def deadline() -> float:
    """Return the timeout of a server in seconds: ``DUCHENNE_MLFLOW_TIMEOUT``, by default 10.

    Raises:
        UserError: The value is not a number of seconds.
    """
    given = os.environ.get("DUCHENNE_MLFLOW_TIMEOUT") or "10"
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UserError(f"DUCHENNE_MLFLOW_TIMEOUT is {given!r}: give it a number of seconds above 0, such as 10")
    return seconds


class Tracker:
    """Sends the runs of one variant.

    No method raises errors of MLflow, and none waits longer than :func:`deadline` for a server that does not answer.
    The first failure gives one warning, and this process does not try again. A missing MLflow is such a failure.

    Args:
        show_faces: False: files that may show a face are not sent.
    """

    def __init__(self, workspace: Workspace, name: str, config: Variant, show_faces: bool = True):
        self.workspace, self.name, self.config, self.show_faces = workspace, name, config, show_faces
        self.uri = uri(workspace)
        self._pause = workspace.work("track", "silent.json")
        self._experiment = self._parent = ""
        self._source: dict[str, str] = {}
        self._sent: dict[Network, tuple[str, int]] = {}  # run of each network and the last epoch it has

    def begin(self, record: dict[str, Any]) -> None:
        """Open the store and the parent run, before anything trains; several processes may do so at once.

        Args:
            record: result of :func:`duchenne.training.record.begin`.
        """
        if self._pausing():
            logger.info("MLflow did not answer recently: the epochs of %s are sent with the report", self.name)
            return

        def open_unless_silent() -> None:
            if self._pausing():
                raise UserError("it did not answer another process, which began at the same time")
            self._open(record)

        self._attempt(open_unless_silent, self._limit, lock=True)

    def state(self, seed: int, fold: int) -> Path:
        """Folder of the state of a network that is being trained."""
        return self.workspace.fold_state(self.name, fold, self.config.further(seed))

    def epoch(self, seed: int, fold: int) -> None:
        """Send the epochs of a fold that is being trained, from its history in the work folder; in any process."""
        if self._parent:
            folder = self.state(seed, fold)
            self._attempt(lambda: self._send_fold(self._client(), (seed, fold), folder), self._limit)

    def publish(self) -> None:
        """Send everything in the variant's files that the server lacks: epochs, metrics, figures, the model."""
        file = self.workspace.training_record(self.name)
        if not file.exists():
            logger.warning("results of %s are not sent to MLflow: %s is missing; run `dvc repro`", self.name, file)
            return
        record = read_sealed(file)
        opened = self._attempt(lambda: self._open(record), self._limit, lock=True)
        if opened:
            self._pause.unlink(missing_ok=True)
            self._attempt(lambda: self._send_all(self._client(), record["started"]), None)

    @property
    def _limit(self) -> float | None:
        return None if _database(self.uri) else deadline()  # a file never hangs

    def _client(self) -> Any:
        return _client(self.uri)

    def _attempt(self, function: Callable[[], T], limit: float | None, lock: bool = False) -> T | None:
        """Call in a thread that is abandoned after ``limit`` seconds; None if it failed or nothing is tried.

        Args:
            lock: hold the store's lock meanwhile; waiting for it does not count, because others get their answers.
        """
        if self.uri in _failed:
            return None
        if not installed("mlflow"):
            _failed.add(self.uri)
            logger.warning(
                "MLflow is not installed, so runs are not tracked; results are kept in files. To send them: %s, "
                "then `duchenne report`",
                how_to_install("pipeline"),
            )
            return None
        import mlflow  # noqa: F401  (seconds that are not the server's)

        began = time.monotonic()
        try:
            with _lock(self.workspace, self.uri) if lock else nullcontext():
                began = time.monotonic()
                result, reason = _within(limit, function)
        except OSError as error:  # of the lock's file
            result, reason = None, _line(error)
        if not reason:
            return result
        _failed.add(self.uri)
        if time.monotonic() - began > 1 and self._limit:
            with suppress(OSError):  # a full disk: then the next process asks the server again
                write_json(self._pause, {"uri": hashlib.sha256(self.uri.encode()).hexdigest(), "time": time.time()})
        logger.warning(
            "MLflow at %s did not take the results of %s; they are kept in files and sent with the next report: %s",
            _masked(self.uri), self.name, reason,
        )  # fmt: skip
        return None

    def _pausing(self) -> bool:
        """Whether another process got no answer from this server a short time ago."""
        if not self._pause.exists():
            return False
        seen = json.loads(self._pause.read_text(encoding="utf-8"))
        same = seen["uri"] == hashlib.sha256(self.uri.encode()).hexdigest()
        return same and 0 <= time.time() - seen["time"] < PAUSE  # a clock that was set back pauses nothing

    @property
    def in_project(self) -> bool:
        """Whether runs go to the SQLite file of the workspace, and not to an address that somebody gave."""
        return self.uri == _own(self.workspace)

    def _open(self, record: dict[str, Any]) -> str:
        """Find or create the experiment and the parent run of a training run; returns the parent's id."""
        from mlflow.entities import Param

        if self.in_project:
            relocate(self.workspace)  # before the client, whose error on a damaged file gives no advice
        _make_store(self.uri)
        try:
            client = self._client()
            self._experiment = self._find_experiment(client)
        except Exception as error:
            if _database(self.uri) and HALF_MADE.search(str(error)):
                raise UserError(
                    f"its tables are half made: move the file away, then `duchenne report` ({_line(error)})"
                ) from None
            raise
        self._source = _source(record["commit"])
        wanted = f"tags.training = '{record['id']}'"
        found = client.search_runs([self._experiment], wanted, max_results=1)
        run = found[0] if found else self._create(client, record, wanted)
        if not run.data.params:
            params = [Param(key, str(value)[:6000]) for key, value in _flat(self.config.model_dump(mode="json"))]
            client.log_batch(run.info.run_id, params=params)
        self._parent = run.info.run_id
        return self._parent

    def _create(self, client: Any, record: dict[str, Any], wanted: str) -> Any:
        from mlflow.entities import ViewType

        deleted = client.search_runs([self._experiment], wanted, ViewType.DELETED_ONLY, max_results=1)
        why = "its run was deleted" if deleted else "a new training run"
        logger.info("MLflow: new run of %s (%s) at %s", self.name, why, _masked(self.uri))
        with _once():
            return client.create_run(self._experiment, _ms(record["started"]), self._tags(record), run_name=self.name)

    def _find_experiment(self, client: Any) -> str:
        """Return the id of our experiment; a deleted one keeps its name, so the next free name is used."""
        from mlflow import MlflowException

        name, number = EXPERIMENT, 1
        while (found := client.get_experiment_by_name(name)) is not None:
            if found.lifecycle_stage == "active":
                return found.experiment_id
            number += 1
            name = f"{EXPERIMENT}-{number}"
        if number > 1:
            logger.info("MLflow: the experiment %s was deleted, new runs are in %s", EXPERIMENT, name)
        place = _artifacts(self.workspace) if _database(self.uri) else None
        kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on runs, not on prompts
        try:
            return client.create_experiment(name, artifact_location=place, tags=kind)
        except MlflowException:  # another workspace, with another lock, created it since
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id

    def _send_fold(self, client: Any, network: Network, folder: Path) -> str:
        """Send the epochs that the run of a fold lacks; returns the run's id."""
        from mlflow.entities import Metric

        began, _ = _span(folder)
        if network not in self._sent:
            self._sent[network] = self._find_fold(client, network, began)
        run, last = self._sent[network]
        history = read_history(folder / "history.csv")
        fresh = history[history["epoch"] > last]
        # MLflow splits many values into several requests: if one fails, the last train_loss ends a whole epoch
        values = fresh.select_dtypes("number").drop(columns=["epoch", "ended", "train_loss"])
        values["train_loss"] = fresh["train_loss"]
        metrics = [
            Metric(name, float(value), _ms(ended), int(epoch))
            for epoch, ended, row in zip(fresh["epoch"], fresh["ended"], values.to_dict("records"), strict=True)
            for name, value in row.items()
            if pd.notna(value)
        ]
        client.log_batch(run, metrics=metrics)
        self._sent[network] = run, int(history["epoch"].max())
        return run

    def _find_fold(self, client: Any, network: Network, began: float) -> tuple[str, int]:
        """Find or create the run of a fold whose training began at this time; returns it and its last epoch."""
        seed, fold = network
        wanted = f"tags.`mlflow.parentRunId` = '{self._parent}' AND tags.fold = '{fold}'"
        tags = {"mlflow.parentRunId": self._parent, "fold": str(fold), "variant": self.name}
        name = f"{self.name} fold {fold}"
        if self.config.seeds:
            wanted += f" AND tags.seed = '{seed}'"
            tags["seed"] = str(seed)
            name = f"{self.name} seed {seed} fold {fold}"
        for run in client.search_runs([self._experiment], wanted):
            if run.info.start_time == _ms(began):
                sent = client.get_metric_history(run.info.run_id, "train_loss")
                return run.info.run_id, max((point.step for point in sent), default=0)
        tags |= self._source
        with _once():
            run = client.create_run(self._experiment, _ms(began), tags, run_name=name)
        return run.info.run_id, 0

    def _send_all(self, client: Any, began: float) -> None:
        from duchenne.reporting.runs import Run

        parent = self._parent
        folders = self.workspace.networks(self.name, self.config.every_seed)
        ends = [_ms(began)]
        for network, folder in folders.items():
            run = self._send_fold(client, network, folder)
            client.log_artifact(run, str(folder / "card.json"))
            ends.append(_ms(_span(folder)[1]))
            client.set_terminated(run, end_time=ends[-1])
        results = self.workspace.results(self.name)
        self._send_metrics(client, Run(self.name, workspace=self.workspace).metrics)
        for folder, place in ((results, "results"), (self.workspace.reports / self.name, "figures")):
            self._log_folder(client, folder, place)
        client.log_artifact(parent, str(self.workspace.reports / "index.html"), "report")
        self._log_dataset(client)
        self._log_model(client, next(iter(folders.values())))
        client.set_terminated(parent, end_time=max(ends))

    def _send_metrics(self, client: Any, metrics: dict[str, Any]) -> None:
        """Send the metrics of a run that the server lacks or has with another value, in one request."""
        from mlflow.entities import Metric

        now, sent = _ms(time.time()), client.get_run(self._parent).data.metrics
        values = {**metrics, **self._against_paper(metrics)}.items()
        numbers = {key: value for key, value in values if isinstance(value, int | float) and sent.get(key) != value}
        client.log_batch(self._parent, metrics=[Metric(key, value, now, 0) for key, value in numbers.items()])

    def _log_folder(self, client: Any, folder: Path, place: str) -> None:
        """Send a folder; if faces are not shown, without the maps over faces."""
        from duchenne.reporting.gallery import pictures_with_faces

        if not folder.exists():
            return
        hidden = set() if self.show_faces else pictures_with_faces(folder / "maps")
        with tempfile.TemporaryDirectory() as copy:
            # names with a dot: what a killed DVC left of a file that it copied
            ignored = shutil.ignore_patterns(".*", *map(glob.escape, hidden))
            shutil.copytree(folder, copy, dirs_exist_ok=True, ignore=ignored)
            client.log_artifacts(self._parent, copy, place)
            kept = {path.name for path in (Path(copy) / "maps").glob("*")}
        if not self.show_faces:
            self._withdraw(client, f"{place}/maps", kept)

    def _withdraw(self, client: Any, place: str, kept: set[str]) -> None:
        """Delete artifacts that were sent to a folder before faces were hidden, except the files ``kept``."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        address = client.get_run(self._parent).info.artifact_uri
        sent = get_artifact_repository(address, tracking_uri=self.uri)
        for item in client.list_artifacts(self._parent, place):
            if Path(item.path).name not in kept:
                sent.delete_artifacts(item.path)

    def _tags(self, record: dict[str, Any]) -> dict[str, str]:
        from duchenne.datasets.audit import known_flaws
        from duchenne.papers.printed import printed_for, sources
        from duchenne.reporting.basis import basis_of

        found = printed_for(self.name, self.config)
        return {
            "variant": self.name,
            "dataset": self.config.dataset,
            "protocol": self.config.protocol.kind,
            "network": self.config.model.architecture,
            "basis": basis_of(self.config.model),
            "selection": self.config.selection,
            "dataset_flaws": short("; ".join(known_flaws(self.workspace.audit(self.config.dataset))), TAG),
            "training": record["id"],
            "code": f"{record['commit']}, changed" if record["changed"] else record["commit"],
            "data": record["data"],
            "split": record["split"],
            "mlflow.note.content": short(self.config.note, TAG),
            **self._source,
            **({"paper": sources(found)} if found else {}),
        }

    def _against_paper(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Return the printed values (as shares, like ours) and the differences of ours from them."""
        from duchenne.papers.printed import printed_for

        found = printed_for(self.name, self.config)
        rows = {name: (cell.value, metrics[name]) for name, cell in found.items() if name in metrics}
        return {f"paper_{name}": paper for name, (paper, _) in rows.items()} | {
            f"difference_{name}": ours - paper for name, (paper, ours) in rows.items()
        }

    def _log_dataset(self, client: Any) -> None:
        """Log the index of the dataset as the run's input, once."""
        path = self.workspace.index(self.config.dataset)
        if client.get_run(self._parent).inputs.dataset_inputs or not path.exists():
            return
        import mlflow
        from mlflow.data.sources import LocalArtifactDatasetSource
        from mlflow.entities import DatasetInput, InputTag

        rows = read_table(path, columns=["sample", "emotion", "subject"])
        source = LocalArtifactDatasetSource(path.as_posix())
        data = mlflow.data.from_pandas(rows, source=source, targets="emotion", name=self.config.dataset)
        context = InputTag("mlflow.data.context", "training and test")
        client.log_inputs(self._parent, [DatasetInput(data._to_mlflow_entity(), [context])])

    def _log_model(self, client: Any, folder: Path) -> None:
        """Log the network of the first fold, once per set of weights; the other folds have the same architecture.

        What an interrupted report left of a model is deleted with its files, because ``runs:/<run>`` might mean it; one
        that it finished is kept.
        """
        import mlflow
        from mlflow.entities import LoggedModelStatus
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        digest = file_digest(folder / "weights.safetensors")
        if client.get_run(self._parent).data.tags.get("weights") == digest:
            return
        for model in client.search_logged_models([self._experiment], f"source_run_id = '{self._parent}'"):
            if model.status != LoggedModelStatus.READY:
                if model.artifact_location.startswith("file:"):  # a server deletes files itself, by `mlflow gc`
                    shutil.rmtree(url2pathname(urlsplit(model.artifact_location).path), ignore_errors=True)
                client.delete_logged_model(model.model_id)
            elif model.tags.get("weights") == digest:
                client.set_tag(self._parent, "weights", digest)
                return
        card = read_sealed(folder / "card.json")
        wanted = [ColSpec(kind, name, name in ("image", "video")) for name, kind in SERVED[card["takes"]].items()]
        answer = [ColSpec(kind, name) for name, kind in ANSWERED.items()]
        answer += [ColSpec("double", name) for name in card["classes"]]
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a copy that it calls a download
        with _tracking_uri(self.uri), mlflow.start_run(run_id=self._parent), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*An input example was not provided")  # it would be somebody's face
            mlflow.pyfunc.log_model(
                name="model",
                tags={"weights": digest},
                python_model=str(Path(__file__).with_name("serving.py")),
                artifacts={"fold": str(folder)},
                code_paths=[str(Path(__file__).parent)],
                signature=ModelSignature(Schema(wanted), Schema(answer)),
                pip_requirements=served_requirements(card),
            )
        client.set_tag(self._parent, "weights", digest)


def download(address: str, folder: Path, workspace: Workspace) -> Path:
    """Download what is at an address of MLflow into a folder, and return the trained fold in it.

    Args:
        address: ``models:/<name>/<version>``, ``models:/<id>`` or ``runs:/<run>/model``; a run alone stands for its
            model.

    Raises:
        UserError: MLflow is not installed or has nothing there, or what it has is not one trained fold.
    """
    require_extra(f"loading {address}", "pipeline", "mlflow")
    place = uri(workspace)
    if place == _own(workspace):
        if not (workspace.root / "mlflow.db").exists():
            raise UserError(
                f"{address}: {workspace.root.resolve()} has no mlflow.db: give the project's folder as workspace, or "
                "set MLFLOW_TRACKING_URI"
            )
        relocate(workspace)
    _be_brief()
    import mlflow

    whole = f"{address}/model" if re.fullmatch(r"runs:/[^/]+", address) else address
    with _tracking_uri(place):
        try:
            found = Path(mlflow.artifacts.download_artifacts(artifact_uri=whole, dst_path=str(folder)))
        except (mlflow.MlflowException, OSError) as error:
            raise UserError(f"{address}: MLflow at {_masked(place)} has no such model: {_line(error)}") from None
    folds = [path.parent for path in sorted(found.rglob("card.json"))]
    if len(folds) != 1:
        names = ", ".join(fold.relative_to(found).as_posix() for fold in folds) or "no card.json"
        raise UserError(f"{address} is not one trained fold: it has {names}")
    return folds[0]


def served_requirements(card: dict[str, Any]) -> list[str]:
    """List the requirements to serve a trained network: the core, MLflow, and dlib if it finds the faces."""
    settings, modules = card["alignment"].get("settings", {}), ["mlflow"]
    if settings.get("mode") != "aligned":
        if settings.get("landmarks") == "dlib68":
            modules += ["dlib", "face_recognition_models"]
        # a new picture has no box: if boxes were given in training, the default detector finds the face
        if settings.get("detector", Faces.model_fields["detector"].default) == "dlib":
            modules.append("dlib")
    return requirements(*modules)


def _span(folder: Path) -> tuple[float, float]:
    """Return when the training of a fold began and when its last epoch ended, Unix time in s.

    Args:
        folder: a trained fold, or one that is being trained.
    """
    last = read_history(folder / "history.csv")
    first = folder / "pretraining.csv"
    first = read_history(first) if first.exists() else last
    return float(first["ended"].iloc[0] - first["seconds"].iloc[0]), float(last["ended"].iloc[-1])


def relocate(workspace: Workspace) -> None:
    """Correct the locations of artifacts in the workspace's SQLite file after its folder was moved or copied.

    MLflow stores them as absolute paths, resolves relative ones when it creates an experiment and has no call to change
    them. Runs whose artifacts only exist at the old location keep it.
    """
    file, here = workspace.root.resolve() / "mlflow.db", _artifacts(workspace)
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(file)) as store, store:
            _relocate(store, here)
    except sqlite3.DatabaseError as error:
        remedy = "close the programs that use it, or move it away and run the report"
        if "readonly" in str(error):
            remedy = "this folder was moved, so the file must be corrected: make it writable once"
        raise UserError(f"MLflow cannot use {file} ({error}): {remedy}") from None


def _relocate(store: sqlite3.Connection, here: str) -> None:
    for experiment, old in store.execute(OURS, {"name": EXPERIMENT, "here": here}).fetchall():
        logger.info("MLflow: this folder was moved, its artifacts are in %s now", here)
        store.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (here, experiment))
        for table, key, column in PLACES:
            rows = store.execute(f"SELECT {key}, {column} FROM {table} WHERE experiment_id = ?", (experiment,))
            for identity, place in rows.fetchall():
                moved = here + place.removeprefix(old)
                if place.startswith(f"{old}/") and (_exists(moved) or not _exists(place)):
                    store.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (moved, identity))


def _exists(address: str) -> bool:
    return Path(url2pathname(urlsplit(address).path)).exists()


def _artifacts(workspace: Workspace) -> str:
    return (workspace.root.resolve() / "mlartifacts").as_uri()


@contextmanager
def _tracking_uri(address: str) -> Iterator[None]:
    """Let MLflow's functions without a client send to ``address``, and restore the environment afterwards.

    MLflow leaves the address in the environment, where another workspace would take it for the user's setting.
    """
    import mlflow

    given = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(address)
    try:
        yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if given is not None:
            os.environ["MLFLOW_TRACKING_URI"] = given


@contextmanager
def _once() -> Iterator[None]:
    """Let MLflow send requests without repeating them.

    A server that answers after the timeout has done what it was asked to do, so a repetition creates a second run.
    """
    given = os.environ.get(RETRIES)
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        os.environ.pop(RETRIES)
        if given is not None:
            os.environ[RETRIES] = given


def _source(commit: str) -> dict[str, str]:
    """Return MLflow's own tags for the origin of a run."""
    known = {"mlflow.source.git.commit": commit} if commit else {}
    return known | {
        "mlflow.source.name": "stages/train.py",
        "mlflow.source.type": "LOCAL",
    }


def _ms(seconds: float) -> int:
    """Convert Unix time in s to ms, as used by MLflow."""
    return round(seconds * 1000)


def _line(error: BaseException) -> str:
    """Return the first line of an error, without passwords."""
    return _masked(f"{type(error).__name__}: {error}".strip().splitlines()[0])[:300]


def _masked(text: str) -> str:
    """Return addresses without user and password, also those that should be quoted (``:a/b@c@``) and are not."""
    text = re.sub(r"//[^\s'\"]*@", "//***@", text)
    return re.sub(r"([?&](?:password|passwd|token)=)[^&\s'\"]+", r"\1***", text, flags=re.IGNORECASE)


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
