"""Typed, validated objects for ``params.yaml``; no other module reads that file.

The file contains only what runs now. Every block is complete, so a DVC stage that depends on ``variants.<name>`` is
stale exactly when that variant changed. YAML anchors are refused, because ``dvc exp run -S`` edits the file as text and
loses values of anchors or changes other blocks through them. Unknown keys, wrong types and names that do not exist
raise one :class:`CatalogError` that lists every problem with its place in the file and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.tokens import (
    AliasToken,
    AnchorToken,
    BlockEndToken,
    BlockMappingStartToken,
    BlockSequenceStartToken,
    FlowMappingEndToken,
    FlowMappingStartToken,
    FlowSequenceEndToken,
    FlowSequenceStartToken,
)

from duchenne.blocks import Name, Strict
from duchenne.datasets.settings import Dataset
from duchenne.errors import UserError, nearest, printable, short
from duchenne.files import expanded, regular
from duchenne.landmark_net.settings import LandmarkNet
from duchenne.papers.library import SECTIONS, library, required_by
from duchenne.reporting.settings import Report
from duchenne.shortage import stop_if_short
from duchenne.synth.settings import Synth
from duchenne.training.settings import Compute, Variant
from duchenne.workspace import Workspace

BYTES, DEPTH = 2_000_000, 50
"""Largest size of ``params.yaml`` in bytes, and of blocks inside each other (chosen by us)."""
LINES = 50
"""Largest number of problems that a message lists."""
BEGINS = BlockMappingStartToken, BlockSequenceStartToken, FlowMappingStartToken, FlowSequenceStartToken
ENDS = BlockEndToken, FlowMappingEndToken, FlowSequenceEndToken


class CatalogError(UserError):
    """Raised when ``params.yaml`` cannot be used; the message lists every problem, one per line."""


class Catalog(Strict):
    """All of ``params.yaml``."""

    compute: Compute = Compute()
    report: Report = Report()
    rendered: dict[Name, Synth] = Field({}, description="sets of rendered faces, each in data/raw/<name>")
    datasets: dict[Name, Dataset]
    landmark_nets: dict[Name, LandmarkNet] = Field({})
    variants: dict[Name, Variant]

    def with_library(self, section: str, name: str) -> Catalog:
        """Return this catalog with a dataset or variant of the library added, and all that it needs, if missing."""
        if name in getattr(self, section) or name not in library()[section]:
            return self
        added = Catalog.model_validate(required_by(section, name))
        return self.model_copy(update={part: getattr(added, part) | getattr(self, part) for part in SECTIONS})


def load(path: str | Path = "params.yaml", workspace: Workspace | None = None) -> Catalog:
    """Read and check ``params.yaml``.

    Args:
        workspace: where the imported networks are that ``init_from`` may name; default: the current folder.

    Raises:
        CatalogError: The file has problems; the message lists them, one per line, with the nearest valid names.
        OSError: It cannot be opened now, because too many files are open.
    """
    path = Path(path)
    try:
        if (size := regular(path).stat().st_size) > BYTES:
            raise CatalogError(f"{path} has {size / 1e6:,.0f} MB, over the limit of {BYTES / 1e6:g} MB")
        text = path.read_text("utf-8")
        # DVC's own reader, so that both read the same values (such as 1e-5).
        yaml = YAML(typ="safe", pure=True)
        aliases = [token for token in _shallow(yaml.scan(text), path) if isinstance(token, AnchorToken | AliasToken)]
        tree = None if aliases else YAML(typ="safe", pure=True).load(text)
        require_text(tree)
    except CatalogError:
        raise
    except FileNotFoundError:
        raise CatalogError(f"{path} does not exist: run from the project's root") from None
    except OSError as error:
        stop_if_short(error)
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from None
    except (YAMLError, ValueError) as error:  # a ValueError: of a number of thousands of digits, or not UTF-8
        raise CatalogError(f"{path} is not valid YAML: {short(str(error))}") from None
    if aliases:
        raise CatalogError(
            f"{path}, line {aliases[0].start_mark.line + 1}: anchors and aliases (&{aliases[0].value}) are not "
            "supported, for `dvc exp run -S` would change other variants through them: write the block out"
        )
    return check(tree, path, workspace)


def _shallow(tokens: Iterator[Any], path: Path) -> Iterator[Any]:
    """Yield the tokens of a YAML file; one nested deeper than :data:`DEPTH` would exhaust Python's stack."""
    depth = 0
    for token in tokens:
        depth += isinstance(token, BEGINS) - isinstance(token, ENDS)
        if depth > DEPTH:
            line = token.start_mark.line + 1
            raise CatalogError(f"{path}, line {line}: more than {DEPTH} blocks lie inside each other")
        yield token


