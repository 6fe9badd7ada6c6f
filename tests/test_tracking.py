"""MLflow: everything is sent once, and no address or server stops or delays training."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import pandas as pd
import pytest
from mlflow.tracking._tracking_service import utils
from PIL import Image
from werkzeug.serving import make_server

from duchenne import config, tracking
from duchenne.datasets.settings import ANSWERED
from duchenne.errors import UserError, short
from duchenne.files import write_json
from duchenne.tracking import EXPERIMENT, Tracker, uri
from duchenne.training import record
from duchenne.training.settings import Compute
from duchenne.workspace import Workspace

VARIANT = config.whole_library().variants["poster_v2_rafdb"]
VARIANT = VARIANT.model_copy(update={"reproduces": "poster_v2_rafdb"})  # whatever a test calls it

Proxy = Callable[[str, Callable[[], object]], bool] | None

BEGAN = 1_700_000_000.0
CARD = {"classes": ["anger", "neutral"], "takes": "pair", "alignment": {"settings": {"mode": "aligned", "size": 224}}}
FACTS = {"commit": "c0ffee", "changed": False, "data": "0123.dir", "split": "5917"}


def trained(fold: int, losses: list[float], began: float = BEGAN) -> pd.DataFrame:
    """The history of a fold that began ``fold`` minutes later and took 30 s an epoch."""
    epochs = range(1, len(losses) + 1)
    ended = [began + 60 * fold + 30 * epoch for epoch in epochs]
    return pd.DataFrame(
        {"epoch": epochs, "train_loss": losses, "val_loss": float("nan"), "seconds": 30.0, "ended": ended}
    )


def finish(workspace: Workspace, key: str, losses: list[float], war: float, began: float = BEGAN) -> dict:
    """Leave the files of a finished training run of two folds; returns its record."""
    known = record.begin(workspace.work("train", "v"), lambda _: key, Compute(), FACTS)[0] | {"started": began}
    for fold in (1, 2):
        folder = workspace.model("v") / f"fold_{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        trained(fold, losses, began).to_csv(folder / "history.csv", index=False)
        (folder / "card.json").write_text(json.dumps(CARD))
        (folder / "weights.safetensors").write_bytes(key.encode())
    (workspace.model("v") / record.FILE).write_text(json.dumps(known))
    (workspace.results("v") / "metrics.json").write_text(json.dumps({"war": war, "uar": 0.8, "selection": "test"}))
    return known


def train(workspace: Workspace, fold: int, losses: list[float], name: str = "v") -> None:
    """Leave the files of a fold that is being trained."""
    folder = workspace.fold_state(name, fold)
    folder.mkdir(parents=True, exist_ok=True)
    trained(fold, losses).to_csv(folder / "history.csv", index=False)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making its tables takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(tracking, "_failed", set())
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    workspace = Workspace(tmp_path / "a folder")
    workspace.results("v").mkdir(parents=True)
    shutil.copy(database, workspace.root / "mlflow.db")
    index = workspace.index(VARIANT.dataset)
    index.parent.mkdir(parents=True)
    pd.DataFrame({"sample": ["a", "b"], "emotion": ["anger", "fear"], "subject": ["1", "2"]}).to_parquet(index)
    flaws = ["14 of 20 samples are used (limit)", "2 frames are missing"]
    write_json(workspace.audit(VARIANT.dataset), {"flaws": flaws})
    workspace.reports.mkdir()
    (workspace.reports / "index.html").write_text("<p>report</p>")
    finish(workspace, "first", [1.0, 0.5], war=0.9)
    return workspace


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the model, which takes seconds to send."""
    monkeypatch.setattr(Tracker, "_log_model", lambda *_: None)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def client(workspace: Workspace) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(uri(workspace))


def runs(workspace: Workspace, experiment: str = EXPERIMENT) -> tuple[list, list]:
    """Parents, and children by fold."""
    found = client(workspace)
    every = found.search_runs([found.get_experiment_by_name(experiment).experiment_id])
    children = [run for run in every if "mlflow.parentRunId" in run.data.tags]
    return [run for run in every if run not in children], sorted(children, key=lambda run: run.data.tags["fold"])


