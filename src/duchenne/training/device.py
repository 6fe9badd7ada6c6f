"""Where a network runs, and in which precision."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import joblib
import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs

from duchenne.training.errors import TrainingError
from duchenne.training.settings import Compute

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16"]

FOLD_BYTES = 6 * 2**30
"""Memory that the training of a fold may need; POSTER++ took 3.2 GB with batches of 16, IFDD-2DCNN 5.5 with 4."""

GLIBC = {-8: 1, -3: 2**30, -1: 2**31 - 1}
"""Options of glibc's ``mallopt``: M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD (bytes)."""


def device_of(compute: Compute) -> torch.device:
    """The device that ``compute.device`` names; ``auto`` is the first GPU there is, else the CPU.

    Raises:
        TrainingError: this machine does not have the device.
    """
    if compute.device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.empty(0, device=compute.device)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
        raise TrainingError(f"compute.device {compute.device!r} cannot be used here: {error}") from None
    return torch.device(compute.device)


def precision_of(compute: Compute, device: torch.device) -> Precision:
    """Precision of training; ``auto`` is bfloat16 where the hardware multiplies in it, else float32.

    A trained network is used in the precision that its card names: see :func:`trained_precision`.
    """
    if compute.precision != "auto":
        return compute.precision
    return "bf16" if multiplies_bf16(device) else "fp32"


def trained_precision(card: dict[str, Any], device: torch.device) -> Precision:
    """Precision in which a trained network predicts: the one on its card, on any machine.

    Its probabilities so are those that were measured, up to rounding. Where the hardware has no bfloat16, a network
    trained in it runs emulated, which gives the same but is slower; a warning says so, once a process. Cards without
    the entry, of older versions, count as fp32.

    Raises:
        TrainingError: the card names another precision.
    """
    precision = card.get("precision", "fp32")
    if precision not in get_args(Precision):
        known = " or ".join(get_args(Precision))
        raise TrainingError(f"card.json: precision {precision!r} is not known: it must be {known}")
    if precision == "bf16" and not multiplies_bf16(device):
        _warn_of_emulation(device.type)
    return precision


@cache
def _warn_of_emulation(device: str) -> None:
    log.warning(
        "the network was trained in bf16, which this %s emulates: results are the same, but it is slow. "
        "Networks for such machines are best trained with compute.precision: fp32",
        device.upper(),
    )


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16: a GPU that says so, a CPU with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(features.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def folds_at_once(compute: Compute) -> int:
    """How many folds of a variant train at once, each in a process with its share of the cores.

    ``auto`` is one on a GPU and below ``accelerate launch``, which has processes of its own; elsewhere one a core, as
    far as memory allows.
    """
    if compute.folds_at_once != "auto":
        return compute.folds_at_once
    if device_of(compute).type != "cpu" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return 1
    return max(1, min(joblib.cpu_count(), psutil.virtual_memory().available // FOLD_BYTES))


def reuse_memory() -> None:
    """Let this process keep what a step frees for the next step.

    By default glibc gives large blocks back to the system, which hands them out anew, page by page and zeroed:
    60 % of the time of a training step of IFDD-2DCNN on a CPU (4.7 s a clip and core, 1.9 s with this).
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        for option, value in GLIBC.items():
            libc.mallopt(option, value)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass runs; parts of our networks stay in float32 (duchenne.models.precision)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def layout_of(compute: Compute, takes: str) -> torch.memory_format:
    """How weights and inputs lie in memory, by what the network takes: channels-last has no place for time."""
    return torch.channels_last if compute.channels_last and takes != "clip" else torch.contiguous_format


def accelerator_of(compute: Compute, device: torch.device) -> Accelerator:
    """What places batches and networks on the device, or on those of all processes of ``accelerate launch``."""
    if compute.device != "auto":
        os.environ["ACCELERATE_TORCH_DEVICE"] = compute.device  # accelerate has no argument for it
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no",  # Placement.autocast chooses, as predict does; accelerate would fix it for the process
        dataloader_config=DataLoaderConfiguration(split_batches=True),
        rng_types=[],  # random numbers are functions of the seed: there is nothing to synchronise
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # ballast gets no gradient
    )


@dataclass(frozen=True)
class Placement:
    """Where and how a network is trained.

    Attributes:
        layout: order of the dimensions of weights and inputs in memory.
    """

    accelerator: Accelerator
    precision: Precision
    layout: torch.memory_format = torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """:func:`autocast` of its device and precision."""
        return autocast(self.accelerator.device, self.precision)
