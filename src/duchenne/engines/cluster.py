"""What Ray and Dask share: where the cluster is, the check of its machines, and how many tasks are handed out."""

from __future__ import annotations

import os
import socket
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import joblib

from duchenne.engines import probe
from duchenne.engines.base import Engine, EngineError, Loop, Needs, Results, Task
from duchenne.engines.calls import Answer
from duchenne.extras import require_extra

SECONDS = 15
"""Time in which a cluster must answer (chosen by us)."""
STARTING = 120
"""Seconds within which a machine must answer the probe: its first process imports the engine (chosen by us)."""


class Cluster(Engine):
    """Machines that run tasks.

    Args:
        jobs: tasks at once of a cluster of this machine; -1: one per core.
        address: of a running cluster; None: that of :attr:`variable`, or else a cluster of this machine until the
            context ends.
        work: see :func:`duchenne.engines.engine_of`.
        reads: see there.

    Raises:
        MissingExtraError: The engine's package is not installed.
    """

    cluster = True
    variable: str
    """Environment variable with the address of a cluster."""

    def __init__(self, jobs: int, address: str | None, work: Path, reads: Sequence[Path] = ()) -> None:
        require_extra(f"compute.engine: {self.name}", self.name)
        self.jobs = joblib.cpu_count() if jobs < 0 else jobs
        self.address = address or os.environ.get(self.variable)
        self.work, self.reads = work, reads

    def __enter__(self) -> Self:
        try:
            self._connect()
            probe.check(self.name, self.work, self.reads, self._everywhere)
        except BaseException:
            self.__exit__()
            raise
        return self

    @abstractmethod
    def _connect(self) -> None:
        """Connect to the cluster at :attr:`address`, or start one on this machine.

        Raises:
            EngineError: None answers.
        """

    @abstractmethod
    def _everywhere(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Mapping[str, Answer | Exception]:
        """Call a function on every machine; returns name of the machine -> answer, or what was raised."""

    @abstractmethod
    def _loop(self, needs: Needs, ahead: int) -> Loop:
        """Return a loop over tasks that need ``needs``, of which ``ahead`` are handed out at the same time."""

    def run(self, tasks: Iterable[Task], needs: Needs | None = None, at_once: int | None = None) -> Results:
        needs = needs or Needs()
        self.require(needs)
        yield from self._loop(needs, at_once or 4 * sum(host.cores for host in self.hosts())).run(tasks)

    def reach(self, address: str) -> None:
        """Check that somebody listens at an address, because the engines themselves wait for minutes.

        Args:
            address: ``host:port``, with or without a scheme before it.

        Raises:
            EngineError: Nobody does.
        """
        place = urlsplit(address if "//" in address else f"//{address}")
        try:
            host, port = place.hostname, place.port
        except ValueError:
            host, port = None, None
        if not host or not port:
            raise EngineError(f"compute.address: {address!r} is not an address of {self.name}: write host:port")
        try:
            socket.create_connection((host, port), SECONDS).close()
        except OSError as error:
            raise EngineError(
                f"{self.name}: nothing answers at {address} ({error.strerror or error}): start the cluster, or correct "
                f"compute.address ({self.variable} if that is null); without either, a cluster of this machine is used"
            ) from None
