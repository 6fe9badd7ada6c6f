"""Training of a network on one fold of a split."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from accelerate.utils import set_seed
from torch import Tensor, nn

from duchenne.faces.store import FaceStore
from duchenne.models.contract import create
from duchenne.training import rules
from duchenne.training.checkpoint import Checkpoints
from duchenne.training.classification import Classification, Pretraining
from duchenne.training.data import Draws, loader
from duchenne.training.device import (
    Placement,
    accelerator_of,
    device_of,
    layout_of,
    precision_of,
)
from duchenne.training.environment import machine
from duchenne.training.errors import TrainingError
from duchenne.training.fingerprint import code_version, fingerprint
from duchenne.training.inputs import au_centres, dataset_au_centres, inputs, vote_shares
from duchenne.training.launch import launch, processes_of
from duchenne.training.settings import Compute, Variant
from duchenne.training.trained import initialise, make_card
from duchenne.training.trainer import Trainer
from duchenne.training.workers import passes, workers_for
from duchenne.weights import require_packaged

log = logging.getLogger(__name__)


def train_fold(
    variant: Variant,
    classes: list[str],
    fold: int,
    samples: pd.DataFrame,
    store: FaceStore,
    out: Path | None,
    work: Path,
    compute: Compute,
    init: Path | None = None,
    landmarks: Path | None = None,
    au_centers: Path | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train one network and write ``weights.safetensors``, ``card.json`` and ``history.csv`` to ``out``.

    A fold that is finished in ``work`` with the same fingerprint is not trained again; an interrupted one resumes from
    its last complete epoch. With ``compute.processes`` several processes share every batch, and a fold is finished, or
    resumes, whatever their number is or was.

    Selection decides which epoch's weights are kept: with ``last`` the last one; otherwise the best one by ``monitor``
    on that part, among equals the one with the lower loss, then the earlier. ``test`` is the rule of the official
    scripts of POSTER and POSTER++; its results are optimistic. ``train`` takes the epoch of the lowest ``train_loss``,
    the checkpoint that IFDD's test script names. With EMA the averaged weights are measured and kept, but
    ``train_loss`` is that of the trained weights.

    The test part is predicted after every epoch with selection ``test`` and, by ``test_each_epoch``, to compare rules
    of choice: then ``rules.parquet`` has the test logits of the epoch that each rule chooses
    (:class:`duchenne.training.rules.Rules`). Otherwise it is not read; the weights are the same, bit for bit.

    ``pretrain_epochs`` come first: training without labels, by the network's ``pretraining_loss``, on the training
    part, with a separate optimiser at a constant lr. Their history is ``pretraining.csv``.

    Columns of the history: ``lr`` of the epoch's last step; ``train_loss``, ``train_<name>`` of the further
    losses that the network adds to the first and ``train_<metric>`` of every metric, over the augmented
    samples as they came, before the step each took part in (under SAM the first pass; metrics against the label, with
    mixup against the heavier one); ``val_*`` and ``test_*``: plain cross-entropy with the label and every metric after
    the epoch; ``seconds`` of the whole epoch; ``images_per_second`` of its training
    (clips or pairs, where the network takes such); ``ended``, Unix time in s.

    Args:
        variant: what to train; its dataset and protocol are not used.
        classes: class names in the order of the labels.
        fold: number of the fold, from 1; for the card and the progress bar.
        samples: columns sample, label and part (train, val or test) of this fold alone, for pairs also onset and
            apex, for soft targets votes; ``store`` has a face of each.
        out: folder of the result; replaced. None: the finished fold stays in ``work``.
        work: folder of the state from which this fold resumes.
        init: folder of a trained fold to start from, instead of ``variant.model.pretrained``.
        landmarks: Parquet file of the dataset's landmarks; sets the AU-region centres of a network that has them
            (``set_au_centers``), from the training part.
        au_centers: JSON file of the mean centres of the dataset, used instead with ``recipe.au_centers: dataset``.
        on_epoch: called with each new row of the history.

    Raises:
        TrainingError: A part is empty, a sample has no face or, for soft targets, no votes, initial weights do not fit,
            or a loss is not finite.
    """
    arguments = dict(locals())
    parts = _parts(samples, store, len(classes), variant.selection)
    device = device_of(compute)
    precision = precision_of(compute, device)

    set_seed(variant.seed)
    network = create(variant.model.architecture, variant.model.options, len(classes))
    if variant.recipe.pretrain_epochs and not network.learns_without_labels:
        raise TrainingError(f"{variant.model.architecture} cannot train without labels: leave pretrain_epochs out")
    centres = _centres(network, variant, landmarks, au_centers, store, parts["train"]["sample"].tolist())
    shares = vote_shares(parts["train"]) if variant.recipe.targets == "soft" else None
    key = fingerprint(variant, classes, samples, store, init, precision, centres, shares)
    checkpoints = Checkpoints(work, key, code_version(variant.model.architecture))
    if checkpoints.finished():
        log.info("fold %d is finished%s", fold, f", its result is copied from {work}" if out else f" in {work}")
        if out:
            checkpoints.publish(out)
        return
    if (processes := processes_of(compute, variant.recipe)) > 1:
        launch(processes, arguments)
        return

    for path in variant.model.packaged.values():
        require_packaged(path)
    initialise(network, variant, classes, init)
    if centres is not None:
        network.set_au_centers(centres)
    placement = Placement(accelerator_of(compute, device), precision, layout_of(compute, network.facts.takes))
    task = _task(variant, network, placement, parts, store, compute, len(classes), shares, f"fold {fold}")
    trainer = Trainer(
        network, placement, checkpoints, variant.seed, variant.recipe.ema_decay, compute.compile, on_epoch
    )
    selected = trainer.fit(Pretraining(task), task)
    if placement.accelerator.is_main_process:
        card = make_card(network, variant, classes, fold, samples, store, precision, selected)
        kept = task.kept(classes)
        tables = {} if kept is None else {rules.NAME: kept}
        checkpoints.finish(card | {"machine": machine(device)}, selected, tables)
        if out:
            checkpoints.publish(out)
    placement.accelerator.wait_for_everyone()


