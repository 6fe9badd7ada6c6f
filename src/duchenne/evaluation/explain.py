"""Explanations of a network's predictions: attention, Grad-CAM, and the frames of a clip that it reads.

Maps come from a network's ``explain`` and from Grad-CAM of the layer named in its facts
(:mod:`duchenne.models.contract`). They explain the predicted class, for networks in evaluation mode and in the
precision of their cards, in which they predict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from duchenne.errors import UserError
from duchenne.evaluation.explained import CLIP
from duchenne.faces.store import FaceStore
from duchenne.models.contract import weighted
from duchenne.networks import Facts
from duchenne.training.clips import SAMPLING
from duchenne.training.data import loader
from duchenne.training.device import autocast, device_of, trained_precision
from duchenne.training.inputs import inputs
from duchenne.training.settings import Clip, Compute, Recipe


class View(NamedTuple):
    """Maps of one view of a sample."""

    sample: Any
    """row of the samples, by attribute"""
    seed: int
    """seed of the item; if all windows of a clip are used, the number of the window"""
    x: np.ndarray
    """the network's input"""
    maps: dict[str, np.ndarray]
    """result of :func:`all_maps` for this view"""


class Reading(NamedTuple):
    """A frame of a clip as a network read it."""

    sample: str
    fold: int
    window: int
    half: str
    """part of the clip: ``dynamic`` or ``static`` (IFDD), or ``clip``"""
    frame: float
    """frame number, as in the index; fractional if the network reads between two frames"""
    position: int
    """position of the nearest frame in the face store"""
    attention: float
    """mean over the map"""
    inside: float
    """1 from onset to offset, 0 before and after, NaN if these are unknown or nothing is expressed"""
    map: np.ndarray
    """(H, W)"""


def most_confident(predictions: pd.DataFrame) -> pd.DataFrame:
    """Choose the most confident right prediction and the most confident wrong one of each class, if there is one.

    Args:
        predictions: columns sample, label, predicted and confidence.

    Returns:
        Rows by class, with a column ``right``; among equal confidences the first sample by name.
    """
    ranked = predictions.assign(right=predictions["label"] == predictions["predicted"])
    ranked = ranked.sort_values(["label", "right", "confidence", "sample"], ascending=[True, False, False, True])
    return ranked.drop_duplicates(["label", "right"]).reset_index(drop=True)


@torch.enable_grad()
def grad_cam(network: nn.Module, x: Tensor) -> Tensor | None:
    """Compute Grad-CAM of the predicted class (Selvaraju et al., ICCV 2017), separately for each frame of a clip.

    Args:
        network: network with the contract; its facts name the layer.
        x: inputs (B, ...).

    Returns:
        (B, H, W) or (B, T, H, W), not negative, without unit. None if the layer has no spatial maps: its ``cam_maps``
        are neither (B, C, H, W) nor (B, T, C, H, W), such as the tokens of timm's vision transformers.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[0].clone()  # later layers may work in place

    handle = network.get_submodule(network.facts.layer).register_forward_hook(keep)
    try:
        logits = network(x)
    finally:
        handle.remove()
    maps = network.cam_maps(seen[0].float())
    if maps.ndim < 4:
        return None
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), seen[0])
    return weighted(maps, network.cam_maps(gradient.float()))


def all_maps(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return all maps of a network for inputs (B, ...): those of its ``explain``, and Grad-CAM of the layer it names.

    Returns:
        The network's own maps and Grad-CAM: for images and pairs ``grad_cam`` (B, H, W), for clips ``attention_clip``
        (B, T, H, W) with ``frames_clip`` (B, T). Empty for a network with neither.

    Raises:
        UserError: ``explain`` returns maps under other names than the network's facts have.
    """
    maps = network.explain(x)
    _require_named(maps, network.facts)
    cam = None if network.facts.layer is None else grad_cam(network, x)
    if cam is None:
        return maps
    if cam.ndim == 3:
        return maps | {"grad_cam": cam}
    middles = (torch.arange(cam.shape[1]) + 0.5) * x.shape[2] / cam.shape[1] - 0.5
    return maps | {"attention_clip": cam, "frames_clip": middles.expand(len(x), -1)}


def _require_named(maps: Mapping[str, Tensor], facts: Facts) -> None:
    frames = {name: name.replace("attention_", "frames_", 1) for name in facts.maps if facts.takes == "clip"}
    known = {*facts.maps, *frames.values()}
    wrong = maps.keys() - known | {frames[name] for name in frames.keys() & maps.keys()} - maps.keys()
    if wrong:
        raise UserError(
            f"{facts.title}: explain returns {', '.join(maps)}, and maps in register_network stands for "
            f"{', '.join(sorted(known)) or 'none'}: use the same names in both"
        )


