"""docs/datasets.md: the layouts read every tree, and the configuration accepts every block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from datasets_tools import casme2, casme3, cropped, dfew, fer2013, ferv39k, frames, mafw, pictures, raf, samm, smic
from ruamel.yaml import YAML

from duchenne.config import whole_library
from duchenne.datasets.audit import expectation
from duchenne.datasets.build import build_index
from duchenne.datasets.settings import Dataset

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
BLOCKS = {
    name: block
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for name, block in YAML(typ="safe").load(text).items()
}
TREES = dict(re.findall(r"```\n(data/raw/\w+)/\n(.*?)```", PAGE, re.DOTALL))
CASME2 = [("01", "EP02_01f", 46, 59, 86, 12, "happiness"), ("26", "EP90_03", 6, 49, 86, 1, "disgust")]
SAMM = [("006", "006_1_2", 5562, 5588, 5632, "4", "Anger"), ("007", "007_9_2", 497, 511, 541, "1", "Surprise")]


def composite(root: Path) -> None:
    casme2(root / "casme2", CASME2)
    samm(root / "samm", SAMM)
    smic(root / "smic", ["s1_ne_01", "s3_po_02"])


def caer_s(root: Path) -> None:
    pictures(root, ["train/Anger/0001.png", "test/Sad/0001.png"])


def with_videos(root: Path) -> None:
    mafw(root)
    for clip in (root / "data/frames").iterdir():
        video = root / f"data/clips/{clip.name}.mp4"
        video.parent.mkdir(exist_ok=True)
        video.write_bytes(b"not looked into")


def both_forms(root: Path) -> None:
    casme2(root, CASME2)
    casme2(root, CASME2, edition=2014)
    frames(root / "Cropped/sub01/EP02_01f", (46, 59, 86), "reg_img{}.jpg")


MAKE = {
    "raf_db": raf,
    "affectnet": cropped,
    "caer_s": caer_s,
    "dfew": dfew,
    "ferv39k": ferv39k,
    "mafw": with_videos,
    "casme2": both_forms,
    "samm": lambda root: samm(root, SAMM),
    "smic": lambda root: smic(root, ["s1_ne_01", "s3_po_02"]),
    "megc2019": composite,
    "fer2013": fer2013,
    "casme3": lambda root: casme3(root, videos=True),
}
"""Folder -> what puts a small dataset of the owners' layout there."""


CONFIGS = {name: Dataset(**block) for name, block in BLOCKS.items()}


@pytest.mark.parametrize("folder", MAKE)
def test_trees_are_the_layouts_that_are_read(tmp_path, folder):
    MAKE[folder](tmp_path)
    lines = [re.split(r"\s{2,}", line.strip())[0] for line in TREES[f"data/raw/{folder}"].splitlines()]
    for line in lines:
        assert list(tmp_path.glob(re.sub(r"<\w+>", "*", line).rstrip("/"))), line
    mine = [config for config in CONFIGS.values() if config.root == Path("data/raw", folder)]
    assert mine
    for config in mine:
        if config.label_set != "mafw_43":  # its lists lie beside those of the tree
            index = build_index(folder, config.model_copy(update={"root": tmp_path}))
            assert len(index.rows) > 0
            assert index.findings.extra == []


def test_blocks_are_those_of_the_library():
    known = whole_library().datasets
    official = {name for name, config in known.items() if config.label_set}
    assert official <= set(CONFIGS)
    for name in official:
        assert CONFIGS[name] == known[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_numbers_are_those_that_are_checked(name):
    for edition in ("", "2014", "2019"):
        expected = expectation(CONFIGS[name], edition)
        parts = [*expected.parts.values(), expected.classes]
        totals = [sum(classes.values()) for classes in parts]
        totals += [sum(fold.values()) - fold["train"] for fold in expected.folds.values()]
        for total in filter(None, totals):
            assert f"{total:,}" in PAGE
