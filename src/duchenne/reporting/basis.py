"""What a network of ours rests on: its official code, or a reading of a paper that no public code settles."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Literal

from duchenne.training.settings import Model

Basis = Literal["code", "reading", "reconstruction"]

MARKS: dict[Basis, str] = {"code": "", "reading": "‡", "reconstruction": "†"}
"""What stands behind the name of such a network in a table."""

FOOTNOTES: dict[Basis, str] = {
    "reading": "Ours is a reading of the text: no public code has this form of the network.",
    "reconstruction": "Ours is a reconstruction: the paper does not describe this network in full, and no code of it "
    "is public.",
}
"""What the marks stand for; only these two have one."""

RECONSTRUCTIONS = ("poster_image_only", "ifdd_2dcnn", "mobilenetv2_clip", "frl_dgt")
"""Networks, by their registered names."""

_POSTER = {"pyramid_layers": (3,), "branches": ("both",)}
IN_CODE: dict[str, dict[str, Container[Any]]] = {
    "poster_t": _POSTER | {"swapped_blocks": (None, 4)},
    "poster_s": _POSTER | {"swapped_blocks": (None, 6)},
    "poster_l": _POSTER | {"swapped_blocks": (None, 8)},
    "poster_v2": {"multi_scale": (True,), "fusion": ("window",), "vit_depth": range(1, 1000)},
    "ifdd_3dvit": {
        "split": ("correlation_interp", "even_odd", "entire_interp_code", "correlation_weight_code"),
        "issm": ("code",),
        "offset_range": (2,),
        "init_index": ("even_odd",),
        "ladm": ("code", "none"),
        "relation": ("mutual_transformer", "self_transformer_code", "self_cnn_code"),
    },
}
"""Network -> option -> its values that public code has; with any other value the network is a reading. An option that
is not listed has no value that only a paper describes."""


def basis_of(model: Model) -> Basis:
    """What a network rests on.

    >>> basis_of(Model(architecture="poster_l", options={"pyramid_layers": 2}))
    'reading'
    """
    if model.architecture in RECONSTRUCTIONS:
        return "reconstruction"
    known = IN_CODE.get(model.architecture, {})
    read = any(option in known and value not in known[option] for option, value in model.options.items())
    # which pre-trained transformer POSTER++'s Table 7 means is not said, and no code loads one
    pretrained = model.architecture == "poster_v2" and model.pretrained.get("vit") is not None
    return "reading" if read or pretrained else "code"


def footnotes(found: Container[Basis]) -> list[str]:
    """The marks among ``found`` with what they stand for."""
    return [f"{MARKS[basis]} {text}" for basis, text in FOOTNOTES.items() if basis in found]
