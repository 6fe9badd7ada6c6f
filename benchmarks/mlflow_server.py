"""Load test of tracking: runs that send to one MLflow server with PostgreSQL at once, and while it fails.

    python benchmarks/mlflow_server.py                # 8 runs of 2 folds and 5 epochs
    python benchmarks/mlflow_server.py --keep         # then leave the server running, to look at its pages

Proves that nothing is lost and nothing is there twice:

1. Runs that begin at once, each a process with a project of its own, send every epoch when it ends, and their results,
   figures, report and model at the end, as the stages train and report do.
2. More runs are sent while the server first stops answering (SIGSTOP), in the middle of training, and is then killed
   (SIGKILL), in the middle of the report. It is started again, and two more reports follow.

Then a client reads everything back through the server and compares it with the files: runs, folds, every epoch
of every metric, artifacts, weights, and the predictions of one model. The networks are not trained, and small. Prints
the time and a line for everything that is wrong; the exit status is then 1. Gives up after 15 minutes.

Needs PostgreSQL (``apt-get install postgresql``) and its driver (``pip install psycopg2-binary``). Everything is in a
temporary folder.
"""

from __future__ import annotations

import base64
import logging
import multiprocessing
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import torch
import typer
from mlflow.entities import Run
from safetensors.torch import save_file

from duchenne.config import whole_library
from duchenne.faces.build import store_meta
from duchenne.faces.settings import Faces
from duchenne.files import file_digest, write_json
from duchenne.models.contract import create
from duchenne.ports import listen
from duchenne.prediction.model import Model as Trained
from duchenne.prediction.requests import Requests
from duchenne.tracking import EXPERIMENT, Tracker
from duchenne.training.settings import Model, Variant
from duchenne.training.trained import make_card
from duchenne.workspace import Workspace

LIMIT = 900
"""Seconds after which the whole script gives up."""
PATIENCE, IMPATIENCE = 60, 5
"""DUCHENNE_MLFLOW_TIMEOUT in s: where the server shares a machine with all runs; where it shall fail."""
INTERRUPTED = 2
"""Runs that are sent while the server fails."""
FOLDS = (1, 2)
CLASSES = ["anger", "happiness", "surprise"]
BEGAN = 1.7e9
PRELOADED = ["mlflow", "duchenne.models.contract", "duchenne.prediction.requests"]
LIBRARY = whole_library().variants["poster_v2_rafdb"]
SMALL = Model(architecture="test_resnet", options={"pretrained_cfg_overlay": {"input_size": [3, 64, 64]}})


# ------------------------------------------------------------------------------------------------- the two servers


