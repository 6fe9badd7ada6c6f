"""The training of one fold, top to bottom.

Every random number is a function of the variant's seed and the epoch: the generators are seeded anew when an epoch
begins, the order of the samples and each augmentation have generators of their own. So a killed run that resumes from
its last whole epoch ends with the same weights, bit for bit, as one that was never interrupted.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, set_seed
from timm.utils import ModelEmaV3
from tqdm import tqdm

from duchenne.faces.store import FaceStore
from duchenne.training.checkpoint import Checkpoints, code_version, fingerprint
from duchenne.training.data import Draws, loader
from duchenne.training.device import device_of, layout_of, precision_of, reuse_memory
from duchenne.training.errors import TrainingError
from duchenne.training.inputs import au_centres, dataset_au_centres, inputs, vote_shares
from duchenne.training.measure import measure, score, unmeasured
from duchenne.training.optim import create_optimizer
from duchenne.training.settings import Compute, Recipe, Variant
from duchenne.training.steps import Pretext, Steps
from duchenne.training.trained import create, initialise, make_card

log = logging.getLogger(__name__)


def train_fold(
    variant: Variant,
    classes: list[str],
    fold: int,
    samples: pd.DataFrame,
    store: FaceStore,
    out: Path,
    work: Path,
    compute: Compute,
    init: Path | None = None,
    landmarks: Path | None = None,
    au_centers: Path | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train one network and leave ``weights.safetensors``, ``card.json`` and ``history.csv`` in ``out``.

    A fold that ``work`` knows as finished under the same fingerprint is not trained again; a killed one resumes from
    its last whole epoch. Also runs under ``accelerate launch``: the batch size is that of all processes together.

    Which epoch's weights are kept: with selection ``last`` the last; else the one that ``monitor`` says is best on that
    part, among equals the one with the lower loss, then the earlier. ``test`` is what the official scripts of POSTER
    and POSTER++ do; its figures are optimistic. ``train`` takes the epoch of the lowest ``train_loss``, which is the
    checkpoint that IFDD's test script names. With EMA the averaged weights are measured and kept, but ``train_loss`` is
    of those that are trained.

    ``pretrain_epochs`` come first, with an optimiser of their own at a constant lr: what the network's
    ``pretraining_loss`` teaches it about the training part without labels. Their history is ``pretraining.csv``.

    Columns of the history: ``lr`` of the epoch's last step; ``train_loss``, ``train_<name>`` of the further
    losses that the network adds to the first and ``train_<metric>`` of every metric, over the augmented
    samples as they came, before the step each took part in (under SAM the first pass; metrics against the label, with
    mixup against the heavier one); ``val_*`` and, with selection ``test``, ``test_*``: plain cross-entropy with the
    label and every metric after the epoch; ``seconds`` of the whole epoch; ``images_per_second`` of its training
    (clips or pairs, where the network takes such); ``ended``, Unix time in s.

    Args:
        variant: what to train; its dataset and protocol are not looked at.
        classes: class names in the order of the labels.
        fold: number of the fold, from 1; for the card and the progress bar.
        samples: columns sample, label and part (train, val or test) of this fold alone, for pairs also onset and
            apex, for soft targets votes; ``store`` has a face of each.
        out: folder of the result; replaced.
        work: folder of this fold's resumable state.
        init: folder of a trained fold to start from, instead of ``variant.model.pretrained``.
        landmarks: Parquet file of the dataset's landmarks; sets the AU-region centres of a network that has such
            (``set_au_centers``), by the training part.
        au_centers: JSON file of their mean over the dataset, taken instead with ``recipe.au_centers: dataset``.
        on_epoch: called with each row of the history that is trained now.

    Raises:
        TrainingError: a part is empty, a sample has no face or, for soft targets, no votes; initial weights do not fit;
            or a loss is not finite.
    """
    recipe = variant.recipe
    parts = _parts(samples, store, len(classes), variant.selection)
    device = device_of(compute)
    precision = precision_of(compute, device)
    accelerator = _accelerator(compute, device)
    main = accelerator.is_main_process

    reuse_memory()
    torch.backends.cudnn.deterministic = True
    set_seed(variant.seed)
    network = create(variant.model.architecture, variant.model.options, classes)
    if recipe.pretrain_epochs and not hasattr(network, "pretraining_loss"):
        raise TrainingError(f"{variant.model.architecture} learns nothing without labels: leave pretrain_epochs out")
    names = parts["train"]["sample"].tolist()
    centres = _centres(network, variant, landmarks, au_centers, store, names)
    shares = vote_shares(parts["train"]) if recipe.targets == "soft" else None
    key = fingerprint(variant, classes, samples, store, init, precision, centres, shares)
    keep = Checkpoints(work, key, code_version(variant.model.architecture))
    if keep.finished():
        log.info("fold %d is finished, its result is taken from %s", fold, work)
        if main:
            keep.publish(out)
        return

    initialise(network, variant, classes, init)
    if centres is not None:
        network.set_au_centers(centres)
    layout = layout_of(compute, network)
    network.to(accelerator.device, memory_format=layout)
    average = ModelEmaV3(network, recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
    reported = average.module if average else network
    if compute.compile:
        network.compile()

    labels = parts["train"]["label"]
    draws = Draws(labels, recipe.batch_size, recipe.sampler == "balanced", variant.seed, recipe.drop_last)
    faces = inputs(network, store, parts["train"], recipe, train=True)
    batches = accelerator.prepare(loader(faces, recipe.batch_size, compute, draws))
    measured = ["val", "test"] if variant.selection == "test" else ["val"]
    held_out = {
        part: accelerator.prepare(loader(inputs(network, store, parts[part], recipe), recipe.eval_batch_size, compute))
        for part in measured
        if part in parts
    }
    steps = partial(Steps, accelerator, recipe, network, batches, names, len(classes), layout, precision, shares=shares)

    state: dict[str, Any] = {"epoch": 0, "selected": 0, "best": None, "history": [], "pretraining": []}
    if saved := keep.resume(accelerator.device):
        state = {name: saved[name] for name in state}
        network.load_state_dict(saved["network"])
        if average:
            average.module.load_state_dict(saved["average"])
        log.info("fold %d resumes after %d epochs", fold, len(state["pretraining"]) + state["epoch"])

    def progress(what: str, epochs: int, done: int) -> tqdm:
        total, initial = epochs * len(draws), done * len(draws)
        # without smoothing the remaining time counts the measuring between epochs in
        return tqdm(desc=what, total=total, initial=initial, unit="sample", smoothing=0, disable=not main)

    def begin(epoch: int) -> None:
        set_seed(_epoch_seed(variant.seed, epoch), device_specific=True)
        batches.set_epoch(epoch)

    def save(optimizer: torch.optim.Optimizer, chosen: bool) -> None:
        weights = {"network": network.state_dict(), "average": average.module.state_dict() if average else None}
        keep.save(state | weights | {"optimizer": optimizer.state_dict()}, reported.state_dict() if chosen else None)

    done = len(state["pretraining"])
    if done < recipe.pretrain_epochs:
        optimizer = create_optimizer(recipe, network.parameters())
        if saved:
            optimizer.load_state_dict(saved["optimizer"])
        pretext = steps(accelerator.prepare(Pretext(network)), optimizer)
        with progress(f"fold {fold} without labels", recipe.pretrain_epochs, done) as bar:
            for epoch in range(done, recipe.pretrain_epochs):
                began = time.perf_counter()
                begin(recipe.epochs + epoch)  # other draws than those of the epochs with labels
                row = {"epoch": epoch + 1, **pretext.epoch_without_labels(epoch, bar)}
                row |= {"seconds": time.perf_counter() - began, "ended": round(time.time(), 3)}
                state["pretraining"].append(row)
                if main:
                    save(optimizer, chosen=False)

    optimizer = create_optimizer(recipe, network.parameters())
    if state["epoch"]:
        optimizer.load_state_dict(saved["optimizer"])
    training = steps(accelerator.prepare(network), optimizer, average)
    history = state["history"]
    with progress(f"fold {fold}", recipe.epochs, state["epoch"]) as bar:
        while not _ended(history, recipe):
            began = time.perf_counter()
            begin(state["epoch"])
            row = {"epoch": state["epoch"] + 1, **training.epoch(state["epoch"], bar)}
            speed = len(draws) / (time.perf_counter() - began)
            for part in measured:
                if part in held_out:
                    scores = measure(accelerator, reported, held_out[part], layout, precision)
                else:
                    scores = unmeasured()
                row |= {f"{part}_{name}": value for name, value in scores.items()}
            row |= {"seconds": time.perf_counter() - began, "images_per_second": speed, "ended": round(time.time(), 3)}
            history.append(row)
            state["epoch"] += 1

            reached = score(row, variant)
            chosen = _ended(history, recipe) if reached is None else state["best"] is None or reached > state["best"]
            if chosen:
                state |= {"selected": state["epoch"], "best": reached}
            if main:
                save(optimizer, chosen)
                if on_epoch:
                    on_epoch(row)

    if main:
        card = make_card(network, variant, classes, fold, samples, store, precision, state["selected"])
        keep.finish(card, state["selected"])
        keep.publish(out)
    accelerator.wait_for_everyone()


def _accelerator(compute: Compute, device: torch.device) -> Accelerator:
    if compute.device != "auto":
        os.environ["ACCELERATE_TORCH_DEVICE"] = compute.device  # accelerate has no argument for it
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no",  # ours to choose, as in predict; accelerate would fix it for the whole process
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        rng_types=[],  # ours are functions of the seed: there is nothing to synchronise
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # ballast gets no gradient
    )


