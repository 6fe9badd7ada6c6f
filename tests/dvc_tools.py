"""A fresh clone with test parameters, in which DVC runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from unittest.mock import patch

from dvc.repo import Repo
from dvc.utils import strictyaml
from dvc.utils.serialize import _yaml, parse_yaml
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]


@cache
def _pickled(text: str, path: str, typ: str) -> bytes:
    return pickle.dumps(parse_yaml(text, path, typ))


def parse_once(text: str, path: str, typ: str = "safe") -> dict:
    """DVC's parser, which parses a text once, not params.yaml for each stage and dvc.yaml and dvc.lock each time."""
    return pickle.loads(_pickled(text, path, typ)) if typ == "safe" else parse_yaml(text, path, typ)


class Project:
    """The package, its stages and dvc.yaml in a folder of its own, with parameters of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("src", "stages", "dvc.yaml", ".gitignore", ".dvcignore", "models/scratch", "data/raw/README.md"):
            source, target = ROOT / name, root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                # with __pycache__: its processes need not compile the package again
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.egg-info"))
            else:
                shutil.copy2(source, target)
        self.env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
        self.env.pop("MLFLOW_TRACKING_URI", None)
        self.env["PYTHONPATH"] = str(root / "src")  # its own code
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        Repo.init(root).close()

    def params(self, params: dict) -> None:
        yaml = YAML(typ="safe")
        yaml.representer.ignore_aliases = lambda _: True  # anchors are refused
        yaml.dump(params, self.root / "params.yaml")

    def python(self, *words: str, check: bool = True) -> str:
        """What Python printed in this folder with this code."""
        done = subprocess.run(
            [sys.executable, *words], cwd=self.root, env=self.env, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout + done.stderr

    def dvc(self, *words: str, check: bool = True) -> str:
        return self.python("-m", "dvc", *words, check=check)

    def status(self) -> set[str]:
        """Stages that DVC would run, as it knows without running any."""
        with (
            patch.object(strictyaml, "parse_yaml", parse_once),
            patch.object(_yaml, "parse_yaml", parse_once),
            Repo(self.root) as repo,
        ):
            return {name.rpartition(":")[2] for name in repo.status()}

    def stale(self) -> set[str]:
        """Stages that DVC would run once it has run the settings stage."""
        self.python("stages/settings.py")
        return self.status() - {"settings"}


def changed(*path_and_value: object, of: dict) -> dict:
    """Parameters with one value changed."""
    params = json.loads(json.dumps(of))
    *path, key, value = path_and_value
    block = params
    for part in path:
        block = block[part]
    block[key] = value
    return params
