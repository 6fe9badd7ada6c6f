"""Benchmark of interruptions: does `dvc repro`, killed at random moments and given again, end with the same bytes?

    python benchmarks/chaos.py FOLDER --kills 50 --seed 1     # about ten minutes on two cores; killed, it resumes

Clones this repository to FOLDER, and runs two pipelines: three rendered sets with a network of stills, one of clips and
one of micro-expressions; and stills alone, with a landmark network and damaged faces. Each runs once without
interruptions, then in passes with kills until there are as many as asked for. In a pass each stage is killed at least
once, by SIGKILL:

* ``dvc``: the command alone, so that what it started is orphaned,
* ``stage``: the process of the stage alone,
* ``worker``: a process below it: of joblib, of a fold, or one that loads samples,
* ``group``: all processes of the command's group at once.

Moments follow from the seed. Half of them are a random share of the time that the stage took without interruptions,
with what DVC does after it; the others are the moment in which one of the files appears, changes or vanishes that the
stage, DVC or MLflow wrote then (inotify, so Linux alone), which finds the short windows in which something is written.
The same command follows at once, until it succeeds.

Prints each kill, and compares each pass with the uninterrupted run: every file below ``data``, ``models``, ``results``
and ``reports``, ``dvc.lock``, runs, epochs, metrics and models in MLflow; files and folders that are left, and
processes that outlive the command or work beside the next one. The exit status is 1 if something differs. What Python
and MLflow leave in the system's temporary folder, and DVC of the file that it copied, is not counted: nobody can delete
his own files after SIGKILL.

These differ between two uninterrupted runs too, and are not compared:

* duration and time of an epoch (``seconds``, ``images_per_second`` and ``ended`` of histories), which are measured;
* ``id`` and ``started`` of a training run (``training.json``, the tag in MLflow), which are drawn and measured;
* ``seconds`` in ``complexity.json``, and the minutes and the speed of training in the page, which are measured;
* hashes of these files in ``dvc.lock`` and, for folders, in what depends on them; in records beside them, and in the
  seals of these records.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psutil
import yaml
from scale import BIN, MODEL, ROOT, clone, environment, kill_tree, left

from duchenne.sealed import KEY

KINDS = {"stills": ["happiness", "surprise"], "clips": ["happiness", "surprise"], "micros": ["negative", "surprise"]}
"""Rendered sets and their classes."""
QUICK = {"optimizer": "adamw", "lr": 1e-4, "batch_size": 2, "eval_batch_size": 4}
COMPUTE = {"jobs": 2, "device": "cpu", "folds_at_once": 2, "fold": {"cores": 1}}
REPORT = {"bootstrap": 100, "gallery": 4, "tsne_iterations": 250}
RENDERED = {
    "stills": {"kind": "image", "classes": KINDS["stills"], "subjects": 6, "test_share": 0.34, "seed": 4},
    "clips": {
        "kind": "video",
        "classes": KINDS["clips"],
        "subjects": 2,
        "folds": 2,
        "seconds": [0.72] * 2,
        "size": 160,
    },
    "micros": {"kind": "micro", "classes": KINDS["micros"], "subjects": 2, "frames": [8, 9], "size": 160},
}
DATASETS = {
    name: {"layout": "synth", "root": f"data/raw/{name}", "classes": KINDS[name], "faces": faces}
    for name, faces in {"stills": {"size": 112}, "clips": {}, "micros": {"encoding": "png"}}.items()
}
VARIANTS = {
    "still": {
        "dataset": "stills",
        "init_from": "scratch",
        "protocol": {"kind": "kfold", "folds": 3, "val_share": 0.2},
        "model": MODEL,
        "recipe": {"epochs": 3, "batch_size": 4, "lr": 0.01, "optimizer": "sgd"},
        "calibration": "temperature",
    },
    "clip": {
        "dataset": "clips",
        "init_from": "scratch",
        "protocol": {"kind": "official", "val_share": 0},
        "model": {"architecture": "ifdd_2dcnn"},
        "recipe": QUICK | {"epochs": 1, "clip": {"frames": 16}},
        "selection": "last",
    },
    "micro": {
        "dataset": "micros",
        "init_from": "scratch",
        "protocol": {"kind": "loso", "val_share": 0},
        "model": {"architecture": "frl_dgt"},
        "recipe": QUICK | {"epochs": 2, "pretrain_epochs": 1},
        "selection": "last",
    },
}
SHORT = {"rendered": RENDERED, "datasets": DATASETS, "variants": VARIANTS}
PIPELINES = {
    "all": SHORT | {"landmark_nets": {}, "compute": COMPUTE, "report": REPORT},
    "stills": {block: dict(list(entries.items())[:1]) for block, entries in SHORT.items()}
    | {"landmark_nets": {"points": {"dataset": "stills", "epochs": 2, "batch_size": 4, "init_from": "scratch"}}}
    | {"compute": COMPUTE | {"folds_at_once": 1, "loader_workers": 1}, "report": REPORT | {"robustness": True}},
}
"""Name -> parameters: networks of stills, clips and micro-expressions, with two folds at once in processes of their
own; and stills alone, quickly, with a landmark network, damaged faces, and processes that load samples."""
VICTIMS = {"dvc": 3, "stage": 2, "worker": 2, "group": 2}
"""What is killed, and how often beside the others (chosen by us)."""
SILENT = 300.0
"""Seconds after which a command that starts no further stage counts as hanging (chosen by us)."""
STARTING = "start"
"""Name of the time before a command starts its first stage, beside the names of stages."""
OF_DVC = re.compile(r"\.[\w-]{22}\.tmp$")
"""End of the name of a file that DVC copies, until it is whole."""
STARTS = 0.1
"""Share of kills that are followed by one in the next command's start (chosen by us)."""


