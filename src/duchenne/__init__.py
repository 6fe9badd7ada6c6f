"""Duchenne: one pipeline for facial-expression recognition in still images, video and micro-expressions.

The functions of :data:`__all__` are imported with their first use, so that ``import duchenne`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duchenne.api.datasets import open_dataset
    from duchenne.api.faces import align
    from duchenne.api.measuring import compare, evaluate
    from duchenne.api.networks import create_model, list_models, load

__all__ = ["align", "compare", "create_model", "evaluate", "list_models", "load", "open_dataset"]

_MODULES = {
    "align": "faces",
    "compare": "measuring",
    "create_model": "networks",
    "evaluate": "measuring",
    "list_models": "networks",
    "load": "networks",
    "open_dataset": "datasets",
}
"""Function -> module of :mod:`duchenne.api`."""


if not TYPE_CHECKING:  # otherwise type checkers would find every name here

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(f"{__name__}.api.{_MODULES[name]}"), name)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
