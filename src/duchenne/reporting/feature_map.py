"""Where the test samples of a run stand in the plane, without mixing the folds.

Each fold has a network of its own, and the axes of one network's features mean nothing to another's: features of two
folds never share a map. What all networks share by training is the meaning of their outputs, one a class. To rotate
the features onto each other (Procrustes) every network would have to read every sample, and the rotation would be
fitted to samples that the networks were trained on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from duchenne.evaluation.embedding import Embedding, embed

FEATURES, SCORES = "Features of the test samples, t-SNE", "Class scores of the test samples, t-SNE"
MIN_SAMPLES = 15
"""Test samples of a fold that has a map of its own; of fewer, t-SNE shows little (chosen by us)."""
MAX_MAPS = 6
"""Folds shown at most, those with the most samples."""

Groups = dict[int, tuple[np.ndarray, pd.DataFrame]]
"""Fold (0: all of them) -> values (N, F) and the N predictions that they belong to."""


class Panel(NamedTuple):
    """A map of points: its title, or nothing, points (N, 2) and their labels (N,)."""

    title: str
    points: np.ndarray
    labels: np.ndarray


class FeatureMap(NamedTuple):
    """Maps of a run, ready to draw.

    ``note`` says what must be known to read them, or why there are none. ``samples`` has a row of the predictions for
    each point of ``panels``, in their order.
    """

    title: str
    note: str
    panels: list[Panel]
    samples: pd.DataFrame


def feature_map(
    features: Groups, predictions: pd.DataFrame, perplexity: float, iterations: int, seed: int
) -> FeatureMap:
    """t-SNE of the features, a map a fold; of the class scores of all folds where most folds are too small for that.

    Args:
        features: of each fold, with the predictions that they belong to.
        predictions: of all folds.
        perplexity, iterations, seed: as for :func:`duchenne.evaluation.embedding.embed`.
    """
    title, note, groups = _groups(features, predictions)
    try:
        placed = {fold: embed(values, perplexity, iterations, seed) for fold, (values, _) in groups.items()}
    except ValueError as error:  # too few samples for a map are no reason to have no page
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
    """Title, what must be said of the choice, and what is mapped."""
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
    """Logarithms of the probabilities ``p_<class>`` less their mean over the classes (N, classes).

    These are the logits less their mean, which softmax ignores; probabilities below 1e-12 count as that.
    """
    probabilities = predictions[[column for column in predictions if column.startswith("p_")]].to_numpy(float)
    scores = np.log(np.maximum(probabilities, 1e-12))
    return scores - scores.mean(axis=1, keepdims=True)


def _perplexity(placed: list[Embedding], wanted: float) -> str:
    low, high = (f"{pick(one.perplexity for one in placed):.3g}" for pick in (min, max))
    note = f"Perplexity {low}" if low == high else f"Perplexity {low} to {high}"
    lowered = any(one.perplexity < wanted for one in placed)
    return note + (f", lowered from {wanted:g} for few samples" if lowered else "")
