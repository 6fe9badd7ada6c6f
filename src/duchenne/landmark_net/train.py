"""Training of the landmark network on rendered faces, with the trainer of the expression networks."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader

from duchenne.errors import UserError
from duchenne.faces.mobilefacenet import INNER, MEAN, SIZE, STD
from duchenne.faces.points import LEFT_EYE, RIGHT_EYE
from duchenne.files import file_digest, unusable
from duchenne.landmark_net.network import WithAuxiliaryHead, near_crop, start_at_the_mean, wing_loss
from duchenne.landmark_net.samples import Renders, Shuffled
from duchenne.landmark_net.settings import LandmarkNet
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.models.official import load_official
from duchenne.sources import source_digest
from duchenne.training.checkpoint import Checkpoints, require_whole
from duchenne.training.data import loader
from duchenne.training.device import Placement, accelerator_of, device_of, layout_of, precision_of
from duchenne.training.settings import Compute
from duchenne.training.trainer import Outcome, Row, Task, Trainer
from duchenne.training.workers import passes, workers_for

WEIGHTS = "mobilefacenet68.safetensors"
BENT = 0.1
"""Warp of held-out faces, to distinguish networks that locate each part from those that infer its position."""


def train_landmark_net(
    config: LandmarkNet, root: Path, out: Path, work: Path, compute: Compute, start: Path | None = None
) -> None:
    """Train MobileFaceNet to find the points of the rendered set at ``root``.

    Writes :data:`WEIGHTS` (float16), ``card.json`` and ``history.csv`` to ``out``. NME is the mean error of the 68
    points on held-out people, per cent of the pupils' distance, in aligned crops; ``nme_bent`` is that of the same
    faces warped by up to :data:`BENT`.

    Args:
        out: folder of the result; replaced.
        work: folder of the state from which training resumes.
        start: weights to start from, those of ``config.init_from``.

    Raises:
        UserError: There are no weights at ``start``, or they are not of this network.
        TrainingError: The loss is not finite.
    """
    if start and (reason := unusable(start)):
        raise UserError(f"{start} {reason}: train {config.init_from} first, because init_from names it")
    if start and (start.parent / "card.json").exists():
        require_whole(start.parent, start.name, f"train {config.init_from} again")
    device = device_of(compute)
    placement = Placement(accelerator_of(compute, device), precision_of(compute, device))
    faces = Renders(root, "train", config.seed, config.limit, config.bend)
    given = config.model_dump(mode="json") | {"start_sha256": start and file_digest(start)}
    decides = json.dumps({"config": given, "samples": len(faces), "precision": placement.precision}, sort_keys=True)
    key = hashlib.sha256(decides.encode()).hexdigest()
    checkpoints = Checkpoints(work, key, source_digest(__name__), WEIGHTS, {"inner": str(INNER)})

    if not checkpoints.finished():
        set_seed(config.seed)
        backbone = MobileFaceNet()
        if start:
            load_official(backbone, start)
        else:
            start_at_the_mean(backbone, faces.points[:200])
        network = WithAuxiliaryHead(backbone)
        placement = replace(placement, layout=layout_of(compute, "image"))
        task = _task(network, placement, config, faces, root, compute)
        trainer = Trainer(network, placement, checkpoints, config.seed, compile=compute.compile)
        epoch = trainer.fit(task)
        if placement.accelerator.is_main_process:
            checkpoints.finish(_card(config.dataset, given, trainer.tables[task.name][-1]), epoch)
    if placement.accelerator.is_main_process:
        checkpoints.publish(out)
    placement.accelerator.wait_for_everyone()


def _task(
    network: WithAuxiliaryHead, placement: Placement, config: LandmarkNet, faces: Renders, root: Path, compute: Compute
) -> Landmarks:
    prepare = placement.prepare
    draws = Shuffled(len(faces), config.seed)
    device = placement.accelerator.device
    step = passes(network, device, placement.precision, placement.layout, backward=1)
    count = math.ceil(len(faces) / config.batch_size) * config.epochs
    workers = workers_for(compute, device, faces, draws, config.batch_size, count, step)
    batches = prepare(loader(faces, config.batch_size, workers, draws))
    held_out = {"nme": Renders(root, "test"), "nme_bent": Renders(root, "test", bend=BENT)}
    held_out = {name: prepare(loader(part, config.batch_size, workers)) for name, part in held_out.items()}
    return Landmarks(network, placement, config, batches, draws, faces.paths, held_out)


class Landmarks(Task):
    """Regression of 68 points by wing loss; measured by the mean error on held-out faces, in float32.

    Args:
        held_out: column of the history -> batches of faces.
    """

    shown = "nme"

    def __init__(
        self,
        network: WithAuxiliaryHead,
        placement: Placement,
        config: LandmarkNet,
        batches: DataLoader,
        draws: Shuffled,
        names: list[str],
        held_out: Mapping[str, DataLoader],
    ) -> None:
        super().__init__(network, batches, draws, names, config.epochs, "landmark network")
        self.placement, self.config, self.held_out = placement, config, held_out

    def optimizer(self) -> Optimizer:
        return torch.optim.AdamW(self.network.parameters(), self.config.lr, weight_decay=self.config.weight_decay)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        steps = self.epochs * len(self.batches)
        return OneCycleLR(optimizer, self.config.lr, total_steps=steps, pct_start=0.1)

    def prepare(self, inputs: Tensor, targets: Tensor, rows: Tensor) -> tuple[Any, ...]:
        return normalised(inputs, self.placement.layout), targets

    def loss(self, model: nn.Module, images: Tensor, points: Tensor) -> Outcome:
        found, read = model(images)
        asked = near_crop(points)
        loss = wing_loss((found * SIZE - points)[asked])
        loss = loss + self.config.map_weight * wing_loss((read * SIZE - points)[asked])
        return Outcome(loss, {"loss": loss.detach().expand(len(images))})

    def summary(self, kept: dict[str, Tensor]) -> Row:
        """``train_loss``: the mean over the faces."""
        return {"train_loss": kept["loss"].double().mean().item()}

    def evaluate(self, network: WithAuxiliaryHead, row: Row) -> Row:
        """Return a column for each set of held-out faces."""
        return {
            name: held_out_error(self.placement, network.network, batches) for name, batches in self.held_out.items()
        }

    def weights(self, network: WithAuxiliaryHead) -> Mapping[str, Tensor]:
        """Return MobileFaceNet's weights as float16, without the unused batch counters."""
        own = network.network.state_dict()
        return {name: value.half() for name, value in own.items() if value.is_floating_point()}


