"""Training of the landmark network, top to bottom; a killed one goes on from its last whole epoch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from tqdm import tqdm

from duchenne.errors import UserError
from duchenne.faces.mobilefacenet import INNER, MEAN, SIZE, STD
from duchenne.faces.points import LEFT_EYE, RIGHT_EYE
from duchenne.files import file_digest, replacing, unusable, write_json
from duchenne.landmark_net.samples import Renders
from duchenne.landmark_net.settings import LandmarkNet
from duchenne.landmark_net.taught import Taught, seen, start_at_the_mean, wing_loss
from duchenne.models import load_official
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.sources import source_digest
from duchenne.training.device import autocast, device_of, precision_of, reuse_memory
from duchenne.training.settings import Compute

log = logging.getLogger(__name__)

WEIGHTS = "mobilefacenet68.safetensors"
BENT = 0.1
"""By how much held-out faces are bent to tell a network that looks where parts are from one that infers it."""


def train_landmark_net(
    config: LandmarkNet, root: Path, out: Path, work: Path, compute: Compute, start: Path | None = None
) -> None:
    """Teach MobileFaceNet the points of the rendered set at ``root``.

    Leaves :data:`WEIGHTS` (float16), ``card.json`` and ``history.csv`` in ``out``: NME is the mean
    distance of the 68 points on held-out people, per cent of the pupils' distance, in aligned crops; ``nme_bent`` is
    that of the same faces bent by up to :data:`BENT`.

    Args:
        work: folder of the resumable state.
        start: weights to start from, what ``config.init_from`` left.

    Raises:
        UserError: no weights at ``start``, or not of this network.
        FloatingPointError: the loss is not finite.
    """
    if start and (reason := unusable(start)):
        raise UserError(f"{start} {reason}: train {config.init_from} first, from which this one starts")
    device = device_of(compute)
    precision = precision_of(compute, device)
    reuse_memory()
    torch.manual_seed(config.seed)
    train = Renders(root, "train", config.seed, config.limit, config.bend)
    network = MobileFaceNet()
    if start:
        load_official(network, start)
    else:
        start_at_the_mean(network, train.points[:200])
    taught = Taught(network).to(device, memory_format=torch.channels_last)
    if compute.compile:
        taught.compile()
    held_out = {"nme": Renders(root, "test"), "nme_bent": Renders(root, "test", bend=BENT)}
    order = torch.Generator()
    steps = -(-len(train) // config.batch_size)
    optimizer = torch.optim.AdamW(taught.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=steps * config.epochs, pct_start=0.1
    )
    first, history = 0, []
    given = config.model_dump(mode="json") | {"start_sha256": start and file_digest(start)}
    key = {"config": given, "samples": len(train), "code": source_digest(__name__)}
    if (work / "state.pt").exists():
        try:
            state = torch.load(work / "state.pt", map_location=device, weights_only=True)
            same = state["key"] == key
        except Exception as error:  # a damaged file raises whatever its bytes happen to spell
            raise UserError(f"{work / 'state.pt'} cannot be read; delete it to start anew: {error}") from None
        if same:
            taught.load_state_dict(state["taught"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            first, history = state["epoch"], state["history"]
            log.info("the landmark network resumes after %d epochs", first)

    with tqdm(total=len(train) * config.epochs, initial=len(train) * first, unit="face", smoothing=0) as bar:
        for epoch in range(first, config.epochs):
            train.epoch = epoch
            order.manual_seed(config.seed * 1000 + epoch)
            loader = DataLoader(
                train,
                config.batch_size,
                sampler=RandomSampler(train, generator=order),
                num_workers=compute.loader_workers,
            )
            taught.train()
            total = 0.0
            for images, points in loader:
                with autocast(device, precision):
                    found, read = taught(normalised(images, device))
                points = points.to(device)
                asked = seen(points)
                loss = wing_loss((found * SIZE - points)[asked])
                loss = loss + config.map_weight * wing_loss((read * SIZE - points)[asked])
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"the loss of epoch {epoch + 1} is not finite: lower landmark_nets.*.lr")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(images)
                bar.update(len(images))
            row = {"epoch": epoch + 1, "lr": schedule.get_last_lr()[0], "train_loss": total / len(train)}
            for name, faces in held_out.items():
                row[name] = held_out_error(network, faces, config.batch_size, device)
            history.append(row)
            bar.set_postfix(nme=f"{row['nme']:.2f}")
            state = {"key": key, "epoch": epoch + 1, "history": history, "taught": taught.state_dict()}
            with replacing(work / "state.pt") as path:
                torch.save(state | {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, path)
    _publish(network, config.dataset, given, history, out)


def normalised(images: Tensor, device: torch.device) -> Tensor:
    """Images (B, 3, H, W) in 0..1 as the network takes them."""
    mean, std = (torch.from_numpy(values)[:, None, None] for values in (MEAN, STD))
    return ((images - mean) / std).to(device, memory_format=torch.channels_last)


@torch.inference_mode()
def held_out_error(network: MobileFaceNet, faces: Renders, batch_size: int, device: torch.device) -> float:
    """Mean error of the 68 points on faces, per cent of the pupils' distance."""
    network.eval()
    errors = []
    for images, points in DataLoader(faces, batch_size):
        found = network(normalised(images, device)).cpu().unflatten(1, (68, 2)) * SIZE
        pupils = (points[:, LEFT_EYE].mean(1) - points[:, RIGHT_EYE].mean(1)).norm(dim=1)
        errors.append((found - points).norm(dim=2).mean(1) / pupils)
    return 100 * float(torch.cat(errors).mean())


def _publish(
    network: MobileFaceNet, dataset: str, given: dict[str, Any], history: list[dict[str, Any]], out: Path
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # counters of batches are of no use to anyone
    weights = {k: v.half().cpu().contiguous() for k, v in network.state_dict().items() if v.is_floating_point()}
    with replacing(out / WEIGHTS) as path:
        save_file(weights, path, {"inner": str(INNER)})
    with replacing(out / "history.csv") as path:
        pd.DataFrame(history).to_csv(path, index=False)
    write_json(
        out / "card.json",
        {
            "network": "MobileFaceNet, 68 points of iBUG 300-W in their order",
            "data": f"rendered faces, dataset {dataset} of params.yaml",
            "licence": "CC0-1.0",
            "input": f"RGB {SIZE} x {SIZE}, ImageNet's mean and standard deviation; output x, y as shares of the width",
            "config": given,
            "nme_renders": round(history[-1]["nme"], 3),
            "nme_renders_bent": round(history[-1]["nme_bent"], 3),
        },
    )
