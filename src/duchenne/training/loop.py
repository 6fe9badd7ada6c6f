"""The training of one fold, top to bottom.

Every random number is a function of the variant's seed and the epoch: the generators are seeded anew when an epoch
begins, the order of the samples and each augmentation have generators of their own. So a killed training that goes on
from its last whole epoch ends with the same weights, bit for bit, as one that was never interrupted.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, set_seed
from sklearn.metrics import accuracy_score, f1_score, recall_score
from timm.data import resolve_model_data_config
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from duchenne.catalog import Compute, Variant
from duchenne.faces import FaceStore
from duchenne.training.augment import transform
from duchenne.training.checkpoint import Checkpoints, fingerprint
from duchenne.training.data import Draws, FaceImages, loader
from duchenne.training.device import Precision, autocast, device_of, precision_of
from duchenne.training.errors import TrainingError
from duchenne.training.optim import create_optimizer, learning_rate
from duchenne.training.sam import ascended
from duchenne.training.trained import create, initialise, make_card

log = logging.getLogger(__name__)

METRICS = ("loss", "war", "uar", "uf1")


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
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train one network and leave ``weights.safetensors``, ``card.json`` and ``history.csv`` in ``out``.

    A fold that ``work`` knows as finished under the same fingerprint is not trained again; a killed one goes on from
    its last whole epoch. Also runs under ``accelerate launch``: the batch size is that of all processes together.

    Which epoch's weights are kept: with selection ``last`` the last; else the one that ``monitor`` says is best on that
    part, among equals the one with the lower loss, then the earlier. ``test`` is what the official scripts do; its
    figures are optimistic. With EMA the averaged weights are measured and kept.

    Columns of the history: ``lr`` of the epoch's last step; ``train_loss`` and ``train_war`` over the augmented images
    as they came, before the step each took part in (under SAM the first pass; with mixup against the heavier label);
    ``val_*`` and, with selection ``test``, ``test_*``: plain cross-entropy, WAR, UAR and UF1 after the epoch;
    ``seconds`` of the whole epoch; ``images_per_second`` of its training.

    Args:
        variant: what to train; its dataset and protocol are not looked at.
        classes: class names in the order of the labels.
        fold: number of the fold, from 1; for the card and the progress bar.
        samples: columns sample, label and part (train, val or test) of this fold alone; ``store`` has a face of each.
        out: folder of the result; replaced.
        work: folder of this fold's resumable state.
        init: folder of a trained fold to start from, instead of ``variant.model.pretrained``.
        on_epoch: called with each row of the history that is trained now.

    Raises:
        TrainingError: a part is empty, a sample has no face, initial weights do not fit, or a loss is not finite.
    """
    recipe = variant.recipe
    parts = _parts(samples, store, len(classes), variant.selection)
    device = device_of(compute)
    precision = precision_of(compute, device)
    keep = Checkpoints(work, fingerprint(variant, classes, samples, store, init, precision))
    if compute.device != "auto":
        os.environ["ACCELERATE_TORCH_DEVICE"] = compute.device  # accelerate has no argument for it
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no",  # ours to choose, as in predict; accelerate would fix it for the whole process
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        rng_types=[],  # ours are functions of the seed: there is nothing to synchronise
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # ballast gets no gradient
    )
    main = accelerator.is_main_process
    if keep.finished():
        log.info("fold %d is finished, its result is taken from %s", fold, work)
        if main:
            keep.publish(out)
        return

    torch.backends.cudnn.deterministic = True
    set_seed(variant.seed)
    network = create(variant.model.architecture, variant.model.options, classes)
    initialise(network, variant, classes, init)
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    network.to(accelerator.device, memory_format=layout)
    average = ModelEmaV3(network, recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
    reported = average.module if average else network
    optimizer = create_optimizer(recipe, network.parameters())
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    mix = v2.MixUp(alpha=recipe.mixup, num_classes=len(classes)) if recipe.mixup else None
    # In SAM's second pass a landmark branch that normalises by fixed statistics would give the same maps again.
    reuse = recipe.sam_rho is not None and getattr(network, "landmark_bn_frozen", False)

    data = resolve_model_data_config(network)
    faces = {
        part: FaceImages(store, rows, transform(data, recipe.augment if part == "train" else None))
        for part, rows in parts.items()
    }
    draws = Draws(parts["train"]["label"], recipe.batch_size, recipe.sampler == "balanced", variant.seed)
    if compute.compile:
        network.compile()
    model = accelerator.prepare(network)
    batches = accelerator.prepare(loader(faces["train"], recipe.batch_size, compute, draws))
    measured = ["val", "test"] if variant.selection == "test" else ["val"]
    held_out = {
        part: accelerator.prepare(loader(faces[part], recipe.eval_batch_size, compute))
        for part in measured
        if part in faces
    }

    epoch, selected, best, history = 0, 0, None, []
    if state := keep.resume(accelerator.device):
        epoch, selected, best, history = (state[name] for name in ("epoch", "selected", "best", "history"))
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        if average:
            average.module.load_state_dict(state["average"])
        log.info("fold %d goes on after epoch %d", fold, epoch)

    def backward(images: Tensor, target: Tensor, maps: tuple) -> tuple[Tensor, Tensor]:
        with autocast(device, precision):
            logits = model(images, *maps)
            loss = criterion(logits, target)
        accelerator.backward(loss)
        return loss.detach(), logits.detach()

    bar = tqdm(
        desc=f"fold {fold}",
        total=recipe.epochs * len(draws),
        initial=epoch * len(draws),
        unit="image",
        smoothing=0,  # the remaining time counts the measuring between epochs in
        disable=not main,
    )
    while epoch < recipe.epochs:
        began = time.perf_counter()
        set_seed(_epoch_seed(variant.seed, epoch), device_specific=True)
        batches.set_epoch(epoch)
        model.train()
        losses, hits = [], []
        for step, (images, target, rows) in enumerate(batches, epoch * len(batches)):
            lr = learning_rate(recipe, step, len(batches))
            for group in optimizer.param_groups:
                group["lr"] = lr
            if mix:
                images, target = mix(images, target)
            images = images.to(memory_format=layout)
            with autocast(device, precision):
                maps = (network.landmark_maps(images),) if reuse else ()

            loss, logits = backward(images, target, maps)
            finite = loss.isfinite()
            if recipe.sam_rho:
                with ascended(network.parameters(), recipe.sam_rho):
                    finite &= backward(images, target, maps)[0].isfinite()
            if not finite:
                names = ", ".join(parts["train"]["sample"].iloc[rows.tolist()])
                raise TrainingError(
                    f"the loss is not finite in epoch {epoch + 1}, step {step + 1}, lr {lr:g}: lower the lr or look "
                    f"at the samples {names}. What the epochs before learnt is kept in {work}."
                )
            if recipe.clip_grad:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
            if average:
                average.update(network, step)

            labels = target if target.ndim == 1 else target.argmax(1)
            losses.append(accelerator.gather(loss.expand(len(images))))
            hits.append(accelerator.gather(logits.argmax(1) == labels))
            bar.update(len(hits[-1]))

        epoch += 1
        row = {"epoch": epoch, "lr": lr}
        row |= {"train_loss": torch.cat(losses).mean().item(), "train_war": torch.cat(hits).float().mean().item()}
        speed = len(draws) / (time.perf_counter() - began)
        for part in measured:
            scores = _measure(accelerator, reported, held_out[part], layout, precision) if part in held_out else {}
            row |= {f"{part}_{name}": scores.get(name, float("nan")) for name in METRICS}
        row |= {"seconds": time.perf_counter() - began, "images_per_second": speed}
        history.append(row)

        score = _score(row, variant)
        chosen = epoch == recipe.epochs if score is None else best is None or score > best
        if chosen:
            selected, best = epoch, score
        if main:
            state = {
                "epoch": epoch,
                "selected": selected,
                "best": best,
                "history": history,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.module.state_dict() if average else None,
            }
            keep.save(state, reported.state_dict() if chosen else None)
            if on_epoch:
                on_epoch(row)
    bar.close()

    if main:
        keep.finish(make_card(network, variant, classes, fold, samples, store, precision, selected), selected)
        keep.publish(out)
    accelerator.wait_for_everyone()


@torch.no_grad()
def _measure(
    accelerator: Accelerator,
    network: nn.Module,
    batches: DataLoader,
    layout: torch.memory_format,
    precision: Precision,
) -> dict[str, float]:
    """Cross-entropy, WAR, UAR and UF1 of a network over a part."""
    network.eval()
    logits, labels = [], []
    for images, target, _ in batches:
        with autocast(accelerator.device, precision):
            output = network(images.to(memory_format=layout))
        output, target = accelerator.gather_for_metrics((output, target))
        logits.append(output.float().cpu())
        labels.append(target.cpu())
    logits, labels = torch.cat(logits), torch.cat(labels)
    predicted, present = logits.argmax(1), labels.unique().tolist()
    return {
        "loss": F.cross_entropy(logits, labels).item(),
        "war": accuracy_score(labels, predicted),
        "uar": recall_score(labels, predicted, labels=present, average="macro"),
        "uf1": f1_score(labels, predicted, labels=present, average="macro"),
    }


def _score(row: dict[str, float], variant: Variant) -> list[float] | None:
    """What the best epoch has most of: the monitored figure, then a low loss; None when the last epoch is kept.

    Raises:
        TrainingError: the loss is not finite, so that epochs cannot be compared.
    """
    if variant.selection == "last":
        return None
    loss = row[f"{variant.selection}_loss"]
    if not math.isfinite(loss):
        raise TrainingError(f"the {variant.selection} loss is {loss} after epoch {row['epoch']}: lower the lr")
    figure = row[f"{variant.selection}_{variant.monitor}"]
    return [-loss if variant.monitor == "loss" else figure, -loss]


def _epoch_seed(seed: int, epoch: int) -> int:
    """A seed in [0, 2^31) that no other pair of seed and epoch is likely to share."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1)


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
