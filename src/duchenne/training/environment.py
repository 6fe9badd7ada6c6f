"""Versions and hardware of this process, as trained networks and results record them.

Nothing in it depends on the time, the user, the host's name or the project's folder: equal runs on one machine write
equal bytes.
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import joblib
import torch

from duchenne.training.device import multiplies_bf16

PACKAGES = ("duchenne", "torch", "torchvision", "timm", "numpy", "opencv-python-headless")
"""Packages on which the numbers depend, as pip knows them."""


def versions() -> dict[str, str]:
    """Return the version of Python and of each package of :data:`PACKAGES` that is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a source tree on the path
            continue
    return found | {"torch": str(torch.__version__)}  # with its build, such as +cpu


def machine(device: torch.device) -> dict[str, Any]:
    """Return the hardware and the operating system.

    Args:
        device: device that the network runs on.

    Returns:
        ``os``; ``cpu``, its name; ``cores`` that this process may use; ``threads`` of torch, on whose number the last
        bits of results depend; ``device``, ``cpu`` or a kind of GPU; ``gpu``, its name, and ``gpus``, their number,
        where there is one; ``bf16``, whether the device multiplies in bfloat16.
    """
    found = {
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": joblib.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "bf16": multiplies_bf16(device),
    }
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "gpus": torch.cuda.device_count()}
    return found


def _cpu() -> str:
    """Name of the processor; outside Linux what the platform calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
