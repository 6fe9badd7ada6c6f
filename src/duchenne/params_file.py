"""Edits of ``params.yaml``: adding resolved blocks of the library and removing blocks, without other changes.

Lines are inserted and deleted as text, because a YAML writer would move comments and rewrap lines. The result is parsed
and compared with the intended contents before the file is replaced.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap

from duchenne.config import check, complete, load
from duchenne.datasets.contract import layout_facts
from duchenne.errors import UserError
from duchenne.files import replacing
from duchenne.locks import alone
from duchenne.papers.library import SECTIONS, Block, Tree, library, required_by

WIDTH = 118
BY_HAND = "{} is written in a form that cannot be edited line by line: make this change by hand"


class Change(NamedTuple):
    """Result of an edit, as places such as ``variants.poster_v2_rafdb``."""

    done: list[str]
    kept: list[str]


def add(path: Path, names: list[tuple[str, str]]) -> Change:
    """Copy blocks of the library with all that they need into the file.

    An existing block is kept unchanged, so that a ``root`` set by the user survives.

    Args:
        path: ``params.yaml``.
        names: section and name of each block.

    Returns:
        The added blocks, and the existing ones that differ from the library's.

    Raises:
        UserError: The library has no such block, or the file cannot be used.
    """
    with _edited_alone(path) as (text, tree):
        new: Tree = {part: {} for part in SECTIONS}
        kept = []
        for section, name in names:
            for part, blocks in required_by(section, name).items():
                for key, block in blocks.items():
                    there = (tree.get(part) or {}).get(key)
                    if there is None:
                        new[part][key] = complete(block) if part == "variants" else block
                    elif differs(part, key, there) and f"{part}.{key}" not in kept:
                        kept.append(f"{part}.{key}")
        return Change(_added(path, text, tree, new), kept)


def add_blocks(path: Path, blocks: Tree) -> Change:
    """Write blocks of one's own into the file.

    Returns:
        The added blocks, and those that the file has already, as they are.

    Raises:
        UserError: The file has another block of one of these names, or cannot be used, also with the new blocks.
    """
    with _edited_alone(path) as (text, tree):
        new: Tree = {part: {} for part in SECTIONS}
        kept = []
        for part, named in blocks.items():
            for key, block in named.items():
                whole = complete(block) if part == "variants" else block
                there = (tree.get(part) or {}).get(key)
                if there is None:
                    new[part][key] = whole
                elif (complete(there) if part == "variants" else there) == whole:
                    kept.append(f"{part}.{key}")
                else:
                    raise UserError(f"{path} has another {part}.{key}: rename or remove it first")
        return Change(_added(path, text, tree, new), kept)


def _added(path: Path, text: str, tree: Tree, new: Tree) -> list[str]:
    """Insert blocks into the file; returns their places."""
    before = text
    with _edited_by_line(path):
        for part, blocks in new.items():
            if blocks:
                text = _insert(text, part, blocks)
    _replace(path, before, text, tree, new)
    return [f"{part}.{key}" for part, blocks in new.items() for key in blocks]


def set_field(path: Path, section: str, name: str, field: str, value: Any) -> None:
    """Give a block of the file a field that it does not have, or that is empty there.

    Raises:
        UserError: The file has no such block, the block has the field, or the file cannot be used, also with the field.
    """
    with _edited_alone(path) as (text, tree):
        block = (tree.get(section) or {}).get(name)
        if block is None:
            raise UserError(f"{path} has no {section}.{name}")
        if block.get(field):
            raise UserError(f"{path}: {section}.{name} has {field} already: change it by hand")
        with _edited_by_line(path):
            lines = text.splitlines(keepends=True)
            places = YAML().load(text)[section]
            start, own = places.lc.key(name)[0], places[name].lc.key(next(iter(block)))
            line = f"{' ' * own[1]}{field}: {_scalar(value)}\n"
            if field in block:
                lines[places[name].lc.key(field)[0]] = line
            else:
                end = _end_of(lines, start)
                lines[end - 1] = f"{lines[end - 1].rstrip(chr(10))}\n"
                lines.insert(end, line)
        _replace(path, text, "".join(lines), tree, {section: {name: block | {field: value}}})


def remove(path: Path, names: list[tuple[str, str]]) -> Change:
    """Remove blocks, and the library's datasets and rendered sets that are no longer used in the file.

    Returns:
        The removed blocks, and unused blocks of the user that were kept.

    Raises:
        UserError: The file has no such block, or another block needs it.
    """
    with _edited_alone(path) as (text, whole):
        tree = {part: dict(blocks or {}) if part in SECTIONS else blocks for part, blocks in whole.items()}
        gone, kept = [], []
        for section, name in names:
            if name not in tree.get(section, {}):
                raise UserError(f"{path} has no {section}.{name}")
            del tree[section][name]
            gone.append((section, name))
        for section, name in gone:
            if users := _users(tree, section, name):
                raise UserError(f"{path}: {section}.{name} is used by {', '.join(users)}: remove these too")
        for part in ("datasets", "rendered"):
            for key in [key for key in tree.get(part, {}) if key not in _used(tree, part)]:
                if differs(part, key, tree[part][key]):
                    kept.append(f"{part}.{key}")
                else:
                    del tree[part][key]
                    gone.append((part, key))
        before = text
        with _edited_by_line(path):
            for section, name in gone:
                text = _delete(text, section, name)
        _replace(path, before, text, tree)
        return Change([f"{section}.{name}" for section, name in gone], kept)


def differs(section: str, name: str, block: dict[str, Any]) -> bool:
    """Whether a block of the file differs from the library's of the same name; True if the library has none."""
    ours = library()[section].get(name)
    if section == "variants" and ours is not None:
        ours, block = complete(ours), complete(block)
    return ours != block


