"""Engines: the same results wherever tasks run, lost tasks again, and one clear error for what cannot run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import engine_tools
import joblib
import psutil
import pytest

from duchenne import config
from duchenne.engines import Done, Engine, EngineError, Gpu, Local, Needs, Task, dask, engine_of, probe, ray
from duchenne.engines.base import DiedError, Host, Loop
from duchenne.engines.calls import Answer
from duchenne.engines.folds import GPU_MEMORY, plan
from duchenne.training.settings import Compute, FoldResources

ALONE = Needs(1, alone=True)
TWO = [Gpu("GPU-aa", 2 * GPU_MEMORY), Gpu("MIG-bb", 2 * GPU_MEMORY)]


@pytest.fixture(scope="module", params=["local", "dask", "ray"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Each engine, started for this test on this machine with two places."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_ADDRESS", "DASK_SCHEDULER_ADDRESS"):
            patch.delenv(name, raising=False)
        patch.setenv("PYTHONPATH", os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(Path(__file__).parent)]))
        folder = tmp_path_factory.mktemp("project")
        patch.chdir(folder)
        with engine_of(Compute(engine=request.param, jobs=2), folder / "work") as started:
            yield started


def results(done: Iterator[Done]) -> dict[str, Done]:
    return {each.task.name: each for each in done}


def test_tasks_give_their_values_in_any_order(engine: Engine):
    done = results(engine.run(Task(str(number), engine_tools.square, (number,)) for number in range(9)))
    assert {name: each.result() for name, each in done.items()} == {str(number): number**2 for number in range(9)}


def test_a_lost_task_starts_again_and_an_error_does_not(engine: Engine, tmp_path: Path, caplog):
    tasks = [
        Task("refused", engine_tools.refuse, ("a reason",)),
        Task("lost once", engine_tools.die, (tmp_path / "once", 1)),
        Task("lost always", engine_tools.die, (tmp_path / "always", 99)),
        Task("place", engine_tools.place),
    ]
    done = results(engine.run(tasks, ALONE, 2))
    assert str(done["refused"].error) == "a reason"
    assert done["lost once"].result() == 2
    assert "lost once" in caplog.text
    with pytest.raises(EngineError, match="lost always was lost 3 times"):
        done["lost always"].result()
    assert (tmp_path / "always").stat().st_size == 3
    assert done["place"].result()[2] == str(Path.cwd())
    assert done["place"].result()[1] != os.getpid()


class Losing(Loop):
    """A loop whose tasks all died, ``times`` times each."""

    def __init__(self, times: int) -> None:
        super().__init__(ahead=2)
        self.times, self.started = times, []

    def start(self, task: Task) -> int:
        self.started.append(task.name)
        return len(self.started)

    def wait(self, handles: list[int]) -> list[int]:
        return handles

    def answer(self, handle: int) -> Answer:
        raise DiedError("of a reason", self.times)

    def stop(self, handles: list[int]) -> None:
        assert handles == []


@pytest.mark.parametrize(("times", "starts"), [(1, 3), (2, 2), (3, 1)])
def test_attempts_of_the_cluster_itself_count(times: int, starts: int):
    loop = Losing(times)
    (done,) = loop.run([Task("fold 1", engine_tools.place)])
    assert loop.started == ["fold 1"] * starts
    with pytest.raises(EngineError, match="fold 1 was lost 3 times, the last time because of a reason"):
        done.result()


def test_tasks_that_need_a_process_get_their_own(engine: Engine):
    done = results(engine.run([Task(str(number), engine_tools.place) for number in range(2)], ALONE, 2))
    assert len({each.result()[1] for each in done.values()}) == 2


def test_tasks_may_start_processes_that_load_samples(engine: Engine):
    done = results(engine.run([Task(str(number), engine_tools.fork) for number in range(2)], ALONE, 2))
    assert [each.result() for each in done.values()] == [0, 0]


def test_what_no_machine_has_is_an_error_before_any_work(engine: Engine):
    if engine.cluster:
        with pytest.raises(EngineError, match=r"no machine has 999 cores .*There are: .*2 cores"):
            next(engine.run([Task("large", engine_tools.square, (1,))], Needs(999)))
    with pytest.raises(EngineError, match=r"no machine has 1 core and 77 GPUs"):
        next(engine.run([Task("large", engine_tools.square, (1,))], Needs(1, 77, alone=True)))


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within 60 s")


def test_closing_stops_what_runs(engine: Engine, tmp_path: Path):
    files = [tmp_path / "a", tmp_path / "b"]
    tasks = [Task("short", engine_tools.square, (2,)), *(Task(file.name, engine_tools.wait, (file,)) for file in files)]
    running = engine.run(tasks, ALONE, 2)
    assert next(running).result() == 4
    until(lambda: any(file.exists() and file.read_text() for file in files), "a task that waits")
    running.close()
    started = [int(file.read_text()) for file in files if file.exists() and file.read_text()]
    until(lambda: all(map(ended, started)), "the end of what ran")


DRIVER = """
import signal
import sys
from pathlib import Path
import engine_tools
from duchenne.engines import Needs, Task, engine_of
from duchenne.training.settings import Compute

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
with engine_of(Compute(engine=sys.argv[1], jobs=2), Path("work")) as engine:
    tasks = [Task(name, engine_tools.wait, (Path(name).absolute(),)) for name in ("a", "b")]
    list(engine.run(tasks, Needs(1, alone=True), 2))
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("name", ["local", "dask"])
def test_nothing_trains_on_when_the_command_ends(tmp_path: Path, name: str, sent: signal.Signals):
    env = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    quiet = subprocess.DEVNULL
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, name], cwd=tmp_path, env=env, stderr=quiet)
    files = [tmp_path / "a", tmp_path / "b"]
    until(lambda: all(file.exists() and file.read_text() for file in files), "two tasks")
    driver.send_signal(sent)
    driver.wait(60)
    until(lambda: all(ended(int(file.read_text())) for file in files), "the end of what ran")


