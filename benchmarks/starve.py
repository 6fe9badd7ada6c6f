"""Benchmark of want: a full disk, no rights, few files, little memory, a clock that jumps, and two commands at once.

    python benchmarks/starve.py                            # as root, on Linux: about fifteen minutes of one core
    python benchmarks/starve.py --only disk --steps train report --tries 5 --seed 7

Runs a rendered set of ten faces through the pipeline once. Then each stage, and each command that writes, runs in a
copy of that project on a small disk in memory (tmpfs), and again with room. Prints a line for each case: the step, what
was refused and when, the exit status, whether what it makes is then equal to that of an undisturbed run, byte by byte
but for times and random names, and the first line of its message. A case is BAD if it prints a traceback, leaves a cut
file under its final name, cannot resume, or differs. The exit status is 1 if one is.

* ``disk``: the disk, with the project, its temporary files and nothing else, fills at a random byte (``--seed``),
* ``readonly``: it is mounted read-only,
* ``nobody``: another user, to whom the project and the home folder do not belong,
* ``files``: 64, and ``files14``: 14 open files,
* ``memory`` and ``memory20``: 100 and 20 MB more than the imports take,
* ``clock``: it is a year earlier at every second look,
* ``two``: the command runs twice at the same time, and the report while a network is trained.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import io
import itertools
import json
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil

from duchenne.sealed import KEY

ROOT = Path(__file__).parents[1]
ROOM = 2**31
"""Bytes of a disk with room."""
PAGE = 4096
"""Bytes by which a disk in memory fills."""
SPARE = 4 * PAGE
"""Bytes that a step may need beside what it leaves, such as the parts of a file (chosen by us)."""

CLASSES = ["happiness", "surprise"]
VARIANT = {
    "dataset": "tiny",
    "init_from": "scratch",
    "protocol": {"kind": "kfold", "folds": 2, "val_share": 0.2},
    "model": {
        "architecture": "test_resnet",
        "options": {"pretrained_cfg_overlay": {"input_size": [3, 64, 64]}},
    },
    "recipe": {"epochs": 2, "batch_size": 4, "lr": 1e-3},
}
PARAMS = {
    "rendered": {"tiny": {"kind": "image", "classes": CLASSES, "subjects": 5, "test_share": 0.34, "seed": 4}},
    "landmark_nets": {},
    "compute": {"jobs": 1, "folds_at_once": 1, "precision": "fp32", "device": "cpu"},
    "report": {"bootstrap": 100, "gallery": 4, "tsne_iterations": 250, "robustness": True},
    "datasets": {"tiny": {"layout": "synth", "root": "data/raw/tiny", "classes": CLASSES, "faces": {"size": 112}}},
    "variants": {"two": VARIANT},
}
FOLD = "models/two/fold_1"
PICTURES, CLIP = "data/raw/tiny", "talk.mp4"
STAGES = (
    "settings",
    "synthesize",
    "index",
    "align",
    "landmarks",
    "split",
    "train",
    "evaluate",
    "robustness",
    "explain",
)
STAGES += ("complexity", "report")
IMPORTED = ("datasets", "dlib", "matplotlib.pyplot", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store")
IMPORTED += ("onnxruntime", "onnxscript", "openTSNE", "torch._dynamo", "duchenne.canary.run", "duchenne.cli")
IMPORTED += ("duchenne.export", "duchenne.importing", "duchenne.params_file", "duchenne.prediction.run")
IMPORTED += ("duchenne.synth.render", "duchenne.tracking", "duchenne.transfer")


class Step(NamedTuple):
    """A stage or a command.

    Attributes:
        words: of a stage its name and argument, of a command those after ``duchenne``.
        made: files and folders that it makes, which are removed before it runs.
        work: its state, in which finished parts stay.
        edits: whether it edits what it "makes", which then stays.
    """

    words: tuple[str, ...]
    made: tuple[str, ...]
    work: tuple[str, ...] = ()
    edits: bool = False


def _stage(name: str, argument: str, *made: str) -> Step:
    return Step((f"stages/{name}.py", *([argument] if argument else [])), made, (f"work/{name}/{argument}",))


STORE = "mlflow.db", "mlartifacts"
_RESULTS = "predictions.parquet", "features.npz", "record.json", "groups.json", "metrics.json", "confusion.csv"
STEPS = {
    "settings": _stage("settings", "", "data/settings"),
    "synthesize": _stage("synthesize", "tiny", "data/raw/tiny"),
    "index": _stage("index", "tiny", *(f"data/index/tiny.{end}" for end in ("parquet", "problems.csv", "audit.json"))),
    "align": _stage("align", "tiny", "data/faces/tiny"),
    "landmarks": _stage("landmarks", "tiny", *(f"data/landmarks/tiny.{end}" for end in ("parquet", "au_centers.json"))),
    "split": _stage("split", "two", *(f"data/splits/two.{end}" for end in ("parquet", "duplicates.parquet"))),
    "train": _stage("train", "two", "models/two", *STORE),
    "evaluate": _stage("evaluate", "two", *(f"results/two/{name}" for name in (*_RESULTS, "history.csv"))),
    "robustness": _stage("robustness", "two", "results/two/robustness.csv", "results/two/robustness.json"),
    "explain": _stage("explain", "two", "results/two/maps"),
    "complexity": _stage("complexity", "two", "results/two/complexity.json"),
    "report": _stage("report", "", "reports", *STORE),
    "predict": Step(("predict", PICTURES, "--model", FOLD, "--out", "rows.jsonl"), ("rows.jsonl",)),
    "predict csv": Step(("predict", PICTURES, "--model", FOLD, "--out", "rows.csv"), ("rows.csv",)),
    "predict drawn": Step(
        ("predict", PICTURES, "--model", FOLD, "--out", "rows.parquet", "--draw", "drawn"), ("rows.parquet", "drawn")
    ),
    "predict video": Step(
        ("predict", CLIP, "--model", FOLD, "--draw", "drawn_video", "--plot", "talk.png"), ("drawn_video", "talk.png")
    ),
    "export onnx": Step(("export", FOLD, "--out", "net.onnx"), ("net.onnx", "net.onnx.json")),
    "export torch": Step(("export", FOLD, "--format", "torch", "--out", "net.pt2"), ("net.pt2", "net.pt2.json")),
    "import": Step(
        (
            "import", f"{FOLD}/weights.safetensors", "--variant", "two", "--name", "taken", "--classes",
            ",".join(CLASSES),
        ),
        ("models/taken",),
    ),
    "transfer": Step(("transfer", "two", "--to", "tiny"), ("results/transfer",)),
    "canary": Step(("canary", "two", "--epochs", "1", "--permutations", "3", "--json"), (), ("work/canary",)),
    "add": Step(("add", "frl_dgt_demo"), ("params.yaml",), edits=True),
}  # fmt: skip
KINDS = ("disk", "readonly", "nobody", "files", "files14", "memory", "memory20", "clock", "two")

TIMES = {"seconds", "images_per_second", "ended", "started", "id"}
"""Columns and keys that differ from run to run."""
OF_TIMES = {KEY, "history.csv", "pretraining.csv", "training.json", "card"}
"""Keys of digests of files in which such columns and keys are."""


class Known(NamedTuple):
    """What an undisturbed run of a step made: digests of its files, and the bytes that it took."""

    files: dict[str, str]
    size: int


@dataclass
class Ran:
    """A step that ended: its exit status, and what it printed."""

    code: int
    text: str

    @property
    def broken(self) -> bool:
        """Whether it printed a traceback, or ended otherwise than with a message."""
        return self.code not in (0, 1) or "Traceback" in self.text or "Exception ignored" in self.text

    @property
    def first(self) -> str:
        """Return its message."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        found = [line for line in lines if line.startswith(("error", "ERROR"))]
        return (found or [line for line in lines if "MLflow" in line] or lines[-1:] or ["(nothing)"])[0]