def _used(tree: Tree, section: str) -> set[str]:
    """Names of datasets or rendered sets that another block of the file needs."""
    if section == "datasets":
        return {block["dataset"] for block in (tree.get("variants") or {}).values()}
    nets = {block["dataset"] for block in (tree.get("landmark_nets") or {}).values()}
    blocks = (tree.get("datasets") or {}).items()
    return nets | {name for name, block in blocks if layout_facts(block["layout"]).rendered}


def _users(tree: Tree, section: str, name: str) -> list[str]:
    """Blocks of the file that need one."""
    variants, nets = tree.get("variants", {}), tree.get("landmark_nets", {})
    match section:
        case "datasets":
            return [user for user, block in variants.items() if block["dataset"] == name]
        case "rendered":
            rendered = [user for user in tree.get("datasets", {}) if user == name]
            return rendered + [user for user, block in nets.items() if block["dataset"] == name]
        case _:
            return [user for user, block in tree[section].items() if block.get("init_from") == name]


@contextmanager
def _edited_alone(path: Path) -> Iterator[tuple[str, Tree]]:
    """Give the text of the file and what it says, while no other command edits it: each would undo the other's edit.

    Raises:
        UserError: The file cannot be used.
    """
    file = path.resolve()
    if not file.exists():  # the folder of the lock would be made
        load(path)
    with alone(file.with_name(f".{file.name}.lock"), f"{path}", remove=True):
        load(path)
        text = _read(path)
        yield text, _parse(text)


@contextmanager
def _edited_by_line(path: Path) -> Iterator[None]:
    """Raise an error with advice when an edit would make the text invalid YAML."""
    try:
        yield
    except YAMLError:
        raise UserError(BY_HAND.format(path)) from None


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8").replace("\r\n", "\n")


def _parse(text: str) -> Tree:
    return YAML(typ="safe", pure=True).load(text) or {}


def _replace(path: Path, before: str, text: str, tree: Tree, new: Tree | None = None) -> None:
    """Write an edited text, which must have the contents of ``tree`` and the blocks of ``new``.

    Raises:
        UserError: It has others, or the file has not the text ``before`` any more.
    """
    meant = {part: blocks or {} for part, blocks in tree.items()}
    for part, blocks in (new or {}).items():
        if blocks:
            meant[part] = {**meant.get(part, {}), **blocks}
    with _edited_by_line(path):
        found = _parse(text)
    if {part: blocks or {} for part, blocks in found.items()} != meant:
        raise UserError(BY_HAND.format(path))
    check(found, path)
    if b"\r\n" in path.read_bytes():
        text = text.replace("\n", "\r\n")
    if _read(path) != before:
        raise UserError(f"{path} was edited meanwhile, for example in an editor: run the command again")
    file = path.resolve()  # a link keeps leading to the file
    with replacing(file) as part:
        part.write_bytes(text.encode("utf-8"))
        shutil.copymode(file, part)


