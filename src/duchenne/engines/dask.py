"""Dask: each task is one of Dask's, whose thread on the worker waits for a process that does the work.

The resources of a worker are offered to Dask by a plugin, so that workers need no options. Tasks run in processes,
because threads of a worker would share its random numbers and its current folder.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from duchenne.engines.base import ATTEMPTS, DiedError, EngineError, Host, Loop, Needs, Task
from duchenne.engines.calls import Answer, Child, ChildDiedError, refused
from duchenne.engines.cluster import SECONDS, STARTING, Cluster
from duchenne.engines.gpus import visible

log = logging.getLogger(__name__)

CORES, GPUS, MEMORY = "duchenne-cores", "duchenne-gpus", "duchenne-memory"
"""Names of the resources in Dask."""


class Dask(Cluster):
    """A Dask cluster; a cluster of this machine is one worker in this process, whose threads are the places."""

    name, variable = "dask", "DASK_SCHEDULER_ADDRESS"
    _client: Any = None
    _cluster: Any = None

    def _connect(self) -> None:
        from distributed import Client, LocalCluster

        logging.getLogger("distributed").setLevel(logging.ERROR)  # how workers come and go
        if self.address:
            self.reach(self.address)
            self._hello(self.address)
        else:
            options = {"n_workers": 1, "threads_per_worker": self.jobs, "processes": False}
            self._cluster = LocalCluster(**options, dashboard_address=None)
        try:
            self._client = Client(self._cluster or self.address, timeout=SECONDS, set_as_default=False)
            self._client.wait_for_workers(1, timeout=SECONDS)
            self._client.register_plugin(_offer(), name="duchenne")
        except (OSError, TimeoutError) as error:
            where = f"{'no worker at' if self._client else 'no scheduler at'} {self.address}"
            raise EngineError(f"dask: {where}: {(str(error).splitlines() or ['no answer'])[0]}") from None

    def _hello(self, address: str) -> None:
        """Ask the scheduler who it is, because a client waits without end where something else listens.

        Raises:
            EngineError: It does not answer.
        """
        from distributed import rpc

        async def ask() -> None:
            async with rpc(address) as scheduler:
                await scheduler.identity()

        try:
            asyncio.run(asyncio.wait_for(ask(), SECONDS))
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            why = str(error) or f"what listens there does not answer as Dask within {SECONDS} s"
            raise EngineError(f"dask: no scheduler at {address}: {why}") from None

    def __exit__(self, *_: object) -> None:
        for each in (self._client, self._cluster):
            if each is not None:
                each.close()

    def _workers(self) -> dict[str, Any]:
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def hosts(self) -> list[Host]:
        found = []
        for worker in self._workers().values():
            offered = worker["resources"]
            found.append(Host(f"{worker['host']} ({worker['name']})", worker["nthreads"], offered.get(GPUS, 0),
                              offered.get(MEMORY, 0)))  # fmt: skip
        return found

    def _loop(self, needs: Needs, ahead: int) -> Loop:
        asked = {CORES: needs.cores, GPUS: needs.gpus, MEMORY: needs.memory}
        return _Loop(ahead, self._client, needs, {name: value for name, value in asked.items() if value})

    def _everywhere(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Mapping[str, Answer | Exception]:
        call, folder = Task("probe", function, arguments).packed(), str(Path.cwd())
        workers = self._workers()
        asked = {
            f"{workers[address]['host']} ({workers[address]['name']})": self._client.submit(
                answer_in_child, folder, call, 0, False, workers=[address], key=f"probe-{uuid.uuid4().hex}", retries=0
            )
            for address in workers
        }
        found: dict[str, Answer | Exception] = {}
        for name, future in asked.items():
            try:
                found[name] = future.result(timeout=STARTING)
            except Exception as error:  # whatever its environment breaks with
                found[name] = error
        return found


def _offer() -> Any:
    """Return a plugin that lets each worker offer its cores, GPUs and memory, also those that come later."""
    from distributed import WorkerPlugin

    class Offer(WorkerPlugin):
        async def setup(self, worker: Any) -> None:
            await offer(worker)

    return Offer()


async def offer(worker: Any) -> None:
    """Let a worker offer its cores, GPUs and memory."""
    gpus = await asyncio.to_thread(visible)
    memory = worker.memory_manager.memory_limit or 0
    await worker.set_resources(**{CORES: worker.state.nthreads, GPUS: len(gpus), MEMORY: memory})


def answer_in_child(folder: str, call: bytes, gpus: float, alone: bool) -> Answer | str:
    """Answer a call in a child of this worker; it is killed when the task is no longer wanted.

    Returns:
        The answer, or why there is none, which as an error would fill the log of the worker.

    Args:
        gpus: number of GPUs that it sees, or a fraction of one; 0: all.
        alone: whether the child ends with the call; otherwise it waits for another.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        state = worker.state.tasks.get(key)
        return state is not None and state.state == "executing" and worker.status.name == "running"

    with _some_gpus(gpus) as names:
        environment = {"CUDA_VISIBLE_DEVICES": names} if names else {}
        place = (folder, names)
        with _lock:
            waiting = _waiting.setdefault(place, [])
            waiting[:] = [child for child in waiting if child.alive]
            child = waiting.pop() if waiting else None
        try:
            child = child or Child(folder, environment)
        except OSError as error:  # there is no such folder here
            return refused(error)
        try:
            found = child.call(call, wanted)
        except ChildDiedError as death:
            return str(death)
        except BaseException:
            child.kill()
            raise
        if alone:
            child.kill()
        else:
            with _lock:
                waiting.append(child)
        return found