def curve(workspace: Workspace, run: mlflow.entities.Run) -> list[tuple[int, float]]:
    points = client(workspace).get_metric_history(run.info.run_id, "train_loss")
    return [(point.step, point.value) for point in points]


def place(address: str) -> str:
    """The path of a file's address."""
    return url2pathname(urlsplit(address).path)


@pytest.mark.slow
def test_epochs_then_everything_else(workspace: Workspace):
    known = json.loads((workspace.model("v") / record.FILE).read_text())
    tracker = Tracker(workspace, "v", VARIANT)
    tracker.begin(known)
    train(workspace, 1, [1.0])
    tracker.epoch(0, 1)
    (begun,), _ = runs(workspace)
    left = client(workspace).create_logged_model(begun.info.experiment_id, "model", begun.info.run_id)
    cut = Path(place(left.artifact_location)) / "weights.safetensors"  # by a report that was killed
    cut.parent.mkdir(parents=True)
    cut.touch()
    Tracker(workspace, "v", VARIANT).publish()
    Tracker(workspace, "v", VARIANT).publish()  # a second time adds nothing

    (parent,), children = runs(workspace)
    assert tracking.count_runs(workspace) == 3
    assert [run.data.tags["mlflow.parentRunId"] for run in children] == [parent.info.run_id] * 2
    assert parent.data.metrics["war"] == 0.9
    assert parent.data.tags["data"] == "0123.dir"
    assert parent.data.tags["code"] == "c0ffee"
    (dataset,) = parent.inputs.dataset_inputs
    assert dataset.dataset.name == VARIANT.dataset
    assert parent.data.metrics["paper_war"] == pytest.approx(0.9221)
    assert parent.data.metrics["difference_war"] == pytest.approx(0.9 - 0.9221)
    assert parent.data.params["recipe.lr"] == "3.5e-05"
    assert parent.data.tags["selection"] == "test"
    assert parent.data.tags["basis"] == "code"
    assert parent.data.tags["dataset_flaws"] == "14 of 20 samples are used (limit); 2 frames are missing"
    assert parent.data.tags["paper"].startswith("POSTER++, Table 3")
    assert [curve(workspace, run) for run in children] == [[(1, 1.0), (2, 0.5)]] * 2
    found = client(workspace)
    assert {item.path for item in found.list_artifacts(parent.info.run_id)} >= {"results", "report"}
    assert not cut.exists()
    (model,) = found.search_logged_models([parent.info.experiment_id])
    found.delete_tag(parent.info.run_id, "weights")  # a report that was killed before it said which weights these are
    Tracker(workspace, "v", VARIANT).publish()
    (same,) = found.search_logged_models([parent.info.experiment_id])
    assert same.model_id == model.model_id
    signature = mlflow.models.get_model_info(place(model.artifact_location)).signature
    required = [(column.name, column.required) for column in signature.inputs]
    assert required == [("video", True), ("onset", False), ("apex", False)]
    assert [column.name for column in signature.outputs] == [*ANSWERED, "anger", "neutral"]


def test_runs_say_when_they_trained_and_from_what(workspace: Workspace, light: None):
    Tracker(workspace, "v", VARIANT).publish()
    (parent,), children = runs(workspace)
    seconds = [(run.info.start_time / 1000 - BEGAN, run.info.end_time / 1000 - BEGAN) for run in (parent, *children)]
    assert seconds == [(0, 180), (60, 120), (120, 180)]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    (first, second) = client(workspace).get_metric_history(children[0].info.run_id, "train_loss")
    assert (first.timestamp / 1000 - BEGAN, second.timestamp / 1000 - BEGAN) == (90, 120)
    for run in (parent, *children):
        assert run.data.tags["mlflow.source.name"] == "stages/train.py"
        assert run.data.tags["mlflow.source.type"] == "LOCAL"
        assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"


