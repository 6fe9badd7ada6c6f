"""Device, precision and memory format of a network."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import DistributedDataParallelKwargs
from torch.utils.data import DataLoader

from duchenne.training.errors import TrainingError
from duchenne.training.settings import Compute
from duchenne.training.sharing import Share

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16"]

GLIBC = {-8: 1, -3: 2**30, -1: 2**31 - 1}
"""Options of glibc's ``mallopt``: M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD (bytes)."""


def device_of(compute: Compute) -> torch.device:
    """Return the device of ``compute.device``; ``auto`` is the first GPU, or the CPU without one.

    Raises:
        TrainingError: This machine does not have the device.
    """
    if compute.device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.zeros(1, device=compute.device).item()  # the meta device has no values
    except (RuntimeError, AssertionError) as error:  # torch raises either for a missing device
        raise TrainingError(f"compute.device {compute.device!r} cannot be used here: {error}") from None
    return torch.device(compute.device)


def precision_of(compute: Compute, device: torch.device) -> Precision:
    """Return the precision of training; ``auto`` is bfloat16 if the hardware multiplies in it, else float32.

    A trained network is used in the precision on its card: see :func:`trained_precision`.
    """
    if compute.precision != "auto":
        return compute.precision
    return "bf16" if multiplies_bf16(device) else "fp32"


def trained_precision(card: dict[str, Any], device: torch.device) -> Precision:
    """Return the precision in which a trained network predicts: the one on its card, on any machine.

    So its probabilities are those that were measured, up to rounding. Hardware without bfloat16 emulates it, which
    gives the same results but is slower; a warning reports this once per process. Cards of older versions, without the
    entry, count as fp32.

    Raises:
        TrainingError: The card has an unknown precision.
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


def reuse_memory() -> None:
    """Let this process reuse the memory that a training step frees.

    By default glibc returns large blocks to the system, which then provides them again, page by page and zeroed. This
    takes 60 % of the time of a training step of IFDD-2DCNN on a CPU (4.7 s per clip and core, 1.9 s without it).
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        for option, value in GLIBC.items():
            libc.mallopt(option, value)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context of a forward pass; some parts of networks stay in float32 (duchenne.models.precision)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def layout_of(compute: Compute, takes: str) -> torch.memory_format:
    """Return the memory format of weights and inputs by what the network takes: channels-last has no time axis."""
    return torch.channels_last if compute.channels_last and takes != "clip" else torch.contiguous_format


def accelerator_of(compute: Compute, device: torch.device) -> Accelerator:
    """Return the accelerator for the device, or in a process of several for that of the process."""
    if compute.device != "auto":
        os.environ["ACCELERATE_TORCH_DEVICE"] = compute.device  # accelerate has no argument for it
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no",  # Placement.autocast chooses, as predict does; accelerate would fix it for the process
        rng_types=[],  # random numbers are functions of the seed: there is nothing to synchronise
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # unused ones get no gradient
    )


@dataclass(frozen=True)
class Placement:
    """Device, precision and memory format of a training run.

    Attributes:
        layout: order of the dimensions of weights and inputs in memory.
    """

    accelerator: Accelerator
    precision: Precision
    layout: torch.memory_format = torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """Return :func:`autocast` of its device and precision."""
        return autocast(self.accelerator.device, self.precision)

    @property
    def share(self) -> Share:
        """The share of this process in what several processes do."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes)

    def prepare(self, batches: DataLoader) -> DataLoader:
        """Return a loader that moves its batches to the device; it is for this process alone."""
        device = self.accelerator.device
        return prepare_data_loader(batches, device, num_processes=1, process_index=0, put_on_device=True)