def digest(path: Path) -> str:
    """Digest a file without times and random names."""
    data = path.read_bytes()
    if path.suffix == ".csv" and len(data) > 1:
        table = pd.read_csv(io.BytesIO(data))
        data = table.drop(columns=[name for name in TIMES if name in table]).to_csv(index=False).encode()
    elif path.suffix == ".json":
        data = json.dumps(_timeless(json.loads(data)), sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def _timeless(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: _timeless(value) for key, value in tree.items() if key not in TIMES | OF_TIMES}
    return [_timeless(each) for each in tree] if isinstance(tree, list) else tree


def contents(folder: Path, step: Step) -> dict[str, str]:
    """Digest the files that a step made, but for the store of MLflow; an unreadable one has none."""
    found = {}
    for name in step.made:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not name.startswith(STORE):
                try:
                    found[str(file.relative_to(folder))] = digest(file)
                except (OSError, ValueError) as error:
                    found[str(file.relative_to(folder))] = f"cannot be read: {error}"
    return found


def environment(folder: Path, **further: str) -> dict[str, str]:
    """Return the environment of steps, whose temporary files are on the same disk."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    env.pop("MLFLOW_TRACKING_URI", None)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    return env | {"TMPDIR": str(folder / "tmp"), "COLUMNS": "200", "PYTHONWARNINGS": "ignore"} | further


def begin(step: Step, folder: Path, first: Callable[[], None] = lambda: None, **further: str) -> Callable[[], Ran]:
    """Begin a step in a copy of this process, which has imported everything; returns what waits for its end.

    Args:
        first: called in the copy before the step.
        further: variables of its environment.
    """
    env = environment(folder, **further)
    said = Path(tempfile.mkstemp(prefix="starve-said-")[1])
    sys.stdout.flush()
    if not (pid := os.fork()):
        code = 1
        try:
            file = os.open(said, os.O_WRONLY)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.close(file)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(env)
            tempfile.tempdir = None
            logging.root.handlers.clear()
            first()
            code = _called(step)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(code)

    def wait() -> Ran:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        text = said.read_text(encoding="utf-8", errors="replace")
        said.unlink()
        return Ran(code, text)

    return wait


def _called(step: Step) -> int:
    from duchenne import cli

    try:
        if step.words[0].startswith("stages/"):
            sys.argv = list(step.words)
            cli.stage(importlib.import_module(f"duchenne.stages.{Path(step.words[0]).stem}").run)
        else:
            sys.argv = ["duchenne", *step.words]
            cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def lay(folder: Path) -> None:
    """Make the project, and run its pipeline."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    for name in ("src", "stages", "dvc.yaml", ".gitignore", ".dvcignore", "models/scratch", "data/raw/README.md"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, target)
    (folder / "params.yaml").write_text("".join(_yaml(PARAMS)), encoding="utf-8")
    for words in (
        ["git", "init", "-q"],
        *([sys.executable, "-m", "dvc", *w] for w in (["init", "-q"], ["repro", "-q"])),
    ):
        subprocess.run(words, cwd=folder, check=True, env=environment(folder, PYTHONPATH=str(folder / "src")))
    _film(sorted((folder / PICTURES).rglob("*.jpg"))[:6], folder / CLIP)


def _yaml(tree: dict, depth: int = 0) -> Iterator[str]:
    """Yield the lines of a tree as YAML, by line, so that `duchenne add` can edit it; deep blocks as JSON."""
    for key, value in tree.items():
        if isinstance(value, dict) and value and depth < 2:
            yield f"{'  ' * depth}{key}:\n"
            yield from _yaml(value, depth + 1)
        else:
            yield f"{'  ' * depth}{key}: {json.dumps(value)}\n"


def _film(pictures: list[Path], out: Path) -> None:
    import av
    from PIL import Image

    with av.open(out, "w") as container:
        stream = container.add_stream("h264", 5)
        stream.width, stream.height, stream.pix_fmt = 320, 320, "yuv420p"
        for picture in pictures:
            image = Image.open(picture).convert("RGB").resize((stream.width, stream.height))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


@contextlib.contextmanager
def disk(base: Path, *steps: Step) -> Iterator[Path]:
    """Yield a disk in memory with a copy of the project, without what the steps make."""
    place = Path(tempfile.mkdtemp(prefix="starve-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "starve", str(place)], check=True)
    try:
        gone = {base / name for step in steps if not step.edits for name in (*step.made, *step.work)}
        gone |= {base / name for name in ("src", ".dvc", ".git", "tmp")}  # the code is this one's

        def ignore(folder: str, names: list[str]) -> set[str]:
            return {name for name in names if Path(folder, name) in gone}

        shutil.copytree(base, place, ignore=ignore, dirs_exist_ok=True)
        (place / "tmp").mkdir()
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.rmdir()


def remount(place: Path, option: str) -> None:
    """Change the size of a disk, or whether it can be written."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)


def used(place: Path) -> int:
    """Return the bytes that are taken on a disk."""
    found = os.statvfs(place)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def undisturbed(base: Path, name: str) -> Known:
    """Run a step on a disk with room."""
    with disk(base, STEPS[name]) as folder:
        before = used(folder)
        ran = begin(STEPS[name], folder)()
        if ran.code or ran.broken:
            raise SystemExit(f"{name} fails on a disk with room:\n{ran.text[-5000:]}")
        return Known(contents(folder, STEPS[name]), used(folder) - before + SPARE)


def _few_files(most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _little_memory(more: int) -> Callable[[], None]:
    def limit() -> None:
        most = psutil.Process().memory_info().vms + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return limit


def _nobody() -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def _jumping_clock() -> None:
    true, looks = time.time, itertools.count()
    time.time = lambda: true() - 365 * 86400 * (next(looks) % 2)


FIRST = {
    "nobody": _nobody, "files": _few_files(64), "files14": _few_files(14), "memory": _little_memory(100_000_000),
    "memory20": _little_memory(20_000_000), "clock": _jumping_clock,
}  # fmt: skip
"""Kind of case -> what is done in its process first."""


def alone(base: Path, name: str, kind: str, known: Known, share: float) -> bool:
    """Run a step in want, and again without; prints the case.

    Args:
        share: share of the bytes that it needs, for a full disk.
    """
    step = STEPS[name]
    with disk(base, step) as folder:
        before = contents(folder, step)
        much = kind
        if kind == "disk":
            free = max(PAGE, int(share * known.size) // PAGE * PAGE)
            much = f"disk, {free / 1e3:.0f} of {known.size / 1e3:.0f} kB"
            remount(folder, f"size={used(folder) + free}")
        elif kind == "readonly":
            remount(folder, "ro")
        home = {"HOME": "/nonexistent"} if kind == "nobody" else {}
        ran = begin(step, folder, FIRST.get(kind, lambda: None), **home)()
        if kind in ("disk", "readonly"):
            remount(folder, f"rw,size={ROOM}")
        there = contents(folder, step)
        cut = [path for path, found in there.items() if found not in (known.files.get(path), before.get(path))]
        again = begin(step, folder)()
        wrong = _differences(contents(folder, step), known.files)
        left = [str(path.relative_to(folder)) for path in folder.rglob("*.part")]
    # after a success, a command may refuse to replace what it has written
    failed = again.code and (ran.code or "--force" not in again.text)
    bad = ran.broken or again.broken or failed or cut or wrong or left
    said = [f"exit {ran.code}", f"again {again.code}", "equal" if not wrong else f"DIFFERS {wrong[:3]}"]
    said += [f"CUT {cut[:3]}"] if cut else []
    said += [f"LEFT {left[:3]}"] if left else []
    _print(not bad, name, much, said, ran)
    if failed:
        _print(False, name, "again", [], again)
    return not bad


def together(base: Path, names: tuple[str, str], known: dict[str, Known]) -> bool:
    """Begin two steps at once: each makes what it makes alone, or says that the other is at work."""
    steps = [STEPS[name] for name in names]
    same = names[0] == names[1]
    with disk(base, steps[0]) as folder:
        ends = [begin(step, folder) for step in steps]
        runs = [end() for end in ends]
        wrong = _differences(contents(folder, steps[0]), known[names[0]].files)
    waited = [line for ran in runs for line in ran.text.splitlines() if "is at work on" in line]
    refused = [ran for ran in runs if ran.code]
    told = ("is at work on", "exists already", "holds a network", "is missing", "is not finished")
    bad = any(ran.broken for ran in runs) or (wrong and len(refused) < 2) or (same and len(refused) > 1)
    bad = bad or any(not any(words in ran.first for words in told) for ran in refused)
    said = [f"exits {runs[0].code}, {runs[1].code}", "equal" if not wrong else f"DIFFERS {wrong[:3]}"]
    shown = next((ran for ran in runs if ran.broken), refused[0] if refused else Ran(0, (waited or ["(both done)"])[0]))
    _print(not bad, " + ".join(names), "two", said, shown)
    return not bad


def _differences(found: dict[str, str], known: dict[str, str]) -> list[str]:
    return sorted(path for path in found.keys() | known.keys() if found.get(path) != known.get(path))


def _print(good: bool, name: str, kind: str, said: list[str], ran: Ran) -> None:
    print(f"{'ok ' if good else 'BAD'} {name:15} {kind}: {', '.join(said)} | {ran.first[:250]}", flush=True)
    if not good:
        print("    " + "\n    ".join(ran.text.splitlines()[-25:]), flush=True)


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=Path, help="folder of the project, which is kept; default: a temporary one")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--steps", nargs="*", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--tries", type=int, default=2, help="full disks for each step")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if os.geteuid():
        raise SystemExit("only root can mount disks in memory: run it as root, in a virtual machine or a container")
    with contextlib.ExitStack() as stack:
        base = chosen.base or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="starve-")))
        base.chmod(0o755)
        if not (base / CLIP).exists():
            lay(base)
        for module in (*IMPORTED, *(f"duchenne.stages.{name}" for name in STAGES)):
            importlib.import_module(module)
        draw, known, good = random.Random(chosen.seed), dict[str, Known](), list[bool]()
        for name in chosen.steps:
            known[name] = undisturbed(base, name)
            for kind in chosen.only:
                if kind == "two":
                    good.append(together(base, (name, name), known))
                else:
                    for _ in range(chosen.tries if kind == "disk" else 1):
                        good.append(alone(base, name, kind, known[name], draw.random()))
        if "two" in chosen.only and {"train", "report"} <= known.keys():
            good.append(together(base, ("train", "report"), known))
    print(f"{sum(good)} of {len(good)} cases are as they should be")
    raise SystemExit(not all(good))


if __name__ == "__main__":
    main()