def require_text(tree: Any) -> None:
    """Check that no name or value has half a character or a zero byte, which YAML can write as an escape.

    Raises:
        UnicodeEncodeError, ValueError: One has.
    """
    parts = [tree]
    while parts:
        match parts.pop():
            case dict() as block:
                parts += [*block, *block.values()]
            case list() as values:
                parts += values
            case str() as value:
                value.encode()
                if "\0" in value:
                    raise ValueError(f"{value!r} holds a zero byte")


def check(tree: Any, path: Path, workspace: Workspace | None = None) -> Catalog:
    """Check the contents of ``params.yaml`` and return them as a catalog; ``path`` is its name in errors.

    Raises:
        CatalogError: as for :func:`load`.
    """
    if not isinstance(tree, dict):
        raise CatalogError(f"{path} holds no blocks: it needs {', '.join(Catalog.model_fields)}")
    try:
        catalog = Catalog.model_validate(tree)
    except ValidationError as error:
        problems = list(_explain(error))
    else:
        problems = [*_unread(tree), *_dangling(catalog, workspace or Workspace())]
        if not problems:
            return catalog
    lines = [f"  {short(printable(line))}" for line in problems[:LINES]]
    more = [f"  and {len(problems) - LINES} more"] if len(problems) > LINES else []
    raise CatalogError("\n".join([f"{path} cannot be used:", *lines, *more]))


@cache
def whole_library() -> Catalog:
    """Return a catalog of every block of the library."""
    return Catalog.model_validate(library())


def complete(block: dict[str, Any]) -> dict[str, Any]:
    """Complete a variant's block with the defaults of missing fields, so that ``dvc exp run -S`` can set each.

    Optional parts that are not there (``mix``, ``erase``, ...) and words (``note``) are not added.
    """
    return _stated(block, Variant.model_validate(block))


def _stated(block: dict[str, Any], model: BaseModel) -> dict[str, Any]:
    """Return the values of a block, and the defaults of its other fields."""
    whole: dict[str, Any] = {}
    values = model.model_dump(mode="json")
    for name, field in type(model).model_fields.items():
        part = any(_is_block(kind) for kind in _parts_of(field.annotation))
        if part and isinstance(block.get(name), dict):
            whole[name] = _stated(block[name], getattr(model, name))
        elif name in block or not (part or name in ("note", "reproduces")):
            whole[name] = values[name]
    return whole