def test_tasks_of_this_machine_get_different_gpus():
    engine = Local(gpus=TWO)
    done = results(
        engine.run([Task(str(number), engine_tools.place) for number in range(2)], Needs(1, 1, alone=True), 2)
    )
    assert {each.result()[0] for each in done.values()} == {"GPU-aa", "MIG-bb"}


@pytest.mark.parametrize(
    ("gpus", "folds", "compute", "each", "at_once"),
    [
        (TWO, 2, {}, 1, 2),
        (TWO, 5, {}, 0.5, 4),
        (TWO, 5, {"fold": FoldResources(gpus=1)}, 1, 2),
        (TWO, 5, {"fold": FoldResources(gpus=0.25), "folds_at_once": 7}, 0.25, 5),
        (TWO, 5, {"fold": FoldResources(gpus=2)}, 2, 1),
        ([Gpu("0", GPU_MEMORY - 1)], 5, {}, 1, 1),
        (TWO, 5, {"processes": 2}, 2, 1),
        (TWO, 5, {"processes": "auto"}, 2, 1),
        (TWO, 5, {"device": "cuda:1"}, 0, 1),
        (TWO, 5, {"device": "cuda:1", "folds_at_once": 3}, 0, 3),
    ],
)
def test_each_gpu_gets_a_fold_and_more_where_memory_allows(monkeypatch, gpus, folds, compute, each, at_once):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    needs, count = plan(Compute(**compute), Local(gpus=gpus), folds, "cuda")
    assert (needs.gpus, count, needs.cores) == (each, at_once, 8 // at_once)


def test_without_a_gpu_folds_share_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 20 * 2**30})())
    assert plan(Compute(), Local(), 5) == (Needs(2, 0, alone=True), 3)  # three times 6 GiB
    assert plan(Compute(fold=FoldResources(memory=1, cores=4)), Local(), 5) == (Needs(4, 0, alone=True), 2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100 * 2**30})())
    for processes, expected in ((1, 8), (2, 4), (5, 1), (9, 1)):
        assert plan(Compute(processes=processes), Local(), 20)[1] == expected


