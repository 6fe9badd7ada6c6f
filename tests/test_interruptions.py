"""Killed commands: what they started ends, what they were writing is cleared, and states stay complete."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from dvc.fs import localfs
from dvc.ignore import DvcIgnoreFilter

from duchenne import files, processes
from duchenne.files import replacing
from duchenne.training.checkpoint import Checkpoints

SOURCE = Path(processes.__file__).parents[1]


def wait(condition: Callable[[], object], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start(code: str, *words: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *words], env=os.environ | {"PYTHONPATH": str(SOURCE)})


STAGE = """
import os, subprocess, sys, time
from pathlib import Path
from duchenne.processes import end_with_dvc
end_with_dvc()
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
Path(sys.argv[1]).write_text(f"{os.getpid()} {below.pid}")
Path(sys.argv[1] + ".there").touch()
time.sleep(60)
"""
DVC = """
import subprocess, sys
subprocess.run(["/bin/sh", "-c", '"$1" -c "$2" "$3"; exit 0', "sh", sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(os.name == "nt", reason="needs sh")
def test_a_stage_ends_with_the_command_that_started_it_through_a_shell(tmp_path: Path):
    command = start(DVC, STAGE, str(tmp_path / "pids"))
    wait((tmp_path / "pids.there").exists)
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    assert all(map(runs, pids))
    command.kill()
    wait(lambda: not any(map(runs, pids)))
    command.wait()


class Above:
    """A process that stands above this one."""

    def __init__(self, name: str, *words: str, pid: int = 4711) -> None:
        self.pid, self._name, self._words = pid, name, [name, *words]

    def name(self) -> str:
        return self._name

    def cmdline(self) -> list[str]:
        return self._words


@pytest.mark.parametrize(
    ("above", "found"),
    [
        ([Above("zsh", "-c", "python stages/train.py v"), Above("python3.11", "-m", "dvc", "repro")], 4711),
        ([Above("dvc", "repro")], 4711),
        ([Above("sh", "-c", "python stages/train.py v"), Above("systemd", "--user")], 0),
        ([Above("tini", "--", "bash", pid=1)], 0),
        ([Above("slurmstepd", "slurmstepd: [12.0]"), Above("systemd", pid=1)], None),
        ([Above("bash"), Above("my_launcher", "--gpus", "2"), Above("dvc", "repro")], 4711),
        ([], 0),
    ],
)
def test_the_dvc_above_a_stage_is_found_or_has_ended_or_is_elsewhere(above: list[Above], found: int | None):
    assert processes._dvc(above) == found


ENDS = """
import os, sys, time
from duchenne import processes
processes.end_with(int(sys.argv[1]))
time.sleep(60)
"""


def test_a_process_ends_at_once_when_the_other_one_is_gone_already():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert start(ENDS, str(gone.pid)).wait(timeout=30) == 1


NOTE = "import os, pathlib, time; pathlib.Path({!r}).write_text(str(os.getpid())); time.sleep(60)"
"""Notes the process, and works for a minute."""
JOBS = """
import sys
from duchenne.engines.base import Task
from duchenne.engines.local import Local
list(Local(2).run([Task(code, exec, (code,)) for code in sys.argv[1:]]))
"""


@pytest.mark.slow
def test_processes_of_joblib_end_with_a_killed_stage(tmp_path: Path):
    noted = [tmp_path / "0", tmp_path / "1"]
    stage = start(JOBS, *(NOTE.format(str(path)) for path in noted))
    wait(lambda: all(path.exists() and path.read_text() for path in noted), 120)
    pids = [int(path.read_text()) for path in noted]
    stage.kill()
    stage.wait()
    wait(lambda: not any(map(runs, pids)))


def test_what_killed_processes_were_writing_is_deleted_when_the_folder_is_written_to_again(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here, elsewhere = files._MACHINE, "00000000"
    left = {
        f".table.csv.{here}.{gone.pid}.part": False,
        f".table.csv.{here}.{os.getppid()}.part": True,  # of a process that runs
        f".table.csv.{elsewhere}.{gone.pid}.part": True,
        f".old.csv.{elsewhere}.{gone.pid}.part": False,
        ".notes.part": True,
    }
    for name in left:
        (tmp_path / name).touch()
    os.utime(tmp_path / f".old.csv.{elsewhere}.{gone.pid}.part", (0, 0))
    (tmp_path / f".set.{here}.{gone.pid}.part" / "inside").mkdir(parents=True)
    with replacing(tmp_path / "new.csv") as part:
        part.touch()
    assert {path.name for path in tmp_path.iterdir()} == {name for name, kept in left.items() if kept} | {"new.csv"}


def test_dvc_does_not_see_what_is_being_written(tmp_path: Path):
    with replacing(tmp_path / "table.csv") as part:
        part.touch()
        (tmp_path / ".dvcignore").write_bytes((SOURCE.parent / ".dvcignore").read_bytes())
        ignored = DvcIgnoreFilter(localfs, str(tmp_path))
        assert ignored.is_ignored_file(str(part))
        assert ignored.is_ignored_file(str(tmp_path / ".C_OUHCWXO3zT3nhZLIS5ww.tmp"))  # of DVC itself
        assert not ignored.is_ignored_file(str(tmp_path / "table.csv"))


STATE = {"epoch": 1, "tables": {"history": [{"epoch": 1, "ended": 5.0}]}, "selected": 1}


def test_no_table_has_an_epoch_that_the_state_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MLflow gets the rows of the table; an epoch that is trained again has other times."""
    kept = Checkpoints(tmp_path, "key", "code")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_csv", killed)
        with pytest.raises(KeyboardInterrupt):
            kept.save(STATE, {"w": torch.zeros(1)})
    assert not (tmp_path / "history.csv").exists()
    state = kept.resume(torch.device("cpu"))  # writes it again
    assert state
    assert state["epoch"] == 1
    assert pd.read_csv(tmp_path / "history.csv").to_dict("records") == STATE["tables"]["history"]


def test_half_a_deleted_folder_does_not_count_as_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = Checkpoints(tmp_path / "work", "key", "code")
    kept.save(STATE, {"w": torch.zeros(1)})
    kept.finish({}, 1)
    assert kept.finished()
    (tmp_path / "work" / "state.pt").touch()  # killed before it was deleted
    kept.publish(tmp_path / "out")
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"done", "history.csv"}

    def killed(path: Path, ignore_errors: bool = False) -> None:
        if path.name == "done":
            raise KeyboardInterrupt

    kept.save(STATE, {"w": torch.zeros(1)})
    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.finish({}, 1)
    assert not kept.finished()
