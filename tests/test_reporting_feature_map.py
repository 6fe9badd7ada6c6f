"""Maps of test samples: folds never share the axes of their features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reporting_tools import run_of

from duchenne.reporting.feature_map import FEATURES, MIN_SAMPLES, SCORES, class_scores
from duchenne.reporting.figures import map_points
from duchenne.reporting.registry import RUN_FIGURES
from duchenne.reporting.runs import Run
from duchenne.workspace import Workspace

CLASSES = ["anger", "fear", "joy"]


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
    (folder / "results" / "r").mkdir(parents=True)
    np.savez(
        folder / "results" / "r" / "features.npz",
        sample=frame["sample"].to_numpy(str)[::-1],
        fold=frame["fold"].to_numpy()[::-1],
        features=np.concatenate(features)[::-1],
    )
    made = run_of(predictions=frame, metrics={})
    made.workspace = Workspace(folder)
    return made


def samples(run: Run) -> list[str]:
    """In the order of the points of the page."""
    assert [point.words.split(":")[0] for point in map_points(run)] == run.feature_map.samples["sample"].tolist()
    return [point.sample for point in map_points(run)]


def test_features_belong_to_the_predictions_of_their_fold(tmp_path: Path):
    for fold, (features, own) in run(tmp_path, [3, 4]).features.items():
        assert np.rint(features).tolist() == np.full((len(own), 4), fold).tolist()
        assert own["sample"].str.startswith(f"f{fold}_").all()
        assert len(own) == {1: 3, 2: 4}[fold]


def test_each_fold_with_enough_samples_has_a_map_of_its_own(tmp_path: Path):
    mapped = run(tmp_path, [MIN_SAMPLES, MIN_SAMPLES + 1, 4])
    found = mapped.feature_map
    assert (found.title, len(found.panels)) == (FEATURES, 2)
    assert "the 2 with the most test samples of 3" in found.note
    assert "cannot be compared" in found.note
    shown = [f"f1_{i}" for i in range(MIN_SAMPLES)] + [f"f2_{i}" for i in range(MIN_SAMPLES + 1)]
    assert sorted(samples(mapped)) == sorted(shown)
    across = {fold: [point.across for point in map_points(mapped) if point.sample[:2] == fold] for fold in ("f1", "f2")}
    assert max(across["f1"]) < 0.5 < min(across["f2"])  # side by side
    assert f"{2 * MIN_SAMPLES + 1} points in 2 maps" in RUN_FIGURES["tsne"].alt(mapped)


def test_folds_of_few_samples_share_a_map_of_class_scores(tmp_path: Path):
    found = run(tmp_path / "half", [3] * 5 + [MIN_SAMPLES]).feature_map
    assert (found.title, len(found.panels)) == (FEATURES, 1)  # 15 of 30 samples are in a fold that is large enough
    mapped = run(tmp_path / "less", [3] * 6 + [MIN_SAMPLES])
    found = mapped.feature_map
    assert (found.title, len(found.panels)) == (SCORES, 1)
    assert f"fewer than {MIN_SAMPLES}" in found.note
    assert len(samples(mapped)) == 18 + MIN_SAMPLES


def test_one_network_has_one_map_however_few_its_samples(tmp_path: Path):
    found = run(tmp_path / "six", [6]).feature_map
    assert (found.title, len(found.panels)) == (FEATURES, 1)
    assert found.note.startswith("Perplexity 1.67, lowered from 50 for few samples.")
    assert "fold" not in found.note
    none = run(tmp_path / "four", [4])
    assert not RUN_FIGURES["tsne"].applies(none)
    assert "at least 5 samples" in RUN_FIGURES["tsne"].otherwise(none)


def test_class_scores_are_the_logits_less_their_mean():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 30.0, -3.0]])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    frame = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in CLASSES]).assign(confidence=0.5)
    assert class_scores(frame)[0] == pytest.approx(logits[0] - logits[0].mean())
    assert np.isfinite(class_scores(frame.assign(p_anger=0.0))).all()
