"""Metrics registered for a single test: those of docs/extending.md, executed as written there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from duchenne.metrics import METRICS, Metric

GUIDE = Path(__file__).parents[1] / "docs" / "extending.md"


@contextmanager
def documented_metrics() -> Iterator[list[Metric]]:
    """Run the code of the section "A metric", and forget its metrics afterwards."""
    section = GUIDE.read_text(encoding="utf-8").split("## A metric\n", 1)[1].split("\n## ", 1)[0]
    known = dict(METRICS)
    try:
        exec("\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL)), {"__name__": "guide"})
        yield [metric for name, metric in METRICS.items() if name not in known]
    finally:
        METRICS.clear()
        METRICS.update(known)
