"""Which modules of the package a module needs, read from its source, and a digest of them.

What older code left behind is thus not taken for the newer's, and an edit elsewhere voids nothing.
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
    "duchenne.config": "what params.yaml says counts by its values, not by the source",
    "duchenne.datasets.settings": "counts by its values",
    "duchenne.errors": "words of errors",
    "duchenne.extras": "which packages are asked for",
    "duchenne.faces.settings": "counts by its values",
    "duchenne.files": "how files are written, and which are refused",
    "duchenne.landmark_net.settings": "counts by its values",
    "duchenne.protocol": "counts by its values",
    "duchenne.networks": "reads what networks say of themselves, which is in their own sources",
    "duchenne.reporting.provenance": "tags of runs",
    "duchenne.reporting.settings": "counts by its values",
    "duchenne.sources": "digests of sources",
    "duchenne.synth.settings": "counts by its values",
    "duchenne.tracking": "sends results elsewhere",
    "duchenne.training.settings": "counts by its values",
    "duchenne.workspace": "where files are: another place is another dependency",
}
"""Modules whose edits change no result, and why."""


def path_of(module: str) -> Path | None:
    """Source file of a module of the package; None where there is none of this name."""
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of the package whose names a module imports, anywhere but for type checkers.

    A name that a package passes on counts as the module's that defines it; packages are not counted for what they
    contain otherwise.
    """
    found = {name for statement in _statements(module) for name in _modules_of(statement)}
    return frozenset(found - {module})


def closure(module: str, without: Container[str] = HARMLESS) -> set[str]:
    """A module and all that it imports, directly or not; ``without`` these and what they alone need."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        if (current := todo.pop()) not in seen and current not in without:
            seen.add(current)
            todo += imports(current)
    return seen


def source_digest(*modules: str, without: Container[str] = HARMLESS) -> str:
    """SHA-256 of the sources of modules and of all that they import."""
    digest = hashlib.sha256()
    for module in sorted(set().union(*(closure(module, without) for module in modules))):
        source = path_of(module).read_bytes()
        digest.update(module.encode() + b"\0" + (without_facts(source) if b"register_network(" in source else source))
    return digest.hexdigest()


@cache
def network_digest(architecture: str) -> str:
    """SHA-256 of the sources behind a network: its module with all it imports, the contract, and what loads weights.

    Of its facts only what it takes counts: a title, or what is shown of it, trains nothing again.
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
    """The module that defines a name which ``from module import name`` gives."""
    if path_of(f"{module}.{name}"):
        return f"{module}.{name}"
    if path_of(module).name == "__init__.py":
        for statement in _statements(module):
            if isinstance(statement, ast.ImportFrom) and _ours(statement.module or ""):
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        return _home(statement.module, alias.name)
    return module
