"""Basis of an implemented network: official code, or an interpretation of a paper without public code."""

from __future__ import annotations

from collections.abc import Container

from duchenne.networks import Basis, facts_of
from duchenne.training.settings import Model

MARKS: dict[Basis, str] = {"code": "", "reading": "‡", "reconstruction": "†"}
"""Mark after the name of such a network in a table."""

FOOTNOTES: dict[Basis, str] = {
    "reading": "Ours is a reading of the text: no public code has this form of the network.",
    "reconstruction": "Ours is a reconstruction: the paper does not describe this network in full, and no code of it "
    "is public.",
}
"""Explanation of the marks; only these two bases have one."""


def basis_of(model: Model) -> Basis:
    """Return the basis of a network.

    >>> basis_of(Model(architecture="poster_l", options={"pyramid_layers": 2}))
    'reading'
    """
    files = [part for part, file in model.pretrained.items() if file is not None]
    return facts_of(model.architecture).basis(model.options, files)


def footnotes(found: Container[Basis]) -> list[str]:
    """Explain the marks of the bases in ``found``."""
    return [f"{MARKS[basis]} {text}" for basis, text in FOOTNOTES.items() if basis in found]