def views(
    network: nn.Module, card: dict[str, Any], store: FaceStore, samples: pd.DataFrame, compute: Compute
) -> Iterator[View]:
    """Yield the maps of a trained network for every view of samples, in their order.

    Args:
        card: card of the trained fold.
        samples: columns sample and label; for pairs also onset and apex.
    """
    device = device_of(compute)
    precision = trained_precision(card, device)
    network = network.to(device).eval().requires_grad_(False)  # only layers after the shown one need memory
    recipe = Recipe.model_validate(card["variant"]["recipe"])
    faces = inputs(network, store, samples, recipe)
    rows = list(samples.itertuples(index=False))
    items = iter(faces.items)
    batches = loader(faces, recipe.eval_batch_size)
    for x, _, _ in tqdm(batches, desc="explain", unit="batch"):
        with autocast(device, precision):
            maps = all_maps(network, x.to(device))
        maps = {name: values.float().cpu().numpy() for name, values in maps.items()}
        for i in range(len(x)):
            row, seed = next(items)
            yield View(rows[row], seed, x[i].numpy(), {name: values[i] for name, values in maps.items()})


def readings(view: View, store: FaceStore, clip: Clip) -> list[Reading]:
    """Return the frames of a clip that a network read, and the attention of each.

    Args:
        view: its sample has the columns fold, emotion, onset and offset.
        clip: settings of the network's recipe.
    """
    sample = view.sample
    numbers = np.array(store.frame_numbers(sample.sample))
    positions = SAMPLING[clip.test](len(numbers), clip, view.seed)
    known = pd.notna(sample.onset) and pd.notna(sample.offset) and sample.emotion != "neutral"
    read = []
    for name, maps in view.maps.items():
        if not name.startswith("attention_"):
            continue
        half = name.removeprefix("attention_")
        places = view.maps[f"frames_{half}"]  # positions in the window
        frames = np.interp(places, np.arange(len(positions)), numbers[positions])
        nearest = positions[np.rint(places.clip(0, len(positions) - 1)).astype(int)]
        inside = (frames >= sample.onset) & (frames <= sample.offset) if known else np.full(len(frames), np.nan)
        for frame, position, here, map_ in zip(frames, nearest, inside, maps, strict=True):
            base = (sample.sample, int(sample.fold), view.seed, half)
            read.append(Reading(*base, float(frame), int(position), float(map_.mean()), float(here), map_))
    return read


def agreement(read: pd.DataFrame) -> dict[str, float]:
    """Measure whether a network attends to the expression, over all clips whose onset and offset are known.

    Correlations are Pearson's within clips: of differences from the clip's mean, with the attention of a clip scaled to
    a mean of 1, so that every clip has the same weight (chosen by us).

    Args:
        read: table with one row per :class:`Reading`.

    Returns:
        ``clips``: number of clips with frames inside and outside of the expression. For each half ``attention_<half>``,
        the correlation of attention with being inside, and ``inside_<half>``, the share of its frames that are inside.
        If one of several halves is ``dynamic``, ``split``, the correlation of belonging to it with being inside. Values
        that are not defined are left out.
    """
    varied = read[read["inside"].notna() & (read.groupby(CLIP)["inside"].transform("nunique") > 1)]
    if varied.empty:
        return {}
    numbers = {"clips": float(varied.groupby(CLIP).ngroups)}
    for half, own in varied.groupby("half"):
        mean = own.groupby(CLIP)["attention"].transform("mean")
        numbers[f"attention_{half}"] = _within(own.assign(value=own["attention"] / mean.where(mean > 0)))
        numbers[f"inside_{half}"] = float(own["inside"].mean())
    if (varied["half"] == "dynamic").any() and varied["half"].nunique() > 1:
        numbers["split"] = _within(varied.assign(value=(varied["half"] == "dynamic").astype(float)))
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


def _within(frame: pd.DataFrame) -> float:
    """Correlation of ``value`` and ``inside``, both minus their clip's mean; NaN if one of them never varies."""
    frame = frame[frame["value"].notna()]
    x, y = (frame[["value", "inside"]] - frame.groupby(CLIP)[["value", "inside"]].transform("mean")).to_numpy(float).T
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 0 else float("nan")
