"""Where a network runs, and with how many bits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from duchenne.catalog import Compute
from duchenne.training.errors import TrainingError

Precision = Literal["fp32", "bf16"]


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


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def layout_of(compute: Compute, network: nn.Module) -> torch.memory_format:
    """How a network's weights and inputs lie in memory: channels-last is for images, clips have a dimension more."""
    images = getattr(network, "takes", "image") != "clip"
    return torch.channels_last if compute.channels_last and images else torch.contiguous_format