def _ended(history: list[dict[str, float]], recipe: Recipe) -> bool:
    """Whether the last epoch is over, or the one before was good enough in validation."""
    enough = recipe.early_stop_above
    return len(history) == recipe.epochs or bool(history and enough and history[-1]["val_war"] > enough)


def _epoch_seed(seed: int, epoch: int) -> int:
    """A seed in [0, 2^31) that no other pair of seed and epoch is likely to share."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1)


def _centres(
    network: torch.nn.Module,
    variant: Variant,
    landmarks: Path | None,
    au_centers: Path | None,
    store: FaceStore,
    train: list[str],
) -> torch.Tensor | None:
    """Where the action-unit regions of a network lie; None for a network without such."""
    whole = variant.recipe.au_centers == "dataset"
    if not hasattr(network, "set_au_centers"):
        if whole:
            raise TrainingError(f"{variant.model.architecture} has no AU regions: leave recipe.au_centers out")
        return None
    return dataset_au_centres(au_centers) if whole else au_centres(landmarks, store, train)


def _parts(samples: pd.DataFrame, store: FaceStore, classes: int, selection: str) -> dict[str, pd.DataFrame]:
    """The samples by part, in a fixed order."""
    needed = {"train", selection} - {"last"}
    if empty := sorted(needed - set(samples["part"])):
        raise TrainingError(f"selection {selection} needs samples in part {' and '.join(empty)}: change the protocol")
    if (samples["part"] == "train").sum() < 2:
        raise TrainingError("one sample cannot train a network: change the protocol")
    if missing := [sample for sample in samples["sample"] if sample not in store]:
        raise TrainingError(f"{len(missing)} samples have no face in the store, the first is {missing[0]!r}")
    if len(wrong := samples[~samples["label"].between(0, classes - 1).fillna(False)]):
        name, label = wrong.iloc[0][["sample", "label"]]
        raise TrainingError(f"{len(wrong)} labels are none of the {classes} classes, the first is {label} of {name!r}")
    return dict(list(samples.astype({"label": int}).sort_values("sample").groupby("part")))