ODD = "<script>alert(1)</script>\n\t\u202egnp.exe 'a' \"b\" `c` {d} $e$ \\n %s; DROP TABLE runs; -- 中文 \U0001f600"


@pytest.mark.parametrize("note", [ODD, ODD * 1000], ids=["short", "long"])
def test_names_and_notes_of_any_characters_arrive(workspace: Workspace, light: None, note: str):
    rows = pd.DataFrame({"sample": [ODD, "b" * 10**5], "emotion": ["anger", "fear"], "subject": [ODD, "2"]})
    rows.to_parquet(workspace.index(VARIANT.dataset))
    write_json(workspace.audit(VARIANT.dataset), {"flaws": [ODD] * 1000})
    figure = f"{ODD.replace('/', ' ')}.png"
    (workspace.reports / "v").mkdir()
    (workspace.reports / "v" / figure).write_bytes(b"x")
    Tracker(workspace, "v", VARIANT.model_copy(update={"note": note})).publish()
    ((run,), _) = runs(workspace)
    assert run.data.tags["mlflow.note.content"] == short(note, tracking.TAG)
    assert max(map(len, run.data.tags.values())) <= 5000
    assert len(run.inputs.dataset_inputs) == 1
    assert [item.path for item in client(workspace).list_artifacts(run.info.run_id, "figures")] == [f"figures/{figure}"]


def test_metrics_of_a_run_are_sent_once_and_again_if_they_change(workspace: Workspace, light: None):
    for war in (0.9, 0.9, 0.7):
        finish(workspace, "first", [1.0, 0.5], war)
        Tracker(workspace, "v", VARIANT).publish()
    ((parent,), _), server = runs(workspace), client(workspace)
    sent = {name: server.get_metric_history(parent.info.run_id, name) for name in ("war", "uar")}
    assert {name: [point.value for point in points] for name, points in sent.items()} == {
        "war": [0.9, 0.7],
        "uar": [0.8],
    }
    assert parent.data.metrics["war"] == 0.7


def test_a_run_ends_when_the_last_of_its_folds_does(workspace: Workspace, light: None):
    trained(5, [1.0, 0.5]).to_csv(workspace.model("v") / "fold_1" / "history.csv", index=False)  # after the second
    Tracker(workspace, "v", VARIANT).publish()
    (parent,), _ = runs(workspace)
    assert parent.info.end_time / 1000 - BEGAN == 360


def test_a_training_run_on_other_data_is_another_run(workspace: Workspace, light: None):
    Tracker(workspace, "v", VARIANT).publish()
    before = runs(workspace)[0][0]
    finish(workspace, "second", [7.0, 3.5], war=0.1, began=BEGAN + 9000)
    Tracker(workspace, "v", VARIANT).publish()
    parents, children = runs(workspace)
    assert [run.data.metrics["war"] for run in parents] == [0.1, 0.9]  # the latest first
    assert parents[1].to_dictionary() == before.to_dictionary()
    curves = {run.data.tags["mlflow.parentRunId"]: curve(workspace, run) for run in children}
    assert curves == {
        parents[0].info.run_id: [(1, 7.0), (2, 3.5)],
        before.info.run_id: [(1, 1.0), (2, 0.5)],
    }


def test_a_killed_training_run_resumes_its_runs(workspace: Workspace):
    work = workspace.work("train", "v")
    train(workspace, 1, [1.0])
    for losses in ([1.0], [1.0, 0.5]):  # two processes
        tracker = Tracker(workspace, "v", VARIANT)
        tracker.begin(record.begin(work, lambda _: "first", Compute(), FACTS | {"commit": "later"})[0])
        train(workspace, 1, losses)
        tracker.epoch(0, 1)
    (parent,), (child,) = runs(workspace)
    assert curve(workspace, child) == [(1, 1.0), (2, 0.5)]
    assert parent.data.tags["code"] == "c0ffee"


