"""Benchmark of damaged files: is every flipped byte, cut and swap of a file that a stage or command reads found?

    python benchmarks/damage.py                               # over an hour on one core
    python benchmarks/damage.py evaluate@image predict@image --rounds 3 --seed 7

Makes a finished small pipeline with a network of each kind (picture, clip, onset and apex) and an interrupted one, once
in ``--folder``. For each stage and command it notes which files are read, by their access times, and then damages each
of them in a copy: ``--rounds`` bytes flipped at seeded places, a cut to nothing, to half and by one byte, and a swap
with the same-named file of another run, dataset, fold or seed. The stage runs in a child and is classed:

    named      it stopped with one error that names the file or its folder
    said       it finished with other outputs, and a warning that names the file
    same       it finished, and what it wrote and printed is unchanged, so the damage is harmless
    unnamed    it stopped with an error that does not name the file
    traceback  it stopped with a traceback
    crash      the interpreter was ended by a signal, or hung
    silent     what it wrote or printed is different, and nothing names the file

Prints a table of counts by kind of file, and every case of the last four, which must not happen; the exit status is 1
if there is one. Raw pictures are other data when they are changed, not damage, and so is a valid ``params.yaml``: DVC
sees both. They are counted as ``input`` where the outputs are different.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CLASSES = ["happiness", "surprise"]
QUICK = {"epochs": 2, "batch_size": 4, "lr": 1e-3, "optimizer": "adamw"}
KFOLD = {"kind": "kfold", "folds": 2, "val_share": 0}
SETS = {
    "stills": {"kind": "image", "classes": CLASSES, "subjects": 6, "seed": 4},
    "others": {"kind": "image", "classes": CLASSES, "subjects": 6, "seed": 5},
    "videos": {"kind": "video", "classes": CLASSES, "subjects": 4, "seconds": [0.25, 0.25], "size": 160},
    "micros": {"kind": "micro", "classes": ["positive", "surprise"], "subjects": 4, "frames": [4, 5], "size": 160},
}
IMAGE = {
    "dataset": "stills",
    "init_from": "scratch",
    "protocol": KFOLD | {"val_share": 0.3},
    "model": {"architecture": "tiny"},
    "recipe": QUICK,
    "selection": "test",
    "seeds": [0, 1],
}
VARIANTS = {
    "image": IMAGE,
    "other": IMAGE | {"protocol": KFOLD | {"val_share": 0.3, "seed": 1}, "calibration": "temperature", "seeds": None},
    "start": IMAGE | {"dataset": "others", "init_from": "other", "seeds": None},
    "clip": {
        "dataset": "videos",
        "init_from": "scratch",
        "protocol": KFOLD,
        "model": {"architecture": "tiny_clip"},
        "recipe": QUICK | {"clip": {"frames": 4}, "batch_size": 2},
        "selection": "last",
    },
    "micro": {
        "dataset": "micros",
        "init_from": "scratch",
        "protocol": KFOLD,
        "model": {"architecture": "tiny_pair"},
        "recipe": QUICK | {"pretrain_epochs": 1, "au_centers": "dataset", "batch_size": 2},
        "selection": "last",
    },
    "micro_train": {
        "dataset": "micros",
        "init_from": "scratch",
        "protocol": KFOLD | {"seed": 2},
        "model": {"architecture": "tiny_pair"},
        "recipe": QUICK | {"batch_size": 2},
        "selection": "last",
    },
}
"""``image`` has two seeds and kept logits, ``other`` a temperature; ``start`` starts from it. The micro-expressions
use the two files of AU-region centres."""
PARAMS = {
    "rendered": SETS,
    "landmark_nets": {},
    "datasets": {
        name: {
            "layout": "synth",
            "classes": rendered["classes"],
            "root": f"data/raw/{name}",
            "faces": {"size": 112, "encoding": "png" if name == "micros" else "jpeg"},
        }
        for name, rendered in SETS.items()
    },
    "variants": {name: {k: v for k, v in block.items() if v is not None} for name, block in VARIANTS.items()},
    "compute": {"jobs": 1, "device": "cpu", "precision": "fp32", "folds_at_once": 1, "loader_workers": 0},
    "report": {"bootstrap": 100, "gallery": 2, "tsne_iterations": 250, "tsne_perplexity": 3, "robustness": True},
}

CUTS = ("empty", "half", "less")
BAD = ("unnamed", "traceback", "crash", "silent")
OUTCOMES = ("named", "said", "same", "input", *BAD)
LIMIT = 120
"""Time after which a child has hung, s."""
VOLATILE = {"seconds", "images_per_second", "ended", "started", "time", "id", "versions", "machine", "made"}
"""Columns and entries that differ from run to run."""


@dataclass(frozen=True)
class Command:
    """A stage or command: how it runs in the folder of a project, in which of the two, and what it writes."""

    run: Callable[[], Any]
    interrupted: bool = False


def stage(name: str, *names: str) -> Callable[[], Any]:
    """Run a stage as DVC does, but for MLflow."""

    def run() -> None:
        from duchenne import stages
        from duchenne.commands.common import readable_errors
        from duchenne.config import load
        from duchenne.workspace import Workspace

        with readable_errors():
            stages.run(name, load(), Workspace(), *names)

    return run


def duchenne(*arguments: str) -> Callable[[], Any]:
    """Run the command ``duchenne`` with its arguments."""

    def run() -> None:
        from duchenne import cli

        sys.argv = ["duchenne", *arguments]
        cli.main()

    return run


def succeeding(*arguments: str) -> Callable[[], Any]:
    """Run the command ``duchenne``, which must not fail."""

    def run() -> None:
        try:
            duchenne(*arguments)()
        except SystemExit as error:
            if error.code:
                raise

    return run


def commands() -> dict[str, Command]:
    """Return every stage of every dataset and variant, and the commands that read files of a project."""
    from duchenne.stages import OF_A_DATASET, OF_A_VARIANT

    found = {"settings": Command(stage("settings"))}
    found |= {f"{name}@{key}": Command(stage(name, key)) for key in SETS for name in OF_A_DATASET}
    found |= {f"{name}@{key}": Command(stage(name, key)) for key in VARIANTS for name in OF_A_VARIANT}
    found |= {
        f"resume {name}@{key}": Command(stage(name, key), True) for key in SETS for name in ("align", "landmarks")
    }
    found |= {f"resume train@{key}": Command(stage("train", key), True) for key in VARIANTS}
    found["resume synthesize@stills"] = Command(stage("synthesize", "stills"), True)
    for name, source in {"image": "face.jpg", "clip": "clip", "micro": "clip"}.items():
        found[f"predict@{name}"] = Command(duchenne("predict", source, "--model", f"models/{name}/fold_1"))
        found[f"export@{name}"] = Command(
            duchenne("export", f"models/{name}/fold_1", "--format", "torch", "--out", "network.pt2")
        )
    found["predict --out"] = Command(
        duchenne("predict", "faces", "--model", "models/other/fold_1", "--out", "t.csv"), True
    )
    given = "evaluate", "--variant", "image", "--model", "models/image/fold_1"
    return found | {
        "report": Command(stage("report")),
        "evaluate --model": Command(duchenne(*given)),
        "verify": Command(duchenne("verify")),
        "compare": Command(duchenne("compare", "image", "other")),
        "groups": Command(duchenne("groups", "image")),
        "gap": Command(duchenne("gap", "image")),
        "plan": Command(duchenne("plan", "image")),
        "folds": Command(duchenne("folds", "image")),
        "check": Command(duchenne("check", "stills")),
        "transfer": Command(duchenne("transfer", "image", "--to", "others")),
        "licences": Command(duchenne("licences")),
        "variants": Command(duchenne("variants")),
    }


def quiet_start() -> None:
    """Import once what the children use, and switch MLflow off."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_NO_ANALYTICS"):
        os.environ.pop(name, None)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    warnings.simplefilter("ignore")
    import datasets
    import matplotlib
    import torch
    import training_networks  # noqa: F401  (registers the networks)

    matplotlib.use("agg")
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    from duchenne import cli, stages, tracking  # noqa: F401
    from duchenne.evaluation import explain_run, groups  # noqa: F401
    from duchenne.reporting import compare, page  # noqa: F401
    from duchenne.stages import OF_A_DATASET, OF_A_VARIANT
    from duchenne.training import calibration, fold  # noqa: F401

    for name in (*OF_A_DATASET, *OF_A_VARIANT, "report", "settings"):
        import_module(f"duchenne.stages.{name}")
    import_module("duchenne.prediction.run")
    for name in ("begin", "publish", "epoch"):
        setattr(tracking.Tracker, name, lambda *_, **__: None)