def _task(
    variant: Variant,
    network: nn.Module,
    placement: Placement,
    parts: dict[str, pd.DataFrame],
    store: FaceStore,
    compute: Compute,
    classes: int,
    shares: Tensor | None,
    title: str,
) -> Classification:
    """Build the training task of a fold, with its parts as batches."""
    recipe, train = variant.recipe, parts["train"]
    draws = Draws(train["label"], recipe.batch_size, recipe.sampler == "balanced", variant.seed, recipe.drop_last)
    faces = inputs(network, store, train, recipe, train=True)
    device, backward = placement.accelerator.device, 2 if recipe.sam_rho else 1
    step = passes(network, device, placement.precision, placement.layout, backward)
    count = math.ceil(len(draws) / recipe.batch_size) * (recipe.pretrain_epochs + recipe.epochs)
    share = replace(placement.share, mirrored=recipe.mix is not None)
    own = len(share.of(recipe.batch_size).positions)
    workers = workers_for(compute, device, faces, draws, own, count, step)
    batches = placement.prepare(loader(faces, recipe.batch_size, workers, draws, share))
    measured = {part: inputs(network, store, parts[part], recipe) for part in ("val", "test") if part in parts}
    if "test" in measured and not rules.tested_each_epoch(variant, len(measured["test"]), len(draws)):
        del measured["test"]
        if variant.test_each_epoch == "auto":
            log.info(
                "%s: the test part is not predicted after every epoch, which would cost more than %.0f %% of training; "
                "test_each_epoch: true does it",
                title, 100 * rules.LIMIT,
            )  # fmt: skip
    held_out = {"val": None} | {
        part: placement.prepare(loader(faces, recipe.eval_batch_size, workers, share=share))
        for part, faces in measured.items()
    }
    kept = rules.Rules(variant, measured, parts["test"]["sample"]) if "test" in measured else None
    names = train["sample"].tolist()
    return Classification(network, placement, variant, batches, draws, names, held_out, classes, title, shares, kept)


def _centres(
    network: nn.Module,
    variant: Variant,
    landmarks: Path | None,
    au_centers: Path | None,
    store: FaceStore,
    train: list[str],
) -> Tensor | None:
    """Return the centres of a network's action-unit regions; None for a network without regions."""
    whole = variant.recipe.au_centers == "dataset"
    if not network.has_au_regions:
        if whole:
            raise TrainingError(f"{variant.model.architecture} has no AU regions: leave recipe.au_centers out")
        return None
    return dataset_au_centres(au_centers) if whole else au_centres(landmarks, store, train)


def _parts(samples: pd.DataFrame, store: FaceStore, classes: int, selection: str) -> dict[str, pd.DataFrame]:
    """Return the samples by part, in a fixed order."""
    needed = {"train", selection} - {"last"}
    if empty := sorted(needed - set(samples["part"])):
        raise TrainingError(f"selection {selection} needs samples in part {' and '.join(empty)}: change the protocol")
    if (samples["part"] == "train").sum() < 2:
        raise TrainingError("the training part has only one sample: change the protocol")
    if missing := [sample for sample in samples["sample"] if sample not in store]:
        raise TrainingError(f"{len(missing)} samples have no face in the store, the first is {missing[0]!r}")
    if len(wrong := samples[~samples["label"].between(0, classes - 1).fillna(False)]):
        name, label = wrong.iloc[0][["sample", "label"]]
        raise TrainingError(f"{len(wrong)} labels are none of the {classes} classes, the first is {label} of {name!r}")
    return dict(list(samples.astype({"label": int}).sort_values("sample").groupby("part")))