WORKERS = {
    "resource_tracker": "worker: tracker",
    "loky": "worker: joblib",
    "engines.calls": "worker: fold",
    "stages/": "worker: loader",
}
"""Part of a command line -> what is killed, among the processes below a stage."""
REMEDIES = {
    "JSON structure is corrupted": ".dvc/tmp/rwlock",
    "dvc.lock' validation failed": "dvc.lock",
    "YAML file structure is corrupted": "dvc.lock",
}
"""Words of DVC's message -> the file to delete, as docs/troubleshooting.md says."""


class Files:
    """What changes below some folders, as Linux reports it."""

    KINDS = {0x2: "written", 0x40: "moved away", 0x80: "moved to", 0x100: "created", 0x200: "deleted"}  # noqa: RUF012
    FOLDER = 0x40000000
    HEAD = struct.Struct("iIII")

    def __init__(self, root: Path, *others: Path) -> None:
        self._root, self._libc, self._folders = root, ctypes.CDLL(None, use_errno=True), dict[int, Path]()
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for folder in (root, *others):
            self._watch(folder)

    def _watch(self, folder: Path) -> None:
        if folder.name in (".git", "src", "docs", "tests", "__pycache__"):
            return
        number = self._libc.inotify_add_watch(self._fd, bytes(folder), sum(self.KINDS))
        if number < 0:  # it has vanished
            return
        self._folders[number] = folder
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    self._watch(path)

    def changes(self, seconds: float) -> list[str]:
        """Wait for changes for so long; returns the kind and the kind of file of each."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return []
        data, place, found = os.read(self._fd, 1 << 20), 0, []
        while place < len(data):
            number, mask, _, size = self.HEAD.unpack_from(data, place)
            name = data[place + self.HEAD.size : place + self.HEAD.size + size].rstrip(b"\0").decode()
            place += self.HEAD.size + size
            if not (kind := self.KINDS.get(mask & 0xFFF)) or number not in self._folders:
                continue
            path = self._folders[number] / name
            if mask & self.FOLDER and kind in ("created", "moved to"):
                self._watch(path)
            found.append(f"{kind} {sort_of(path, self._root)}")
        return found

    def close(self) -> None:
        os.close(self._fd)


def sort_of(path: Path, root: Path) -> str:
    """Return a path without what differs between runs: numbers, hashes, temporary names."""
    name = path.relative_to(root.parent).as_posix().partition("/")[2] if path.is_relative_to(root.parent) else str(path)
    if name.startswith(".dvc/cache/"):
        return f".dvc/cache/{name.split('/')[2]}{'.tmp' * name.endswith('.tmp')}"
    name = re.sub(rf"{OF_DVC.pattern}|\b(tmp|duchenne_)\w+|^[\w-]{{8}}$", "tmp", name)  # of DVC, of Python, of joblib
    return re.sub(r"[0-9a-f]{8,}|\d+", "#", name)


class Kill(NamedTuple):
    """A kill that is planned: during a stage, of a victim, at a share of its time or at a change of files."""

    stage: str
    victim: str
    share: float = 0.0
    change: str = ""
    count: int = 1


@dataclass
class Timing:
    """What an uninterrupted run did, by stage in order; STARTING is the first."""

    seconds: dict[str, float] = field(default_factory=dict)
    changes: dict[str, dict[str, int]] = field(default_factory=dict)

    def plan(self, count: int, rng: random.Random) -> list[Kill]:
        """Plan kills in order: one in each stage, and further ones by the time that stages take."""
        stages = [name for name in self.seconds if name != STARTING]
        weights = [self.seconds[name] for name in stages]
        chosen = rng.sample(stages, min(count, len(stages)))
        chosen += rng.choices(stages, weights, k=max(0, count - len(stages)))
        plan = []
        for stage in sorted(chosen, key=stages.index):
            plan.append(self._draw(stage, rng))
            if rng.random() < STARTS:
                victim = rng.choice(["dvc", "group"])
                plan.append(Kill(STARTING, victim, share=rng.random()))
        return plan

    def _draw(self, stage: str, rng: random.Random) -> Kill:
        victim = rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        known = self.changes[stage]
        if known and victim != "worker" and rng.random() < 0.5:
            change = rng.choice(sorted(known))
            return Kill(stage, victim, change=change, count=rng.randint(1, known[change]))
        return Kill(stage, victim, share=rng.random())


def below(pid: int) -> list[int]:
    """List the processes below one, parents first, in less time than psutil takes."""
    found = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text(encoding="utf-8").split()):
                found += [child, *below(child)]
    return found


def words(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def works(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def kill(victim: str, leader: int, rng: random.Random) -> tuple[str, list[psutil.Process]]:
    """Kill a victim of a command; where there is none of it, what is above it.

    Returns:
        What was killed, and the processes that were below the command.
    """
    family = below(leader)
    said = {pid: words(pid) for pid in family}
    stage = next((pid for pid in family if "stages/" in said[pid] and " -c " not in said[pid]), None)  # no shell
    rest = []
    for pid in family:
        with contextlib.suppress(psutil.Error):
            rest.append(psutil.Process(pid))
    if victim == "worker" and stage and (workers := below(stage)):
        chosen = rng.choice(workers)
        os.kill(chosen, signal.SIGKILL)
        return next((kind for word, kind in WORKERS.items() if word in said[chosen]), "worker: other"), rest
    if victim in ("stage", "worker") and stage:
        os.kill(stage, signal.SIGKILL)
        return "stage", rest
    if victim == "group":
        os.killpg(leader, signal.SIGKILL)
        return "group", rest
    os.kill(leader, signal.SIGKILL)
    return "dvc", rest


class Project:
    """A clone in which the command is given until it succeeds."""

    def __init__(self, folder: Path, params: dict[str, Any], *target: str, commit: str = "HEAD") -> None:
        self.folder, self.target = folder, target
        self.tmp, self.site = folder.with_name(f"{folder.name}.tmp"), folder.with_name(f"{folder.name}.site")
        if not folder.exists():
            part = folder.with_name(f".{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            clone(part, params, commit)
            part.replace(folder)
        for each in (self.tmp, self.site):
            each.mkdir(exist_ok=True)
        self.env = environment(folder) | {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.tmp)}
        self.env["DVC_SITE_CACHE_DIR"] = str(self.site)
        self.log, self._read = folder.with_name(f"{folder.name}.log"), 0
        self.log.touch()
        self.timing = Timing()
        self.killed: list[tuple[str, str, str]] = []
        self.wrong: list[str] = []
        self.helped: Counter[str] = Counter()
        self._orphans: list[psutil.Process] = []
        self._left_at = self.outlived = 0.0
        self.beside: Counter[str] = Counter()
        self.commands = 0

    def run(self, plan: Iterable[Kill] = (), expected: Timing | None = None, seed: int = 0) -> None:
        """Give the command until it succeeds, with the kills of a plan."""
        self._rng, self._expected = random.Random(seed), expected
        todo = deque(plan)
        files = Files(self.folder, self.tmp)
        try:
            for _ in range(len(todo) + 5):
                if self._give(todo, files):
                    return
        finally:
            files.close()
        self.wrong.append(f"the command does not succeed: see {self.log}")

    def _give(self, todo: deque[Kill], files: Files) -> bool:
        """Give the command once; returns whether it succeeded."""
        self.commands += 1
        self._read = self.log.stat().st_size
        with self.log.open("a", encoding="utf-8") as log:
            command = subprocess.Popen(
                [str(BIN / "dvc"), "repro", *self.target],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        stage, since, hurt, changes = STARTING, time.monotonic(), False, Counter[str]()
        said = ""
        try:
            while True:
                code = command.poll()
                found = files.changes(0.02)
                now = time.monotonic()
                said += (new := self._new_text())
                for name in re.findall(r"^Running stage '(.*)':", new, re.MULTILINE):
                    self._ended(stage, now - since, changes)
                    stage, since, changes = name, now, Counter()
                changes.update(found)
                self._follow(stage)
                if code is not None:
                    break
                while todo and self._missed(todo[0], stage):
                    todo.popleft()
                if todo and todo[0].stage == stage and self._due(todo[0], now - since, changes):
                    aim = todo.popleft()
                    what, family = kill(aim.victim, command.pid, self._rng)
                    hurt = True
                    moment = (aim.change and f"{aim.change} ({aim.count})") or f"{aim.share:.0%}"
                    self.killed.append((stage, what, moment))
                    print(f"{self.folder.name}: {len(self.killed):3} {stage:20} {what:20} {moment}", flush=True)
                    if what in ("dvc", "group"):
                        self._orphaned(family)
                        command.wait()
                        return False
                if now - since > SILENT:
                    self.wrong.append(f"{stage}: nothing for {SILENT:g} s, see {self.log}")
                    break
        finally:
            if command.poll() is None:
                kill_tree(command.pid)
                command.wait()
        self._ended(stage, time.monotonic() - since, changes)
        if command.returncode == 0:
            todo.clear()
            return True
        if not hurt:
            self._help(said)
        return False

    def call(self, *words: str) -> tuple[int, str]:
        """Run another command here; returns its status and what it printed."""
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        return done.returncode, done.stdout

    def _new_text(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._read)
            data = log.read()
        end = data.rfind(b"\n") + 1
        self._read += end
        return data[:end].decode(errors="replace")

    def _ended(self, stage: str, seconds: float, changes: Counter[str]) -> None:
        self.timing.seconds[stage] = seconds
        self.timing.changes[stage] = dict(changes)

    def _missed(self, aim: Kill, stage: str) -> bool:
        assert self._expected
        order = list(self._expected.seconds)
        return order.index(aim.stage) < order.index(stage)

    def _due(self, aim: Kill, elapsed: float, changes: Counter[str]) -> bool:
        assert self._expected
        if aim.change:
            return changes[aim.change] >= aim.count
        return elapsed >= aim.share * self._expected.seconds[aim.stage]

    def _orphaned(self, family: list[psutil.Process]) -> None:
        """Remember what a killed command has left."""
        self._orphans, self._left_at = [each for each in family if works(each)], time.monotonic()

    def _follow(self, stage: str) -> None:
        """Note for how long processes of the command before work on, and beside which stage of this one."""
        working = [process for process in self._orphans if works(process)]
        if working:
            self.outlived = max(self.outlived, time.monotonic() - self._left_at)
            if stage != STARTING:
                self.beside.update({f"{stage} beside {words(each.pid)[:80].strip()}" for each in working})
        self._orphans = working

    def _help(self, said: str) -> None:
        """Do what docs/troubleshooting.md says after a command that failed although nothing in it was killed."""
        for word, file in REMEDIES.items():
            if word in said:
                self.helped[f"deleted {file}"] += 1
                (self.folder / file).unlink(missing_ok=True)
                return
        self.wrong.append(f"the command failed without a kill: {said[-500:]}")


VARIES = {
    "history.csv": ("seconds", "images_per_second", "ended"),
    "pretraining.csv": ("seconds", "images_per_second", "ended"),
    "training.json": ("id", "started"),
    "complexity.json": ("seconds",),
}
"""Name of a file -> columns or keys that also differ between uninterrupted runs."""
MEASURED = rb"[\d.]+ minutes in all, [\d.]+ images a second"
"""What the page says of the time of training (regular expression)."""
COMPARED = "data", "models", "results", "reports"


def contents(path: Path) -> bytes | str:
    """Return what must be equal in two runs."""
    varies = VARIES.get(path.name, ())
    if path.suffix == ".json" and isinstance(record := json.loads(path.read_text(encoding="utf-8")), dict):
        return json.dumps(_without_digests({key: value for key, value in record.items() if key not in varies}))
    if path.suffix == ".html":
        return re.sub(MEASURED, b"", path.read_bytes())
    if not varies:
        return path.read_bytes()
    return pd.read_csv(path, dtype=str).drop(columns=list(varies), errors="ignore").to_csv(index=False)


def _without_digests(tree: object) -> object:
    """Leave out seals, and the digests of files in which times are; the files themselves are compared."""
    if isinstance(tree, dict):
        return {key: _without_digests(value) for key, value in tree.items() if key not in (*VARIES, "card", KEY)}
    return tree


def files_of(root: Path) -> dict[str, Path]:
    """Return the files of a folder, without temporary ones of DVC."""
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and not OF_DVC.search(path.name)]
    return {path.relative_to(root).as_posix(): path for path in paths}


def differences(one: Path, other: Path) -> list[str]:
    """List what differs between two finished clones."""
    found = []
    for folder in COMPARED:
        expected, there = files_of(one / folder), files_of(other / folder)
        found += [f"{folder}/{name}: missing" for name in expected.keys() - there.keys()]
        found += [f"{folder}/{name}: should not be there" for name in there.keys() - expected.keys()]
        for name in expected.keys() & there.keys():
            if contents(expected[name]) != contents(there[name]):
                found.append(f"{folder}/{name}: differs")
    return sorted(found)


def locked(root: Path) -> dict[str, dict[str, str]]:
    """Return stage -> path -> hash, from ``dvc.lock``; without the hash of what varies."""
    stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return {
        name: {
            item["path"]: "" if re.fullmatch(VARYING, item["path"]) else item["md5"]
            for item in [*stage.get("deps", []), *stage.get("outs", [])]
        }
        for name, stage in stages.items()
    }


VARYING = r"models(/\w+)?|results(/\w+/(history\.csv|record\.json|complexity\.json))?|reports"
"""Paths in ``dvc.lock`` of which some content varies (regular expression)."""


def tracked(root: Path) -> list[tuple[str, str]]:
    """Return what MLflow has, but for times, identities and places: each run and model, with a description."""
    varies = {name for columns in VARIES.values() for name in columns}
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as store:
        store.row_factory = sqlite3.Row
        found = []
        for run in store.execute("SELECT run_uuid, name, status, lifecycle_stage FROM runs"):
            points = store.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", [run["run_uuid"]])
            kept = sorted(tuple(point) for point in points if point["key"] not in varies)
            found.append((f"run {run['name']}", f"{run['status']} {run['lifecycle_stage']} {kept}"))
        # deleted: one that a killed report had begun to send, and that the next one sent again
        for model in store.execute("SELECT name, status FROM logged_models WHERE lifecycle_stage != 'deleted'"):
            found.append((f"model {model['name']}", f"{model['status']}"))
    models = [path for path in root.glob("mlartifacts/*/models/*") if path.is_dir()]
    return sorted([*found, *(("folder of a model", "") for _ in models)])


def litter(project: Project) -> Counter[str]:
    """Count the kinds of files that a clone has outside its results, without what they are called by chance."""
    found: Counter[str] = Counter()
    for path in project.folder.rglob("*"):
        sort = sort_of(path, project.folder)
        if path.is_file() and not sort.startswith((".git/", ".dvc/cache", "src/", *(f"{f}/" for f in COMPARED))):
            found[sort] += 1
    return found


def size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def check(one: Project, other: Project) -> list[str]:
    """List what differs between an uninterrupted run and one that was killed, after it has ended."""
    found = [*other.wrong, *differences(one.folder, other.folder)]
    expected, there = locked(one.folder), locked(other.folder)
    for stage in expected.keys() | there.keys():
        if expected.get(stage) != there.get(stage):
            a, b = expected.get(stage, {}), there.get(stage, {})
            paths = [path for path in a.keys() | b.keys() if a.get(path) != b.get(path)]
            found.append(f"dvc.lock, {stage}: {', '.join(sorted(paths))}")
    runs, seen = Counter(tracked(one.folder)), Counter(tracked(other.folder))
    found += [f"MLflow lacks {what}: {facts[:200]}" for what, facts in (runs - seen).elements()]
    found += [f"MLflow has also {what}: {facts[:200]}" for what, facts in (seen - runs).elements()]
    extra = litter(other) - litter(one)
    found += [f"left: {count} {name}" for name, count in extra.items()]
    status, said = other.call("dvc", "repro", *other.target)
    if status or "Running stage" in said:
        found.append(f"dvc repro after the end: status {status}, {said[-300:]}")
    if not other.target and (answer := other.call("duchenne", "verify"))[0]:
        found.append(f"duchenne verify: {answer[1][-1000:]}")
    found += [f"still running: {line}" for line in left(other.folder)]
    return found


def uninterrupted(folder: Path, params: dict[str, Any], commit: str) -> Project:
    """Run a pipeline without kills, unless this code was run so in the folder before."""
    one = Project(folder, params, commit=commit)
    known = folder.with_name(f"{folder.name}.json")
    if known.exists():
        one.timing = Timing(**json.loads(known.read_text(encoding="utf-8")))
        return one
    shutil.rmtree(folder)
    one = Project(folder, params, commit=commit)
    one.run()
    if one.wrong:
        sys.exit("\n".join(one.wrong))
    known.write_text(json.dumps(asdict(one.timing)), encoding="utf-8")
    return one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for the clones; the uninterrupted one is used again")
    parser.add_argument("--kills", type=int, default=50, help="the least number of them")
    parser.add_argument("--each", type=int, default=40, help="kills planned in a pass")
    parser.add_argument("--only", choices=PIPELINES, help="one of the pipelines, which take turns otherwise")
    parser.add_argument("--seed", type=int, default=1, help="of moments and victims")
    parser.add_argument("--keep", action="store_true", help="keep the clones of passes without a difference")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that nothing is left running
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, encoding="utf-8"
    ).stdout.strip()
    ones = {}
    for name, params in PIPELINES.items():
        if given.only in (None, name):
            ones[name] = one = uninterrupted(folder / f"{name} {commit}", params, commit)
            seconds = one.timing.seconds
            print(f"{name}, uninterrupted: {sum(seconds.values()):.0f} s, {len(seconds) - 1} stages", flush=True)
    killed, wrong, number = Counter[tuple[str, str]](), [], 0
    while killed.total() < given.kills:
        number += 1
        kind = list(ones)[(number - 1) % len(ones)]
        one, begun, name = ones[kind], time.monotonic(), f"{kind} {commit} seed {given.seed} pass {number}"
        done = folder / f"{name}.json"
        if not done.exists():
            rng = random.Random(f"{given.seed} {number}")
            other = Project(folder / name, PIPELINES[kind], commit=commit)
            other.run(one.timing.plan(min(given.each, given.kills - killed.total()), rng), one.timing, given.seed)
            found = check(one, other)
            facts = {
                "killed": other.killed,
                "found": found,
                "commands": other.commands,
                "seconds": time.monotonic() - begun,
                "outlived": other.outlived,
                "beside": other.beside,
                "helped": other.helped,
                "cache": size_of(other.folder / ".dvc" / "cache") / size_of(one.folder / ".dvc" / "cache"),
                "tmp": size_of(other.tmp) / 1e6,
            }
            done.write_text(json.dumps(facts, indent=1), encoding="utf-8")
            if not (found or given.keep):
                for path in (other.folder, other.tmp, other.site):
                    shutil.rmtree(path)
        facts = json.loads(done.read_text(encoding="utf-8"))
        killed.update((stage.partition("@")[0], what) for stage, what, _ in facts["killed"])
        wrong += facts["found"]
        print(
            f"{name}: {len(facts['killed'])} kills, {facts['commands']} commands, {facts['seconds']:.0f} s; "
            f"{len(facts['found'])} differences; cache {facts['cache']:.2f} times as large, "
            f"{facts['tmp']:.0f} MB left in the system's temporary folder; processes outlived their command by at most "
            f"{facts['outlived']:.1f} s; helped: {facts['helped'] or 'never'}"
        )
        for line in [*facts["found"], *(f"{count} x {line}" for line, count in facts["beside"].items())]:
            print(f"  {line}")
    table = pd.Series(killed).unstack(fill_value=0)
    print(table.assign(all=table.sum(axis=1)).to_string())
    print(f"{killed.total()} kills, {len(wrong)} differences")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