def make(folder: Path) -> None:
    """Make the two projects in ``folder``."""
    whole, halted = folder / "whole", folder / "halted"
    shutil.rmtree(folder, ignore_errors=True)
    whole.mkdir(parents=True)
    (whole / "params.yaml").write_text(json.dumps(PARAMS), encoding="utf-8")
    done = [stage("synthesize", name) for name in SETS]
    done += [stage(name, key) for key in SETS for name in ("index", "align", "landmarks")]
    done += [stage(name, key) for key in VARIANTS for name in ("split", "train", "evaluate", "robustness")]
    done += [stage(name, key) for key in VARIANTS for name in ("explain", "complexity")]
    done += [stage("settings"), succeeding("transfer", "image", "--to", "others"), inputs, stage("report")]
    with working_in(whole):
        for run in done:
            run()
    shutil.copytree(whole, halted)
    with working_in(halted):
        halt()


def inputs() -> None:
    """Put inputs of ``duchenne predict`` beside the project."""
    pictures = sorted(Path("data/raw/stills").rglob("*.jpg"))
    shutil.copy2(pictures[0], "face.jpg")
    Path("faces").mkdir()
    for number, picture in enumerate(pictures[:3]):
        shutil.copy2(picture, f"faces/{number}.jpg")
    frames = next(
        path for path in sorted(Path("data/raw/micros").rglob("*")) if path.is_dir() and any(path.glob("*.png"))
    )
    shutil.copytree(frames, "clip")


