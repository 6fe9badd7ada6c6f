"""Extension of griffe: docstrings are written for `help()` and doctest, and become Markdown for the site."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1\S.*)*", re.MULTILINE)
"""An example of doctest with its output, up to an empty line."""


class AsMarkdown(griffe.Extension):
    """Fences examples, and shows Sphinx' roles as code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        self.on_object(obj=pkg)  # the other event comes before a package has its docstring


def markdown(text: str) -> str:
    text = re.sub(r"\s*# doctest: .*", "", text)
    text = EXAMPLE.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", text)
    return re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", text)