def _is_block(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _parts_of(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _explain(error: ValidationError) -> Iterator[str]:
    """Yield one line per problem, with its place in the file."""
    auto: Any = None  # a field that is auto or a number has two errors: what it may be, and what the number must be
    for item in error.errors():
        place = tuple(part for part in item["loc"] if part != "[key]")  # marks a name, not its block
        if place[-1:] == ("literal['auto']",):
            auto = place[:-1]
            continue
        if auto and place[:-1] == auto:
            said = item["msg"][:1].lower() + item["msg"][1:]
            yield f"{'.'.join(map(str, auto))}: {item['input']!r} is not auto, and otherwise the {said}"
            continue
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            fields = _fields(place[:-1])
            message = "unknown key" + (nearest(str(place[-1]), fields) or f" (known here: {', '.join(fields)})")
        elif item["input"] is None and item["type"] in ("dict_type", "model_type", "model_attributes_type"):
            message = f"is empty: write `{place[-1]}: {{}}`, or add its contents"
        elif item["type"] == "literal_error":
            given, expected = str(item["input"]), item["ctx"]["expected"]
            message = f"{given!r} is not one of {expected}{nearest(given, expected.split(chr(39)))}"
        yield f"{'.'.join(map(str, place))}: {message}"


def _fields(place: tuple[int | str, ...]) -> list[str]:
    """Return the valid keys of the block at ``place``."""
    kind: Any = Catalog
    for part in place:
        # dict[Name, Block] -> Block; otherwise the field's own annotation, Block or Block | None
        kind = get_args(kind)[1] if get_origin(kind) is dict else kind.model_fields[str(part)].annotation
        kind = _parts_of(kind)[0]
    return list(kind.model_fields)


TAKEN = {
    "scratch": "models/scratch is where training without other weights starts",
    "published": "results/published/",
    "transfer": "results/transfer/",
    "across": "reports/across/ has the figures of all runs",
    "tables": "reports/tables/ has the papers' tables",
}
"""Names that variants and landmark nets cannot have, because their folders have another use."""


def _unread(tree: dict[str, Any]) -> Iterator[str]:
    """Check fields that dvc.yaml reads from the file: DVC knows neither defaults of this package nor ``~``."""
    for name, block in tree["datasets"].items():
        if str(block["root"]).startswith("~"):
            yield f"datasets.{name}.root: DVC does not know ~: write {expanded(Path(block['root']))}"
    for section in ("variants", "landmark_nets"):
        for name, block in (tree.get(section) or {}).items():
            if "init_from" not in block:
                yield f"{section}.{name}.init_from: is missing, and dvc.yaml reads it: add `init_from: scratch`"
    for section in ("rendered", "landmark_nets"):
        if section not in tree:
            yield f"{section}: is missing, and dvc.yaml reads it: add `{section}: {{}}`"


def _dangling(catalog: Catalog, workspace: Workspace) -> Iterator[str]:
    """Find names of blocks that do not exist, and conflicts between blocks."""

    def known(place: str, name: str, section: str, *more: str) -> Iterator[str]:
        names = [*more, *getattr(catalog, section)]
        if name not in names:
            adding = f": `duchenne add {name}` adds it" if name in library()[section] else ""
            yield f"{place}: there is no {name!r} in {section}{adding or nearest(name, names)}"

    for name, dataset in catalog.datasets.items():
        if dataset.facts.rendered:
            yield from known(f"datasets.{name}", name, "rendered")
            if dataset.root != (place := Path("data/raw") / name):
                yield f"datasets.{name}.root: is {dataset.root}, but rendered.{name} goes to {place}"
    for name in catalog.variants.keys() | catalog.landmark_nets.keys():
        if name in TAKEN:
            yield f"{name!r} cannot be run: {TAKEN[name]}; use another name"
        if workspace.imported(name):
            yield f"{name!r} cannot be run: {workspace.model(name)} holds an imported network; use another name"
        if name in catalog.variants and name in catalog.landmark_nets:
            yield f"{name!r} is a variant and a landmark net, and both would write models/{name}: rename one"
    for name, net in catalog.landmark_nets.items():
        if way := _circle(catalog.landmark_nets, name):
            yield f"landmark_nets.{name}.init_from: it would start from itself ({way}): let one start from scratch"
        yield from known(f"landmark_nets.{name}.dataset", net.dataset, "rendered")
        yield from known(f"landmark_nets.{name}.init_from", net.init_from, "landmark_nets", "scratch")
    for name, variant in catalog.variants.items():
        yield from known(f"variants.{name}.dataset", variant.dataset, "datasets")
        if not workspace.imported(variant.init_from):
            yield from known(f"variants.{name}.init_from", variant.init_from, "variants", "scratch")
        if way := _circle(catalog.variants, name):
            yield f"variants.{name}.init_from: it would start from itself ({way}): let one start from scratch"
        start = catalog.variants.get(variant.init_from)
        if start and start.dataset == variant.dataset and start.protocol != variant.protocol:
            yield f"variants.{name}: {variant.init_from} knows other subjects of this dataset: use its protocol"


def _circle(blocks: Mapping[str, Variant] | Mapping[str, LandmarkNet], name: str) -> str:
    """Name the blocks through which one would start from itself; empty if it does not."""
    way, start = {name: None}, blocks[name].init_from
    while start in blocks and start not in way:
        way[start] = None
        start = blocks[start].init_from
    return " <- ".join([*way, name]) if start == name else ""
