"""Map of a run's test samples in the plane, without mixing the folds.

Each fold has its own network, and the axes of two networks' features are unrelated, so features of two folds never
share a map. All networks share the meaning of their outputs, one per class. To rotate the features onto each other
(Procrustes), every network would have to process every sample, and the rotation would be fitted to samples that the
networks were trained on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from duchenne.evaluation.embedding import Embedding, embed

FEATURES, SCORES = "Features of the test samples, t-SNE", "Class scores of the test samples, t-SNE"
MIN_SAMPLES = 15
"""Minimum number of test samples of a fold with its own map; with fewer, t-SNE shows little (chosen by us)."""
MAX_MAPS = 6
"""Maximum number of folds shown, those with the most samples."""

Groups = dict[int, tuple[np.ndarray, pd.DataFrame]]
"""Fold (0: all folds) -> values (N, F) and their N predictions."""


class Panel(NamedTuple):
    """A map of points: title (may be empty), points (N, 2) and their labels (N,)."""

    title: str
    points: np.ndarray
    labels: np.ndarray


class FeatureMap(NamedTuple):
    """Maps of a run, ready to draw.

    ``note`` explains how to read them, or why there are none. ``samples`` has a row of the predictions for each point
    of ``panels``, in their order.
    """

    title: str
    note: str
    panels: list[Panel]
    samples: pd.DataFrame


def feature_map(
    features: Groups, predictions: pd.DataFrame, perplexity: float, iterations: int, seed: int
) -> FeatureMap:
    """Map the features by t-SNE, one map per fold; if most folds are too small, map the class scores of all folds.

    Args:
        features: features of each fold, with their predictions.
        predictions: predictions of all folds.
        perplexity, iterations, seed: as for :func:`duchenne.evaluation.embedding.embed`.
    """
    title, note, groups = _groups(features, predictions)
    try:
        placed = {fold: embed(values, perplexity, iterations, seed) for fold, (values, _) in groups.items()}
    except ValueError as error:  # the page is still useful without a map
        return FeatureMap(title, f"No map of the features: {error}.", [], predictions.iloc[:0])
    panels = [
        Panel(
            f"fold {fold}, {len(own):,} samples" if len(groups) > 1 else "",
            placed[fold].points,
            own["label"].to_numpy(int),
        )
        for fold, (_, own) in groups.items()
    ]
    note = f"{note}{_perplexity(list(placed.values()), perplexity)}. Distances between groups mean little."
    return FeatureMap(title, note, panels, pd.concat([own for _, own in groups.values()]))


def _groups(folds: Groups, predictions: pd.DataFrame) -> tuple[str, str, Groups]:
    """Title, note on the choice, and data of the map."""
    if len(folds) == 1:
        return FEATURES, "", folds
    mapped = {fold: part for fold, part in folds.items() if len(part[1]) >= MIN_SAMPLES}
    if 2 * sum(len(own) for _, own in mapped.values()) < len(predictions):
        note = (
            f"Most samples are in folds of fewer than {MIN_SAMPLES}, too few for maps of their networks’ features, and "
            "features of two networks share no axes. Shown are all folds by what their networks share: the logarithms "
            "of their class probabilities, less their mean. "
        )
        return SCORES, note, {0: (class_scores(predictions), predictions)}
    largest = sorted(mapped, key=lambda fold: (-len(mapped[fold][1]), fold))[:MAX_MAPS]
    left_out = "" if len(largest) == len(folds) else f", the {len(largest)} with the most test samples of {len(folds)}"
    note = f"A map a fold{left_out}: each has a network of its own, so that places in two maps cannot be compared. "
    return FEATURES, note, {fold: mapped[fold] for fold in sorted(largest)}


def class_scores(predictions: pd.DataFrame) -> np.ndarray:
    """Return logarithms of the probabilities ``p_<class>`` minus their mean over the classes (N, classes).

    These are the logits minus their mean, which softmax ignores; probabilities are at least 1e-12.
    """
    probabilities = predictions[[column for column in predictions if column.startswith("p_")]].to_numpy(float)
    scores = np.log(np.maximum(probabilities, 1e-12))
    return scores - scores.mean(axis=1, keepdims=True)


def _perplexity(placed: list[Embedding], wanted: float) -> str:
    low, high = (f"{pick(one.perplexity for one in placed):.3g}" for pick in (min, max))
    note = f"Perplexity {low}" if low == high else f"Perplexity {low} to {high}"
    lowered = any(one.perplexity < wanted for one in placed)
    return note + (f", lowered from {wanted:g} for few samples" if lowered else "")
