"""Inputs of each kind of network: a picture, a clip, or the two frames of a micro-expression."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.utils.data import Dataset

from duchenne.faces.regions import REGIONS
from duchenne.faces.store import FaceStore
from duchenne.sealed import damaged, read_sealed, read_table
from duchenne.training.augment import transform
from duchenne.training.clips import FaceClips
from duchenne.training.data import FaceImages
from duchenne.training.errors import TrainingError
from duchenne.training.pairs import PairImages
from duchenne.training.settings import Recipe

REFERENCE = 224
"""Side of the face, in px, that is the coordinate frame of the action-unit region centres."""


def _images(network: nn.Module, store: FaceStore, rows: pd.DataFrame, recipe: Recipe, train: bool) -> Dataset:
    return FaceImages(store, rows, transform(resolve_model_data_config(network), recipe.augment if train else None))


def _clips(network: nn.Module, store: FaceStore, rows: pd.DataFrame, recipe: Recipe, train: bool) -> Dataset:
    data = resolve_model_data_config(network)
    if (frames := data["input_size"][1]) != recipe.clip.frames:
        raise TrainingError(f"the network takes clips of {frames} frames, recipe.clip.frames is {recipe.clip.frames}")
    return FaceClips(store, rows, transform(data, recipe.augment if train else None), recipe.clip, train)


def _pairs(network: nn.Module, store: FaceStore, rows: pd.DataFrame, recipe: Recipe, train: bool) -> Dataset:
    return PairImages(store, rows, recipe.augment, flow=network.flow, train=train)


INPUTS: dict[str, Callable[[nn.Module, FaceStore, pd.DataFrame, Recipe, bool], Dataset]] = {
    "image": _images,
    "clip": _clips,
    "pair": _pairs,
}


def inputs(network: nn.Module, store: FaceStore, rows: pd.DataFrame, recipe: Recipe, train: bool = False) -> Dataset:
    """Return the samples in the form of ``facts.takes``: ``[(row, seed)]`` -> (input, label, row).

    Args:
        rows: columns sample and label; for pairs also onset and apex.
        train: whether to use the recipe's augmentation.

    Raises:
        TrainingError: The network's clip length differs from the recipe's, or a sample lacks its onset or apex.
    """
    return INPUTS[network.facts.takes](network, store, rows, recipe, train)


def vote_shares(rows: pd.DataFrame) -> Tensor:
    """Return the share of votes of each class: float32 (N, classes), every row sums to 1.

    Args:
        rows: columns sample and votes (a list of numbers, one per class).

    Raises:
        TrainingError: A sample has no votes.
    """
    votes = rows.get("votes", pd.Series(None, rows.index, object))
    if len(lacking := rows.loc[votes.isna(), "sample"]):
        raise TrainingError(
            f"recipe.targets is soft, but {len(lacking)} of {len(rows)} training samples have no votes, the first is "
            f"{lacking.iloc[0]!r}: give the dataset's votes (docs/datasets.md), or set targets: hard"
        )
    counts = np.stack(votes.to_list()).astype(np.float64)
    return torch.from_numpy(counts / counts.sum(axis=1, keepdims=True)).float()


def au_centres(landmarks: Path | None, store: FaceStore, samples: list[str]) -> Tensor:
    """Return mean centres of the action-unit regions (9, 2) in px of a face of 224: over frames, then ``samples``.

    Raises:
        TrainingError: There are no landmarks, or none of these samples.
    """
    if landmarks is None or not landmarks.exists():
        raise TrainingError(f"the network needs the centres of the AU regions: run the landmarks stage ({landmarks})")
    table = read_table(landmarks, ["sample", "au_centers"], [("sample", "in", samples)])
    if table.empty:
        raise TrainingError(f"{landmarks} has no face of the {len(samples)} training samples: run the landmarks stage")
    means = [np.stack(frames).mean(axis=0) for _, frames in table.groupby("sample")["au_centers"]]
    scale = REFERENCE / store.frame(samples[0]).shape[0]
    return torch.from_numpy(np.mean(means, axis=0).reshape(-1, 2) * scale).float()


def dataset_au_centres(path: Path | None) -> Tensor:
    """Return mean centres of the action-unit regions (9, 2) in px of a face of 224, over the whole dataset.

    FRL-DGT's supplement uses them (section 3). They include the faces of the test people.

    Args:
        path: file of the landmarks stage: ``{"size": px, "n": samples, "mean": {region: [[x, y], ...]}}``.

    Raises:
        TrainingError: The file does not exist.
    """
    if path is None or not path.exists():
        raise TrainingError(f"recipe.au_centers: dataset needs the dataset's mean: run the landmarks stage ({path})")
    stored = read_sealed(path)
    try:
        centres = [centre for region in REGIONS for centre in stored["mean"][region]]
        return torch.tensor(centres) * (REFERENCE / stored["size"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:  # of a version without seals
        raise damaged(path, why=error) from None
