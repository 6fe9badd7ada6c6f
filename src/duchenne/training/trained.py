"""Folder of a trained network, with its weights and a card that describes them; reading it and predicting with it."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
import torch
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, PositiveInt, ValidationError, model_validator
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from tqdm import tqdm

from duchenne.datasets.settings import distinct_names
from duchenne.errors import UserError
from duchenne.faces.store import FaceStore
from duchenne.files import file_digest, regular, table_digest, unusable
from duchenne.models.contract import create
from duchenne.models.official import OfficialWeightsError, few, is_rounded, load_pretrained, load_shared, read_official
from duchenne.models.precision import classifiers
from duchenne.networks import networks
from duchenne.sealed import DamagedError, unsealed
from duchenne.shortage import stop_if_short
from duchenne.training.data import loader, over_views
from duchenne.training.device import Precision, autocast, device_of, layout_of, trained_precision
from duchenne.training.environment import versions
from duchenne.training.errors import TrainingError
from duchenne.training.fingerprint import code_version
from duchenne.training.inputs import inputs
from duchenne.training.settings import LARGEST, OTHER_WEIGHTS, Compute, Recipe, Variant, bounded
from duchenne.training.workers import passes, workers_for

log = logging.getLogger(__name__)

WEIGHTS, CARD = "weights.safetensors", "card.json"
"""Files of a trained fold's folder."""

_AGAIN = "download the fold again (dvc pull, git lfs pull), or train it (dvc repro)"


class _Alignment(BaseModel):
    settings: dict[str, Any] = {}


class _Calibration(BaseModel, strict=True):
    temperature: Annotated[FiniteFloat, Field(ge=0.01, le=100)]  # fitted within 0.1 to 10


class _Imported(BaseModel, strict=True):
    file: str
    sha256: str


class _Card(BaseModel, strict=True):
    """Required entries of a card; others are not checked."""

    classes: Annotated[list[str], AfterValidator(distinct_names)]
    architecture: str
    options: dict[str, Any]
    input_size: Annotated[list[Annotated[PositiveInt, Field(le=LARGEST)]], Field(min_length=3, max_length=4)]
    mean: Annotated[list[FiniteFloat], Field(min_length=1)]
    std: Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Field(min_length=1)]
    alignment: _Alignment
    variant: dict[str, Any]
    takes: str = "image"
    precision: Precision = "fp32"
    calibration: _Calibration | None = None
    imported: _Imported | None = None

    @model_validator(mode="after")
    def _of_all_channels(self) -> Self:
        if self.takes != "pair" and not len(self.mean) == len(self.std) == self.input_size[0]:
            raise ValueError(f"mean and std need a number for each of the {self.input_size[0]} channels of input_size")
        return self


def initialise(network: nn.Module, variant: Variant, classes: list[str], init: Path | None) -> None:
    """Set the initial weights of a new network: a fold of another run, published parts, both, or neither.

    A run of another network gives the parts with published weights that both have, such as IR50, which POSTER and
    POSTER++ share (``pretrained_parts``); all else begins as without it.

    Raises:
        TrainingError: The weights of ``init`` cannot be read or do not fit; every entry that does not fit is listed.
        OfficialWeightsError: A published file cannot be read or does not fit.
    """
    card = init and read_card(init)
    other = bool(card) and card["architecture"] != variant.model.architecture
    if variant.model.files and (init is None or other):
        load_pretrained(network, variant.model.files)
    if init is None or card is None:
        return
    if other and (parts := load_shared(network, load_trained(init)[0])):
        log.info("%s (%s) gives %s; all else does not come from it", init, card["architecture"], ", ".join(parts))
        return
    weights = read_weights(init)
    own = network.state_dict()
    reordered = sorted(card["classes"]) == sorted(classes)
    if not reordered:
        heads = tuple(f"{name}." for name in classifiers(network))
        weights = {name: own.get(name, each) if name.startswith(heads) else each for name, each in weights.items()}
        log.warning(
            "%s: its classes are %s, those of this dataset %s: the head starts from random weights",
            init,
            card["classes"],
            classes,
        )
    _load(network, weights, f"{init} ({card['architecture']}) does not fit {variant.model.architecture}")
    _require_written(init, card)
    if reordered:
        reorder(network, card["classes"], classes)


def reorder(network: nn.Module, before: list[str], after: list[str]) -> None:
    """Put a network's outputs for the classes ``before`` into the order ``after`` of the same classes."""
    rows = [before.index(name) for name in after]
    for name in classifiers(network):
        for entry in network.get_submodule(name).parameters():
            entry.data = entry.data[rows]