def test_a_task_fits_where_all_of_its_resources_are():
    host = Host("a", 4, gpus=1, memory=8e9)
    assert Needs(4, 1, 8e9).fit(host)
    assert not any(needs.fit(host) for needs in (Needs(5), Needs(1, 1.5), Needs(1, 0, 9e9)))


class Hosts(Engine):
    """A cluster of which only the machines count."""

    def __init__(self, *hosts: Host) -> None:
        self._hosts = list(hosts)

    def hosts(self) -> list[Host]:
        return self._hosts

    def run(self, tasks, needs=None, at_once=None):
        raise NotImplementedError


def test_folds_of_a_cluster_share_its_cores_and_gpus():
    small, large = Host("a", 4), Host("b", 16, gpus=4)
    assert plan(Compute(engine="ray"), Hosts(small, small), 4) == (Needs(2, 0, alone=True), 4)
    assert plan(Compute(engine="ray"), Hosts(small, large), 9) == (Needs(4, 1, alone=True), 9)
    assert plan(Compute(engine="ray", device="cpu"), Hosts(small, large), 2)[0] == Needs(10, 0, alone=True)
    fold = FoldResources(gpus=0.5, cores=3, memory=8)
    assert plan(Compute(engine="ray", fold=fold, folds_at_once=2), Hosts(large), 9) == (Needs(3, 0.5, 8e9, True), 2)


@pytest.mark.parametrize("name", ["ray", "dask"])
def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(dask, "SECONDS", 1)
    monkeypatch.setattr(ray, "CONNECTING", 1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        compute = Compute(engine=name, address=f"127.0.0.1:{other.getsockname()[1]}")
        silent = f"^{name}: .*{compute.address}.* does not answer as {name.title()} within 1 s"
        with pytest.raises(EngineError, match=silent), engine_of(compute, tmp_path):
            pass
    nobody = f"^{name}: nothing answers at {compute.address} .*compute.address"
    with pytest.raises(EngineError, match=nobody), engine_of(compute, tmp_path):
        pass


@contextmanager
def by_hand(folder: Path) -> Iterator[tuple[subprocess.Popen, str, Callable[[], subprocess.Popen]]]:
    """A scheduler of Dask that a user started: its process, its address, and how to start a worker."""
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    options = {"env": os.environ | {"PYTHONPATH": paths}, "stderr": subprocess.DEVNULL}
    program, file = str(Path(sys.executable).with_name("dask")), folder / "scheduler.json"
    words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    started = [subprocess.Popen([program, "scheduler", *words], **options)]
    until(file.exists, "the start of the scheduler")
    address = json.loads(file.read_text())["address"]

    def worker() -> subprocess.Popen:
        command = [program, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        started.append(subprocess.Popen(command, **options))
        return started[-1]

    try:
        yield started[0], address, worker
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_scheduler_that_dies_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with by_hand(tmp_path) as (scheduler, address, worker):
        worker()
        with engine_of(Compute(engine="dask", address=address), tmp_path) as engine:
            running = engine.run(
                [Task("short", engine_tools.square, (2,)), Task("long", engine_tools.wait, (tmp_path / "a",))]
            )
            assert next(running).result() == 4
            scheduler.kill()
            with pytest.raises(EngineError, match="dask: the scheduler has ended"):
                next(running)


def test_tasks_of_dask_resume_when_all_workers_died_and_others_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with by_hand(tmp_path) as (_, address, worker):
        first = worker()
        with engine_of(Compute(engine="dask", address=address), tmp_path) as engine:
            running = engine.run(
                [Task("long", engine_tools.once, (tmp_path / "a",)), Task("short", engine_tools.square, (2,))]
            )
            threading.Thread(target=_replace, args=(tmp_path / "a", first, worker)).start()
            assert {done.task.name: done.result() for done in running} == {"long": "again", "short": 4}


def _replace(file: Path, first: subprocess.Popen, worker: Callable[[], subprocess.Popen]) -> None:
    until(file.exists, "the task")
    first.kill()
    first.wait()
    worker()


def test_the_probe_names_each_machine_that_cannot_work_here(tmp_path: Path):
    def everywhere(function: Callable, arguments: tuple) -> dict:
        file, reads = arguments
        answer = probe.facts(file, reads)
        old = answer | {"versions": answer["versions"] | {"torch": "1.0", "Python": "2.7"}}
        lost = answer | {"text": "FileNotFoundError: No such file or directory"}
        away = answer | {"reply": "probe-of-another-place"}
        found = {"good": answer, "old": old, "far": lost, "away": away}
        packed = {host: engine_tools.packed(each) for host, each in found.items()}
        return packed | {"bare": ModuleNotFoundError("No module named 'duchenne'")}

    with pytest.raises(EngineError) as said:
        probe.check("ray", tmp_path, [tmp_path / "faces"], everywhere)
    first, good, *lines = str(said.value).splitlines()
    assert first == "ray: 5 of 5 machines cannot work on this project:"
    assert good == f"  good: {tmp_path / 'faces'} does not exist there"
    here = probe.versions()
    assert f"Python 2.7, here {here['Python']}; torch 1.0, here {here['torch']}" in lines[0]
    assert f"{tmp_path / 'engine'} is not shared (FileNotFoundError" in lines[1]
    assert "does not arrive here" in lines[2]
    assert lines[3] == (
        "  bare: it cannot run this package (No module named 'duchenne'): install the same environment there"
    )
    assert list((tmp_path / "engine").iterdir()) == []


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        ({"backend": "loky"}, "backend is now engine: write `engine: local` in its place"),
        ({"jobs": 0}, "0 is not a number of processes: give -1, for one per core, or at least 1"),
        ({"jobs": -5}, "-5 is not a number of processes"),
        ({"backend": "ray"}, "write `engine: ray`"),
        ({"engine": "dask", "device": "cuda:1"}, "engine dask gives each fold its GPU"),
        ({"address": "host:1"}, "engine local has no address"),
        ({"fold": {"gpus": 1.5}}, "1.5 is neither a whole number nor a part of one GPU"),
        (
            {"fold": {"memory": -1}},
            r"compute.fold.memory: -1 is not auto, and otherwise the input should be greater than 0$",
        ),
        ({"engine": "slurm"}, "'slurm' is not one of 'local', 'ray' or 'dask'"),
    ],
)
def test_wrong_settings_are_explained(tmp_path: Path, compute: dict, message: str):
    tree = {"compute": compute, "rendered": {}, "landmark_nets": {}, "datasets": {}, "variants": {}}
    with pytest.raises(config.CatalogError, match=message):
        config.check(tree, tmp_path / "params.yaml")


