"""Maps of features."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from duchenne.evaluation.embedding import embed


@pytest.fixture
def groups() -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(3), 20)
    centres = 6 * np.eye(3, 10)
    return centres[labels] + np.random.default_rng(0).normal(size=(60, 10)), labels


def test_groups_stay_groups(groups: tuple[np.ndarray, np.ndarray]):
    features, labels = groups
    points = embed(features, perplexity=10, iterations=300).points
    assert points.shape == (60, 2)
    assert KNeighborsClassifier(5).fit(points, labels).score(points, labels) > 0.95


def test_the_same_input_gives_the_same_map(groups: tuple[np.ndarray, np.ndarray]):
    one, two = (embed(groups[0], perplexity=10, iterations=250) for _ in range(2))
    assert np.array_equal(one.points, two.points)


@pytest.mark.parametrize("number", [6, 60])
def test_few_iterations_still_spread_the_points(groups: tuple[np.ndarray, np.ndarray], number: int):
    assert (np.ptp(embed(groups[0][:number], iterations=250).points, axis=0) > 1).all()


def test_perplexity_is_lowered_for_few_samples_only(groups: tuple[np.ndarray, np.ndarray]):
    assert embed(groups[0][:7], iterations=250).perplexity == 2
    assert embed(groups[0], perplexity=5, iterations=250).perplexity == 5


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.eye(4), "at least 5"),
        (np.full((6, 3), np.nan), "not finite"),
        (np.ones((6, 3)), "all samples are the same"),
    ],
)
def test_what_cannot_be_mapped_is_refused(features: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        embed(features)
