"""What a network of ours rests on: its official code, or a reading of a paper that no public code settles."""

from __future__ import annotations

from collections.abc import Container

from duchenne.networks import Basis, facts_of
from duchenne.training.settings import Model

MARKS: dict[Basis, str] = {"code": "", "reading": "‡", "reconstruction": "†"}
"""What stands behind the name of such a network in a table."""

FOOTNOTES: dict[Basis, str] = {
    "reading": "Ours is a reading of the text: no public code has this form of the network.",
    "reconstruction": "Ours is a reconstruction: the paper does not describe this network in full, and no code of it "
    "is public.",
}
"""What the marks stand for; only these two have one."""


def basis_of(model: Model) -> Basis:
    """What a network rests on.

    >>> basis_of(Model(architecture="poster_l", options={"pyramid_layers": 2}))
    'reading'
    """
    files = [part for part, file in model.pretrained.items() if file is not None]
    return facts_of(model.architecture).basis(model.options, files)


def footnotes(found: Container[Basis]) -> list[str]:
    """The marks among ``found`` with what they stand for."""
    return [f"{MARKS[basis]} {text}" for basis, text in FOOTNOTES.items() if basis in found]
