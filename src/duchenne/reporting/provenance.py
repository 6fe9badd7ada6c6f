"""Which code and which data results come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ruamel.yaml import YAML

SOURCES = ("src", "stages", "params.yaml", "dvc.yaml")
"""What of the project decides the results; other files may change."""


def code_revision(root: Path) -> tuple[str, bool]:
    """The commit at ``root`` (empty outside a git repository), and whether :data:`SOURCES` differ from it."""

    def git(*words: str) -> str:
        # names that git prints need not be UTF-8, and only whether there are any matters
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        return done.stdout.strip()

    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", *SOURCES))


def data_revisions(root: Path, raw: dict[str, Path]) -> dict[str, str]:
    """Dataset -> DVC's hash of the raw files that its index was made from, of those that ``dvc.lock`` knows.

    Args:
        root: of the project.
        raw: dataset -> the folder of its raw files, as in ``params.yaml``.
    """
    lock = root / "dvc.lock"
    if not lock.exists():
        return {}
    stages = YAML(typ="safe", pure=True).load(lock.read_text(encoding="utf-8"))["stages"]
    return {
        dataset: item["md5"]
        for dataset, folder in raw.items()
        for item in stages.get(f"index@{dataset}", {"deps": []})["deps"]
        if item["path"] == folder.as_posix()
    }
