"""Networks for tests: small options of the registered ones, and the one of docs/extending.md."""

from __future__ import annotations

import re
from pathlib import Path

from duchenne.networks import networks

GUIDE = Path(__file__).parents[1] / "docs" / "extending.md"

SMALLER = {
    **{key: {"depth": 1} for key in ("poster_t", "poster_s", "poster_l", "poster_image_only")},
    "poster_v2": {"vit_depth": 1},
    **{key: {"frames": 8} for key in ("ifdd_3dvit", "ifdd_2dcnn", "mvit_clip", "mobilenetv2_clip")},
}
QUICK = {name: SMALLER.get(name, {}) for name in networks()}
"""Registered network -> options with which a forward pass takes less time."""


def documented(language: str) -> str:
    """The code of a language in the section "A network"."""
    section = GUIDE.read_text(encoding="utf-8").split("## A network\n", 1)[1].split("\n## ", 1)[0]
    (code,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return code
