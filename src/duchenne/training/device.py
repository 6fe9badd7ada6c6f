"""Where a network runs, and with how many bits."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Literal

import joblib
import psutil
import torch
from torch import nn

from duchenne.catalog import Compute
from duchenne.training.errors import TrainingError

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
    """Bits of the forward pass; ``auto`` is bfloat16 where the hardware multiplies in it, else float32.

    A CPU does with AMX or AVX-512 BF16; one without them emulates bfloat16, more slowly than float32.

    Raises:
        TrainingError: fp16 is asked for. Its gradients need scaling, which SAM's norm cannot see through.
    """
    match compute.precision:
        case "fp32" | "bf16":
            return compute.precision
        case "fp16":
            raise TrainingError("compute.precision fp16 is not supported: use bf16, fp32 or auto")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        native = any(features.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return "bf16" if native else "fp32"


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
    """The context in which a forward pass runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def layout_of(compute: Compute, network: nn.Module) -> torch.memory_format:
    """How a network's weights and inputs lie in memory: channels-last is for images, clips have a dimension more."""
    images = getattr(network, "takes", "image") != "clip"
    return torch.channels_last if compute.channels_last and images else torch.contiguous_format