def halt() -> None:
    """Interrupt align, landmarks, synthesize, train and predict, as if they had been killed."""
    from unittest.mock import patch

    from duchenne.prediction.jobs import Job

    for name in SETS:
        with patch("duchenne.faces.build._assemble", side_effect=KeyboardInterrupt), contextlib.suppress(SystemExit):
            stage("align", name)()
        with patch("shutil.rmtree", side_effect=KeyboardInterrupt), contextlib.suppress(SystemExit):
            stage("landmarks", name)()
    with patch("duchenne.synth.generate._assemble", side_effect=KeyboardInterrupt), contextlib.suppress(SystemExit):
        stage("synthesize", "stills")()
    with patch.object(Job, "finish", side_effect=KeyboardInterrupt), contextlib.suppress(SystemExit):
        commands()["predict --out"].run()
    shutil.rmtree("work/train")
    shutil.rmtree("models")
    shutil.copytree("../whole/models", "models")
    from duchenne.training.checkpoint import Checkpoints

    save, seen = Checkpoints.save, []

    def once(self: Checkpoints, *arguments: Any) -> None:
        save(self, *arguments)
        seen.append(1)
        raise KeyboardInterrupt

    for name in VARIANTS:
        with patch.object(Checkpoints, "save", once), contextlib.suppress(SystemExit):
            stage("train", name)()


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@dataclass
class Ended:
    """How a child ended: status (negative: by a signal), what it printed, and its outputs by name."""

    status: int
    text: str
    outputs: dict[str, str]
    out: str = ""


def run(command: Command, folder: Path, damaged: str = "") -> Ended:
    """Run a command in a child, and digest what it wrote and printed, but for the damaged file."""
    before = {path: path.stat().st_mtime_ns for path in files_of(folder)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            _child(command, folder, out, err)
        status = _wait(pid)
        out.seek(0), err.seek(0)
        printed, said = (file.read().decode(errors="replace") for file in (out, err))
    outputs = {}
    for path in files_of(folder):
        name = path.relative_to(folder).as_posix()
        if before.get(path) != path.stat().st_mtime_ns and name != damaged:
            outputs[name] = contents(path)
    return Ended(status, printed + said, outputs, printed)


def _child(command: Command, folder: Path, out: Any, err: Any) -> None:
    """Run a command and end this process."""
    import faulthandler

    status = 70
    try:
        for number, file in ((1, out), (2, err)):
            os.dup2(file.fileno(), number)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), encoding="utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), encoding="utf-8", write_through=True)
        logging.basicConfig(level=logging.INFO, format="%(message)s", force=True, stream=sys.stderr)
        warnings.resetwarnings()
        faulthandler.enable(file=2)
        os.chdir(folder)
        command.run()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def _wait(pid: int) -> int:
    """Wait for a child; a hung one is ended, and counts as ended by a signal."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGALRM


def files_of(folder: Path) -> list[Path]:
    return [Path(at, name) for at, _, names in os.walk(folder) for name in names]


def contents(path: Path) -> str:
    """Return a digest of what a file says, without times and the like, where these are known."""
    try:
        text = _said(path)
    except Exception:
        text = repr(path.read_bytes())
    return hashlib.sha256(text.encode()).hexdigest()


def _said(path: Path) -> str:
    match path.suffix:
        case ".json":
            return json.dumps(_lasting(json.loads(path.read_text("utf-8"))), sort_keys=True)
        case ".csv" | ".parquet":
            table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
            return table.drop(columns=VOLATILE & set(table.columns)).to_csv()
        case ".npz":
            with np.load(path) as file:
                return repr({name: (file[name].shape, file[name].tobytes()) for name in file.files})
        case ".arrow":
            import pyarrow as pa

            with pa.ipc.open_stream(path) as reader:
                return repr(reader.read_all().to_pylist())
        case ".html" | ".svg" | ".db" | ".pt" | ".pt2" | ".lock" | ".pdf" | ".log":
            return ""  # drawn from the tables beside them; they hold times and random names
        case _:
            return repr(path.read_bytes())


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in VOLATILE and not _is_digest(k, v)}
    return [_lasting(each) for each in value] if isinstance(value, list) else value


def _is_digest(key: str, value: Any) -> bool:
    """Whether an entry is the digest of a file, which may hold times."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32,64}", value) is not None


