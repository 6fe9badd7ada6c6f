"""Resources of the folds of a variant, and how many of them train at the same time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import joblib
import psutil

from duchenne.engines.base import Engine, Host, Needs
from duchenne.engines.gpus import shown
from duchenne.engines.local import Local

if TYPE_CHECKING:
    from duchenne.training.settings import Compute

MEMORY = 6 * 2**30
"""Memory that a fold on a CPU may need; measured: POSTER++ 3.2 GB with batches of 16, IFDD-2DCNN 5.5 with 4."""
GPU_MEMORY = 24 * 2**30
"""GPU memory that a fold may need; assumed, not measured: so a GPU of 24 GB or less has one fold at a time."""


def plan(compute: Compute, engine: Engine, folds: int, device: str = "cpu") -> tuple[Needs, int]:
    """Return what each fold gets, and the number of folds at the same time.

    Args:
        engine: an entered one.
        folds: number of folds that are to be trained.
        device: type of the device that this machine trains on, such as cuda.
    """
    if isinstance(engine, Local):
        return _here(compute, engine, folds, device)
    return _on_cluster(compute, engine.hosts(), folds)


def _here(compute: Compute, engine: Local, folds: int, device: str) -> tuple[Needs, int]:
    fold, cores = compute.fold, joblib.cpu_count()
    gpus = engine.gpus if (compute.device, device) == ("auto", "cuda") else []
    processes = 1 if compute.processes == "auto" else compute.processes
    if fold.gpus == "auto":
        each = float(min(len(gpus), len(gpus) if compute.processes == "auto" else processes))
        if folds > len(gpus) > 0 and compute.processes == 1:
            each = 1 / max(1, min(gpu.free for gpu in gpus) // GPU_MEMORY)
    else:
        each = fold.gpus if device == "cuda" and compute.device == "auto" else 0.0
    if each:
        places = len(shown(gpus, each))
        most = max(len(gpus), cores if fold.cores == "auto" else cores // fold.cores)  # a GPU needs a core
    else:
        places = max(1, cores // (processes if fold.cores == "auto" else fold.cores))
        memory = MEMORY if fold.memory == "auto" else fold.memory * 1e9
        most = int(psutil.virtual_memory().available // memory)
        if device != "cpu":
            most = 1  # all folds would share one device
    wanted = min(places, most) if compute.folds_at_once == "auto" else compute.folds_at_once
    at_once = max(1, min(folds, wanted))
    return Needs(max(1, cores // at_once) if fold.cores == "auto" else fold.cores, each, alone=True), at_once


def _on_cluster(compute: Compute, hosts: list[Host], folds: int) -> tuple[Needs, int]:
    fold = compute.fold
    with_gpu = [host for host in hosts if host.gpus]
    most_gpus = max((host.gpus for host in hosts), default=0.0) if compute.device == "auto" else 0.0
    processes = most_gpus if compute.processes == "auto" else float(compute.processes)
    gpus = min(most_gpus, processes) if fold.gpus == "auto" else fold.gpus
    if fold.cores != "auto":
        cores = fold.cores
    elif gpus and with_gpu:
        cores = max(1, min(int(host.cores * min(1, gpus / host.gpus)) for host in with_gpu))
    else:
        most = max((host.cores for host in hosts), default=1)
        cores = min(most, max(1, sum(host.cores for host in hosts) // folds))
    memory = 0.0 if fold.memory == "auto" else fold.memory * 1e9
    at_once = folds if compute.folds_at_once == "auto" else min(folds, compute.folds_at_once)
    return Needs(math.ceil(cores), gpus, memory, alone=True), at_once
