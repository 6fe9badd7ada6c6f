"""Speed of a variant's training step on this machine, with random weights and pictures."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

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


def measured(variant: Variant, classes: int, compute: Compute, seconds: float) -> Speed:
    """Run real training steps for about ``seconds``, after one that warms up, in one process.

    The batch is that of the recipe; on a CPU at most :data:`CPU_BATCH`. Samples are not loaded: see ``Speed.whole``.

    Raises:
        TrainingError: The device of ``compute`` is not there.
    """
    recipe = variant.recipe.model_copy(update={"mix": None, "pretrain_epochs": 0})
    variant = variant.model_copy(update={"recipe": recipe})
    device = device_of(compute)
    torch.manual_seed(0)
    network: Any = create(variant.model.architecture, variant.model.options, classes)
    takes = network.facts.takes
    batch = min(recipe.batch_size, CPU_BATCH[takes]) if device.type == "cpu" else recipe.batch_size
    placement = Placement(accelerator_of(compute, device), precision_of(compute, device), layout_of(compute, takes))
    batches: Any = [None] * 1000  # their number alone is read, by the schedule
    draws: Any = []
    task = Classification(network, placement, variant, batches, draws, ["a"] * batch, {}, classes, "plan")
    with tempfile.TemporaryDirectory() as folder:  # nothing is written: a single step keeps no state
        trainer = Trainer(network, placement, Checkpoints(Path(folder), "", ""), 0, compile=compute.compile)
        trainer._start(task, None)
        inputs = torch.rand(batch, *network.default_cfg["input_size"], device=device)
        labels, rows = torch.arange(batch, device=device) % classes, torch.arange(batch)

        def step() -> None:
            network.train()
            trainer._step((inputs.clone(), labels, rows), "the measurement of the plan")
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
