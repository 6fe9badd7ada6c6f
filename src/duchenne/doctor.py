"""What this machine and this folder can run: packages, devices, MLflow, DVC, params.yaml and the files it names.

Every check works outside a project folder, in a read-only one and without the extras. A finding is a problem only if it
stops what params.yaml asks for.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import joblib
import psutil
from packaging.requirements import Requirement
from ruamel.yaml import YAML

from duchenne import config, tracking
from duchenne.config import Catalog
from duchenne.engines import engine_of, folds
from duchenne.errors import UserError
from duchenne.extras import EXTRAS, how_to_install, installed
from duchenne.files import read_json
from duchenne.training.settings import Compute
from duchenne.weights import AGAIN, PACKAGED, require_packaged
from duchenne.workspace import Workspace

GIB = 2**30
LEAST_DISK = 5 * GIB
"""Free disk below which there is a warning (chosen by us): the demonstration takes 3 GB, a model of POSTER++ 0.2."""
STATUS_SECONDS = 20
"""Time limit of ``dvc status``, which reads every changed file of a dataset (chosen by us)."""
SHOWN = ("torch", "torchvision", "timm", "opencv-python-headless", "dvc", "mlflow", "dlib-bin", "onnxruntime")
"""Packages whose versions are shown, as pip knows them."""
DRIVER = Path("/proc/driver/nvidia/version")

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """Result of a check.

    Attributes:
        state: ``problem``: params.yaml asks for something that cannot run.
        fix: command or step that fixes it; empty: none is needed.
    """

    topic: str
    state: State
    text: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


Check = Callable[[], Iterator[Finding]]


def examine(params: Path, workspace: Workspace) -> list[Finding]:
    """Run all checks; a check that fails itself is a warning, so the others are still shown.

    Args:
        params: path of params.yaml; the file may be missing.
    """
    catalog, read = _params(params)
    checks: dict[str, Check] = {
        "packages": _packages,
        "extras": partial(_extras, catalog, workspace),
        "GPU": partial(_gpu, catalog),
        "precision": partial(_precision, catalog),
        "processor": _processor,
        "engine": partial(_engine, catalog, workspace),
        "disk": partial(_disk, workspace, catalog),
        "MLflow": partial(_mlflow, workspace),
        "DVC": partial(_dvc, workspace),
        "datasets": partial(_files, catalog),
        "weights": _weights,
    }
    found = [read]
    for topic, check in checks.items():
        try:
            found += check()
        except Exception as error:  # of a broken installation, which this command is there to describe
            found.append(Finding(topic, "warning", f"cannot be checked: {type(error).__name__}: {error}"))
    return found


def _params(path: Path) -> tuple[Catalog | None, Finding]:
    """Return the catalog, if it is valid, and the finding about it."""
    topic = path.name
    if not path.exists():
        text = f"{path} does not exist, so only the machine is checked"
        return None, Finding(topic, "warning", text, "cd to the project's folder, or give its --params")
    try:
        catalog = config.load(path)
    except UserError as error:
        first, *more = [line.strip() for line in str(error).splitlines()]
        text = f"{first} {more[0]}" if more else first
        others = f" (and {len(more) - 1} more)" if len(more) > 1 else ""
        return None, Finding(topic, "problem", text + others, f"correct {path}; dvc repro lists every error")
    counted = f"datasets: {len(catalog.datasets)}, variants: {len(catalog.variants)}"
    return catalog, Finding(topic, "ok", f"valid; {counted}")


def _packages() -> Iterator[Finding]:
    versions = {name: version for name in SHOWN if (version := _version(name))}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Finding(
        "packages",
        "ok",
        f"duchenne {_version('duchenne') or 'not installed'}, Python {platform.python_version()}, {listed}",
    )
    for line in importlib.metadata.requires("duchenne") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        version = _version(wanted.name)
        fix = f"pip install -c constraints.txt '{wanted.name}{wanted.specifier}'"
        if version is None:
            yield Finding("packages", "problem", f"{wanted.name} is not installed", fix)
        elif not wanted.specifier.contains(version, prereleases=True):
            yield Finding(
                "packages", "warning", f"{wanted.name} {version} is not a tested version ({wanted.specifier})", fix
            )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extras(catalog: Catalog | None, workspace: Workspace) -> Iterator[Finding]:
    """Report the extras; a missing module is a problem if a stage of params.yaml needs it."""
    needed = _needed_modules(catalog, workspace) if catalog else {}
    complete = []
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if not installed(module)]
        if not missing:
            complete.append(extra)
            continue
        packages = ", ".join(modules[module] for module in missing)
        reasons = [needed[module] for module in missing if module in needed]
        text = f"{extra}: {packages} missing" + (f", needed by {reasons[0]}" if reasons else "")
        yield Finding("extras", "problem" if reasons else "warning", text, how_to_install(extra))
    if complete:
        yield Finding("extras", "ok", f"complete: {', '.join(complete)}")


def _needed_modules(catalog: Catalog, workspace: Workspace) -> dict[str, str]:
    """Return modules of extras that the stages of params.yaml need, and what needs them."""
    needed = {"dvc": "dvc repro"} | dict.fromkeys(EXTRAS["report"], "the report")
    if any(not workspace.raw(name).exists() for name in catalog.rendered):
        needed |= dict.fromkeys(EXTRAS["synth"], "rendered faces")
    for name, dataset in catalog.datasets.items():
        if dataset.faces.mode == "detect" and dataset.faces.detector == "dlib":
            needed["dlib"] = f"datasets.{name}.faces.detector: dlib"
        if dataset.faces.landmarks == "dlib68":
            needed |= dict.fromkeys(EXTRAS["dlib"], f"datasets.{name}.faces.landmarks: dlib68")
    return needed


def _gpu(catalog: Catalog | None) -> Iterator[Finding]:
    import torch

    from duchenne.training.device import device_of

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            build = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
            text = f"{card.name}, {card.total_memory / GIB:.0f} GiB, usable ({build}{_driver()})"
            yield Finding("GPU", "ok", text)
    elif device := torch.accelerator.current_accelerator(check_available=True):
        yield Finding("GPU", "ok", f"{device.type}, usable")
    elif DRIVER.exists() or shutil.which("nvidia-smi"):
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU only"
        text = f"an NVIDIA driver is installed{_driver()}, and torch {torch.__version__}, {build}, cannot use it"
        yield Finding("GPU", "warning", text, "install the build for its driver: https://pytorch.org/get-started")
    else:
        yield Finding("GPU", "ok", "none: networks run on the CPU")
    if catalog:
        try:
            device_of(catalog.compute)
        except UserError as error:
            yield Finding("GPU", "problem", str(error), "set compute.device: auto in params.yaml")


def _driver() -> str:
    """Return ``, driver 570.00``, or nothing where Linux does not say it."""
    try:
        words = DRIVER.read_text(encoding="utf-8").splitlines()[0].split()
    except (OSError, IndexError):
        return ""
    return next((f", driver {word}" for word in words if word[0].isdigit() and "." in word), "")


def _precision(catalog: Catalog | None) -> Iterator[Finding]:
    from duchenne.training.device import device_of, multiplies_bf16, precision_of

    compute = catalog.compute if catalog else Compute()
    try:
        device = device_of(compute)
    except UserError:
        return  # reported with the GPU
    where = "this CPU" if device.type == "cpu" else "the GPU"
    able = multiplies_bf16(device)
    kind = "" if device.type != "cpu" else " (AMX or AVX-512 BF16)"
    why = f"{where} {'multiplies' if able else 'cannot multiply'} in bfloat16{kind}"
    chosen = precision_of(compute, device)
    text = f"compute.precision: {compute.precision} trains in {chosen}; {why}"
    if chosen == "bf16" and not able:
        yield Finding("precision", "warning", f"{text}, so it is emulated, which is slow", "compute.precision: auto")
    else:
        yield Finding("precision", "ok", text)


def _processor() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    text = f"{joblib.cpu_count()} cores, {memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB memory free"
    if memory.available < folds.MEMORY:
        fix = "close other programs, or set a smaller recipe.batch_size"
        yield Finding("processor", "warning", f"{text}; training a fold may take {folds.MEMORY / GIB:.0f}", fix)
    else:
        yield Finding("processor", "ok", text)


def _engine(catalog: Catalog | None, workspace: Workspace) -> Iterator[Finding]:
    """Report where work runs, and whether each machine of a cluster can run it."""
    compute = catalog.compute if catalog else Compute()
    if compute.engine == "local":
        yield Finding("engine", "ok", f"local: {joblib.effective_n_jobs(compute.jobs)} processes of this machine")
        threads, cores = compute.fold.cores, joblib.cpu_count()
        if threads != "auto" and threads > cores:
            text = f"compute.fold.cores: each fold computes in {threads} threads, which is slow on {cores} cores"
            yield Finding("engine", "warning", text, "compute.fold.cores: auto")
        return
    try:
        with engine_of(compute, workspace.work("engine", "doctor")) as engine:
            hosts = engine.hosts()
            needs, _ = folds.plan(compute, engine, 1)
            engine.require(needs)
    except UserError as error:
        yield Finding("engine", "problem", str(error), "docs/cluster.md, or compute.engine: local in params.yaml")
        return
    listed = "; ".join(f"{host.name}: {host}" for host in hosts)
    yield Finding("engine", "ok", f"{compute.engine}, machines: {len(hosts)}; {listed}; a fold gets {needs}")


def _disk(workspace: Workspace, catalog: Catalog | None) -> Iterator[Finding]:
    folder = workspace.root.resolve()
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.1f} GiB free in {folder}"
    if not os.access(folder, os.W_OK):
        state: State = "problem" if catalog else "warning"
        yield Finding("disk", state, f"{text}, which is read-only", "work in a folder that you may write")
    elif free < LEAST_DISK:
        yield Finding("disk", "warning", text, "free some space: dvc gc --workspace deletes results of old runs")
    else:
        yield Finding("disk", "ok", text)


def _mlflow(workspace: Workspace) -> Iterator[Finding]:
    if not installed("mlflow"):
        return  # reported with the extras
    address = tracking.shown_uri(workspace)
    try:
        count = tracking.count_runs(workspace)
    except UserError as error:
        fix = "start the server, or correct MLFLOW_TRACKING_URI; results wait in files until `duchenne report`"
        yield Finding("MLflow", "warning", str(error), fix)
        return
    yield Finding("MLflow", "ok", f"{address}: {'made by the first run' if count is None else f'{count} runs'}")


def _dvc(workspace: Workspace) -> Iterator[Finding]:
    if not installed("dvc"):
        return  # reported with the extras
    root = workspace.root.resolve()
    home = next((folder / ".dvc" for folder in (root, *root.parents) if (folder / ".dvc" / "config").is_file()), None)
    if home is None:
        if (root / "dvc.yaml").exists():
            yield Finding("DVC", "problem", f"{root} has a dvc.yaml and is not a DVC repository", "dvc init")
        return
    for path, fix in _cut_off(root / "dvc.lock", home / "tmp" / "rwlock"):
        name = path.relative_to(home.parent)
        yield Finding(
            "DVC", "problem", f"{name} is cut off: a dvc command was ended while it wrote it", f"{fix} {name}"
        )
    running = _running(home / "tmp" / "rwlock")
    if running:
        yield Finding("DVC", "warning", f"a stage is running: {running}", "wait for its end before `dvc repro`")
    yield Finding("DVC", "ok", f"{_cache(root)}{'' if running else _stale(root)}")


def _cut_off(lock: Path, held: Path) -> Iterator[tuple[Path, str]]:
    """Yield files that DVC writes in place and cannot read, each with a command for it.

    DVC does not need the files: without its lock file it takes every finished stage from its cache.
    """
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    try:
        if lock.exists():
            COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(lock.read_text(encoding="utf-8")))
    except Exception:  # of ruamel.yaml, of DVC's schema, of the file system
        yield lock, "finished stages are in DVC's cache: rm"
    try:
        if held.exists():
            read_json(held)
    except (OSError, ValueError):
        yield held, "rm"


def _dvc_command(root: Path, *words: str) -> str | None:
    """Return what a DVC command prints; None if it fails or takes longer than :data:`STATUS_SECONDS`."""
    command = [sys.executable, "-m", "dvc", *words]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=False, timeout=STATUS_SECONDS, encoding="utf-8"
        )
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode else done.stdout


def _cache(root: Path) -> str:
    """Describe cache and remote."""
    place = _dvc_command(root, "cache", "dir")
    if place is None:
        return "its configuration cannot be read: see `dvc config --list`"
    cache = root / place.strip()
    size = sum(path.lstat().st_size for path in cache.rglob("*") if path.is_file())
    remote = (_dvc_command(root, "config", "core.remote") or "").strip()
    return f"cache of {size / GIB:.1f} GiB in {cache}, {f'remote {remote}' if remote else 'no remote'}"


def _stale(root: Path) -> str:
    """Count the stages that ``dvc repro`` would run."""
    answer = _dvc_command(root, "status", "--json")
    if answer is None:
        return "; stale stages not counted: see `dvc status`"
    return f"; {len(json.loads(answer))} stages to run"


def _running(lock: Path) -> str:
    """Describe the process that runs a stage; empty if there is none. A killed process leaves its entry in the file."""
    try:
        held: dict[str, Any] = read_json(lock)
    except (OSError, ValueError):
        return ""
    holders = [*held.get("write", {}).values(), *(entry for each in held.get("read", {}).values() for entry in each)]
    return next((f"{one['cmd']} (process {one['pid']})" for one in holders if psutil.pid_exists(one["pid"])), "")


def _files(catalog: Catalog | None) -> Iterator[Finding]:
    """Report datasets, and files of models and weights, that params.yaml names and that are missing."""
    if catalog is None:
        return
    there = []
    for name, dataset in catalog.datasets.items():
        if not dataset.root.exists() and name not in catalog.rendered:
            text = f"{name}: {dataset.root} does not exist"
            fix = f"put it there (docs/datasets.md), or: duchenne remove {name}"
            yield Finding("datasets", "problem", text, fix)
        else:
            there.append(name if dataset.root.exists() else f"{name} (to be rendered)")
        for field in ("detector_model", "landmark_model"):
            path = getattr(dataset.faces, field)
            if path and not path.exists():
                text = f"datasets.{name}.faces.{field}: {path} does not exist"
                yield Finding("datasets", "problem", text, "correct the path in params.yaml")
    if there:
        yield Finding("datasets", "ok", ", ".join(there))
    for name, variant in catalog.variants.items():
        for part, path in variant.model.files.items():
            if not path.exists():
                text = f"variants.{name}.model.pretrained.{part}: {path} does not exist"
                yield Finding(
                    "weights", "problem", text, "download it (docs/checkpoints.md, Backbones), or remove the entry"
                )


def _weights() -> Iterator[Finding]:
    damaged = []
    for part, path in PACKAGED.items():
        try:
            require_packaged(path)
        except UserError:
            damaged.append(part)
    if damaged:
        text = f"packaged weights damaged: {', '.join(damaged)}"
        yield Finding("weights", "problem", text, AGAIN)
    else:
        yield Finding("weights", "ok", f"packaged: {', '.join(PACKAGED)}")
