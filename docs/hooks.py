"""Hooks of MkDocs: the reference pages are written from the code at every build, so they cannot drift."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click
from typer.core import TyperGroup
from typer.main import get_command

from duchenne.cli import app
from duchenne.config import Catalog

PYTHON = """# Python

[The interface by examples](../python.md) shows how these are used together. A function raises
`duchenne.errors.UserError`, a `ValueError`, if what it was given cannot be used.

## duchenne

::: duchenne
    options:
      show_root_heading: false
      show_root_toc_entry: false
      members_order: alphabetical

## A trained network

::: duchenne.prediction.model.Model
"""

NAMED = ("rendered", "datasets", "landmark_nets", "variants")
"""Maps of ``params.yaml``, from a name to a block."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference pages."""
    for name, text in {"commands": commands(), "params": params(), "python": PYTHON}.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show links into the source tree as text: the site holds no source."""
    return re.sub(r"\[([^\]]+)\]\(\.\./(?:src|tests|benchmarks)/[^)]*\)", r"\1", markdown)


def commands() -> str:
    """Return the page of all commands, arguments and options."""
    top = get_command(app)
    assert isinstance(top, TyperGroup)
    context = typer.Context(top, info_name="duchenne")
    lines = ["# Commands", "", str(top.help), ""]
    lines += [f"- [`{name}`](#duchenne-{name}): {_sentence(each.help)}" for name, each in top.commands.items()]
    for name, each in top.commands.items():
        within = typer.Context(each, info_name=name, parent=context)
        lines += ["", get_docs_for_click(obj=each, ctx=within, indent=1, name=name, call_prefix="duchenne")]
    return "\n".join(lines).replace("```console\n$ ", "```sh\n")


def _sentence(text: str | None) -> str:
    """Return the first sentence of a help text."""
    return re.split(r"(?<=[^.]\.)\s", f"{text} ", maxsplit=1)[0].strip()


def params() -> str:
    """Return the page of all fields of ``params.yaml``."""
    schema = Catalog.model_json_schema()
    lines = [
        "# params.yaml",
        "",
        "Every field, with its default and what it means. A field without a default is required. `duchenne add` and",
        "`dvc repro` check the whole file; a misspelt key is an error that names the nearest valid one. Maps of names",
        f"({', '.join(f'`{name}`' for name in NAMED)}) hold a block for each name.",
        "",
    ]
    for name, field in schema["properties"].items():
        block = field.get("additionalProperties", field)
        lines += _block(f"{name}.<name>" if name in NAMED else name, block, schema["$defs"])
    return "\n".join(lines)


def _block(place: str, schema: dict[str, Any], defs: dict[str, Any]) -> Iterator[str]:
    """Yield the section of a block, and those of the blocks in it."""
    block = defs[schema["$ref"].rpartition("/")[2]]
    yield from (f"## `{place}`", "", _plain(block.get("description", "")), "")
    yield from ("| field | values | default | meaning |", "|---|---|---|---|")
    inner = []
    for name, field in block["properties"].items():
        part = next((kind for kind in _kinds(field) if "$ref" in kind), None)
        optional = any(kind.get("type") == "null" for kind in _kinds(field))
        if part:
            inner.append((f"{place}.{name}", part))
            values = f"block [`{name}`](#{_anchor(f'{place}.{name}')})" + (" or `null`" if optional else "")
        else:
            values = " or ".join(_values(kind) for kind in _kinds(field))
        meaning, default = _plain(field.get("description", "")), _default(name, field, block, bool(part))
        yield f"| `{name}` | {values} | {default} | {meaning} |"
    yield ""
    for name, part in inner:
        yield from _block(name, part, defs)


def _kinds(field: dict[str, Any]) -> list[dict[str, Any]]:
    return field.get("anyOf", [field])


def _values(kind: dict[str, Any]) -> str:
    """Describe what a field may hold."""
    if "enum" in kind or "const" in kind:
        return ", ".join(f"`{value}`" for value in kind.get("enum", [kind.get("const")]))
    match kind.get("type"):
        case "null":
            return "`null`"
        case "array" if "prefixItems" in kind:
            return "[lowest, highest]"
        case "array":
            return f"list of {_values(kind['items'])}"
        case "object" if isinstance(kind.get("additionalProperties"), dict):
            values = kind["additionalProperties"]
            return f"map to {' or '.join(_values(value) for value in _kinds(values))}"
        case "object":
            return "map"
        case "string":
            return "path" if kind.get("format") == "path" else "text"
        case "boolean":
            return "`true`, `false`"
        case type_:
            limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
            bounds = ", ".join(f"{sign} {kind[key]:g}" for key, sign in limits.items() if key in kind)
            return f"{type_ or 'any'} {bounds}".strip()


def _default(name: str, field: dict[str, Any], block: dict[str, Any], is_block: bool) -> str:
    if name in block.get("required", []):
        return "required"
    if is_block and field.get("default") is not None:
        return ""  # the table of the block has them
    default = field.get("default")
    return f"`{default if isinstance(default, str) and default else json.dumps(default)}`"


def _plain(text: str) -> str:
    """Return a text of the code for a cell of a table."""
    text = re.sub(r"``([^`]+)``", r"`\1`", re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", text))
    return " ".join(text.split()).replace("|", r"\|")


def _anchor(place: str) -> str:
    """Return the anchor that MkDocs gives the heading of a block."""
    return re.sub(r"[^\w-]", "", place).lower()