def make_card(
    network: nn.Module,
    variant: Variant,
    classes: list[str],
    fold: int,
    samples: pd.DataFrame,
    store: FaceStore,
    precision: Precision,
    selected: int,
) -> dict[str, Any]:
    """Make the card of a trained fold: everything needed to use its weights and to trace their origin.

    Args:
        precision: precision of training, in which the network will also predict.
        selected: epoch of the weights.
    """
    return network_card(network, variant, classes, store.meta, precision) | {
        "fold": fold,
        "split": table_digest(samples.sort_values("sample")[["sample", "part"]]),
        "samples": samples["part"].value_counts().to_dict(),
        "selection": {"rule": variant.selection, "monitor": variant.monitor, "epoch": selected},
        "seed": variant.seed,
    }


def network_card(
    network: nn.Module, variant: Variant, classes: list[str], alignment: dict[str, Any], precision: Precision
) -> dict[str, Any]:
    """Make the part of a card with which the weights can be used, wherever they come from.

    Args:
        variant: network and recipe; the recipe says how clips are sampled.
        alignment: ``meta`` of a face store with faces as the network takes them.
        precision: precision in which the network predicts.
    """
    data = resolve_model_data_config(network)
    return {
        "classes": classes,
        "architecture": variant.model.architecture,
        "options": variant.model.options,
        "takes": network.facts.takes,
        "input_size": data["input_size"],
        "mean": data["mean"],
        "std": data["std"],
        "alignment": alignment,
        "precision": precision,
        # a calibration is an entry of its own, made after training; predictions of the test part change no network
        "variant": variant.model_dump(mode="json", exclude={"calibration", "test_each_epoch"}),
        "code": code_version(variant.model.architecture),
        "versions": versions(),
    }


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of a trained fold.

    Raises:
        TrainingError: The card is missing or is not valid.
    """
    path = folder / CARD
    if folder.is_file():
        raise TrainingError(f"{folder} is a file: give the folder of the fold, {folder.parent}")
    if not path.exists():
        folds = sorted(fold.parent.name for fold in folder.glob(f"*/{CARD}"))
        hint = f"give one of its folds, such as {folder / folds[0]}" if folds else "give a fold of a trained variant"
        state = f"holds no trained network: {CARD} is missing" if folder.exists() else "does not exist"
        raise TrainingError(f"{folder} {state}; {hint}")
    try:
        card = json.loads(regular(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        stop_if_short(error)
        reason = unusable(path) or f"is damaged ({error})"
        raise TrainingError(f"{path} {reason}; {_AGAIN}") from None
    try:
        _Card.model_validate(card if isinstance(card, dict) else {})
    except ValidationError as error:
        wrong = ((".".join(map(str, each["loc"])), each["msg"]) for each in error.errors())
        said = "; ".join(f"{name}: {reason}" if name else reason for name, reason in wrong)
        raise TrainingError(f"{path} is not the card of a trained network: {said}; {_AGAIN}") from None
    try:
        return unsealed(card, path, _AGAIN)
    except DamagedError as error:
        raise TrainingError(str(error)) from None


def require_own(folder: Path, card: dict[str, Any], fold: int, seed: int | None = None) -> None:
    """Check that a network in the folder of a fold is that fold's, with that seed.

    Raises:
        TrainingError: It is of another fold or seed.
    """
    for name, wanted in {"fold": fold, "seed": seed}.items():
        if wanted is not None and card.get(name, wanted) != wanted:
            raise TrainingError(
                f"{folder / CARD} is of another network: its {name} is {card[name]}, not {wanted}; {_AGAIN}"
            )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a trained fold.

    Raises:
        TrainingError: The file is missing or damaged.
    """
    try:
        return read_official(folder / WEIGHTS, _AGAIN)
    except OfficialWeightsError as error:
        raise TrainingError(str(error)) from None


def _require_written(folder: Path, card: dict[str, Any]) -> None:
    """Raise a TrainingError if the weights are not those of the card; older cards do not say which these are."""
    if card.get("weights_sha256", found := file_digest(folder / WEIGHTS)) != found:
        raise TrainingError(
            f"{folder / WEIGHTS} has not the weights of {CARD} beside it (SHA-256): one of the two is damaged or of "
            f"another network; {_AGAIN}"
        )