RUNNING = """
import sys
from pathlib import Path
import engine_tools
from duchenne.engines import Task, engine_of
from duchenne.training.settings import Compute
with engine_of(Compute(engine="ray", address=sys.argv[1]), Path("work")) as engine:
    print(*(done.result() for done in engine.run([Task("seven", engine_tools.square, (7,))])))
"""


def test_a_running_cluster_of_ray_that_asks_for_a_token(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(Path(__file__).parent)])
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": paths}
    options = {"env": environment, "cwd": tmp_path, "text": True, "timeout": 120}
    ray = str(Path(sys.executable).with_name("ray"))
    head = [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
    log = (tmp_path / "head.log").open("w", encoding="utf-8")
    subprocess.run([ray, "get-auth-token", "--generate"], **options, capture_output=True, check=True)
    running = subprocess.Popen(
        [*head, "--node-ip-address=127.0.0.1", "--disable-usage-stats"],
        env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 100
        while "Ray runtime started" not in (tmp_path / "head.log").read_text(encoding="utf-8"):
            assert running.poll() is None, (tmp_path / "head.log").read_text(encoding="utf-8")
            assert time.monotonic() < until
            time.sleep(0.5)
        call = [sys.executable, "-c", RUNNING, f"127.0.0.1:{port}"]
        done = subprocess.run(call, **options, capture_output=True, check=False)
        assert done.stdout.split() == ["49"], done.stderr
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        log.close()
