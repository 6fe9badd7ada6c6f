"""GPUs that this process may use, and how tasks share them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from duchenne.engines.base import Gpu

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Files of the drivers of NVIDIA, of AMD, and of either below Windows."""

_ASK = """
import json, torch
print(json.dumps([torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count())]))
"""
"""Asked in another process, because each process that asks keeps some hundred MB of every GPU until it ends."""


@cache
def visible() -> list[Gpu]:
    """Return the GPUs that PyTorch can use here; none where ``CUDA_VISIBLE_DEVICES`` is empty."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given == "" or not (sys.platform == "win32" or any(Path(file).exists() for file in DRIVERS)):
        return []
    asked = subprocess.run([sys.executable, "-P", "-c", _ASK], capture_output=True, encoding="utf-8", check=False)
    return named(given, json.loads(asked.stdout)) if asked.returncode == 0 else []


def named(given: str | None, free: Sequence[int]) -> list[Gpu]:
    """Return GPUs with the names by which ``CUDA_VISIBLE_DEVICES`` shows them.

    >>> [gpu.name for gpu in named("GPU-8932f937,MIG-GPU-2/7/0", [1, 1])]
    ['GPU-8932f937', 'MIG-GPU-2/7/0']
    >>> [gpu.name for gpu in named("3,-1,2", [1])]  # what follows an invalid entry is hidden
    ['3']
    >>> [gpu.name for gpu in named(None, [1, 1])]
    ['0', '1']

    Args:
        given: value of the variable.
        free: free bytes of each device that PyTorch has.
    """
    names = [str(number) for number in range(len(free))] if given is None else given.split(",")
    return [Gpu(name.strip(), size) for name, size in zip(names, free, strict=False)]


def shown(gpus: Sequence[Gpu], each: float) -> list[str]:
    """Return values of ``CUDA_VISIBLE_DEVICES`` for tasks that run at the same time, ``each`` GPUs for a task.

    The first tasks get different GPUs.

    >>> two = [Gpu("0", 1), Gpu("1", 1)]
    >>> shown(two, 1), shown(two, 0.5), shown(two, 2), shown(two, 3)
    (['0', '1'], ['0', '1', '0', '1'], ['0,1'], [])
    """
    names = [gpu.name for gpu in gpus]
    if each < 1:
        return names * int(1 / each + 1e-9)
    size = round(each)
    return [",".join(names[start : start + size]) for start in range(0, len(names) - size + 1, size)]