def free_port() -> int:
    with closing(listen("127.0.0.1", 0)) as socket:
        return socket.getsockname()[1]


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a new PostgreSQL server in ``folder``; yields the address of its database, with a password."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
    if programs is None:
        sys.exit("no PostgreSQL below /usr/lib/postgresql: apt-get install postgresql")
    folder.mkdir()
    password, port = secrets.token_urlsafe(12), free_port()
    (folder / "password").write_text(password, encoding="utf-8")
    user = []
    if os.geteuid() == 0:  # which PostgreSQL refuses
        user = ["runuser", "-u", "postgres", "--"]
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")

    def run(program: str, *words: str) -> None:
        command = [*user, str(programs.with_name(program)), *words]
        environment = os.environ | {"PGPASSWORD": password}
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)

    data = ["-D", str(folder / "data")]
    run("initdb", *data, "-U", "duchenne", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    run("pg_ctl", *data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "duchenne", "runs")
        yield f"postgresql+psycopg2://duchenne:{password}@127.0.0.1:{port}/runs"
    finally:
        run("pg_ctl", *data, "-w", "-m", "fast", "stop")


class Server:
    """An ``mlflow server`` on a database, with its artifacts in ``folder``, that can be stopped and started again."""

    def __init__(self, database: str, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder, self.port, self.artifacts = folder, free_port(), folder / "artifacts"
        self.address = f"http://127.0.0.1:{self.port}"
        # without jobs, which are seven processes for language models
        own = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._environment = os.environ | own

    def start(self) -> None:
        words = ["server", "--serve-artifacts", "--artifacts-destination", str(self.artifacts), "--workers", "2"]
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words, "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=self.folder, env=self._environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        while not self._answers():
            if self._process.poll() is not None:
                sys.exit(f"mlflow server stopped:\n{(self.folder / 'log').read_text(encoding='utf-8')}")
            time.sleep(0.2)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers."""
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False


# ---------------------------------------------------------------------------------------- runs, each of one project


class Project:
    """A project with one variant, whose results are known."""

    def __init__(self, root: Path, seed: int, epochs: int) -> None:
        self.name, self.seed, self.epochs = f"rafdb_seed_{seed}", seed, epochs
        self.workspace = Workspace(root / self.name)

    @property
    def variant(self) -> Variant:
        return LIBRARY.model_copy(update={"model": SMALL, "seed": self.seed})

    @property
    def record(self) -> dict[str, Any]:
        """The record of the training run."""
        return {"id": self.name, "started": BEGAN, "commit": "", "changed": False, "data": "", "split": ""}

    @property
    def metrics(self) -> dict[str, Any]:
        return {"war": self.seed / 100, "uar": self.seed / 200, "uf1": self.seed / 300, "selection": "test"}

    def history(self, fold: int) -> pd.DataFrame:
        """Return epochs of 30 s each, with values that no other fold has."""
        epoch = np.arange(1, self.epochs + 1)
        loss = self.seed + fold / 10 + 1 / epoch
        values = {"train_loss": loss, "val_loss": loss + 0.01, "val_uar": 1 / (1 + loss), "lr": 1e-3 / epoch}
        return pd.DataFrame({"epoch": epoch, **values, "seconds": 30.0, "ended": BEGAN + 30.0 * epoch})

    def train(self, fold: int, epochs: int) -> None:
        """Leave the history of a fold that is being trained."""
        folder = self.workspace.fold_state(self.name, fold)
        folder.mkdir(parents=True, exist_ok=True)
        self.history(fold).head(epochs).to_csv(folder / "history.csv", index=False)

    def finish(self) -> None:
        """Leave the files of a finished run."""
        torch.manual_seed(self.seed)
        network = create(SMALL.architecture, SMALL.options, len(CLASSES))
        samples = pd.DataFrame({"sample": ["s"], "part": ["train"]})
        store = SimpleNamespace(meta=store_meta(Faces(mode="aligned", detector="none", size=64)))
        for fold in FOLDS:
            folder = self.workspace.fold(self.name, fold)
            write_json(folder / "card.json", make_card(network, self.variant, CLASSES, fold, samples, store, "fp32", 1))
            save_file(network.state_dict(), folder / "weights.safetensors")
            self.history(fold).to_csv(folder / "history.csv", index=False)
        write_json(self.workspace.training_record(self.name), self.record)
        write_json(self.workspace.results(self.name) / "metrics.json", self.metrics)
        self.figures.mkdir(parents=True)
        (self.figures / "confusion.png").write_bytes(picture(self.seed))
        (self.workspace.reports / "index.html").write_text(f"<p>{self.name}</p>", encoding="utf-8")

    @property
    def figures(self) -> Path:
        return self.workspace.reports / self.name


def picture(seed: int) -> bytes:
    """Return a PNG file of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def run(project: Project, timeout: int, start: Barrier, half: Barrier) -> None:
    """Train and report; at half of the epochs, wait twice for others."""
    logging.basicConfig(level=logging.WARNING, format=f"  {project.name}: %(message)s")
    os.environ["DUCHENNE_MLFLOW_TIMEOUT"] = str(timeout)
    write_json(project.workspace.audit(project.variant.dataset), {"flaws": []})
    tracker = Tracker(project.workspace, project.name, project.variant)
    start.wait()
    tracker.begin(project.record)
    for epoch in range(1, project.epochs + 1):
        if epoch == project.epochs // 2 + 1:
            half.wait()
            half.wait()
        for fold in FOLDS:
            project.train(fold, epoch)
            tracker.epoch(fold)
    project.finish()
    Tracker(project.workspace, project.name, project.variant).publish()


def report(project: Project) -> None:
    """Send what the server lacks."""
    logging.basicConfig(level=logging.WARNING, format=f"  {project.name}: %(message)s")
    os.environ["DUCHENNE_MLFLOW_TIMEOUT"] = str(PATIENCE)
    Tracker(project.workspace, project.name, project.variant).publish()


def started(function: Callable[..., None], projects: list[Project], *rest: Any) -> list[BaseProcess]:
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=function, args=(project, *rest), daemon=True) for project in projects]
    for process in processes:
        process.start()
    return processes


