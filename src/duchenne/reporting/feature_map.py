"""The map of a run's test samples in the plane, honest about folds.

Each fold has a network of its own, and the axes of one network's features mean nothing to another's: features of two
folds never share a map. What all networks share by training is the meaning of their outputs, one a class. To rotate
the features onto each other (Procrustes) every network would have to read every sample, and the rotation would be
fitted to samples that the networks were trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from duchenne.evaluation.embedding import Embedding, embed
from duchenne.reporting import figures
from duchenne.reporting.runs import Run
from duchenne.reporting.settings import Report
from duchenne.reporting.wording import percent

FEATURES, SCORES = "Features of the test samples, t-SNE", "Class scores of the test samples, t-SNE"
FEWEST = 15
"""Test samples of a fold that has a map of its own; of fewer, t-SNE shows little (chosen by us)."""
PANELS = 6
"""Folds shown at most, those with the most samples."""

Groups = dict[int, tuple[np.ndarray, pd.DataFrame]]
"""Fold (0: all of them) -> values (N, F) and the N predictions that they belong to."""


class FeatureMap(NamedTuple):
    """What the page shows; without a map ``svg`` is None and ``note`` says why.

    ``points``: across, down (shares of the figure), tile in the sprite of faces (-1: none), words. ``maps``: how many.
    """

    title: str
    note: str
    words: str = ""
    svg: str | None = None
    points: Sequence[list[Any]] = ()
    maps: int = 0


def feature_map(run: Run, config: Report, tiles: dict[str, int]) -> FeatureMap:
    """t-SNE of the features, a map a fold; of the class scores of all folds where most folds are too small for that.

    ``tiles`` holds the position of each sample in the sprite of the dataset's faces.
    """
    title, note, groups = _groups(run)
    try:
        placed = {
            fold: embed(values, config.tsne_perplexity, config.tsne_iterations, run.config.seed)
            for fold, (values, _) in groups.items()
        }
    except ValueError as error:  # too few samples for a map are no reason to have no page
        return FeatureMap(title, f"No map of the features: {error}.")
    panels = [
        figures.Panel(
            f"fold {fold}, {len(own):,} samples" if len(groups) > 1 else "",
            placed[fold].points,
            own["label"].to_numpy(int),
        )
        for fold, (_, own) in groups.items()
    ]
    shown = pd.concat([own for _, own in groups.values()])
    points = [
        [round(float(x), 4), round(float(y), 4), tiles.get(row.sample, -1), _words(row, run.classes)]
        for (x, y), row in zip(figures.places(panels, run.classes), shown.itertuples(), strict=True)
    ]
    maps = "one map" if len(panels) == 1 else f"{len(panels)} maps"
    return FeatureMap(
        title,
        f"{note}{_perplexity(list(placed.values()), config)}. Distances between groups mean little.",
        f"{title}, of {run.name}: {len(shown):,} points in {maps}, grouped by class.",
        figures.embedding(panels, run.classes),
        points,
        len(panels),
    )


def _groups(run: Run) -> tuple[str, str, Groups]:
    """Title, what must be said of the choice, and what is mapped."""
    folds = run.features()
    if len(folds) == 1:
        return FEATURES, "", folds
    mapped = {fold: part for fold, part in folds.items() if len(part[1]) >= FEWEST}
    if 2 * sum(len(own) for _, own in mapped.values()) < len(run.predictions):
        note = (
            f"Most samples are in folds of fewer than {FEWEST}, too few for maps of their networks' features, and "
            "features of two networks share no axes. Shown are all folds by what their networks share: the logarithms "
            "of their class probabilities, less their mean. "
        )
        return SCORES, note, {0: (class_scores(run.predictions), run.predictions)}
    largest = sorted(mapped, key=lambda fold: (-len(mapped[fold][1]), fold))[:PANELS]
    left_out = "" if len(largest) == len(folds) else f", the {len(largest)} with the most test samples of {len(folds)}"
    note = f"A map a fold{left_out}: each has a network of its own, so that places in two maps cannot be compared. "
    return FEATURES, note, {fold: mapped[fold] for fold in sorted(largest)}


def class_scores(predictions: pd.DataFrame) -> np.ndarray:
    """Logarithms of the probabilities ``p_<class>`` less their mean over the classes (N, classes).

    These are the logits less their mean, which softmax does not look at; probabilities below 1e-12 count as that.
    """
    probabilities = predictions[[column for column in predictions if column.startswith("p_")]].to_numpy(float)
    scores = np.log(np.maximum(probabilities, 1e-12))
    return scores - scores.mean(axis=1, keepdims=True)


def _perplexity(placed: list[Embedding], config: Report) -> str:
    low, high = (f"{pick(one.perplexity for one in placed):.3g}" for pick in (min, max))
    note = f"Perplexity {low}" if low == high else f"Perplexity {low} to {high}"
    lowered = any(one.perplexity < config.tsne_perplexity for one in placed)
    return note + (f", lowered from {config.tsne_perplexity:g} for few samples" if lowered else "")


def _words(row: Any, classes: list[str]) -> str:
    return f"{row.sample}: {classes[row.label]}, named {classes[row.predicted]} ({percent(row.confidence, 0)})"
