"""Figures registered for a single test: those of docs/extending.md, executed as written there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from metric_tools import GUIDE

from duchenne.reporting import figures, figures_across  # noqa: F401  (register the others first)
from duchenne.reporting.registry import ACROSS_FIGURES, RUN_FIGURES


@contextmanager
def documented_figures() -> Iterator[list[str]]:
    """Run the code of the section "A figure", which gives the names of its figures, and forget them afterwards."""
    section = GUIDE.read_text(encoding="utf-8").split("## A figure\n", 1)[1].split("\n## ", 1)[0]
    registries = RUN_FIGURES, ACROSS_FIGURES
    known = [dict(registry) for registry in registries]
    try:
        exec("\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL)), {"__name__": "guide"})
        yield [
            name for registry, before in zip(registries, known, strict=True) for name in registry if name not in before
        ]
    finally:
        for registry, before in zip(registries, known, strict=True):
            registry.clear()
            registry.update(before)
