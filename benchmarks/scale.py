"""Benchmark of engines and processes under kills: are the results those of one process?

    python benchmarks/scale.py                            # about five minutes on two cores
    python benchmarks/scale.py --only dask --kills 12 --seed 7

Clones this repository, and runs a rendered set with a 5-fold and a leave-one-subject-out variant by ``dvc repro``: in
one process, on a Ray and a Dask cluster of two workers each, which are started here from another folder, and by two
processes a fold. At random moments, which follow from the seed, it kills workers, the processes of folds or ranks, and
the whole command, starts workers again, and gives the command again until it succeeds. The first clone is then pushed
and pulled by another one. Prints a line for each run: commands, kills, and the differences from one process in data
(renderings, faces, landmarks, splits), weights and predictions. On engines all must be equal to the last byte; two
processes may differ by rounding. The exit status is 1 if something differs, or if a process is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ROUNDING = 1e-4
"""Largest difference of weights and confidences with two processes (chosen by us; measured: see docs/cluster.md)."""
COMMANDS = 20
"""Times that the command is given before a run has failed (chosen by us)."""
OF_A_FOLD = "duchenne.engines.calls", "ray::answer", "duchenne.training.process"
"""Parts of command lines: children of local and Dask, tasks of Ray (not its agents, whose end ends the node), ranks."""

CLASSES = ["happiness", "surprise"]
MODEL = {
    "architecture": "test_vit",
    "options": {"img_size": 64, "pretrained_cfg_overlay": {"input_size": [3, 64, 64]}},
}
RECIPE = {"epochs": 3, "batch_size": 4, "lr": 0.01, "optimizer": "sgd"}
VARIANT = {"dataset": "tiny", "init_from": "scratch", "model": MODEL, "recipe": RECIPE, "selection": "last"}
PARAMS = {
    "rendered": {"tiny": {"kind": "image", "classes": CLASSES, "subjects": 5, "test_share": 0.34, "seed": 4}},
    "landmark_nets": {},
    "report": {"bootstrap": 100, "gallery": 4, "tsne_iterations": 250},
    "datasets": {
        "tiny": {"layout": "synth", "root": "data/raw/tiny", "classes": CLASSES, "faces": {"size": 112}},
    },
    "variants": {
        "five": VARIANT | {"protocol": {"kind": "kfold", "folds": 5, "val_share": 0}},
        "loso": VARIANT | {"protocol": {"kind": "loso", "val_share": 0}},
    },
}
COMPUTE = {"jobs": 2, "precision": "fp32", "device": "cpu", "folds_at_once": 2, "fold": {"cores": 1}}


def clone(folder: Path, params: dict, commit: str = "HEAD") -> Path:
    """Clone the repository to ``folder``, with parameters of its own as JSON, because anchors of YAML are refused."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "switch", "--quiet", "--detach", commit], cwd=folder, check=True)
    (folder / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    return folder


def with_compute(compute: dict) -> dict:
    """Return the parameters of a clone that differs from others in ``compute``."""
    return PARAMS | {"compute": COMPUTE | compute}


TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Makes Ray's processes, which listen on all addresses, refuse others."""


def environment(folder: Path | None = None) -> dict[str, str]:
    """Return the environment of commands in a clone, or of workers."""
    env = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "DASK_SCHEDULER_ADDRESS", "PYTHONPATH"):
        env.pop(name, None)
    return env | TOKEN | ({"PYTHONPATH": str(folder / "src")} if folder else {})


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def kill_tree(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


@dataclass
class Cluster:
    """A cluster of this machine with two workers of one core; a context.

    Args:
        head: command of what workers connect to.
        worker: command of a worker.
        workers: number of workers beside the head.
    """

    folder: Path
    port: int
    head: list[str]
    worker: list[str]
    workers: int
    source: Path
    running: list[subprocess.Popen] = field(default_factory=list)

    def start(self, words: list[str]) -> subprocess.Popen:
        with (self.folder / "cluster.log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                [str(BIN / words[0]), *words[1:]],
                cwd=self.folder,
                env=environment(self.source),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Cluster:
        self.first = self.start(self.head)
        while not listens(self.port):
            time.sleep(0.3)
        self.running = [self.start(self.worker) for _ in range(self.workers)]
        return self

    def replace(self, rng: random.Random) -> None:
        """Kill a worker with all below it, and start another."""
        place = rng.randrange(len(self.running))
        kill_tree(self.running[place].pid)
        self.running[place].wait()
        self.running[place] = self.start(self.worker)

    def __exit__(self, *_: object) -> None:
        for process in [*self.running, self.first]:
            kill_tree(process.pid)
            process.wait()


def dask(folder: Path, source: Path) -> Cluster:
    port = free_port()
    head = ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = ["dask", "worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard"]
    return Cluster(folder, port, head, worker, 2, source)


def ray(folder: Path, source: Path) -> Cluster:
    port = free_port()
    common = ["--num-cpus", "1", "--object-store-memory", "100000000", "--disable-usage-stats", "--block"]
    head = ["ray", "start", "--head", "--port", str(port), "--include-dashboard", "false", *common]
    return Cluster(folder, port, head, ["ray", "start", "--address", f"127.0.0.1:{port}", *common], 1, source)


def run(folder: Path, kills: int, rng: random.Random, cluster: Cluster | None = None) -> tuple[int, Counter[str]]:
    """Give the command until it succeeds, and kill meanwhile.

    Returns:
        How often it was given, and how often what was killed.
    """

    def victim() -> str:
        return rng.choices(["fold", "worker", "command"], [4, 2 if cluster else 0, 1])[0]

    killed: Counter[str] = Counter()
    for number in range(1, COMMANDS + 1):
        with (folder / "command.log").open("a", encoding="utf-8") as log:
            words = [str(BIN / "dvc"), "repro", "evaluate"]
            command = subprocess.Popen(words, cwd=folder, env=environment(folder), stdout=log, stderr=log)
        try:
            again, what = time.time() + rng.uniform(2, 6), victim()
            while command.poll() is None:
                time.sleep(0.1)
                if killed.total() < kills and time.time() > again and kill_one(what, command, cluster, rng):
                    killed[what] += 1
                    again, what = time.time() + rng.uniform(1, 6), victim()
        finally:
            kill_tree(command.pid)
        if command.returncode == 0:
            return number, killed
    raise SystemExit(f"{folder}: the command failed {COMMANDS} times; see command.log there")


def kill_one(what: str, command: subprocess.Popen, cluster: Cluster | None, rng: random.Random) -> bool:
    """Kill something; returns False if there is none of it now."""
    if what == "worker" and cluster:
        cluster.replace(rng)
        return True
    if what == "command":
        kill_tree(command.pid, rng.choice([signal.SIGTERM, signal.SIGKILL, signal.SIGINT]))
        command.wait()
        return True
    roots = [command.pid, *([each.pid for each in (cluster.first, *cluster.running)] if cluster else [])]
    found = [each for pid in roots for each in below(pid) if any(word in line(each) for word in OF_A_FOLD)]
    if not found:
        return False
    rng.choice(sorted(found, key=lambda process: process.pid)).kill()
    return True


def below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def left(folder: Path) -> list[str]:
    """List the processes that work in a clone."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(" ".join(process.cmdline())[:100])
    return found


def data(folder: Path) -> dict[str, str]:
    """Return DVC's hashes of what is computed before training."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs if out["path"].startswith("data/")}


def distances(one: Path, other: Path) -> tuple[int, float, float]:
    """Return the number of files that differ, and the largest differences of weights and of confidences.

    Weights, predictions and features are compared to the last byte, ``data`` by DVC's hashes.
    """
    expected, found = data(one), data(other)
    files = sum(expected[name] != found.get(name) for name in expected if "settings" not in name)
    weights = confidences = 0.0
    for path in sorted(one.glob("models/*/fold_*/weights.safetensors")):
        same = other / path.relative_to(one)
        files += path.read_bytes() != same.read_bytes()
        a, b = load_file(path), load_file(same)
        weights = max(weights, *(float(np.abs(a[name].astype(float) - b[name]).max()) for name in a))
    for path in sorted(one.glob("results/*/predictions.parquet")):
        same = other / path.relative_to(one)
        files += path.read_bytes() != same.read_bytes()
        a, b = pd.read_parquet(path), pd.read_parquet(same)
        columns = [f"p_{name}" for name in CLASSES]
        confidences = max(confidences, float((a[columns] - b[columns]).abs().to_numpy().max()))
    return files, weights, confidences


def shared(folder: Path, other: Path) -> int:
    """Push a clone, pull it in another one, and return how many files of its page differ or stages would run."""

    def call(words: list[str], where: Path) -> str:
        return subprocess.run(
            words, cwd=where, env=environment(where), check=True, capture_output=True, encoding="utf-8"
        ).stdout

    dvc = str(BIN / "dvc")
    call([dvc, "repro"], folder)
    call([dvc, "remote", "add", "--default", "store", str(other.with_name("store"))], folder)
    user = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    call(["git", "add", "--all"], folder)
    call(["git", *user, "commit", "--quiet", "--message", "runs"], folder)
    call([dvc, "push"], folder)
    subprocess.run(["git", "clone", "--quiet", str(folder), str(other)], check=True)
    call([dvc, "pull"], other)
    pages = [path for path in (folder / "reports").rglob("*") if path.is_file()]
    assert folder / "reports" / "index.html" in pages
    differ = sum(path.read_bytes() != (other / path.relative_to(folder)).read_bytes() for path in pages)
    return differ + call([dvc, "repro"], other).count("Running stage")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the moments and victims")
    parser.add_argument("--kills", type=int, default=6, help="in each run")
    parser.add_argument(
        "--only", choices=["local", "ray", "dask", "processes"], help="one run, and that of one process"
    )
    parser.add_argument("--keep", type=Path, help="a new folder for the clones, which are kept")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that nothing is left running
    folder = given.keep.resolve() if given.keep else Path(tempfile.mkdtemp(prefix="duchenne scale "))
    away = folder / "away"
    away.mkdir(parents=True)
    rng, wrong = random.Random(given.seed), []
    one = folder / "one"
    print(f"{'run':>10} {'seconds':>8} {'commands':>9} {'killed':<30} {'files':>6} {'weights':>9} {'output':>9}")

    def show(name: str, compute: dict, kills: int, limit: float, start: Callable[[Path, Path], Cluster] | None) -> None:
        begun, other = time.time(), clone(folder / name, with_compute(compute))
        with start(away, other) if start else contextlib.nullcontext() as cluster:
            if cluster:
                params = with_compute(compute | {"address": f"127.0.0.1:{cluster.port}"})
                (other / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
            commands, killed = run(other, kills, rng, cluster)
        took, (files, weights, confidences) = time.time() - begun, distances(one, other)
        words = ", ".join(f"{count} {what}" for what, count in sorted(killed.items())) or "none"
        print(
            f"{name:>10} {took:8.0f} {commands:9} {words:<30} {files:6} {weights:9.1e} {confidences:9.1e}", flush=True
        )
        if max(weights, confidences) > limit or (not limit and files):
            wrong.append(f"{name}: the results differ")
        if rest := left(other):
            wrong.append(f"{name}: still running: {rest}")

    show("one", {"jobs": 1, "folds_at_once": 1}, 0, 0, None)
    runs = {
        "local": ({}, 0.0, None),
        "ray": ({"engine": "ray"}, 0.0, ray),
        "dask": ({"engine": "dask"}, 0.0, dask),
        "processes": ({"processes": 2, "folds_at_once": 1}, ROUNDING, None),
    }
    for name, (compute, limit, start) in runs.items():
        if given.only in (None, name):
            show(name, compute, given.kills, limit, start)
    differ = shared(one, folder / "pulled")
    print(f"a second clone pulls the page: {differ} files or stages differ")
    if differ:
        wrong.append("the page of the second clone differs")
    if not given.keep:
        shutil.rmtree(folder)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