def test_a_long_history_arrives_whole(workspace: Workspace):
    """A request to MLflow takes at most 1,000 values."""
    losses = [1 / epoch for epoch in range(1, 1102)]
    train(workspace, 1, losses)
    tracker = Tracker(workspace, "v", VARIANT)
    tracker.begin(json.loads((workspace.model("v") / record.FILE).read_text()))
    tracker.epoch(0, 1)
    assert len(curve(workspace, runs(workspace)[1][0])) == 1101


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> ForkServerContext:
    """How processes start that share their imports, which take ten seconds of a processor in each otherwise."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))  # the server sees no other
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", __name__])
    return context


@pytest.mark.slow
def test_folds_of_several_processes_arrive_while_they_train(workspace: Workspace, context: ForkServerContext):
    (workspace.root / "mlflow.db").unlink()  # made once, before the processes start
    tracker = Tracker(workspace, "v", VARIANT)
    tracker.begin(json.loads((workspace.model("v") / record.FILE).read_text()))
    for fold in (1, 2):
        train(workspace, fold, [1.0, 1 / fold])
    processes = [context.Process(target=tracker.epoch, args=(0, fold)) for fold in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    (_,), children = runs(workspace)
    assert [curve(workspace, run) for run in children] == [[(1, 1.0), (2, 1 / fold)] for fold in (1, 2)]


def send_a_fold(root: Path, name: str, fold: int, start: Barrier, failed: Queue[list[str]]) -> None:
    """Train a fold of a variant, as the process of a train script does that starts at the same time as others."""
    workspace = Workspace(root)
    tracker = Tracker(workspace, name, VARIANT)
    start.wait()
    tracker.begin({"id": name, "started": BEGAN, **FACTS})
    for last in (1, 2, 3):
        train(workspace, fold, [fold / epoch for epoch in range(1, last + 1)], name)
        tracker.epoch(0, fold)
    failed.put(sorted(tracking._failed))


@pytest.mark.slow
def test_eight_processes_begin_at_once_on_a_fresh_store(workspace: Workspace, context: ForkServerContext):
    """Four variants of two folds each: one experiment, one parent a variant, no epoch lost."""
    (workspace.root / "mlflow.db").unlink()
    start, failed = context.Barrier(8), context.Queue()
    tasks = [(workspace.root, f"v{fold % 4}", fold, start, failed) for fold in range(1, 9)]
    processes = [context.Process(target=send_a_fold, args=task) for task in tasks]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert [failed.get() for _ in processes] == [[]] * 8
    parents, children = runs(workspace)
    names = {run.info.run_id: run.info.run_name for run in parents}
    assert sorted(names.values()) == ["v0", "v1", "v2", "v3"]
    assert all(run.data.params["recipe.lr"] == "3.5e-05" for run in parents)
    assert [(run.data.tags["fold"], names[run.data.tags["mlflow.parentRunId"]]) for run in children] == [
        (str(fold), f"v{fold % 4}") for fold in range(1, 9)
    ]
    for fold, run in enumerate(children, 1):
        assert curve(workspace, run) == [(epoch, fold / epoch) for epoch in (1, 2, 3)]


def begin(root: Path) -> None:
    Tracker(Workspace(root), "v", VARIANT).begin({"id": "first", "started": BEGAN, **FACTS})


@pytest.mark.slow
def test_a_store_whose_process_is_killed_is_made_by_the_next(workspace: Workspace, context: ForkServerContext):
    """MLflow cannot finish tables that were being made: the file must not be there before they are."""
    file = workspace.root / "mlflow.db"
    file.unlink()
    with closing(sqlite3.connect(workspace.root / "removed.db")) as store:  # a journal that outlived its store
        store.executescript("PRAGMA cache_size = 1; CREATE TABLE t (x); BEGIN")
        store.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 100)
        shutil.copy(workspace.root / "removed.db-journal", f"{file}-journal")
    process = context.Process(target=begin, args=(workspace.root,))
    process.start()
    while not any(part.stat().st_size > 500_000 for part in workspace.root.glob("**/mlflow.db")):
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not file.exists()
    begin(workspace.root)
    (parent,), _ = runs(workspace)
    assert parent.data.tags["training"] == "first"
    assert not list(workspace.root.glob(".mlflow.db.*"))


def test_a_store_that_another_program_makes_meanwhile_is_kept(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = (workspace.root / "mlflow.db").rename(tmp_path / "theirs.db")
    monkeypatch.setattr(tracking, "sync", lambda _: shutil.copy(file, workspace.root / "mlflow.db"))
    tracking.prepare(workspace)
    assert (workspace.root / "mlflow.db").read_bytes() == file.read_bytes()


def test_half_made_tables_are_said(workspace: Workspace, caplog: pytest.LogCaptureFixture):
    with closing(sqlite3.connect(workspace.root / "mlflow.db")) as store, store:
        store.execute("DROP TABLE webhooks")
        store.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")  # the first step after the beginning
    begin(workspace.root)
    assert "its tables are half made: move the file away, then `duchenne report`" in caplog.text


def test_workspaces_of_one_process_keep_to_themselves(workspace: Workspace, tmp_path: Path, light: None):
    other = Workspace(tmp_path / "another folder")
    shutil.copytree(workspace.root, other.root)
    Tracker(workspace, "v", VARIANT).publish()
    Tracker(other, "v", VARIANT.model_copy(update={"seed": 7})).publish()
    assert [run.data.params["seed"] for run in runs(workspace)[0]] == ["0"]
    assert [run.data.params["seed"] for run in runs(other)[0]] == ["7"]


UNUSABLE = {
    "a folder": "./mlruns",
    "a file address": "file:///tmp/mlruns",
    "no scheme": "localhost:5000",
    "another scheme": "nosuch://server",
    "no driver": "postgresql://me:secret@127.0.0.1:1/runs",
    "nobody listens": "http://127.0.0.1:9",  # the discard port
    "damaged": "sqlite:///{root}/damaged.db",
    "silent": "{silent}",
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_whatever_the_address_training_continues_and_seconds_are_lost(
    workspace: Workspace, silent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
):
    (workspace.root / "damaged.db").write_bytes(b"not a database" * 100)
    address = UNUSABLE[name].format(root=workspace.root, silent=silent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("DUCHENNE_MLFLOW_TIMEOUT", "0.5")
    began = time.monotonic()
    tracker = Tracker(workspace, "v", VARIANT)
    tracker.begin(json.loads((workspace.model("v") / record.FILE).read_text()))
    for losses in ([1.0], [1.0, 0.5], [1.0, 0.5, 0.2]):
        for fold in (1, 2):
            train(workspace, fold, losses)
            tracker.epoch(0, fold)
    Tracker(workspace, "v", VARIANT).publish()
    assert time.monotonic() - began < 3
    (warning,) = [item for item in caplog.records if item.levelno == logging.WARNING and "duchenne" in item.name]
    assert "sent with the next report" in warning.getMessage()
    assert "\n" not in warning.getMessage()
    assert ("no answer within 0.5 s" in warning.getMessage()) == (name == "silent")  # else MLflow's own reason
    assert "secret" not in caplog.text

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setattr(Tracker, "_log_model", lambda *_: None)
    Tracker(workspace, "v", VARIANT).publish()
    assert [curve(workspace, run) for run in runs(workspace)[1]] == [[(1, 1.0), (2, 0.5)]] * 2


def test_a_server_that_falls_silent_costs_one_wait_a_process(
    workspace: Workspace, silent: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    monkeypatch.setenv("DUCHENNE_MLFLOW_TIMEOUT", "1.1")
    known = json.loads((workspace.model("v") / record.FILE).read_text())
    tracker = Tracker(workspace, "v", VARIANT)
    tracker._parent = tracker._experiment = "1"  # it answered when training began
    train(workspace, 1, [1.0])
    waited = []
    for _ in range(3):
        began = time.monotonic()
        tracker.epoch(0, 1)
        waited.append(time.monotonic() - began)
    assert waited[0] == pytest.approx(1.1, abs=0.5)
    assert max(waited[1:]) < 0.1
    monkeypatch.setattr(tracking, "_failed", set())  # the next stage's process
    began = time.monotonic()
    Tracker(workspace, "v", VARIANT).begin(known)
    assert time.monotonic() - began < 0.1
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    Tracker(workspace, "v", VARIANT).begin(known)
    assert time.monotonic() - began > 1


def test_a_process_that_waited_for_one_without_an_answer_does_not_try(
    workspace: Workspace, silent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    monkeypatch.setenv("DUCHENNE_MLFLOW_TIMEOUT", "0.5")
    known = json.loads((workspace.model("v") / record.FILE).read_text())
    waiting = threading.Thread(target=Tracker(workspace, "v", VARIANT).begin, args=(known,))
    with tracking._lock(workspace, silent):
        waiting.start()
        time.sleep(1)  # longer than it would wait for an answer
        assert waiting.is_alive()
        digest = hashlib.sha256(silent.encode()).hexdigest()
        write_json(workspace.work("track", "silent.json"), {"uri": digest, "time": time.time()})
    waiting.join()
    assert "it did not answer another process, which began at the same time" in caplog.text


def test_where_faces_are_hidden_no_picture_of_one_is_sent_or_left(workspace: Workspace, light: None):
    maps = workspace.results("v") / "maps"
    maps.mkdir()
    for name in ("with.png", "without.png", "unknown.jpg"):
        Image.effect_noise((8, 8), 60).save(maps / name)
    (maps / "maps.json").write_text(json.dumps([{"file": "with.png"}, {"file": "without.png", "faces": False}]))

    def sent() -> set[str]:
        (parent,), _ = runs(workspace)
        folder = Path(place(parent.info.artifact_uri))
        return {path.name for path in folder.rglob("*") if path.suffix in (".png", ".jpg")}

    (maps / ".half.png").touch()  # of a killed process
    Tracker(workspace, "v", VARIANT, show_faces=False).publish()
    assert sent() == {"without.png"}
    Tracker(workspace, "v", VARIANT).publish()
    assert sent() == {"with.png", "without.png", "unknown.jpg"}
    Tracker(workspace, "v", VARIANT, show_faces=False).publish()
    assert sent() == {"without.png"}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000/path", "http://***@host:5000/path"),
        ("http://token@host", "http://***@host"),
        ("postgresql+psycopg2://me:sec/r@et@host/runs", "postgresql+psycopg2://***@host/runs"),
        ("postgresql://host/runs?user=me&password=secret&sslmode=require", None),
        ("'http://a:b@one/x' and http://c:d@two", "'http://***@one/x' and http://***@two"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_passwords(address: str, shown: str | None):
    shown = shown or "postgresql://host/runs?user=me&password=***&sslmode=require"
    assert tracking._masked(address) == shown


@pytest.mark.parametrize("given", ["soon", "0", "nan"])
def test_a_timeout_that_is_no_time_is_refused_before_training(monkeypatch: pytest.MonkeyPatch, given: str):
    monkeypatch.setenv("DUCHENNE_MLFLOW_TIMEOUT", given)
    with pytest.raises(UserError, match=f"DUCHENNE_MLFLOW_TIMEOUT is '{given}'"):
        tracking.deadline()


@pytest.mark.parametrize("what", ["parent", "child", "experiment", "database"])
def test_what_was_deleted_is_made_again(
    workspace: Workspace, database: Path, tmp_path: Path, light: None, caplog: pytest.LogCaptureFixture, what: str
):
    caplog.set_level(logging.INFO, "duchenne")
    Tracker(workspace, "v", VARIANT).publish()
    (parent,), (child, _) = runs(workspace)
    experiment, said = EXPERIMENT, []
    if what == "parent":
        client(workspace).delete_run(parent.info.run_id)
        client(workspace).delete_run(child.info.run_id)
        said = ["its run was deleted"]
    elif what == "child":
        client(workspace).delete_run(child.info.run_id)
    elif what == "experiment":
        client(workspace).delete_experiment(parent.info.experiment_id)
        experiment, said = "duchenne-2", ["was deleted, new runs are in duchenne-2", "new run of v"]
    else:
        workspace = Workspace(shutil.copytree(workspace.root, tmp_path / "without"))
        shutil.copy(database, workspace.root / "mlflow.db")
        said = ["new run of v (a new training run)"]
    caplog.clear()
    Tracker(workspace, "v", VARIANT).publish()
    ours = [item.getMessage() for item in caplog.records if item.name == tracking.__name__]
    assert len(ours) == len(said)
    assert all(part in line for part, line in zip(said, ours, strict=True))
    (again,), children = runs(workspace, experiment)
    own = [run for run in children if run.data.tags["mlflow.parentRunId"] == again.info.run_id]
    assert [curve(workspace, run) for run in own] == [[(1, 1.0), (2, 0.5)]] * 2
    assert again.data.metrics["war"] == 0.9
    Tracker(workspace, "v", VARIANT).publish()
    assert len(runs(workspace, experiment)[0]) == 1


@pytest.mark.slow
def test_a_moved_folder_keeps_its_artifacts(workspace: Workspace, tmp_path: Path):
    Tracker(workspace, "v", VARIANT).publish()
    moved = Workspace(tmp_path / "renamed")
    workspace.root.rename(moved.root)
    utils._artifact_repos_cache.clear()  # as in a new process
    Tracker(moved, "v", VARIANT).publish()
    finish(moved, "second", [7.0, 3.5], war=0.1, began=BEGAN + 9000)
    Tracker(moved, "v", VARIANT).publish()
    assert not workspace.root.exists()
    found = client(moved)
    parents, _ = runs(moved)
    assert len(parents) == 2
    for run in parents:
        assert {item.path for item in found.list_artifacts(run.info.run_id)} >= {"results", "report"}
        with Path(found.download_artifacts(run.info.run_id, "report/index.html")).open(encoding="utf-8") as file:
            assert file.read() == "<p>report</p>"
    for model in found.search_logged_models([parents[0].info.experiment_id]):
        assert mlflow.models.get_model_info(place(model.artifact_location)).signature is not None
        assert Path(place(model.artifact_location)).is_relative_to(moved.root)


def test_artifacts_that_stayed_behind_keep_their_place(workspace: Workspace, tmp_path: Path, light: None):
    """A copy of the database alone: what it knew lies in the first folder, what is new in the second."""
    Tracker(workspace, "v", VARIANT).publish()
    copy = Workspace(tmp_path / "copy")
    shutil.copytree(workspace.root, copy.root, ignore=shutil.ignore_patterns("mlartifacts"))
    finish(copy, "second", [7.0, 3.5], war=0.1, began=BEGAN + 9000)
    Tracker(copy, "v", VARIANT).publish()
    new, old = (run.info.artifact_uri for run in runs(copy)[0])
    assert old.startswith((workspace.root / "mlartifacts").as_uri())
    assert new.startswith((copy.root / "mlartifacts").as_uri())


def test_a_file_that_is_no_database_is_named(tmp_path: Path):
    tracking.relocate(Workspace(tmp_path))
    assert not list(tmp_path.iterdir())
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match=r"cannot use .*mlflow\.db \(file is not a database\): .*move it away"):
        tracking.relocate(Workspace(tmp_path))


@contextmanager
def serving(
    workspace: Workspace, artifacts: Path, monkeypatch: pytest.MonkeyPatch, proxy: Proxy = None
) -> Iterator[str]:
    """MLflow's server on the store of a workspace, in a thread; yields host and port.

    Args:
        proxy: gets the end of each path, and a function that asks the server; False: it answers 504 in its place.
    """
    for name, value in {
        "_MLFLOW_SERVER_FILE_STORE": uri(workspace),
        "_MLFLOW_SERVER_REGISTRY_STORE": uri(workspace),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(artifacts),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }.items():
        monkeypatch.setenv(name, value)  # as `mlflow server` does
    monkeypatch.setenv("DUCHENNE_MLFLOW_TIMEOUT", "120")  # the server shares a busy machine with other tests
    from mlflow.server import app, handlers

    for name in ("_tracking_store", "_artifact_repo"):
        monkeypatch.setattr(handlers, name, None)  # it keeps them as long as the process lives

    def between(environ: dict, start: Callable) -> Iterable[bytes]:
        if proxy is None or proxy(environ["PATH_INFO"], lambda: list(app(environ, lambda *_: None))):
            return app(environ, start)
        start("504 Gateway Timeout", [("Content-Length", "0")])
        return []

    server = make_server("127.0.0.1", 0, between, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        mlflow.MlflowClient(
            f"http://127.0.0.1:{server.port}"
        ).search_experiments()  # the first sets MLFLOW_TRACKING_URI
        yield f"127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_what_a_server_did_without_an_answer_is_not_done_twice(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, light: None
):
    """A proxy gives up before the server does."""

    def proxy(path: str, ask: Callable[[], object]) -> bool:
        if path.endswith("/runs/create"):
            ask()
        return not path.endswith("/runs/create")

    with serving(workspace, tmp_path / "server", monkeypatch, proxy) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{address}")
        for sent in (1, 2, 3, 3):  # a parent and two folds, one each time
            monkeypatch.setattr(tracking, "_failed", set())  # the next process
            Tracker(workspace, "v", VARIANT).publish()
            assert tracking.count_runs(workspace) == sent
        (_,), children = runs(workspace)
        assert [curve(workspace, run) for run in children] == [[(1, 1.0), (2, 0.5)]] * 2


@pytest.mark.slow
def test_a_history_whose_second_request_fails_arrives_whole(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    batches = []

    def proxy(path: str, _: object) -> bool:
        batches.extend([path] * path.endswith("/runs/log-batch"))
        return not (path.endswith("/runs/log-batch") and len(batches) > 2)  # the parameters, and 1,000 values

    known = json.loads((workspace.model("v") / record.FILE).read_text())
    train(workspace, 1, [1 / epoch for epoch in range(1, 603)])  # with their seconds, 1,204 values
    with serving(workspace, tmp_path / "server", monkeypatch, proxy) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{address}")
        tracker = Tracker(workspace, "v", VARIANT)
        tracker.begin(known)
        tracker.epoch(0, 1)
        assert len(curve(workspace, runs(workspace)[1][0])) == 500
        batches.clear()
        monkeypatch.setattr(tracking, "_failed", set())
        monkeypatch.setattr(tracking, "PAUSE", 0.0)
        tracker = Tracker(workspace, "v", VARIANT)
        tracker.begin(known)
        tracker.epoch(0, 1)
        (child,) = runs(workspace)[1]
        for name in ("train_loss", "seconds"):
            points = client(workspace).get_metric_history(child.info.run_id, name)
            assert [point.step for point in points] == list(range(1, 603))


@pytest.mark.slow
def test_a_server_takes_runs_and_artifacts_and_nobody_learns_its_password(
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    light: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    with serving(workspace, tmp_path / "server", monkeypatch) as server:
        address = f"http://me:open-sesame@{server}"
        caplog.set_level(logging.DEBUG, "duchenne")
        monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)  # as in a new process
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        Tracker(workspace, "v", VARIANT).publish()
        (parent,), children = runs(workspace)
        assert tracking.count_runs(workspace) == 3
        assert [curve(workspace, run) for run in children] == [[(1, 1.0), (2, 0.5)]] * 2
        sent = mlflow.MlflowClient(address).list_artifacts(parent.info.run_id)
        assert {item.path for item in sent} == {"results", "report"}
        assert list((tmp_path / "server").rglob("metrics.json"))
        printed = "".join(capfd.readouterr())
        ours = [item.getMessage() for item in caplog.records if item.name.startswith("duchenne")]
        assert any("new run of v" in line and "http://***@127.0.0.1" in line for line in ours)
        assert "open-sesame" not in printed + "".join(ours)
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"open-sesame" in path.read_bytes()]
