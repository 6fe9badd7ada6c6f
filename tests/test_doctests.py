"""The examples in docstrings give the results shown."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

import duchenne

PACKAGE = Path(duchenne.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("duchenne", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if re.search(r"^ +>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
)

NEED_FILES = {"duchenne.api.datasets", "duchenne.models.official"}
"""Modules whose examples need files of the user; those of the first are executed in docs/python.md."""


def test_there_are_examples():
    assert {"duchenne.metrics", "duchenne.training.sam"} <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module: str):
    found = doctest.testmod(import_module(module))
    assert bool(found.attempted) != (module in NEED_FILES)
    assert not found.failed