def load_trained(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load the network of a trained fold in evaluation mode, on the CPU, and its card.

    Raises:
        TrainingError: The folder has no trained network, one of its files is damaged, or its weights do not fit the
            network named on its card.
    """
    card = read_card(folder)
    weights = read_weights(folder)
    try:
        Recipe.model_validate(card["variant"].get("recipe"))
        network = _named(card, weights, folder)
    except ValidationError as error:
        reason = error.errors()[0]
        entry = ".".join(map(str, ("recipe", *reason["loc"])))
        raise TrainingError(
            f"{folder / CARD}: {entry}: {reason['msg']}; another version wrote it: train the fold again (dvc repro)"
        ) from None
    except (UserError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{folder / CARD}: the network that it names cannot be made: {error}") from None
    _load(network, weights, f"{folder / WEIGHTS} does not fit {card['architecture']}")
    _require_written(folder, card)
    return network.eval(), card


def _named(card: dict[str, Any], weights: dict[str, Tensor], folder: Path) -> nn.Module:
    """Create the network of a card, whose names and shapes are compared with the weights before it takes memory.

    Options that would load other weights first, from a file or the network, are left out.
    """
    options = {name: value for name, value in card["options"].items() if name not in OTHER_WEIGHTS}
    if large := next((name for name, value in options.items() if not bounded(value)), None):
        raise UserError(f"its option {large} has a number above {LARGEST:,}")
    arguments = card["architecture"], options, len(card["classes"])
    known = networks().get(card["architecture"])
    if known is None or known.options is None or options:
        try:
            with torch.device("meta"):
                empty = create(*arguments)
        except (UserError, RuntimeError) as error:
            if not isinstance(error.__cause__ or error, RuntimeError):
                raise
            return create(*arguments)  # some networks of timm compute numbers while they are built
        _require_fit(empty, weights, f"{folder / WEIGHTS} does not fit {card['architecture']}")
    return create(*arguments)


def _load(network: nn.Module, weights: dict[str, Tensor], otherwise: str) -> None:
    """Load all weights of a network; if entries do not fit, the error begins with ``otherwise`` and lists them."""
    _require_fit(network, weights, otherwise)
    network.load_state_dict(weights)


def _require_fit(network: nn.Module, weights: dict[str, Tensor], otherwise: str) -> None:
    own = network.state_dict()
    wrong = sorted(own.keys() ^ weights.keys())
    both = sorted(own.keys() & weights.keys())
    wrong += [name for name in both if own[name].shape != weights[name].shape or is_rounded(weights[name], own[name])]
    if wrong:
        raise TrainingError("\n  ".join([f"{otherwise}:", *few(wrong)]))


@torch.inference_mode()
def predict(
    model: nn.Module, store: FaceStore, samples: pd.DataFrame, card: dict[str, Any], compute: Compute
) -> tuple[np.ndarray, np.ndarray]:
    """Predict logits float32 (N, classes) and features float32 (N, F), in the order of ``samples``.

    Features are the input of the last layer. Both are the mean over the views of a clip, if it has several. The
    precision is that of the card, regardless of ``compute.precision``.

    Args:
        samples: column sample; for pairs also onset and apex.

    Raises:
        TrainingError: The faces of the store were aligned differently from those of training, a sample is missing, or
            a logit is not finite.
    """
    if store.meta != card["alignment"]:
        raise TrainingError(f"the faces were aligned as {store.meta}, the network knows {card['alignment']}")
    if missing := [sample for sample in samples["sample"] if sample not in store]:
        raise TrainingError(f"{len(missing)} samples have no face in the store, the first is {missing[0]!r}")
    device = device_of(compute)
    precision = trained_precision(card, device)
    layout = layout_of(compute, model.facts.takes)
    model = model.to(device, memory_format=layout).eval()
    recipe = Recipe.model_validate(card["variant"]["recipe"])
    faces = inputs(model, store, samples.assign(label=0), recipe)
    step, count = passes(model, device, precision, layout), math.ceil(len(faces) / recipe.eval_batch_size)
    workers = workers_for(compute, device, faces, faces.items, recipe.eval_batch_size, count, step)
    logits, features, places = [], [], []
    with tqdm(total=len(faces), desc="predict", unit="view", delay=1) as bar:
        for x, _, rows in loader(faces, recipe.eval_batch_size, workers):
            with autocast(device, precision):
                last = model.forward_features(x.to(device, memory_format=layout))
                logits.append(model.forward_head(last).float().cpu())
                # timm's networks return maps, which their head pools
                pooled = last if last.ndim == 2 else model.forward_head(last, pre_logits=True)
            features.append(pooled.float().cpu())
            places.append(rows)
            bar.update(len(x))
    rows = torch.cat(places)
    outputs = over_views(torch.cat(logits), rows).numpy()
    if len(wrong := np.flatnonzero(~np.isfinite(outputs).all(axis=1))):
        raise TrainingError(not_finite(str(samples["sample"].iloc[wrong[0]])))
    return outputs, over_views(torch.cat(features), rows).numpy()


def not_finite(source: str) -> str:
    """Return the message for an input whose logits are not all finite."""
    return f"{source}: the network returns NaN or infinite numbers: its weights are damaged; {_AGAIN}"