def ended(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.join()
        if process.exitcode:
            sys.exit(f"a process ended with {process.exitcode}")


# --------------------------------------------------------------------------------------------------- what is proved


def send_at_once(projects: list[Project]) -> None:
    context = multiprocessing.get_context("forkserver")
    start, half = context.Barrier(len(projects) + 1), context.Barrier(len(projects))
    processes = started(run, projects, PATIENCE, start, half)
    start.wait()
    began = time.monotonic()
    ended(processes)
    seconds = time.monotonic() - began
    print(f"{len(projects)} runs of {len(FOLDS)} folds and {projects[0].epochs} epochs: {seconds:.0f} s")


def send_while_it_fails(server: Server, projects: list[Project]) -> None:
    context = multiprocessing.get_context("forkserver")
    start, half = context.Barrier(len(projects)), context.Barrier(len(projects) + 1)
    processes = started(run, projects, IMPATIENCE, start, half)
    half.wait()
    print("the server stops answering:")
    server.send(signal.SIGSTOP)
    half.wait()
    ended(processes)
    server.send(signal.SIGCONT)  # what it was asked meanwhile is done now
    before = files(server.artifacts)
    processes = started(report, projects)
    while files(server.artifacts) < before + 100 and any(process.is_alive() for process in processes):
        time.sleep(0.02)
    server.stop()
    print(f"the server is killed after {files(server.artifacts) - before} files of the report:")
    ended(processes)
    server.start()
    ended(started(report, projects))
    ended(started(report, projects))


def files(folder: Path) -> int:
    return sum(len(names) for *_, names in os.walk(folder))


def problems(address: str, projects: list[Project]) -> Iterator[str]:
    """Compare what the server has with the files."""
    client = mlflow.MlflowClient(address)
    every = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    if len(every) != len(projects) * (1 + len(FOLDS)):
        yield f"{len(every)} runs"
    for project in projects:
        parents = [found for found in every if found.info.run_name == project.name]
        if len(parents) != 1:
            yield f"{project.name}: {len(parents)} parent runs"
            continue
        for fold in FOLDS:
            children = [found for found in every if found.info.run_name == f"{project.name} fold {fold}"]
            wanted = project.history(fold).set_index("epoch").drop(columns="ended")
            sent = [points(client, child) for child in children]
            if sent != [{name: list(column.items()) for name, column in wanted.items()}]:
                yield f"{project.name}, fold {fold}: {sent}"
        found = problems_of_parent(client, parents[0], project, predicts=project is projects[-1])
        yield from (f"{project.name}: {problem}" for problem in found)


def points(client: mlflow.MlflowClient, found: Run) -> dict[str, list[tuple[int, float]]]:
    """Return every metric of a run with its steps and values, in the order of the server."""
    identity = found.info.run_id
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(identity, name)]
        for name in found.data.metrics
    }


def problems_of_parent(client: mlflow.MlflowClient, parent: Run, project: Project, predicts: bool) -> Iterator[str]:
    if parent.info.status != "FINISHED" or parent.data.params["seed"] != str(project.seed):
        yield f"{parent.info.status}, {parent.data.params}"
    wanted = {name: [(0, value)] for name, value in project.metrics.items() if name != "selection"}
    sent = points(client, parent)
    if {name: sent.get(name) for name in wanted} != wanted or any(len(values) != 1 for values in sent.values()):
        yield f"metrics {sent}"
    if not parent.info.artifact_uri.startswith("mlflow-artifacts:"):
        yield f"artifacts are not behind the server: {parent.info.artifact_uri}"
    with tempfile.TemporaryDirectory() as folder:
        for place, here in (("results", project.workspace.results(project.name)), ("figures", project.figures)):
            arrived = contents(Path(client.download_artifacts(parent.info.run_id, place, folder)))
            if arrived != contents(here):
                yield f"{place}: {sorted(arrived)}"
    models = client.search_logged_models([parent.info.experiment_id], f"source_run_id = '{parent.info.run_id}'")
    if [str(model.status) for model in models] != ["READY"]:
        yield f"models {[str(model.status) for model in models]}"
        return
    trained = project.workspace.fold(project.name, 1)
    weights = f"{models[0].artifact_location}/artifacts/fold_1/weights.safetensors"
    if file_digest(Path(mlflow.artifacts.download_artifacts(weights))) != file_digest(trained / "weights.safetensors"):
        yield "the model has other weights"
    if predicts:
        asked = pd.DataFrame({"image": [base64.b64encode(picture(99)).decode()]})
        expected = Requests(Trained(trained, {}, "cpu"))(asked)
        answer = mlflow.pyfunc.load_model(f"models:/{models[0].model_id}").predict(asked)
        if not np.allclose(answer[CLASSES], expected[CLASSES], rtol=1e-6):
            yield f"predicts {answer[CLASSES]} and not {expected[CLASSES]}"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main(
    runs: Annotated[int, typer.Option(help="Runs that begin at once.", min=1)] = 8,
    epochs: Annotated[int, typer.Option(help="Epochs of each fold.", min=2)] = 5,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running until Enter.")] = False,
) -> None:
    """Send runs to an MLflow server with PostgreSQL, at once and while it fails, and check what arrived."""
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"not done after {LIMIT} s"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the servers end, too
    signal.alarm(LIMIT)
    root = Path(tempfile.mkdtemp(prefix="mlflow-server-"))
    root.chmod(0o755)  # PostgreSQL's user enters it
    projects = [Project(root, seed, epochs) for seed in range(1, runs + 1)]
    interrupted = [Project(root, runs + number, epochs) for number in range(1, INTERRUPTED + 1)]
    try:
        with postgres(root / "postgres") as database:
            server = Server(database, root / "server")
            os.environ |= {"MLFLOW_TRACKING_URI": server.address, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
            multiprocessing.set_forkserver_preload(PRELOADED)
            server.start()
            try:
                send_at_once(projects)
                send_while_it_fails(server, interrupted)
                found = [*problems(server.address, projects + interrupted)]
                print(*found, f"{len(found)} problems", sep="\n")
                if keep:
                    signal.alarm(0)
                    input(f"{server.address}: Enter ends the server")
            finally:
                server.stop()
    finally:
        for process in multiprocessing.active_children():
            process.kill()
        shutil.rmtree(root)
    raise typer.Exit(bool(found))


if __name__ == "__main__":
    typer.run(main)
