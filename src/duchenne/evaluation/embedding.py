"""Maps of a network's features in the plane."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from duchenne.extras import require_extra

EXAGGERATED = 250
"""Iterations with early exaggeration, openTSNE's default, but never more than half of all."""


class Embedding(NamedTuple):
    """Points in the plane, (N, 2), and the perplexity that was used."""

    points: np.ndarray
    perplexity: float


def embed(features: np.ndarray, perplexity: float = 50.0, iterations: int = 1000, seed: int = 0) -> Embedding:
    """Compute t-SNE of features (van der Maaten and Hinton 2008), by openTSNE from the first two principal components.

    The same input gives the same map, because it uses one thread and a fixed seed.

    Args:
        features: (N, F), N at least 5.
        perplexity: lowered to (N − 1) / 3 for few samples, above which t-SNE has too few neighbours to weigh.
        iterations: total number, of which the first 250 use early exaggeration (the first half if fewer than 500,
            because exaggeration alone pulls all points together).
        seed: seed of the approximate neighbour search.

    Raises:
        MissingExtraError: openTSNE is not installed.
        ValueError: There are fewer than five samples, values are not finite, or all samples are equal.
    """
    require_extra("the feature map", "report", "openTSNE")
    from openTSNE import TSNE

    features = np.asarray(features, dtype=np.float32)
    if len(features) < 5:
        raise ValueError(f"t-SNE needs at least 5 samples, there are {len(features)}")
    if not np.isfinite(features).all():
        raise ValueError("features hold values that are not finite")
    if (features == features[0]).all():
        raise ValueError("the features of all samples are the same: there is nothing to map")
    perplexity = min(perplexity, (len(features) - 1) / 3)
    exaggerated = min(EXAGGERATED, iterations // 2)
    logging.getLogger("openTSNE").setLevel(logging.WARNING)
    tsne = TSNE(
        perplexity=perplexity,
        early_exaggeration_iter=exaggerated,
        n_iter=iterations - exaggerated,
        initialization="pca",
        n_jobs=1,
        random_state=seed,
    )
    return Embedding(np.asarray(tsne.fit(features)), perplexity)
