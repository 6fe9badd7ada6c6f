"""Files against ``dvc.lock``, and the objects of DVC's cache against their names.

DVC keeps the hash of a file with its time and size, and takes read-only cache objects as unchanged. So `dvc status` and
`dvc checkout` pass over a flipped byte. Here DVC's own functions hash every file and every object again, each of them
once, links to the same file included.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage, Stage
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_data.hashfile.hash import file_md5
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.state import StateNoop
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError
from dvc_objects.fs.local import localfs
from fsspec.callbacks import Callback
from networkx import descendants
from tqdm import tqdm

from duchenne.errors import UserError
from duchenne.stages import OF_A_VARIANT
from duchenne.verification.findings import Checked, Kind

THREADS = 4
"""Files that are read at once; more do not help one disk (assumed)."""

OF_THE_LOCK = "git checkout dvc.lock"
"""What to do where the file is as it should be and ``dvc.lock`` is not."""


def verify_files(root: Path, variants: Iterable[str] = (), allow_missing: bool = False) -> Checked:
    """Compare the outputs and dependencies of stages with ``dvc.lock``, and cache objects with their names.

    Args:
        root: folder of the project.
        variants: check only the stages of these variants and those they need; empty: all stages.
        allow_missing: outputs that are not on this machine are skipped, not wrong.

    Raises:
        UserError: ``dvc.yaml`` or ``dvc.lock`` cannot be read.
    """
    done = Checked()
    try:
        with Repo(root) as repo:
            stages = _stages(repo, variants)
            if all(map(_not_run, stages)):
                done.skipped.append("files: dvc.lock records no stage, so there is nothing to compare them with")
                return done
            _Check(repo, stages, allow_missing, done).run()
    except NotDvcRepoError:
        done.skipped.append("files: this folder is not under DVC (no .dvc folder)")
    except DvcException as error:
        raise UserError(f"DVC cannot read this project: {error}") from None
    return done


def _stages(repo: Repo, variants: Iterable[str]) -> list[Stage]:
    """Return all stages in the order of ``dvc.yaml``, or those of variants with all that they need."""
    every = list(repo.index.stages)
    wanted = {f"{stage}@{variant}" for variant in variants for stage in OF_A_VARIANT}
    if not wanted:
        return every
    chosen = [stage for stage in every if stage.addressing in wanted]
    needed = set(chosen).union(*(descendants(repo.index.graph, stage) for stage in chosen))
    return [stage for stage in every if stage in needed]


def _not_run(stage: Stage) -> bool:
    return not any(out.hash_info for out in stage.outs)


class _Known(StateNoop):
    """Hashes that were computed in this process, by the file itself rather than its path, time or size."""

    def __init__(self) -> None:
        self.hashes: dict[tuple[int, int, str], str] = {}

    def of(self, path: str, name: str) -> str | None:
        return self.hashes.get((*_identity(path), name))

    def put(self, path: str, name: str, value: str) -> None:
        self.hashes[(*_identity(path), name)] = value


class _KnownAs(StateNoop):
    """:class:`_Known` with one kind of hash, as DVC asks for it."""

    def __init__(self, known: _Known, name: str) -> None:
        self.known, self.name = known, name

    def get_many(self, items: Iterable[str], fs: Any, infos: dict[str, dict]) -> Iterator[tuple[str, Any, Any]]:
        from dvc_data.hashfile.meta import Meta

        for path in items:
            value = self.known.of(path, self.name)
            yield (path, Meta.from_info(infos[path]), HashInfo(self.name, value)) if value else (path, None, None)


def _identity(path: str) -> tuple[int, int]:
    found = Path(path).stat()
    return found.st_dev, found.st_ino


@dataclass
class _Object:
    """An object of the cache: the outputs that use it, and whether its contents fit its name."""

    path: str
    name: str  # kind of hash
    outs: dict[str, Output] = field(default_factory=dict)  # file of the project -> output that it is in
    intact: bool | None = None  # None: it is not there


@dataclass
class _Difference:
    """A file that is not as recorded: hashes then and now, and those whose record it does not fit."""

    recorded: str | None  # None: it was not there
    actual: str | None  # None: it is not there now
    stages: list[Stage] = field(default_factory=list)  # that read it
    maker: Stage | None = None  # that wrote it
    out: Output | None = None


class _Check:
    """One check of the stages of a project."""

    def __init__(self, repo: Repo, stages: list[Stage], allow_missing: bool, done: Checked) -> None:
        self.repo, self.stages, self.allow_missing, self.done = repo, stages, allow_missing, done
        self.known = _Known()
        self.objects: dict[str, _Object] = {}
        self.differences: dict[str, _Difference] = {}
        self.folders: dict[str, _Difference] = {}  # without a known listing
        self.recorded: dict[str, str] = {}  # hash -> file that was written with it
        self.missing_inputs: dict[str, None] = {}
        self.makers = {out.fs_path: (stage, out) for stage in repo.index.stages for out in stage.outs}

    def run(self) -> None:
        items = list(self._items())
        paths = {item.fs_path: item for _, item in items}
        for _, item in items:
            if item.use_cache and not item.IS_DEPENDENCY:
                self._collect_objects(item)
        self._hash_all(paths)
        for path, item in paths.items():
            if not Path(path).exists():
                for stage, other in items:
                    if other.fs_path == path:
                        self._absent(stage, other)
                continue
            tree, actual = self._build(item)
            for stage, other in items:
                if other.fs_path == path and other.hash_info.value != actual:
                    self._compare(stage, other, tree, actual)
        self._report()

    def _items(self) -> Iterator[tuple[Stage, Output]]:
        """Yield outputs and dependencies that ``dvc.lock`` records; report stages that have not run or changed."""
        for stage in self.stages:
            if _not_run(stage):
                again = f"dvc repro {stage.addressing}"
                self.done.wrong(stage.addressing, "not run", "has not run yet: dvc.lock does not record it", again)
                continue
            if isinstance(stage, PipelineStage) and stage.cmd_changed:
                self._stale(stage, "its command in dvc.yaml")
            for item in chain(stage.outs, stage.deps):
                if isinstance(item, ParamsDependency):
                    for names in item.workspace_status().values():
                        self._stale(stage, f"{item}: {', '.join(names) if isinstance(names, dict) else names}")
                elif item.hash_info and item.protocol == "local":
                    yield stage, item
                else:
                    self._stale(stage, f"dvc.lock does not record {item}, which dvc.yaml lists for it:")

    def _stale(self, stage: Stage, what: str) -> None:
        text = f"{what} changed after it ran" if not what.endswith(":") else what.removesuffix(":")
        self.done.wrong(stage.addressing, "changed", text, f"dvc repro {stage.addressing}")

    def _collect_objects(self, out: Output) -> None:
        """Note the cache objects of an output; of a folder its listing and, if that is intact, all its files."""
        path, value = self._relative(out.fs_path), out.hash_info.value
        whole = self._object(out, value, path, out)
        if out.hash_info.isdir and Path(whole.path).exists():
            self._hash(whole.path, whole.name)
            if tree := self._listing(out):
                for key, _, info in tree:
                    self._object(out, info.value, "/".join((path, *key)), out)
        elif not out.hash_info.isdir:
            self.recorded.setdefault(value, path)

    def _object(self, item: Output, oid: str, file: str, out: Output) -> _Object:
        place = item.cache.oid_to_path(oid)
        found = self.objects.setdefault(place, _Object(place, item.cache.hash_name))
        found.outs.setdefault(file, out)
        if not oid.endswith(".dir"):
            self.recorded.setdefault(oid, file)
        return found

    def _listing(self, item: Output) -> Tree | None:
        """Return the recorded listing of a folder, if the cache has it undamaged."""
        place = item.cache.oid_to_path(item.hash_info.value)
        if not Path(place).exists() or not self._fits(place, item.cache.hash_name):
            return None
        try:
            return Tree.load(item.cache, item.hash_info, hash_name=item.cache.hash_name)
        except (FileNotFoundError, ObjectFormatError):
            return None

    def _fits(self, place: str, name: str) -> bool:
        """Whether the contents of a cache object are those that its path names."""
        oid = "".join(Path(place).parts[-2:]).removesuffix(".dir")
        return self._hash(place, name) == oid

    def _hash(self, path: str, name: str, progress: Callback | None = None) -> str:
        value = self.known.of(path, name)
        if value is None:
            value = file_md5(path, localfs, name=name, callback=progress, size=Path(path).stat().st_size)
            self.known.put(path, name, value)
        return value

    def _hash_all(self, paths: dict[str, Output]) -> None:
        """Hash every file of the project and every cache object once, several at a time, with a progress bar."""
        todo: dict[tuple[int, int, str], tuple[str, str, int]] = {}
        for path, item in paths.items():
            name = item.hash_name or "md5"
            for file in self._walk(path):
                self.done.counts["files"] += 0 if (*_identity(file), name) in todo else 1
                todo.setdefault((*_identity(file), name), (file, name, Path(file).stat().st_size))
        for found in self.objects.values():
            if Path(found.path).exists():
                self.done.counts["objects"] += 1
                key = (*_identity(found.path), found.name)
                todo.setdefault(key, (found.path, found.name, Path(found.path).stat().st_size))
        total = sum(size for *_, size in todo.values())
        self.done.counts["bytes"] += total
        with (
            tqdm(total=total, desc="files", unit="B", unit_scale=True, delay=1) as bar,
            ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool,
        ):
            progress = _Bar(bar)
            try:
                for _ in pool.map(lambda each: self._hash(each[0], each[1], progress), todo.values()):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for found in self.objects.values():
            if Path(found.path).exists():
                found.intact = self._fits(found.path, found.name)

    def _walk(self, path: str) -> Iterator[str]:
        """Yield the files at a path, as DVC sees them."""
        if Path(path).is_file():
            yield path
        elif Path(path).is_dir():
            for folder, _, files in self.repo.dvcignore.walk(localfs, path):
                yield from (f"{folder}{os.sep}{file}" for file in files)

    def _build(self, item: Output) -> tuple[Tree | None, str | None]:
        """Return the listing of a folder (None: it is a file), and its hash as DVC computes it."""
        name = item.hash_name or "md5"
        database = LocalHashFileDB(localfs, self.repo.cache.local.path, state=_KnownAs(self.known, name))
        _, _, found = build(database, item.fs_path, localfs, name, dry_run=True, ignore=self.repo.dvcignore)
        return (found if isinstance(found, Tree) else None), found.hash_info.value

    def _compare(self, stage: Stage, item: Output, tree: Tree | None, actual: str | None) -> None:
        """Note which files differ from those that a stage recorded."""
        path, recorded = self._relative(item.fs_path), item.hash_info
        listing = self._listing(item) if recorded.isdir else None
        if recorded.isdir and tree is not None and listing is not None:
            before = {key: info.value for key, _, info in listing}
            after = {key: info.value for key, _, info in tree}
            for key in sorted(before.keys() | after.keys()):
                if before.get(key) != after.get(key):
                    self._differ("/".join((path, *key)), before.get(key), after.get(key), stage, item)
        elif tree is not None:
            self.folders.setdefault(path, _Difference(recorded.value, actual)).stages.append(stage)
        else:
            self._differ(path, recorded.value, actual, stage, item)

    def _differ(self, file: str, recorded: str | None, actual: str | None, stage: Stage, item: Output) -> None:
        found = self.differences.setdefault(file, _Difference(recorded, actual))
        if not item.IS_DEPENDENCY:
            found.maker, found.out, found.recorded = stage, item, recorded
        else:
            found.stages.append(stage)

    def _absent(self, stage: Stage, item: Output) -> None:
        path = self._relative(item.fs_path)
        below = item.fs_path + os.sep
        made = any(item.fs_path == each or each.startswith(below) for each in self.makers) or any(
            item.fs_path.startswith(each + os.sep) for each in self.makers
        )
        if made or self._in_git(path):
            self._differ(path, item.hash_info.value, None, stage, item)
        else:
            self.missing_inputs[path] = None

    def _in_git(self, path: str) -> bool:
        return not self.repo.config["core"].get("no_scm", False) and self.repo.scm.is_tracked(path)

    def _relative(self, path: str) -> str:
        inside = os.path.relpath(path, self.repo.root_dir)
        return Path(path if inside.startswith("..") else inside).as_posix()

    def _absolute(self, file: str) -> str:
        return str(Path(self.repo.root_dir, file))

    def _report(self) -> None:
        for path in self.missing_inputs:
            self.done.skipped.append(f"{path}: not on this machine, and no stage makes it")
        for file, found in sorted(self.differences.items()):
            if found.actual is None and self.allow_missing:
                self.done.skipped.append(f"{file}: not on this machine")
                continue
            text, fix = self._told(file, found)
            kind: Kind = "missing" if found.actual is None else "record" if fix == OF_THE_LOCK else "changed"
            self.done.wrong(file, kind, text, fix)
        for path, found in sorted(self.folders.items()):
            others = (*self.differences, *self.missing_inputs, *self.folders)
            if not any(other.startswith(f"{path}/") for other in others):  # what is reported there explains it
                named = _named(found.stages)
                text = f"some file in it is not as it was when {named} ran (dvc.lock)"
                maker = self.makers.get(self._absolute(path))
                fix = f"dvc repro {' '.join(stage.addressing for stage in found.stages)}"
                if maker and maker[0] in found.stages:
                    fix = f"delete it, then `dvc pull {path}`, or `{fix}`"
                else:
                    fix = f"restore it (git status names the files of the code), or `{fix}`"
                self.done.wrong(path, "changed", text, fix)
        absent = [each for each in self.objects.values() if each.intact is None]
        if absent:
            self.done.skipped.append(f"{len(absent)} of {len(self.objects)} objects of DVC's cache: not in the cache")
        for damaged in self.objects.values():
            if damaged.intact is False:
                self._damaged(damaged)

    def _damaged(self, found: _Object) -> None:
        file, out = next(iter(found.outs.items()))
        more = f" and {len(found.outs) - 1} more" if len(found.outs) > 1 else ""
        text = f"is damaged: DVC's copy of {file}{more} does not have the contents that its name says"
        if file in self.differences or not Path(self._absolute(file)).exists():
            fix = f"delete it and {file}, then `dvc pull {file}`, or `dvc repro {out.stage.addressing}`"
        elif self._relative(out.fs_path) in self.folders:
            fix = f"delete it, then `dvc pull {out}`, or `dvc repro {out.stage.addressing}`"
        else:
            fix = f"delete it, then `dvc commit --force {out.stage.addressing}` stores {file}, which is as it was"
        self.done.wrong(self._relative(found.path), "cache", text, fix)

    def _told(self, file: str, found: _Difference) -> tuple[str, str]:
        """Say how a file differs, and what to do."""
        if found.maker is None:  # what its maker wrote it still is, or nothing makes it
            again = f"dvc repro {' '.join(stage.addressing for stage in found.stages)}"
            if found.actual is None:
                return f"is missing: {_named(found.stages)} read it", f"git checkout, dvc checkout, or `{again}`"
            made = self._maker_of(file)
            if made:
                return (
                    f"is as {made.addressing} wrote it, but not what {_named(found.stages)} read: it was made again "
                    "later, or dvc.lock was edited",
                    again,
                )
            return f"changed after {_named(found.stages)} read it", f"restore it (git checkout {file}), or `{again}`"
        maker, out = found.maker.addressing, found.out
        stored = self._stored(found.recorded, out)
        restore = f"`dvc checkout {file}`" if stored else f"`dvc pull {file}`, or `dvc repro {maker}`"
        if found.actual is None:
            return f"is missing: {maker} wrote it", restore.strip("`") if stored else restore
        if found.recorded is None:
            return f"was not written by {maker}", "delete it"
        origin = self.recorded.get(found.actual)
        if origin and origin != file:
            return f"holds the contents of {origin}", f"delete it, then {restore}"
        if not found.stages and not stored and self._stored(found.actual, out):
            return (
                f"is not what dvc.lock says that {maker} wrote, but DVC's cache and later stages have it: dvc.lock was "
                "edited, or is of another revision",
                OF_THE_LOCK,
            )
        return f"changed after {maker} wrote it", f"delete it, then {restore}"

    def _stored(self, oid: str | None, out: Output | None) -> bool:
        """Whether the cache has an undamaged object."""
        if oid is None or out is None or not out.use_cache:
            return False
        place = out.cache.oid_to_path(oid)
        return Path(place).exists() and self._fits(place, out.cache.hash_name)

    def _maker_of(self, file: str) -> Stage | None:
        path = self._absolute(file)
        inside = (stage for each, (stage, _) in self.makers.items() if path == each or path.startswith(each + os.sep))
        return next(inside, None)


class _Bar(Callback):
    """DVC's progress of a file, as that of a bar for all of them."""

    def __init__(self, bar: tqdm) -> None:
        super().__init__()
        self.bar = bar

    def relative_update(self, inc: int = 1) -> None:
        self.bar.update(inc)


def _named(stages: list[Stage]) -> str:
    return ", ".join(dict.fromkeys(stage.addressing for stage in stages))