def normalised(images: Tensor, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Normalise images (B, 3, H, W) in 0..1 for the network."""
    mean, std = (torch.from_numpy(values)[:, None, None].to(images.device) for values in (MEAN, STD))
    return ((images - mean) / std).to(memory_format=layout)


@torch.inference_mode()
def held_out_error(placement: Placement, network: MobileFaceNet, batches: DataLoader) -> float:
    """Compute the mean error of the 68 points on faces, per cent of the pupils' distance."""
    network.eval()
    errors = []
    for images, points, _ in batches:
        found = network(normalised(images, placement.layout)).unflatten(1, (68, 2)) * SIZE
        pupils = (points[:, LEFT_EYE].mean(1) - points[:, RIGHT_EYE].mean(1)).norm(dim=1)
        error = (found - points).norm(dim=2).mean(1) / pupils
        errors.append(error.cpu())
    return 100 * float(torch.cat(errors).mean())


def _card(dataset: str, given: dict[str, Any], last: Row) -> dict[str, Any]:
    return {
        "network": "MobileFaceNet, 68 points of iBUG 300-W in their order",
        "data": f"rendered faces, dataset {dataset} of params.yaml",
        "licence": "CC0-1.0",
        "input": f"RGB {SIZE} x {SIZE}, ImageNet's mean and standard deviation; output x, y as shares of the width",
        "config": given,
        "nme_renders": round(last["nme"], 3),
        "nme_renders_bent": round(last["nme_bent"], 3),
    }
