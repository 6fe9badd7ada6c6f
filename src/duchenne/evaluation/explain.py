"""What a network looks at in its input: attention, Grad-CAM, and which frames of a clip it reads.

A network's ``explain`` shows what is its own, Grad-CAM the layer that its facts name
(:mod:`duchenne.models.contract`). All of it is of the predicted class, of networks in evaluation mode, in the precision
of their cards, in which they predict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from duchenne.evaluation.explained import CLIP
from duchenne.faces.store import FaceStore
from duchenne.models.contract import weighted
from duchenne.training.clips import SAMPLING
from duchenne.training.data import loader
from duchenne.training.device import autocast, device_of, trained_precision
from duchenne.training.inputs import inputs
from duchenne.training.settings import Clip, Compute, Recipe


class View(NamedTuple):
    """What a network showed of one view of a sample."""

    sample: Any
    """its row of the samples, by attribute"""
    seed: int
    """of the item; where all windows of a clip are looked at, the number of the window"""
    x: np.ndarray
    """the network's input"""
    maps: dict[str, np.ndarray]
    """:func:`look`, of this view alone"""


class Reading(NamedTuple):
    """A frame of a clip as a network read it."""

    sample: str
    fold: int
    window: int
    half: str
    """part of the clip: ``dynamic`` or ``static`` (IFDD), or ``clip``"""
    frame: float
    """its number, as in the index; between two frames where the network reads between them"""
    position: int
    """of the nearest frame in the face store"""
    attention: float
    """mean over the map"""
    inside: float
    """1 from onset to offset, 0 before and after, NaN where these are unknown or nothing is expressed"""
    map: np.ndarray
    """(H, W)"""


def most_confident(predictions: pd.DataFrame) -> pd.DataFrame:
    """Of each class the most confident right prediction and the most confident wrong one, where there is one.

    Args:
        predictions: columns sample, label, predicted and confidence.

    Returns:
        Those rows by class, with a column ``right``; of equal confidences the first sample by name.
    """
    ranked = predictions.assign(right=predictions["label"] == predictions["predicted"])
    ranked = ranked.sort_values(["label", "right", "confidence", "sample"], ascending=[True, False, False, True])
    return ranked.drop_duplicates(["label", "right"]).reset_index(drop=True)


@torch.enable_grad()
def grad_cam(network: nn.Module, x: Tensor) -> Tensor | None:
    """Grad-CAM of the predicted class (Selvaraju et al., ICCV 2017), a clip's frames each by itself.

    Args:
        network: its facts name the layer; under the contract.
        x: inputs (B, ...).

    Returns:
        (B, H, W) or (B, T, H, W), not negative, in no unit. None where the layer has no places: its ``cam_maps`` are
        neither (B, C, H, W) nor (B, T, C, H, W), such as the tokens of timm's vision transformers.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[0].clone()  # what follows may work in place

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


def look(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """All maps that a network has of inputs (B, ...): those of its ``explain``, and Grad-CAM of the layer it names.

    Returns:
        Beside the network's own, of images and pairs ``grad_cam`` (B, H, W), of clips ``attention_clip`` (B, T, H, W)
        with ``frames_clip`` (B, T). Nothing of a network that has neither.
    """
    maps = network.explain(x)
    cam = None if network.facts.layer is None else grad_cam(network, x)
    if cam is None:
        return maps
    if cam.ndim == 3:
        return maps | {"grad_cam": cam}
    middles = (torch.arange(cam.shape[1]) + 0.5) * x.shape[2] / cam.shape[1] - 0.5
    return maps | {"attention_clip": cam, "frames_clip": middles.expand(len(x), -1)}


def views(
    network: nn.Module, card: dict[str, Any], store: FaceStore, samples: pd.DataFrame, compute: Compute
) -> Iterator[View]:
    """What a trained network shows of every view of samples, in their order.

    Args:
        card: of the trained fold.
        samples: columns sample and label; for pairs also onset and apex.
    """
    device = device_of(compute)
    precision = trained_precision(card, device)
    network = network.to(device).eval().requires_grad_(False)  # only what follows the shown layer needs memory
    recipe = Recipe.model_validate(card["variant"]["recipe"])
    faces = inputs(network, store, samples, recipe)
    rows = list(samples.itertuples(index=False))
    items = iter(faces.items)
    batches = loader(faces, recipe.eval_batch_size, compute)
    for x, _, _ in tqdm(batches, desc="explain", unit="batch"):
        with autocast(device, precision):
            maps = look(network, x.to(device))
        maps = {name: values.float().cpu().numpy() for name, values in maps.items()}
        for i in range(len(x)):
            row, seed = next(items)
            yield View(rows[row], seed, x[i].numpy(), {name: values[i] for name, values in maps.items()})


def readings(view: View, store: FaceStore, clip: Clip) -> list[Reading]:
    """The frames of a clip that a network read, and how much of its attention each had.

    Args:
        view: its sample has the columns fold, emotion, onset and offset.
        clip: of the network's recipe.
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
        places = view.maps[f"frames_{half}"]  # in the window
        frames = np.interp(places, np.arange(len(positions)), numbers[positions])
        nearest = positions[np.rint(places.clip(0, len(positions) - 1)).astype(int)]
        inside = (frames >= sample.onset) & (frames <= sample.offset) if known else np.full(len(frames), np.nan)
        for frame, position, here, map_ in zip(frames, nearest, inside, maps, strict=True):
            base = (sample.sample, int(sample.fold), view.seed, half)
            read.append(Reading(*base, float(frame), int(position), float(map_.mean()), float(here), map_))
    return read


def agreement(read: pd.DataFrame) -> dict[str, float]:
    """Whether a network looks when the expression is there: over all clips whose onset and offset are known.

    Correlations are Pearson's within clips: what differs from the clip's mean, with the attention of a clip scaled to
    a mean of 1, so that every clip has the same say (ours).

    Args:
        read: a row a :class:`Reading`.

    Returns:
        ``clips`` that have frames inside and outside of the expression; of each half ``attention_<half>``, correlation
        of attention with being inside, and ``inside_<half>``, share of its frames that are; where one of several is
        called ``dynamic``, ``split``, correlation of belonging to it with being inside. What is not defined is left
        out.
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
    """Correlation of ``value`` and ``inside``, both less their clip's mean; NaN where one of them never varies."""
    frame = frame[frame["value"].notna()]
    x, y = (frame[["value", "inside"]] - frame.groupby(CLIP)[["value", "inside"]].transform("mean")).to_numpy(float).T
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 0 else float("nan")
