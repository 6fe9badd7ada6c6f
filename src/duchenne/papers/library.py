"""The library of named variants: every row of the papers, and our own runs on rendered faces and photographs.

A library file is YAML with up to four maps: ``rendered`` (sets of rendered faces), ``datasets``, ``landmark_nets`` and
``variants``. Blocks have the form of ``params.yaml``, written as differences:

- ``base: NAME`` starts from another block of the same map, in any file; what follows is merged into it, map by map.
- ``recipe.lr: 3.5e-5`` is short for ``recipe: {lr: 3.5e-5}``.
- ``grid: {recipe.lr: [...], seed: [...]}`` makes a block for each combination of values; the block's name holds a
  ``{}`` for each key, replaced by its value. Values that do not make good names are given as a map from name to value.
- A name that starts with ``_`` is a base only; it cannot be run.

``duchenne add`` copies resolved blocks into ``params.yaml``, which does not refer to these files.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML

from duchenne.errors import UserError, nearest

FILES = ("poster", "poster_v2", "ifdd", "frl_dgt", "ours", "datasets")
"""Library files, in the order of `duchenne variants`."""

SECTIONS = ("rendered", "datasets", "landmark_nets", "variants")
"""Maps of named blocks, in library files and in ``params.yaml``."""

Block = dict[str, Any]
Tree = dict[str, dict[str, Block]]
"""Section -> name -> block."""


@cache
def library() -> Tree:
    """Return every block of the library, resolved: without bases, and with all values that differ from defaults."""
    written: Tree = {section: {} for section in SECTIONS}
    for file in FILES:
        for section, name, block in _read(file):
            if name in written[section]:
                raise ValueError(f"{file}.yaml: {section}.{name} is in the library twice")
            written[section][name] = block
    return {
        section: {name: resolve(name, blocks) for name in blocks if not name.startswith("_")}
        for section, blocks in written.items()
    }


def defined_in(file: str) -> list[str]:
    """List the variants of one library file.

    Raises:
        UserError: There is no such file.
    """
    if file not in FILES:
        raise UserError(f"no paper is called {file!r}{nearest(file, FILES)}: choose from {', '.join(FILES[:-1])}")
    return [name for section, name, _ in _read(file) if section == "variants" and not name.startswith("_")]


def section_of(name: str) -> str:
    """Return the section of the library with a block of this name; variants first.

    Raises:
        UserError: No section has one.
    """
    for section in reversed(SECTIONS):
        if name in library()[section]:
            return section
    names = [name for blocks in library().values() for name in blocks]
    raise UserError(f"the library has no {name!r}{nearest(name, names)}: `duchenne variants` lists it")


def required_by(section: str, name: str, known: Tree | None = None) -> Tree:
    """Return a block with all that it needs: its dataset, the rendered set, and the runs it starts from.

    Args:
        section: one of :data:`SECTIONS`.
        name: name of the block.
        known: blocks to search; default: the library.

    Raises:
        UserError: There is no such block.
    """
    known = library() if known is None else known
    if name not in known[section]:
        raise UserError(f"the library has no {section}.{name}{nearest(name, known[section])}")
    found: Tree = {part: {} for part in SECTIONS}
    todo = [(section, name)]
    while todo:
        part, current = todo.pop()
        if current in found[part] or current not in known[part]:
            continue
        block = found[part][current] = known[part][current]
        if part in ("variants", "landmark_nets"):
            todo += [(part, block.get("init_from", "scratch"))]
            todo += [("datasets" if part == "variants" else "rendered", block["dataset"])]
        elif part == "datasets":
            todo += [("rendered", current)]
    return found


def resolve(name: str, blocks: dict[str, Block]) -> Block:
    """Resolve a block of a library map by merging in its bases.

    Raises:
        ValueError: A base does not exist, or bases form a circle.
    """
    chain = [name]
    while base := blocks[chain[-1]].get("base"):
        if base not in blocks:
            raise ValueError(f"{chain[-1]}: there is no base {base!r}{nearest(base, blocks)}")
        if base in chain:
            raise ValueError(f"{name}: a circle of bases: {' -> '.join([*chain, base])}")
        chain.append(base)
    merged: Block = {}
    for link in reversed(chain):
        merged = merge(merged, {key: value for key, value in blocks[link].items() if key != "base"})
    return merged


def merge(block: Block, changes: Block) -> Block:
    """Copy ``block`` and merge ``changes``: maps key by key, other values replaced; ``a.b`` means ``b`` of ``a``."""
    merged = copy.deepcopy(block)
    for key, value in changes.items():
        first, _, rest = key.partition(".")
        if rest or isinstance(value, dict):
            before = merged.get(first)
            inner = {rest: value} if rest else value
            merged[first] = merge(before if isinstance(before, dict) else {}, inner)
        else:
            merged[first] = copy.deepcopy(value)
    return merged


def _read(file: str) -> Iterator[tuple[str, str, Block]]:
    """Yield section, name and unresolved block of every entry of a library file, with grids expanded."""
    tree = YAML(typ="safe", pure=True).load(files(__package__).joinpath(f"{file}.yaml").read_text("utf-8"))
    for section in SECTIONS:
        for name, block in (tree.get(section) or {}).items():
            grid = block.pop("grid", {})
            if name.count("{}") != len(grid):
                raise ValueError(f"{file}.yaml: {section}.{name}: one {{}} in the name for each key of grid")
            axes = [each if isinstance(each, dict) else {value: value for value in each} for each in grid.values()]
            for labels in itertools.product(*axes):
                values = [axis[label] for axis, label in zip(axes, labels, strict=True)]
                yield section, name.format(*labels), block | dict(zip(grid, values, strict=True))