_lock = threading.Lock()
_waiting: dict[tuple[str, str], list[Child]] = {}
"""Children of this worker without work, by folder and GPUs; each ends by itself after a while."""
_load: dict[str, float] = {}
"""Share of each GPU that is in use."""


@contextmanager
def _some_gpus(count: float) -> Iterator[str]:
    """Reserve the least loaded GPUs of this worker; yields a value of ``CUDA_VISIBLE_DEVICES``."""
    if not count:
        yield ""
        return
    known = visible()
    with _lock:
        for gpu in known:
            _load.setdefault(gpu.name, 0.0)
        chosen = sorted(_load, key=lambda name: _load[name])[: max(1, round(count))]
        for name in chosen:
            _load[name] += min(1, count)
    try:
        yield ",".join(chosen)
    finally:
        with _lock:
            for name in chosen:
                _load[name] -= min(1, count)


class _Loop(Loop):
    def __init__(self, ahead: int, client: Any, needs: Needs, resources: dict[str, float]) -> None:
        super().__init__(ahead)
        self.client, self.needs, self.resources = client, needs, resources

    def start(self, task: Task) -> Any:
        return self.client.submit(
            answer_in_child,
            str(Path.cwd()),
            task.packed(),
            self.needs.gpus,
            self.needs.alone,
            key=f"{task.name}-{uuid.uuid4().hex}",
            resources=self.resources,
            retries=0,  # Loop starts lost tasks again, and says so
        )

    def wait(self, handles: list[Any]) -> list[Any]:
        from distributed import CancelledError, wait

        while True:
            try:
                with self.client.as_current():
                    return list(wait(handles, timeout=1, return_when="FIRST_COMPLETED").done)
            except TimeoutError:  # Ctrl-C is noticed between two calls
                self._wake()
            except CancelledError:
                raise EngineError("dask: the scheduler has ended: start it again; the same command resumes") from None

    def _wake(self) -> None:
        """Let tasks run for which there was no worker when one came: it offers its resources only afterwards."""

        def wake(dask_scheduler: Any) -> None:  # within a method, so that it travels itself and not by its name
            if dask_scheduler.unrunnable:
                for worker in list(dask_scheduler.workers.values()):
                    found = dask_scheduler.bulk_schedule_unrunnable_after_adding_worker(worker)
                    dask_scheduler.transitions(found, "duchenne")

        self.client.run_on_scheduler(wake)

    def answer(self, handle: Any) -> Answer:
        from distributed import KilledWorker

        try:
            found = handle.result()
        except KilledWorker as death:  # Dask has tried it several times itself
            raise DiedError(str(death).splitlines()[0], times=ATTEMPTS) from None
        except Exception as error:
            raise DiedError(f"Dask lost it ({type(error).__name__}: {error})") from None
        if isinstance(found, str):
            raise DiedError(found)
        return found

    def stop(self, handles: list[Any]) -> None:
        if handles:
            self.client.cancel(handles, force=True)
