"""Engines that run the heavy work: processes of this machine, Ray or Dask.

Work is a list of tasks, each a function of the package with its arguments. An engine runs them in any order, in the
project's folder on every machine, and runs a task again whose process or machine died. No engine changes a result.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from duchenne.engines.base import Done, Engine, EngineError, Gpu, Host, Needs, Task
from duchenne.engines.local import Local

if TYPE_CHECKING:
    from duchenne.training.settings import Compute

__all__ = ["Done", "Engine", "EngineError", "Gpu", "Host", "Local", "Needs", "Task", "engine_of"]


def engine_of(compute: Compute, work: Path, *reads: Path) -> Engine:
    """Return the engine of ``compute``, to be used as a context: entering it connects to or starts a cluster.

    Args:
        work: folder of the work files, which the machines of a cluster must share.
        reads: files and folders that tasks read, and that must be on every machine.

    Raises:
        MissingExtraError: The engine's package is not installed.
    """
    if compute.engine == "ray":
        from duchenne.engines.ray import Ray

        return Ray(compute.jobs, compute.address, work, reads)
    if compute.engine == "dask":
        from duchenne.engines.dask import Dask

        return Dask(compute.jobs, compute.address, work, reads)
    return Local(compute.jobs)
