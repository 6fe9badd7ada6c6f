"""Number of processes that load samples while the device computes, measured when training or prediction begins.

The batches do not depend on it: see :class:`duchenne.training.data.Draws`.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import islice

import joblib
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from duchenne.training.device import Precision, autocast
from duchenne.training.settings import Compute

log = logging.getLogger(__name__)

MARGIN = 1.25
"""Processes for each that is needed on average, because some samples take longer (chosen by us)."""
STARTING = 10.0
"""Seconds of loading below which starting processes costs more than it saves (chosen by us)."""


def workers_for(
    compute: Compute,
    device: torch.device,
    samples: Dataset,
    items: Iterable,
    batch_size: int,
    batches: int,
    step: Callable[[Tensor], None],
) -> int:
    """Return ``compute.loader_workers``; with ``auto`` as many processes as keep the device busy.

    On a CPU that is none: whoever loads takes cores from the training, in this process or another. For any other device
    a batch is loaded and computed here, twice, and the second time counts.

    Args:
        items: items of ``samples`` in the order of loading.
        batches: number of batches that will be loaded.
        step: computes a batch of inputs (B, ...) on the device, without effect on training.
    """
    if compute.loader_workers != "auto":
        return compute.loader_workers
    if device.type == "cpu":
        log.info("compute.loader_workers auto: 0, because the CPU that computes also loads")
        return 0
    first = list(islice(items, batch_size))
    for _ in range(2):
        began = time.perf_counter()
        inputs = default_collate([samples[item] for item in first])[0]
        loaded = time.perf_counter()
        step(inputs)
        loading, computing = loaded - began, time.perf_counter() - loaded
    cores = joblib.cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    workers = needed(loading, computing, batches, cores)
    log.info(
        "compute.loader_workers auto: %d, because a batch of %d takes %.3f s to load on one core and %.3f s on the %s",
        workers, len(first), loading, computing, device.type,
    )  # fmt: skip
    return workers


def needed(loading: float, computing: float, batches: int, cores: int) -> int:
    """Return the number of processes that load as fast as the device computes, at most one per core but one.

    >>> needed(loading=0.4, computing=0.1, batches=1000, cores=16)
    5
    >>> needed(loading=0.4, computing=0.1, batches=10, cores=16)  # 4 s of loading in all
    0

    Args:
        loading: seconds in which one process loads a batch.
        computing: seconds in which the device computes it.
    """
    if loading * batches < STARTING:
        return 0
    return max(0, min(math.ceil(MARGIN * loading / computing), cores - 1))


def passes(
    network: nn.Module, device: torch.device, precision: Precision, layout: torch.memory_format, backward: int = 0
) -> Callable[[Tensor], None]:
    """Return a function that runs inputs through a copy of a network: see ``step`` of :func:`workers_for`.

    Args:
        backward: number of forward and backward passes; 0: one forward pass.
    """
    if device.type == "cpu":  # nothing is measured there
        return lambda inputs: None
    network = copy.deepcopy(network).to(device, memory_format=layout).train(backward > 0)

    def step(inputs: Tensor) -> None:
        inputs = inputs.to(device, memory_format=layout)
        for _ in range(max(backward, 1)):
            with nullcontext() if backward else torch.no_grad(), autocast(device, precision):
                output = network(inputs)
            if backward:
                (output[0] if isinstance(output, tuple) else output).float().sum().backward()
        torch.accelerator.synchronize()

    return step
