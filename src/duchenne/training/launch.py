"""Training of a fold by several processes of this machine, which PyTorch's elastic launcher starts and watches."""

from __future__ import annotations

import logging
import math
import os
import pickle
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.distributed import is_torchelastic_launched
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from duchenne.training.device import device_of
from duchenne.training.errors import TrainingError
from duchenne.training.process import WRONG_INPUT
from duchenne.training.settings import Compute, Recipe

KEPT = "The complete epochs are kept; the same command resumes after them."


def processes_of(compute: Compute, recipe: Recipe) -> int:
    """Return the number of processes that train a fold: ``compute.processes``; 1 in a process that is one of them.

    ``auto`` is one for each visible GPU, as far as the batch has samples for them, and one on a CPU, whose cores one
    process uses all.

    Raises:
        TrainingError: There are fewer GPUs or fewer samples in a batch than processes, or ``device`` names one GPU.
    """
    if is_torchelastic_launched() or compute.processes == 1:
        return 1
    device = device_of(compute)
    on_cpu, any_gpu = device.type == "cpu", compute.device == "auto"
    gpus = torch.accelerator.device_count() if any_gpu and not on_cpu else 1
    samples = math.ceil(recipe.batch_size / 2) if recipe.mix else recipe.batch_size  # mixed samples stay together
    if compute.processes == "auto":
        return min(gpus, samples)
    asked = f"compute.processes is {compute.processes}"
    if compute.processes > samples:
        pairs = ", mixed in pairs" if recipe.mix else ""
        raise TrainingError(f"{asked}, but recipe.batch_size is {recipe.batch_size}{pairs}: give at most {samples}")
    if not on_cpu and not any_gpu:
        raise TrainingError(f"{asked}, but compute.device names one device, {compute.device}: set it to auto")
    if not on_cpu and compute.processes > gpus:
        raise TrainingError(f"{asked}, but {gpus} GPUs are visible: give at most {gpus}, or auto")
    return compute.processes


def launch(processes: int, arguments: dict[str, Any]) -> None:
    """Call :func:`duchenne.training.fold.train_fold` in several processes at once, and wait for them.

    They end with this process, however it ends, and all of them end within seconds when one does. The operating system
    chooses the port by which they find each other. The first of them logs, shows the progress and calls ``on_epoch``.

    Args:
        arguments: arguments of ``train_fold``, all of which must be picklable.

    Raises:
        TrainingError: A process, or this one, was ended by a signal, or a process stopped with a message for the user,
            which this error repeats.
        RuntimeError: A process failed in another way.
    """
    with tempfile.TemporaryDirectory(prefix="duchenne_") as folder:
        job = Path(folder, "job.pickle")
        level, threads = logging.getLogger().getEffectiveLevel(), max(1, torch.get_num_threads() // processes)
        job.write_bytes(pickle.dumps((os.getpid(), level, threads, arguments)))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            signals_to_handle=",".join(_heeded()),
            shutdown_timeout=5,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        ended_by, failures = None, []
        try:
            with _undisturbed():
                elastic_launch(config, sys.executable)("-m", "duchenne.training.process", job)
        except SignalException as error:  # all processes have ended
            ended_by = error.sigval
        except ChildFailedError as error:
            failures = list(error.failures.values())
        if failures:
            _raise(processes, failures)
    if ended_by:
        signal.raise_signal(ended_by)  # as if the launcher had not caught it
        raise TrainingError(f"the training was ended by {ended_by.name}. {KEPT}")


def _heeded() -> list[str]:
    """List the signals that end this process, not those that it ignores, such as SIGHUP under ``nohup``."""
    names = [name for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
    # None: a handler that Python did not set and could not restore
    return [name for name in names if signal.getsignal(getattr(signal, name)) not in (signal.SIG_IGN, None)]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Undo what the launcher changes in this process, and leave reports of failures to :func:`launch`."""
    logger = logging.getLogger("torch.distributed")
    level, main = logger.level, threading.current_thread() is threading.main_thread()
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in _heeded()} if main else {}
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, handler in handlers.items():
            signal.signal(getattr(signal, name), handler)


def _raise(processes: int, failures: list[ProcessFailure]) -> NoReturn:
    """Raise the error that made the others fail or be closed."""

    def order(failure: ProcessFailure) -> tuple[bool, bool, float]:
        closed, reported = failure.exitcode == -signal.SIGTERM, os.path.exists(failure.error_file)  # noqa: PTH110
        # who was killed reports nothing; those that lost it do
        return closed, reported and failure.exitcode != WRONG_INPUT, _written(failure)

    first = min(failures, key=order)
    who = f"process {first.local_rank + 1} of {processes}"
    if first.exitcode < 0:
        name = signal.Signals(-first.exitcode).name
        less = "fewer compute.processes, or a smaller recipe.batch_size, need less"
        memory = f", perhaps for lack of memory ({less})" if name == "SIGKILL" else ""
        raise TrainingError(f"{who} of the training was ended by {name}{memory}. {KEPT}")
    data = first.error_file_data["message"]
    if first.exitcode == WRONG_INPUT:
        raise TrainingError(data["message"].split(": ", 1)[1])
    details = data["extraInfo"]["py_callstack"] if isinstance(data, dict) else f"exit status {first.exitcode}"
    raise RuntimeError(f"{who} of the training failed. {KEPT}\n{details}")


def _written(failure: ProcessFailure) -> float:
    try:
        return Path(failure.error_file).stat().st_mtime
    except OSError:
        return failure.timestamp
