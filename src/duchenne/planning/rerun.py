"""Stages of variants that ``dvc repro`` would run, as DVC itself says, and folds that would not be trained again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from duchenne.config import Catalog
from duchenne.extras import how_to_install, installed
from duchenne.files import read_json
from duchenne.stages import OF_A_DATASET, OF_A_VARIANT, run
from duchenne.workspace import Workspace

State = Literal["done", "runs", "follows"]
"""``runs``: DVC finds a change, or will once the settings stage has run; ``follows``: a stage before it runs, and it
runs if that one's result changes."""

SHOWN = 3
"""Changed files that are named."""


@dataclass(frozen=True)
class Stage:
    """A stage, and whether it would run."""

    name: str
    state: State
    why: str = ""


@dataclass(frozen=True)
class FoldState:
    """A fold with state in work/.

    Attributes:
        name: such as ``fold 2`` or, of a further seed, ``seed 1, fold 2``.
        finished: whether it ended, by the code of now; it is copied if configuration, split and data are the same.
        epochs: epochs in its history.
    """

    name: str
    finished: bool
    epochs: int


def stages(catalog: Catalog, listed: Catalog, workspace: Workspace, variants: Iterable[str]) -> tuple[list[Stage], str]:
    """Ask DVC for the state of the stages of variants and of all that they need.

    Args:
        catalog: blocks of all variants, with those of the library.
        listed: blocks of ``params.yaml``, for which alone there are stages.

    Returns:
        The stages that there are, in the order of the pipeline, and a remark on others and on DVC.
    """
    variants = list(variants)
    names = [name for name in _names(catalog, variants) if name.partition("@")[2] in {"", *_blocks(listed)}]
    absent = [name for name in variants if name not in listed.variants]
    if len(absent) < len(variants):
        names.append("report")
    remark = f"not in params.yaml, so that all of it would run: duchenne add {' '.join(absent)}" if absent else ""
    if not installed("dvc"):
        return [], f"DVC is not installed, so its stages are not known: {how_to_install('pipeline')}"
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(str(workspace.root.resolve())) as repo:
            changed = {_short(name): changes for name, changes in repo.status(names).items()}
            new = {_short(one.addressing) for one in repo.index.stages if not any(out.hash_info for out in one.outs)}
            read = {
                _short(one.addressing): [Path(dep.fs_path) for dep in one.deps if dep.protocol == "local"]
                for one in repo.index.stages
            }
            before = {
                _short(stage.addressing): {_short(needed.addressing) for needed in repo.index.graph.successors(stage)}
                for stage in repo.index.graph
            }
    except NotDvcRepoError:
        return [], f"{workspace.root.resolve()} is not a DVC repository: dvc init"
    except DvcException as error:
        return [], f"DVC cannot say it: {error}"
    for name, paths in (_settings(listed, workspace, read) if "settings" in changed else {}).items():
        changed.setdefault(name, []).append({"changed deps": dict.fromkeys(paths, "modified")})
    runs: set[str] = set()
    found = []
    for name in names:
        if changes := changed.get(name):
            found.append(Stage(name, "runs", "never run" if name in new else _reason(changes)))
            runs.add(name)
        elif causes := sorted(before.get(name, set()) & runs - {"settings"}):
            found.append(Stage(name, "follows", f"if the result of {', '.join(causes[:SHOWN])} changes"))
            runs.add(name)
        else:
            found.append(Stage(name, "done"))
    return found, remark


def _settings(listed: Catalog, workspace: Workspace, read: Mapping[str, list[Path]]) -> dict[str, list[str]]:
    """Stage -> files that it reads of the settings stage and that would change; that stage runs in another folder.

    Raises:
        UserError: The settings stage refuses ``params.yaml``.
    """
    found: dict[str, list[str]] = {}
    place = workspace.settings.resolve()
    with tempfile.TemporaryDirectory() as folder:
        fresh = Workspace(Path(folder))
        run("settings", listed, fresh)
        for name, paths in read.items():
            for path in paths:
                if path.is_relative_to(place) and _bytes(path) != _bytes(fresh.settings / path.relative_to(place)):
                    found.setdefault(name, []).append(str(path.relative_to(workspace.root.resolve())))
    return found


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _blocks(catalog: Catalog) -> set[str]:
    return {*catalog.rendered, *catalog.datasets, *catalog.variants}


def _names(catalog: Catalog, variants: Iterable[str]) -> list[str]:
    """Names of the stages of variants, in the order in which they run."""
    variants = list(variants)
    datasets = dict.fromkeys(catalog.variants[name].dataset for name in variants)
    rendered = [f"synthesize@{name}" for name in datasets if name in catalog.rendered]
    faces = [f"{stage}@{name}" for name in datasets for stage in OF_A_DATASET]
    return ["settings", *rendered, *faces, *(f"{stage}@{name}" for name in variants for stage in OF_A_VARIANT)]


def _short(address: str) -> str:
    """Name of a stage without its file: DVC writes ``dvc.yaml:train@a`` in some places."""
    return address.rpartition(":")[2]


def _reason(changes: Iterable[Any]) -> str:
    """Describe what DVC found: changed files, by the kind of change."""
    found: dict[str, list[str]] = {}
    for change in changes:
        if isinstance(change, str):  # such as "changed command"
            found.setdefault(change, [])
        for place in change.values() if isinstance(change, Mapping) else ():
            for path, kind in place.items():
                if isinstance(kind, Mapping):  # of params.yaml: key -> kind
                    for key, what in kind.items():
                        found.setdefault(what, []).append(key)
                else:
                    found.setdefault(kind, []).append(path)
    phrases = []
    for kind, paths in found.items():
        more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        phrases.append(f"{kind}{': ' if paths else ''}{', '.join(paths[:SHOWN])}{more}")
    return "; ".join(phrases)


def folds(catalog: Catalog, workspace: Workspace, variant: str) -> list[FoldState]:
    """Find the folds of a variant that have state in work/, of the seeds that it has now, in order."""
    from duchenne.training.fingerprint import code_version

    found = []
    config = catalog.variants[variant]
    for (seed, fold), path in workspace.fold_states(variant, config.every_seed).items():
        code = _finished(path / "done" / "finished.json").get("code")
        finished = code == code_version(config.model.architecture)
        epochs = max(_rows(path / "history.csv"), _rows(path / "done" / "history.csv"))
        found.append(FoldState(config.fold_title(seed, fold), finished, epochs))
    return found


def _finished(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _rows(path: Path) -> int:
    try:
        return max(0, len(path.read_bytes().splitlines()) - 1)
    except OSError:
        return 0
