"""Apex of clips without annotation: as the rule for files finds it, and what is assumed is said."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from duchenne.datasets.apex import find_apex
from duchenne.prediction.apex import apex_of


def faces(frames: int = 9, seed: int = 0) -> np.ndarray:
    """Noisy grey faces (T, 24, 24) in which a patch rises and falls, over a drift."""
    rng = np.random.default_rng(seed)
    top = rng.integers(2, frames - 2)
    clip = rng.normal(120, 3, (frames, 24, 24)) + np.arange(frames)[:, None, None]
    clip[:, 4:14, 4:14] += 50 * np.clip(1 - np.abs(np.arange(frames) - top) / 4, 0, None)[:, None, None]
    return clip.round().astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_the_apex_is_that_of_the_rule_for_files(tmp_path, seed):
    clip = faces(seed=seed)
    for number, face in enumerate(clip, start=20):
        Image.fromarray(face).save(tmp_path / f"{number}.png")
    apex, note = apex_of(clip, range(20, 29))
    assert apex == find_apex("difference", 20, 28, tmp_path)
    assert note == f"the first frame, 20, is assumed to be the onset; the apex was found at frame {apex}"


@pytest.mark.parametrize(("frames", "apex"), [(1, 0), (2, 1), (3, 1)])
def test_the_shortest_clips_have_an_apex_too(frames, apex):
    assert apex_of(faces()[:frames], range(frames))[0] == apex


@pytest.mark.parametrize(("duration", "warned"), [(None, False), (0.4, False), (2.0, True)])
def test_a_clip_longer_than_a_micro_expression_is_said_to_be(duration, warned):
    assert ("lasts 2 s" in apex_of(faces(), range(9), duration)[1]) == warned
