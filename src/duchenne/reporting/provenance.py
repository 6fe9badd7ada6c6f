"""Provenance of results: revisions of code and data."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from duchenne.sealed import damaged

SOURCES = ("src", "stages", "params.yaml", "dvc.yaml")
"""Files of the project that determine the results; other files may change."""


def code_revision(root: Path) -> tuple[str, bool]:
    """Return the commit at ``root`` (empty outside a git repository), and whether :data:`SOURCES` differ from it."""

    def git(*words: str) -> str:
        # names printed by git need not be UTF-8; here it only matters whether there are any
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        return done.stdout.strip()

    return git("rev-parse", "--verify", "--quiet", "HEAD"), bool(git("status", "--porcelain", "--", *SOURCES))


def data_revisions(root: Path, raw: dict[str, Path]) -> dict[str, str]:
    """Return DVC's hash of each dataset's raw files when its index was made, for those in ``dvc.lock``.

    Args:
        root: folder of the project.
        raw: dataset -> the folder of its raw files, as in ``params.yaml``.
    """
    lock = root / "dvc.lock"
    if not lock.exists():
        return {}
    try:
        stages = YAML(typ="safe", pure=True).load(lock.read_text(encoding="utf-8"))["stages"]
        return {
            dataset: item["md5"]
            for dataset, folder in raw.items()
            for item in stages.get(f"index@{dataset}", {"deps": []})["deps"]
            if item["path"] == folder.as_posix()
        }
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise damaged(lock, "`git checkout dvc.lock`, or `dvc repro` after deleting it", error) from None
