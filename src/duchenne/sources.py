"""Import closure of a module of the package, read from the sources, and a digest of it.

So results of older code are recognised as outdated, while edits of other modules have no effect.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Container, Iterator
from functools import cache
from pathlib import Path

from duchenne.networks import facts_of, networks, without_facts

PACKAGE = Path(__file__).parent

HARMLESS = {
    "duchenne.blocks": "types of values",
    "duchenne.config": "params.yaml counts by its values, not by the source",
    "duchenne.datasets.settings": "counts by its values",
    "duchenne.engines": "where tasks run, and none of them computes a result: a test holds them to that",
    "duchenne.engines.base": "the same",
    "duchenne.engines.calls": "the same",
    "duchenne.engines.cluster": "the same",
    "duchenne.engines.dask": "the same",
    "duchenne.engines.folds": "the same",
    "duchenne.engines.gpus": "the same",
    "duchenne.engines.local": "the same",
    "duchenne.engines.probe": "the same",
    "duchenne.engines.ray": "the same",
    "duchenne.errors": "words of errors",
    "duchenne.extras": "which packages are asked for",
    "duchenne.faces.settings": "counts by its values",
    "duchenne.files": "how files are written, and which are refused",
    "duchenne.locks": "one process at a time",
    "duchenne.landmark_net.settings": "counts by its values",
    "duchenne.protocol": "counts by its values",
    "duchenne.networks": "reads the facts of networks, which are in their own sources",
    "duchenne.processes": "when processes end",
    "duchenne.reporting.provenance": "tags of runs",
    "duchenne.reporting.settings": "counts by its values",
    "duchenne.sealed": "how files are sealed, and which are refused",
    "duchenne.shortage": "words of errors, and which of them stop",
    "duchenne.sources": "digests of sources",
    "duchenne.synth.settings": "counts by its values",
    "duchenne.tracking": "sends results elsewhere",
    "duchenne.training.environment": "what is recorded of versions and hardware",
    "duchenne.training.launch": "starts processes, whose number does not change the result",
    "duchenne.training.process": "is one of these processes",
    "duchenne.training.settings": "counts by its values",
    "duchenne.workspace": "paths of files: a different path is a different dependency",
}
"""Modules whose edits do not change any result, with the reason."""


def path_of(module: str) -> Path | None:
    """Return the source file of a module of the package; None if there is no such module."""
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


@cache
def imports(module: str) -> frozenset[str]:
    """Return the modules of the package that a module imports anywhere, except for type checkers.

    A name re-exported by a package counts as an import of the module that defines it; the other contents of the package
    do not count.
    """
    found = {name for statement in _statements(module) for name in _modules_of(statement)}
    return frozenset(found - {module})


def closure(module: str, without: Container[str] = HARMLESS) -> set[str]:
    """Return a module and all that it imports directly or indirectly, ``without`` these and what only they need."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        if (current := todo.pop()) not in seen and current not in without:
            seen.add(current)
            todo += imports(current)
    return seen


def source_digest(*modules: str, without: Container[str] = HARMLESS) -> str:
    """Return the SHA-256 of the sources of modules and of all that they import."""
    digest = hashlib.sha256()
    for module in sorted(set().union(*(closure(module, without) for module in modules))):
        source = path_of(module).read_bytes()
        digest.update(module.encode() + b"\0" + (without_facts(source) if b"register_network(" in source else source))
    return digest.hexdigest()


@cache
def network_digest(architecture: str) -> str:
    """Return the SHA-256 of a network's sources: its module and imports, the contract, and the loading of weights.

    Only the fact ``takes`` counts: changes of a title, or of what is shown, do not require training again.
    """
    own = networks().get(architecture)
    sources = source_digest("duchenne.models.contract", "duchenne.models.official", *([own.module] if own else []))
    return hashlib.sha256(f"{sources} {facts_of(architecture).takes}".encode()).hexdigest()


@cache
def _statements(module: str) -> list[ast.Import | ast.ImportFrom]:
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    return [node for node in _executed(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from _executed(node)


def _modules_of(statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names if _ours(alias.name))
    elif _ours(statement.module or ""):
        yield from (_home(statement.module, alias.name) for alias in statement.names)


def _ours(module: str) -> bool:
    return module.split(".")[0] == "duchenne" and path_of(module) is not None


def _home(module: str, name: str) -> str:
    """Return the module that defines a name imported by ``from module import name``."""
    if path_of(f"{module}.{name}"):
        return f"{module}.{name}"
    if path_of(module).name == "__init__.py":
        for statement in _statements(module):
            if isinstance(statement, ast.ImportFrom) and _ours(statement.module or ""):
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        return _home(statement.module, alias.name)
    return module
