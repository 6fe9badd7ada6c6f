"""Ray: each task is one of Ray's, with its resources; Ray gives it a worker process, and GPUs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from duchenne.engines.base import DiedError, EngineError, Host, Loop, Needs, Task
from duchenne.engines.calls import Answer, answer
from duchenne.engines.cluster import STARTING, Cluster

CONNECTING = 60
"""Seconds within which a running cluster must answer: Ray retries a refused token for 20 s (chosen by us)."""
STORE = 100_000_000
"""Bytes of Ray's object store in a cluster of this machine: results are files, not objects."""

_HELLO = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False)"


class Ray(Cluster):
    """A Ray cluster."""

    name, variable = "ray", "RAY_ADDRESS"

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its warning is about that
        if self.address and _has_token():
            # `ray start` asks for the token where there is one, but ray.init sends none by default (Ray 2.60);
            # a cluster without tokens accepts it
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address:
            if self.address not in ("auto", "local"):
                self.reach(self.address)
                self._hello(self.address)
            try:
                ray.init(self.address, **quiet)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                raise EngineError(f"ray: no cluster at {self.address}: {str(error).splitlines()[0]}") from None
        else:
            ray.init("local", num_cpus=self.jobs, include_dashboard=False, object_store_memory=STORE, **quiet)

    def _hello(self, address: str) -> None:
        """Connect in another process first, because Ray waits for minutes where something else listens.

        Raises:
            EngineError: It does not connect.
        """
        try:
            words = [sys.executable, "-P", "-c", _HELLO, address]
            said = subprocess.run(words, capture_output=True, encoding="utf-8", check=False, timeout=CONNECTING)
        except subprocess.TimeoutExpired:
            raise EngineError(f"ray: what listens at {address} does not answer as Ray within {CONNECTING} s") from None
        if said.returncode:
            why = (said.stderr.strip().splitlines() or ["no answer"])[-1]
            if "AuthToken" in said.stderr:
                why = "it refused the token: copy ~/.ray/auth_token of its first machine, or set RAY_AUTH_TOKEN"
            raise EngineError(f"ray: no cluster at {address}: {why}")

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()

    def hosts(self) -> list[Host]:
        import ray

        found = []
        for node in ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                found.append(Host(node["NodeManagerHostname"], int(has.get("CPU", 0)), has.get("GPU", 0),
                                  has.get("memory", 0)))  # fmt: skip
        return found

    def _loop(self, needs: Needs, ahead: int) -> Loop:
        import ray

        remote: Any = ray.remote(max_calls=1)(answer) if needs.alone else ray.remote(answer)
        function = remote.options(
            num_cpus=needs.cores,
            num_gpus=needs.gpus,
            memory=needs.memory or None,
            max_retries=0,  # Loop starts lost tasks again, and says so
        )
        return _Loop(ahead, function)

    def _everywhere(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Mapping[str, Answer | Exception]:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        call, folder, asked = Task("probe", function, arguments).packed(), str(Path.cwd()), {}
        for node in (node for node in ray.nodes() if node["Alive"]):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
            name = f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})"
            remote: Any = ray.remote(answer)
            asked[name] = remote.options(**options).remote(call, folder)
        found: dict[str, Answer | Exception] = {}
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=STARTING)
        for name, handle in asked.items():
            try:
                found[name] = ray.get(handle, timeout=0.1)
            except Exception as error:  # whatever its environment breaks with
                found[name] = error
        return found


def _has_token() -> bool:
    """Whether Ray finds a token for a cluster that asks for one."""
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    return bool(given) or (Path.home() / ".ray" / "auth_token").exists()


class _Loop(Loop):
    def __init__(self, ahead: int, function: Any) -> None:
        super().__init__(ahead)
        self.function = function

    def start(self, task: Task) -> Any:
        return self.function.remote(task.packed(), str(Path.cwd()))

    def wait(self, handles: list[Any]) -> list[Any]:
        import ray

        done: list[Any] = []
        while not done:
            done, _ = ray.wait(handles, timeout=1)  # Ctrl-C is noticed between two calls
        return done

    def answer(self, handle: Any) -> Answer:
        import ray

        try:
            return ray.get(handle)
        except ray.exceptions.RayError as error:
            raise DiedError(f"Ray lost it ({type(error).__name__})") from None

    def stop(self, handles: list[Any]) -> None:
        import ray

        for handle in handles:
            ray.cancel(handle, force=True)
