"""What each network says of itself, known without importing it: the import of PyTorch takes seconds.

A network states its facts where it is registered, in its own module of :mod:`duchenne.models`::

    @register_network(title="POSTER++", layer="ir_back.body3", packaged=("mobilefacenet",))
    def poster_v2(pretrained=False, **kwargs): ...

The decorator (:func:`duchenne.models.contract.register_network`) gives them to the network. The same words are read
here from the source. They are therefore literals: text, numbers, tuples, dicts, calls of the classes below and of
``range``, and names of such literals that the module defines. No other part of the package has a table of networks.
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
"""Every module here that registers a network is found."""

Takes = Literal["image", "clip", "pair"]
Basis = Literal["code", "reading", "reconstruction"]


@dataclass(frozen=True)
class Depth:
    """How the depth of a network is set, for the figure of accuracy against depth."""

    family: str
    """Networks of one family share a curve."""
    option: str
    """The option that sets the number of blocks."""
    usual: int
    """The number without the option."""


@dataclass(frozen=True)
class Counting:
    """What the official code runs and ours does not, and which part the paper counts alone."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Options with which our network runs it too."""
    discarded: tuple[str, ...] = ()
    """Modules that the official code runs and whose result it discards; their parameters belong to ``thop_params``."""
    blocks: str = ""
    """The module that the paper calls the transformer blocks and prints the size of; empty: none."""


@dataclass(frozen=True)
class Facts:
    """What other parts of the package ask of a network; each has a default but the title."""

    title: str
    """Name as its paper prints it."""
    takes: Takes = "image"
    """Normalised images (B, C, H, W); clips (B, C, T, H, W); or onset and apex in grey (B, 2, H, W), in [0, 1]."""
    layer: str | None = None
    """The module whose output Grad-CAM shows; None: what ``explain`` gives is all."""
    maps: Mapping[str, str] = field(default_factory=dict)
    """Map that ``explain`` gives -> what stands beside it in the picture. An option may leave a map out."""
    caption: str = ""
    """Sentences on these maps in the picture's caption."""
    packaged: tuple[str, ...] = ()
    """Parts whose weights come with this package and are loaded by default (:data:`duchenne.weights.PACKAGED`)."""
    counting: Counting = Counting()
    depth: Depth | None = None
    reconstruction: bool = False
    """The paper does not describe the network in full, and no code of it is public."""
    in_code: Mapping[str, Container[Any]] = field(default_factory=dict)
    """Option -> its values that public code has; any other is a reading of the paper's text. An option that is not
    listed has no value that only a paper describes."""
    read_parts: tuple[str, ...] = ()
    """Parts for which published weights exist that no public code loads: how we load them is a reading."""

    def __post_init__(self) -> None:
        if self.takes not in get_args(Takes):
            raise UserError(f"{self.title}: takes={self.takes!r} is not one of {', '.join(get_args(Takes))}")

    def basis(self, options: Mapping[str, Any], published: Container[str] = ()) -> Basis:
        """What the network rests on: public code, a reading of the paper's text, or a reconstruction.

        Args:
            options: of the network.
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


@cache
def networks() -> dict[str, Known]:
    """Every network of :mod:`duchenne.models` by its registered name.

    Raises:
        UserError: a fact is not a literal, or there is no such fact; the message names the file and the network.
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
                        found[node.name] = Known(f"duchenne.models.{path.stem}", facts)
    return found


def facts_of(architecture: str) -> Facts:
    """What a network says of itself; of timm's own networks and of unknown ones the defaults, titled by their name."""
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


def _define(name: str, value: ast.expr, names: dict[str, Any]) -> None:
    try:
        names[name] = _evaluate(value, names)
    except Exception:  # not a literal, so no part of any fact
        names.pop(name, None)


def _evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    expression = ast.fix_missing_locations(ast.Expression(node))
    return eval(compile(expression, "<facts>", "eval"), {"__builtins__": {}}, dict(names))