def read_by(command: Command, folder: Path) -> tuple[Ended, list[str]]:
    """Run a command on undamaged files: how it ends, and which of them it reads."""
    times = {}
    for path in files_of(folder):
        state = path.stat()
        os.utime(path, ns=(state.st_mtime_ns - 10**9, state.st_mtime_ns))
        times[path] = path.stat().st_atime_ns
    os.sync()
    for path in files_of(folder):
        times[path] = path.stat().st_atime_ns
    inodes = {path.stat().st_ino: path for path in times}
    ended = _run_watching(command, folder)
    found = set(ended[1])
    for path, before in times.items():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_atime_ns != before and inodes.get(path.stat().st_ino) == path:
                found.add(path.relative_to(folder).as_posix())
    return ended[0], sorted(name for name in found if (folder / name) in times)


def _run_watching(command: Command, folder: Path) -> tuple[Ended, list[str]]:
    """Run a command, and note the files that Python opens for reading."""
    log = folder.parent / "opened"
    log.write_bytes(b"")

    def watch() -> None:
        with log.open("ab", buffering=0) as file:
            number = file.fileno()

            def hook(event: str, arguments: tuple) -> None:
                if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
                    mode = arguments[1]
                    if mode is None or "r" in str(mode):
                        name = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100
                        if name.startswith(str(folder) + os.sep):
                            os.write(number, name[len(str(folder)) + 1 :].encode() + b"\n")

            sys.addaudithook(hook)
            command.run()

    # the audit hook is of the child alone
    ended = run(Command(watch), folder)
    return ended, sorted({line for line in log.read_text("utf-8").splitlines() if line})


def kind_of(name: str) -> str:
    """Return the kind of a file: its name without those of runs, datasets, folds and seeds."""
    for known in sorted([*SETS, *VARIANTS], key=len, reverse=True):
        name = re.sub(rf"(?<![a-z]){known}(?![a-z_])", "*", name)
    name = re.sub(r"^data/raw/.*/[^/]*(\.[a-z0-9]+)$", r"data/raw/*/*\1", name)
    name = re.sub(r"seed_\d+/", "", re.sub(r"fold_\d+", "fold_*", name))
    name = re.sub(r"\d{5}-of-\d{5}", "*", re.sub(r"epoch_\d+", "epoch_*", name))
    return re.sub(r"[a-z0-9]+_[0-9a-f]{16}", "*", name)


