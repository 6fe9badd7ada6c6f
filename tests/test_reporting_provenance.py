"""Revisions of code and data."""

from __future__ import annotations

import subprocess
from pathlib import Path

from duchenne.reporting.provenance import code_revision, data_revisions

LOCK = """
schema: '2.0'
stages:
  index@faces:
    cmd: python stages/index.py faces
    deps:
    - {path: src/duchenne/datasets, hash: md5, md5: 11.dir}
    - {path: data/raw/faces, hash: md5, md5: 22.dir}
"""


def test_the_data_revision_is_that_of_the_raw_files(tmp_path: Path):
    raw = {"faces": Path("data/raw/faces"), "others": Path("data/raw/others")}
    assert data_revisions(tmp_path, raw) == {}
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert data_revisions(tmp_path, raw) == {"faces": "22.dir"}


def test_the_code_revision_and_whether_the_sources_differ(tmp_path: Path):
    def git(*words: str) -> str:
        author = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", *author, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    git("add", "params.yaml")
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "dvc.lock").write_text("")  # DVC writes it while the stages run
    assert code_revision(tmp_path) == (commit, False)
    (tmp_path / "params.yaml").write_text("seed: 2\n")
    assert code_revision(tmp_path) == (commit, True)


def test_outside_a_repository_there_is_none(tmp_path: Path):
    assert code_revision(tmp_path) == ("", False)
