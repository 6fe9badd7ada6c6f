"""Maps of test samples: folds never share the axes of their features."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from duchenne.reporting.feature_map import FEATURES, FEWEST, SCORES, class_scores, feature_map
from duchenne.reporting.runs import Run
from duchenne.reporting.settings import Report

CLASSES = ["anger", "fear", "joy"]
CONFIG = Report(tsne_iterations=250)


def run(folder: Path, sizes: list[int]) -> Run:
    """A run whose folds have so many test samples; features of fold k are k everywhere but for noise."""
    random, rows, features = np.random.default_rng(0), [], []
    for fold, size in enumerate(sizes, 1):
        probabilities = random.dirichlet([1, 1, 1], size)
        for i, p in enumerate(probabilities):
            values = {f"p_{name}": value for name, value in zip(CLASSES, p, strict=True)}
            known = {"sample": f"f{fold}_{i}", "fold": fold, "label": i % 3}
            rows.append(known | {"predicted": p.argmax(), "confidence": p.max()} | values)
        features.append(fold + 0.01 * random.normal(size=(size, 4)))
    frame = pd.DataFrame(rows)
    np.savez(
        folder / "features.npz",
        sample=frame["sample"].to_numpy(str)[::-1],
        fold=frame["fold"].to_numpy()[::-1],
        features=np.concatenate(features)[::-1],
    )
    config, nothing = SimpleNamespace(seed=0), pd.DataFrame()
    return Run("r", config, CLASSES, {}, frame, nothing, {}, nothing, nothing, {}, [], folder)


def samples(found) -> list[str]:
    return [words.split(":")[0] for *_, words in found.points]


def test_features_belong_to_the_predictions_of_their_fold(tmp_path: Path):
    for fold, (features, own) in run(tmp_path, [3, 4]).features().items():
        assert np.rint(features).tolist() == np.full((len(own), 4), fold).tolist()
        assert own["sample"].str.startswith(f"f{fold}_").all()
        assert len(own) == {1: 3, 2: 4}[fold]


def test_each_fold_with_enough_samples_has_a_map_of_its_own(tmp_path: Path):
    found = feature_map(run(tmp_path, [FEWEST, FEWEST + 1, 4]), CONFIG, {"f1_0": 7})
    assert (found.title, found.maps) == (FEATURES, 2)
    assert "the 2 with the most test samples of 3" in found.note
    assert "cannot be compared" in found.note
    assert sorted(samples(found)) == sorted([f"f1_{i}" for i in range(FEWEST)] + [f"f2_{i}" for i in range(FEWEST + 1)])
    assert [tile for _, _, tile, words in found.points if words.startswith("f1_0:")] == [7]
    across = {words[:2]: [] for *_, words in found.points}
    for x, _, _, words in found.points:
        across[words[:2]].append(x)
    assert max(across["f1"]) < 0.5 < min(across["f2"])  # side by side
    assert f"{2 * FEWEST + 1} points in 2 maps" in found.words


def test_folds_of_few_samples_share_a_map_of_class_scores(tmp_path: Path):
    found = feature_map(run(tmp_path, [3] * 5 + [FEWEST]), CONFIG, {})
    assert found.maps == 1  # 15 of 30 samples are in a fold that is large enough: just half
    found = feature_map(run(tmp_path, [3] * 6 + [FEWEST]), CONFIG, {})
    assert (found.title, found.maps) == (SCORES, 1)
    assert f"fewer than {FEWEST}" in found.note
    assert len(samples(found)) == 18 + FEWEST


def test_one_network_has_one_map_however_few_its_samples(tmp_path: Path):
    found = feature_map(run(tmp_path, [6]), CONFIG, {})
    assert (found.title, found.maps) == (FEATURES, 1)
    assert found.note.startswith("Perplexity 1.67, lowered from 50 for few samples.")
    assert "fold" not in found.note
    none = feature_map(run(tmp_path, [4]), CONFIG, {})
    assert none.svg is None
    assert "at least 5 samples" in none.note


def test_class_scores_are_the_logits_less_their_mean():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 30.0, -3.0]])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    frame = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in CLASSES]).assign(confidence=0.5)
    assert class_scores(frame)[0] == pytest.approx(logits[0] - logits[0].mean())
    assert np.isfinite(class_scores(frame.assign(p_anger=0.0))).all()
