"""Facts of each network, read without importing it, because importing PyTorch takes seconds.

A network states its facts where it is registered, in its own module of :mod:`duchenne.models`::

    @register_network(title="POSTER++", layer="ir_back.body3", packaged=("mobilefacenet",))
    def poster_v2(pretrained=False, **kwargs): ...

The decorator (:func:`duchenne.models.contract.register_network`) attaches them to the network, and this module reads
them from the source. So they must be literals: text, numbers, tuples, dicts, calls of the classes below and of
``range``, and names of such literals defined in the module. No other part of the package has a table of networks.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

from duchenne.errors import UserError

MODELS = Path(__file__).parent / "models"
"""Folder whose modules are searched for registered networks."""

Takes = Literal["image", "clip", "pair"]
Basis = Literal["code", "reading", "reconstruction"]


@dataclass(frozen=True)
class Depth:
    """Option that sets the depth of a network, for the figure of accuracy against depth."""

    family: str
    """Family of networks that share a curve."""
    option: str
    """Option that sets the number of blocks."""
    usual: int
    """Number of blocks without the option."""


@dataclass(frozen=True)
class Counting:
    """Differences from the official code for counting, and the part that the paper counts separately."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Options with which this network also runs the parts of the official code."""
    discarded: tuple[str, ...] = ()
    """Modules whose result the official code discards; their parameters belong to ``thop_params``."""
    blocks: str = ""
    """Module of the transformer blocks whose size the paper prints; empty: none."""


@dataclass(frozen=True)
class Facts:
    """Facts of a network for other parts of the package; all except the title have a default."""

    title: str
    """Name printed in its paper."""
    takes: Takes = "image"
    """Normalised images (B, C, H, W); clips (B, C, T, H, W); or onset and apex in grey (B, 2, H, W), in [0, 1]."""
    layer: str | None = None
    """Module whose output Grad-CAM uses; None: only the maps of ``explain``."""
    maps: Mapping[str, str] = field(default_factory=dict)
    """Map of ``explain`` -> its label in the picture. Options may remove a map."""
    caption: str = ""
    """Sentences on these maps in the picture's caption."""
    packaged: tuple[str, ...] = ()
    """Parts whose weights come with this package and are loaded by default (:data:`duchenne.weights.PACKAGED`)."""
    counting: Counting = Counting()
    depth: Depth | None = None
    reconstruction: bool = False
    """Whether the paper does not describe the network completely and no code is public."""
    in_code: Mapping[str, Container[Any]] = field(default_factory=dict)
    """Option -> its values in public code; other values interpret the paper's text. Options not listed have no value
    that only a paper describes."""
    read_parts: tuple[str, ...] = ()
    """Parts with published weights that no public code loads, so that our loading is an interpretation."""

    def __post_init__(self) -> None:
        if self.takes not in get_args(Takes):
            raise UserError(f"{self.title}: takes={self.takes!r} is not one of {', '.join(get_args(Takes))}")

    def basis(self, options: Mapping[str, Any], published: Container[str] = ()) -> Basis:
        """Return the basis of the network: public code, an interpretation of the paper's text, or a reconstruction.

        Args:
            options: options of the network.
            published: parts that start from a file.
        """
        if self.reconstruction:
            return "reconstruction"
        read = any(option in self.in_code and value not in self.in_code[option] for option, value in options.items())
        return "reading" if read or any(part in published for part in self.read_parts) else "code"


class Known(NamedTuple):
    """A registered network: its facts and the module that registers it."""

    module: str
    facts: Facts
    options: tuple[str, ...] | None
    """Names that ``model.options`` may have; None: the source does not list them (``**options`` of the class)."""


@cache
def networks() -> dict[str, Known]:
    """Find every network of :mod:`duchenne.models` by its registered name.

    Raises:
        UserError: A fact is not a literal, or there is no such fact; the message names the file and the network.
    """
    found = {}
    for path in sorted(MODELS.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names: dict[str, Any] = {"Counting": Counting, "Depth": Depth, "range": range}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                _define(node.targets[0].id, node.value, names)
            elif isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    if facts := _facts(path, node.name, decorator, names):
                        found[node.name] = Known(f"duchenne.models.{path.stem}", facts, _options(tree, node))
    return found


def facts_of(architecture: str) -> Facts:
    """Return the facts of a network; for timm's own and unknown networks the defaults, with the name as title."""
    known = networks().get(architecture)
    return known.facts if known else Facts(architecture)


def without_facts(source: bytes) -> bytes:
    """A module's source without the arguments of its ``register_network`` decorators: what they say trains nothing."""
    lines = source.splitlines(keepends=True)
    for node in ast.parse(source).body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if _registers(decorator):
                first, last = decorator.lineno - 1, decorator.end_lineno or decorator.lineno
                lines[first:last] = [b""] * (last - first)
    return b"".join(lines)


def _registers(decorator: ast.expr) -> TypeGuard[ast.Call]:
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "register_network"


def _facts(path: Path, name: str, decorator: ast.expr, names: Mapping[str, Any]) -> Facts | None:
    if isinstance(decorator, ast.Name) and decorator.id == "register_model":  # timm's own: the defaults
        return Facts(name)
    if not _registers(decorator):
        return None
    call = ast.Call(ast.Name("Facts", ast.Load()), decorator.args, decorator.keywords)
    try:
        return _evaluate(call, {**names, "Facts": Facts})
    except Exception as error:
        raise UserError(f"{path}: the facts of {name} must be literals: {error}") from error


def _options(tree: ast.Module, function: ast.FunctionDef) -> tuple[str, ...] | None:
    """Return the arguments of a function and, if it has ``**kwargs``, of the class in its module that it returns."""
    names = _arguments(function)
    if function.args.kwarg:
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        made = [node for node in classes if function.returns and node.name == ast.unparse(function.returns)]
        methods = [node for own in made for node in own.body if isinstance(node, ast.FunctionDef)]
        inits = [node for node in methods if node.name == "__init__"]
        if not inits or inits[0].args.kwarg:
            return None
        names += _arguments(inits[0])[1:]
    return tuple(name for name in dict.fromkeys(names) if name not in ("pretrained", "num_classes"))


def _arguments(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]


def _define(name: str, value: ast.expr, names: dict[str, Any]) -> None:
    try:
        names[name] = _evaluate(value, names)
    except Exception:  # not a literal, so not used in any fact
        names.pop(name, None)


def _evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    expression = ast.fix_missing_locations(ast.Expression(node))
    return eval(compile(expression, "<facts>", "eval"), {"__builtins__": {}}, dict(names))
