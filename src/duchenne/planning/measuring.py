"""Speed of a variant's training step on this machine, with random weights and pictures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duchenne.models.contract import create
from duchenne.planning.costs import Speed
from duchenne.planning.estimate import exactly
from duchenne.training.checkpoint import Checkpoints
from duchenne.training.classification import Classification
from duchenne.training.device import Placement, accelerator_of, device_of, layout_of, precision_of
from duchenne.training.settings import Compute, Variant
from duchenne.training.trainer import Trainer

CPU_BATCH = {"image": 8, "clip": 2, "pair": 8}
"""Largest batch on a CPU, where larger ones are not faster and would take minutes (chosen by us)."""

QUIET = 0.7
"""Share of the processor below which other work disturbs a measurement (chosen by us)."""


def step_of(
    network: nn.Module, placement: Placement, variant: Variant, classes: int, compile: bool = False
) -> Callable[[Tensor, Tensor], None]:
    """Return the trainer's own step of a network, of inputs and labels (N,); it reads and writes no file.

    Args:
        network: on its device.
        variant: its recipe counts, without mixing of samples and training of parts beforehand.
        compile: see ``compute.compile``.
    """
    recipe = variant.recipe.model_copy(update={"mix": None, "pretrain_epochs": 0})
    variant = variant.model_copy(update={"recipe": recipe})
    batches: Any = [None] * 1000  # their number alone is read, by the schedule
    draws: Any = []
    task = Classification(network, placement, variant, batches, draws, ["a"] * 9999, {}, classes, "measuring")
    checkpoints = Checkpoints(Path(tempfile.gettempdir()) / "not written", "", "")
    trainer = Trainer(network, placement, checkpoints, 0, compile=compile)
    trainer._start(task, None)

    def step(inputs: Tensor, labels: Tensor) -> None:
        trainer.model.train()
        trainer._step((inputs.clone(), labels, torch.arange(len(labels))), "the measurement")

    return step


def measured(variant: Variant, classes: int, compute: Compute, seconds: float) -> Speed:
    """Run real training steps for about ``seconds``, after one that warms up, in one process.

    The batch is that of the recipe; on a CPU at most :data:`CPU_BATCH`. Samples are not loaded: see ``Speed.whole``.

    Raises:
        TrainingError: The device of ``compute`` is not there.
    """
    compute = variant.on(compute)
    device, size = device_of(compute), variant.recipe.batch_size
    torch.manual_seed(0)
    network: Any = create(variant.model.architecture, variant.model.options, classes)
    takes = network.facts.takes
    batch = min(size, CPU_BATCH[takes]) if device.type == "cpu" else size
    placement = Placement(accelerator_of(compute, device), precision_of(compute, device), layout_of(compute, takes))
    train = step_of(network, placement, variant, classes, compute.compile)
    inputs = torch.rand(batch, *network.default_cfg["input_size"], device=device)
    labels = torch.arange(batch, device=device) % classes

    def step() -> None:
        train(inputs, labels)
        if device.type != "cpu":
            torch.accelerator.synchronize()

    step()
    steps, began, spent = 0, time.perf_counter(), time.process_time()
    while not steps or time.perf_counter() - began < seconds:
        step()
        steps += 1
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    source = f"{steps} steps of {batch}, {placement.precision}"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        source += f", {threads} threads of this processor"
        if (share := spent / seconds / threads) < QUIET:
            source += f", of which other work left {100 * share:.0f} %: measure again when it has ended"
    else:
        source += f", {torch.cuda.get_device_name()}"
    return Speed(exactly(steps * batch / seconds), "measured here", source, False)
