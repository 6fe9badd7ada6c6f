"""Apex rules: by hand, on drawn clips with a drift, and on rendered clips with known apex."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from duchenne.datasets.apex import find_apex
from duchenne.datasets.problems import UnreadableError
from duchenne.engines import Local
from duchenne.synth.generate import generate
from duchenne.synth.settings import Synth


def clip(folder: Path, levels: dict[int, float], drift: float = 0.0) -> Path:
    """Grey frames of 12 x 12 px: in a quarter of them the level of each number, everywhere a drift a frame."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for number, level in levels.items():
        image = np.full((12, 12), 90 + drift * number)
        image[:6, :6] += level
        Image.fromarray(image.round().astype(np.uint8)).save(folder / f"reg_img{number}.png")
    return folder


@pytest.mark.parametrize(
    ("numbers", "rule", "apex"),
    [
        ([1, 2, 3, 4, 5], "middle", 3),
        ([1, 2, 4, 5], "middle", 2),  # of two that are as near the earlier
        ([1, 5], "middle", 3),  # nothing between: the middle, although it is not there
        ([], "middle", 3),
        ([1, 5], "difference", 3),
        ([2, 3, 4, 5], "difference", 3),  # without its onset nothing can be compared
    ],
)
def test_what_is_on_the_disk_decides(tmp_path, numbers, rule, apex):
    assert find_apex(rule, 1, 5, clip(tmp_path / "clip", dict.fromkeys(numbers, 0.0))) == apex


def test_the_criterion_by_hand(tmp_path):
    # a quarter of the pixels: frame 2 (8 + 8 + 2) / (8 + 1) = 2; frame 3 (20 + 20 + 2) / (12 + 1) = 3.2;
    # frame 4 (19 + 19 + 2) / (1 + 1) = 20, for what stands still there is far from both ends; frame 5 as frame 2
    folder = clip(tmp_path / "clip", {1: 0, 2: 8, 3: 20, 4: 19, 5: 8, 6: 0})
    assert find_apex("difference", 1, 6, folder) == 4


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(3, 9), st.integers(3, 9), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 1))
def test_a_smooth_rise_and_fall_has_its_apex_at_the_top_whatever_drifts(tmp_path, rise, fall, drift, early):
    up, down = np.sin(np.linspace(0, np.pi / 2, rise, endpoint=False)), np.cos(np.linspace(0, np.pi / 2, fall + 1))
    levels = dict(enumerate([0, 0, *60 * up, *60 * down], start=2))  # the onset is frame 4
    folder = clip(tmp_path / "clip", dict(list(levels.items())[: len(levels) - early]), drift)
    # of a clip that ends early the last frame stands for the offset
    assert abs(find_apex("difference", 4, 4 + rise + fall, folder) - (4 + rise)) <= 1


def test_a_damaged_frame_is_named(tmp_path):
    folder = clip(tmp_path / "clip", {1: 0, 2: 5, 3: 0})
    (folder / "reg_img2.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableError, match="needed to find the apex"):
        find_apex("difference", 1, 3, folder)
    assert find_apex("middle", 1, 3, folder) == 2


@pytest.mark.slow
def test_rendered_apexes_are_found_to_a_frame(tmp_path):
    classes = ("negative", "positive", "surprise")
    shown = {"size": 128, "intensity": (0.05, 0.25), "frames": (10, 24)}
    config = Synth(kind="micro", classes=classes, subjects=2, per_class=1, seed=3, **shown)
    generate(config, tmp_path / "set", tmp_path / "work", engine=Local(1))
    truth = pd.read_parquet(tmp_path / "set" / "truth.parquet")
    errors = {
        rule: np.mean([abs(find_apex(rule, on, off, tmp_path / "set" / path) - apex) for path, on, apex, off in rows])
        for rule in ("middle", "difference")
        for rows in [truth[["path", "onset", "apex", "offset"]].itertuples(index=False)]
    }
    assert errors["difference"] <= 1.0
    assert errors["difference"] < errors["middle"]
