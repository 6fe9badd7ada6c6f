"""Imports every module of the package, each alone to blame: exit status 1 if one fails, with its error."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import duchenne

SCRIPTS = ("duchenne.serving", "duchenne.weights.__main__")
"""Modules that do something when they are imported."""

failed = 0
for module in pkgutil.walk_packages(duchenne.__path__, "duchenne."):
    if module.name in SCRIPTS:
        continue
    try:
        importlib.import_module(module.name)
    except Exception as error:  # whatever an old version raises
        failed += 1
        print(f"{module.name}: {type(error).__name__}: {error}")
print(f"{failed} modules cannot be imported")
sys.exit(failed > 0)
