"""Processes of this machine: joblib's for short tasks, and one of its own for each place where long ones run."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import joblib
import psutil
from joblib.externals.loky.process_executor import TerminatedWorkerError

from duchenne.engines.base import DiedError, Done, Engine, EngineError, Gpu, Host, Loop, Needs, Results, Task
from duchenne.engines.calls import Answer, Child, ChildDiedError, portable
from duchenne.engines.gpus import shown, visible
from duchenne.processes import end_with


class Local(Engine):
    """Processes of this machine.

    Args:
        jobs: number of processes for tasks that need none of their own; -1: one per core.
        gpus: those that tasks may use; None: all that ``CUDA_VISIBLE_DEVICES`` shows.
    """

    name = "local"

    def __init__(self, jobs: int = -1, gpus: list[Gpu] | None = None) -> None:
        self.jobs, self._gpus = jobs, gpus

    @property
    def gpus(self) -> list[Gpu]:
        """GPUs that tasks may use."""
        if self._gpus is None:
            self._gpus = visible()
        return self._gpus

    def hosts(self) -> list[Host]:
        memory = psutil.virtual_memory().available
        least = min((gpu.free for gpu in self.gpus), default=0)
        return [Host("this machine", joblib.cpu_count(), len(self.gpus), memory, least)]

    def run(self, tasks: Iterable[Task], needs: Needs | None = None, at_once: int | None = None) -> Results:
        needs = needs or Needs()
        if not needs.alone:
            yield from self._short(tasks, at_once or self.jobs)
            return
        places = self._places(needs, at_once)
        if len(places) == 1 and needs.gpus in (0, len(self.gpus)):  # this process can as well
            for task in tasks:
                yield _call(task)
            return
        yield from _Places(places).run(tasks)

    def _short(self, tasks: Iterable[Task], jobs: int) -> Results:
        called: dict[int, Task] = {}

        def calls() -> Iterator[Any]:
            for number, task in enumerate(tasks):
                called[number] = task
                yield joblib.delayed(_numbered)(number, task, os.getpid())

        try:
            for number, value, error in joblib.Parallel(jobs, return_as="generator_unordered")(calls()):
                yield Done(called.pop(number), value, error)
        except TerminatedWorkerError:
            raise EngineError(
                "a process was killed, for lack of memory or by someone: what is finished is kept, and the same "
                "command resumes; a smaller compute.jobs needs less memory"
            ) from None

    def _places(self, needs: Needs, at_once: int | None) -> list[dict[str, str]]:
        """Return the environment of each place where a task can run.

        Raises:
            EngineError: There are too few GPUs.
        """
        if not needs.gpus:
            return [{}] * (at_once or max(1, joblib.cpu_count() // max(1, needs.cores)))
        groups = shown(self.gpus, needs.gpus)
        if not groups:
            self.require(needs)
        count = at_once or len(groups)
        return [{"CUDA_VISIBLE_DEVICES": groups[number % len(groups)]} for number in range(count)]


def _call(task: Task) -> Done:
    try:
        return Done(task, task.function(*task.arguments))
    except Exception as error:
        return Done(task, error=error)


def _numbered(number: int, task: Task, starter: int) -> tuple[int, Any, Exception | None]:
    if os.getpid() != starter:  # joblib's processes would outlive a killed one by minutes, and finish their task
        end_with(starter)
    done = _call(task)
    return number, done.value, portable(done.error) if done.error else None


class _Places(Loop):
    """Places of this machine, each with a process that runs one task after another.

    Args:
        places: the environment of each.
    """

    def __init__(self, places: list[dict[str, str]]) -> None:
        super().__init__(len(places))
        self._free: queue.SimpleQueue[tuple[dict[str, str], Child | None]] = queue.SimpleQueue()
        for environment in places:
            self._free.put((environment, None))
        self._children: set[Child] = set()
        self._lock, self._stopped = threading.Lock(), False
        self._threads = ThreadPoolExecutor(len(places))

    def start(self, task: Task) -> Future[Answer]:
        return self._threads.submit(self._run, task.packed())

    def _run(self, call: bytes) -> Answer:
        environment, child = self._free.get()
        try:
            with self._lock:
                if self._stopped:
                    raise ChildDiedError("it was stopped")
                if child is None or not child.alive:
                    child = Child(str(Path.cwd()), environment)
                    self._children.add(child)
            return child.call(call)
        finally:
            self._free.put((environment, child))

    def wait(self, handles: list[Future[Answer]]) -> list[Future[Answer]]:
        return list(wait(handles, return_when=FIRST_COMPLETED).done)

    def answer(self, handle: Future[Answer]) -> Answer:
        try:
            return handle.result()
        except ChildDiedError as death:
            raise DiedError(str(death)) from None

    def stop(self, handles: list[Future[Answer]]) -> None:
        with self._lock:
            self._stopped = True
            for child in self._children:
                child.kill()
        self._threads.shutdown(cancel_futures=True)
