"""What every engine does: tasks in, results out as they finish, lost tasks again."""

from __future__ import annotations

import logging
import pickle
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Self

from duchenne.engines.calls import Answer, opened
from duchenne.errors import UserError

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times that a task is started whose process or machine dies each time (chosen by us)."""
SHOWN = 8
"""Largest number of machines that a message lists."""


class EngineError(UserError):
    """Raised when an engine is not reachable, lacks what a task needs, or loses a task again and again."""


class DiedError(Exception):
    """Raised for a task that did not end, because its process or machine died.

    Args:
        times: how often it was started.
    """

    def __init__(self, reason: str, times: int = 1) -> None:
        super().__init__(reason)
        self.times = times


@dataclass(frozen=True)
class Gpu:
    """A GPU that this machine may use.

    Attributes:
        name: entry of ``CUDA_VISIBLE_DEVICES`` that shows it alone: a number, a UUID, or the name of a MIG part.
        free: free memory in bytes.
    """

    name: str
    free: int


@dataclass(frozen=True)
class Host:
    """A machine, or the part of one that a cluster may use.

    Attributes:
        gpu_memory: bytes that are free on each GPU; 0: not known.
        memory: bytes that tasks may take.
    """

    name: str
    cores: int
    gpus: float = 0
    memory: float = 0
    gpu_memory: float = 0

    def __str__(self) -> str:
        return str(Needs(self.cores, self.gpus, self.memory))


@dataclass(frozen=True)
class Needs:
    """Resources of one task.

    Attributes:
        cores: whole ones; 0 where it shares those of others.
        gpus: number of GPUs, or a fraction of one.
        memory: bytes; 0: not asked for.
        alone: whether the task needs a process of its own, as training does, whose random numbers belong to the
            process.
    """

    cores: int = 1
    gpus: float = 0
    memory: float = 0
    alone: bool = False

    def __str__(self) -> str:
        words = [f"{self.cores} core{'s' * (self.cores != 1)}"]
        words += [f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}"] if self.gpus else []
        words += [f"{self.memory / 1e9:g} GB of memory"] if self.memory else []
        return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)

    def fit(self, host: Host) -> bool:
        """Whether the host could run one such task."""
        return self.cores <= host.cores and self.gpus <= host.gpus and self.memory <= host.memory


@dataclass(frozen=True)
class Task:
    """A call of a function that other processes can import.

    Attributes:
        name: for messages, such as ``fold 3``.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()

    def packed(self) -> bytes:
        """Return the call for another process, which alone imports what the function needs."""
        return pickle.dumps((self.function, self.arguments))


@dataclass(frozen=True)
class Done:
    """A task that ended.

    Attributes:
        error: what its function raised, or an :class:`EngineError` when it was lost :data:`ATTEMPTS` times.
    """

    task: Task
    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if self.error:
            raise self.error
        return self.value


Results = Generator[Done, None, None]
"""Tasks as they end; closing it stops those that run."""


class Engine(ABC):
    """Runs tasks; a context, which connects to what it needs and leaves nothing running."""

    name: str
    """As in ``compute.engine``."""
    cluster = False
    """Whether tasks may run on other machines."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @abstractmethod
    def hosts(self) -> list[Host]:
        """Return the machines that run tasks now."""

    @abstractmethod
    def run(self, tasks: Iterable[Task], needs: Needs | None = None, at_once: int | None = None) -> Results:
        """Run tasks; each is yielded when it ends, in any order.

        Closing the iterator stops those that run.

        Args:
            needs: resources of each task; None: a core.
            at_once: largest number of tasks that run at the same time; None: as many as there is place for.
        """

    def require(self, needs: Needs) -> None:
        """Raise an error where tasks would wait for ever.

        Raises:
            EngineError: No machine has the resources.
        """
        hosts = self.hosts()
        if not any(needs.fit(host) for host in hosts):
            listed = "; ".join(f"{host.name}: {host}" for host in hosts[:SHOWN])
            raise EngineError(
                f"{self.name}: no machine has {needs} for a task (compute.fold). There are: {listed or 'none'}"
            )


class Loop(ABC):
    """Keeps tasks running, and starts those again whose process died.

    Args:
        ahead: largest number of tasks handed out at the same time.
    """

    def __init__(self, ahead: int) -> None:
        self._ahead = ahead
        self._lost: Counter[str] = Counter()

    @abstractmethod
    def start(self, task: Task) -> Any:
        """Hand a task out; returns a handle, which can be a key of a dict."""

    @abstractmethod
    def wait(self, handles: list[Any]) -> list[Any]:
        """Return handles of tasks that ended, at least one."""

    @abstractmethod
    def answer(self, handle: Any) -> Answer:
        """Return the answer of a task that ended.

        Raises:
            DiedError: It has none.
        """

    @abstractmethod
    def stop(self, handles: list[Any]) -> None:
        """Stop tasks that were handed out."""

    def run(self, tasks: Iterable[Task]) -> Results:
        """Run tasks: see :meth:`Engine.run`."""
        waiting, again = iter(tasks), deque[Task]()
        running: dict[Any, Task] = {}
        try:
            while True:
                while len(running) < self._ahead and (task := again.popleft() if again else next(waiting, None)):
                    running[self.start(task)] = task
                if not running:
                    return
                for handle in self.wait(list(running)):
                    task = running.pop(handle)
                    try:
                        yield Done(task, *opened(self.answer(handle)))
                    except DiedError as death:
                        if error := self._count(task, death):
                            yield Done(task, error=error)
                        else:
                            again.append(task)
        finally:
            self.stop(list(running))

    def _count(self, task: Task, death: DiedError) -> EngineError | None:
        """Log a lost task; returns an error when it was lost too often."""
        self._lost[task.name] += death.times
        if self._lost[task.name] < ATTEMPTS:
            log.warning("%s: %s; it starts again (attempt %d of %d)", task.name, death,
                        self._lost[task.name] + 1, ATTEMPTS)  # fmt: skip
            return None
        return EngineError(
            f"{task.name} was lost {ATTEMPTS} times, the last time because {death}. If memory is short, run fewer "
            "tasks at once (compute.folds_at_once, compute.jobs) or ask for more (compute.fold.memory)"
        )