def damages(name: str, folder: Path, rounds: int, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield kinds of damage of a file, and its bytes with it."""
    data = (folder / name).read_bytes()
    for _ in range(rounds if data else 0):
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        yield f"flip {place}.{bit}", data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
    for cut, size in zip(CUTS, (0, len(data) // 2, len(data) - 1), strict=True):
        if size < len(data):
            yield cut, data[:size]
    others = [path for path in _like(name, folder) if path.read_bytes() != data]
    for other in rng.sample(others, min(2, len(others))):
        yield f"swap {other.relative_to(folder).as_posix()}", other.read_bytes()


def _like(name: str, folder: Path) -> list[Path]:
    """Return files that differ from one in the name of the run, dataset, fold or seed alone."""
    if name.startswith("data/raw/"):
        return []
    own = kind_of(name)
    names = (
        [path.relative_to(folder).as_posix() for path in files_of(folder / Path(name).parts[0])] if "/" in name else []
    )
    return [folder / other for other in sorted(names) if other != name and kind_of(other) == own]


def classed(name: str, ended: Ended, known: Ended) -> str:
    """Class how a command ended with a damaged file."""
    names = name in ended.text or Path(name).name in ended.text or _folder_of(name) in ended.text
    raw = name.startswith(("data/raw/", "face", "clip/")) or name == "params.yaml"
    if ended.status < 0:
        return "crash"
    if "Traceback (most recent call last)" in ended.text:
        return "traceback"
    if ended.outputs == known.outputs and ended.status == known.status and _told(ended) == _told(known):
        return "same"
    if ended.status:
        return "named" if names else "unnamed"
    return "said" if names and Path(name).name not in known.text else "input" if raw else "silent"


def _told(ended: Ended) -> list[str]:
    """Return the printed lines, without times."""
    return [re.sub(r"\d+(\.\d+)? ?(s|ms|min)\b|0x[0-9a-f]+", "", line) for line in ended.out.splitlines()]


def _folder_of(name: str) -> str:
    """Folder whose name is enough for a file: a face store, a trained network, a rendered sample."""
    found = re.match(r"data/faces/[^/]+|models/.+(?=/[^/]+$)|results/[^/]+/maps|work/synthesize(/[^/]+){3}(?=/)", name)
    return found[0] if found else name


def clone(source: Path, target: Path) -> None:
    """Copy a folder by links: what is written replaces files, and does not change them."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="stages and commands, such as evaluate@image; a part of a name will do")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "duchenne_damage"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3, help="flipped bytes of each file")
    parser.add_argument("--new", action="store_true", help="make the projects again")
    parser.add_argument("--each", action="store_true", help="damage every file, not one or two of a kind a command")
    parser.add_argument("--log", type=Path, help="file for a line of each case")
    options = parser.parse_intermixed_args()
    quiet_start()
    if options.new or not (options.folder / "halted" / "models").exists():
        start = time.monotonic()
        make(options.folder)
        print(f"the projects took {time.monotonic() - start:.0f} s", flush=True)
    counts: dict[str, Counter[str]] = {}
    bad, lines = [], []
    trial, start = options.folder / "trial", time.monotonic()
    for name, command in commands().items():
        if options.only and not any(part in name for part in options.only):
            continue
        source = options.folder / ("halted" if command.interrupted else "whole")
        rng = random.Random(f"{options.seed} {name}")
        clone_real(source, trial)
        known, files = read_by(command, trial)
        clone(source, trial)
        again = run(command, trial)
        differ = {key for key in known.outputs | again.outputs if known.outputs.get(key) != again.outputs.get(key)}
        if known.status or differ:
            print(f"{name}: status {known.status}; differs from run to run: {', '.join(sorted(differ)) or 'nothing'}")
            if known.status and command.run and known.status != 1:
                print(known.text[-2000:])
        for file in files if options.each else _some(files, rng):
            for what, data in damages(file, source, options.rounds, rng):
                clone(source, trial)
                (trial / file).unlink()
                (trial / file).write_bytes(data)
                ended = run(command, trial, file)
                for key in differ:
                    ended.outputs.pop(key, None)
                outputs = {key: value for key, value in known.outputs.items() if key not in differ and key != file}
                outcome = classed(file, ended, Ended(known.status, known.text, outputs, known.out))
                counts.setdefault(kind_of(file), Counter())[outcome] += 1
                changed = [key for key in outputs | ended.outputs if outputs.get(key) != ended.outputs.get(key)]
                last = [line for line in ended.text.strip().splitlines() if line][-1:] or [""]
                lines.append(f"{outcome}\t{name}\t{file}\t{what}\t{last[0][:300]}\t{' '.join(changed)[:200]}")
                if outcome in BAD:
                    bad.append(lines[-1])
        print(f"{time.monotonic() - start:6.0f} s  {name}: {len(files)} files", flush=True)
        if options.log:
            options.log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(bad))
    print(f"{'file':55}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES))
    for kind, found in sorted(counts.items()):
        print(f"{kind:55}" + "".join(f"{found[outcome] or '':>10}" for outcome in OUTCOMES))
    total = sum(counts.values(), Counter())
    print(f"{'all':55}" + "".join(f"{total[outcome] or '':>10}" for outcome in OUTCOMES))
    return int(any(total[outcome] for outcome in BAD))


def _some(files: Iterable[str], rng: random.Random) -> list[str]:
    """Return one file of each kind."""
    kinds: dict[str, list[str]] = {}
    for name in files:
        kinds.setdefault(kind_of(name), []).append(name)
    return [rng.choice(names) for names in kinds.values()]


def clone_real(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


if __name__ == "__main__":
    sys.exit(main())