def _insert(text: str, section: str, blocks: dict[str, Block]) -> str:
    """Insert blocks after the last one of their section, with the indentation of its first."""
    lines = text.splitlines(keepends=True)
    start = _line_of(text, section)
    there = YAML().load(text).get(section) if start is not None else None
    inset = there.lc.key(next(iter(there)))[1] if isinstance(there, CommentedMap) and there else 2
    written = "".join(_write(key, block, " " * inset) for key, block in blocks.items())
    if start is None:
        gap = "" if not lines or not lines[-1].strip() else "\n"
        return text + gap + f"{section}:\n{written}"
    if not (_parse(text)[section] or {}):  # `section: {}`
        head, _, comment = lines[start].partition("#")
        lines[start] = f"{head.split(':')[0]}:{f' #{comment}' if comment else chr(10)}"
        return "".join([*lines[: start + 1], written, *lines[start + 1 :]])
    end = _end_of(lines, start)
    if lines[end - 1][-1] != "\n":
        lines[end - 1] += "\n"
    return "".join([*lines[:end], written, *lines[end:]])


def _delete(text: str, section: str, name: str) -> str:
    """Delete a block, with the comment lines directly above it."""
    lines = text.splitlines(keepends=True)
    blocks = YAML().load(text)[section]
    start = blocks.lc.key(name)[0]
    end = _end_of(lines, start)
    first = start
    while first > 0 and lines[first - 1].lstrip().startswith("#") and lines[first - 1].startswith(" "):
        first -= 1
    lines[first:end] = []
    if len(blocks) == 1:
        line = _line_of("".join(lines), section)
        lines[line] = lines[line].replace(":", ": {}", 1)
    return "".join(lines)


def _line_of(text: str, section: str) -> int | None:
    """Line number, from 0, of a top-level key."""
    tree = YAML().load(text)
    return tree.lc.key(section)[0] if isinstance(tree, CommentedMap) and section in tree else None


def _end_of(lines: list[str], start: int) -> int:
    """Return the end of the block that starts in line ``start``, without comments and blank lines after it."""
    depth = len(lines[start]) - len(lines[start].lstrip())
    last = start
    for number in range(start + 1, len(lines)):
        line = lines[number].strip()
        if not line or line.startswith("#"):
            continue
        if len(lines[number]) - len(lines[number].lstrip()) <= depth:
            break
        last = number
    return last + 1


def _write(name: str, block: Block, inset: str) -> str:
    """Format a named block as YAML with an indentation: each field on its own lines, maps in flow style."""
    lines = [f"{inset}{name}:"]
    for key, value in block.items():
        lines += (
            _folded(f"{inset}  {key}: ", _items(value), f"{inset}    ")
            if isinstance(value, dict) and value
            else [f"{inset}  {key}: {_scalar(value)}"]
        )
    return "".join(f"{line}\n" for line in lines)


def _items(block: dict[str, Any]) -> list[str]:
    return [f"{key}: {_scalar(value)}" for key, value in block.items()]


def _folded(head: str, items: list[str], indent: str) -> list[str]:
    """Format ``{a: 1, b: 2}`` after ``head``, on one line if it fits, otherwise folded between items."""
    whole = f"{head}{{{', '.join(items)}}}"
    if len(whole) <= WIDTH:
        return [whole]
    lines = [head + "{"]
    for number, item in enumerate(items):
        item += "}" if number == len(items) - 1 else ","
        fresh = lines[-1].endswith("{")
        if len(lines[-1]) + len(item) + 1 > WIDTH or "{" in item:
            lines.append(indent + item)
        else:
            lines[-1] += item if fresh else f" {item}"
    return lines


def _scalar(value: Any) -> str:
    """Format a value in flow style."""
    if isinstance(value, dict):
        return f"{{{', '.join(_items(value))}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value!r}e0".split("e")[:2] if "e" in repr(value) else f"{value:e}".split("e")
        return f"{float(mantissa)}e{int(exponent)}"
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000
    yaml.default_flow_style = True
    yaml.dump([value], stream)
    return "null" if value is None else stream.getvalue().strip()[1:-1]
