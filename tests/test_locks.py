"""Two commands at once: one waits and says for whom; no lock outlives its process, and none stays behind."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from duchenne import params_file
from duchenne.errors import UserError
from duchenne.locks import alone
from duchenne.synth import head
from duchenne.workspace import Workspace


def child(function: Callable[[], object]) -> int:
    """Call a function in a copy of this process, which ends with status 0 if it raises nothing."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        function()
        status = 0
    finally:
        os._exit(status)


def status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def enter(folder: Path) -> None:
    """Let others into a temporary folder of pytest, whose parents are its user's alone."""
    for each in (folder, *folder.parents):
        if "pytest-" in str(each):
            each.chmod(0o755)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def held(tmp_path: Path) -> int:
    """A process that holds a lock until it is killed."""

    def hold() -> None:
        with alone(tmp_path / "lock", "the work"):
            (tmp_path / "inside").touch()
            time.sleep(600)

    pid = child(hold)
    until((tmp_path / "inside").exists)
    return pid


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path):
    (tmp_path / "mine").write_text("of value")
    (tmp_path / "lock").symlink_to("mine")
    with alone(tmp_path / "lock", "the work", remove=True):
        pass
    assert (tmp_path / "mine").read_text() == "of value"


def test_who_does_not_wait_is_told_who_works(held: int, tmp_path: Path):
    who = rf"process {held} \(`.*`\) is at work on the work: wait"
    with pytest.raises(UserError, match=who), alone(tmp_path / "lock", "the work", wait=False):
        raise AssertionError
    os.kill(held, signal.SIGKILL)
    status(held)
    with alone(tmp_path / "lock", "the work", wait=False):  # no lock outlives its process
        pass


def test_who_waits_says_so_once_and_begins_when_the_other_is_killed(
    held: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def wait() -> None:
        caplog.clear()
        with alone(tmp_path / "lock", "the work"):
            (tmp_path / "said").write_text("\n".join(caplog.messages))

    pid = child(wait)
    time.sleep(0.5)  # it looks more than once
    assert not (tmp_path / "said").exists()
    os.kill(held, signal.SIGKILL)
    assert status(pid) == 0
    status(held)
    (line,) = (tmp_path / "said").read_text().splitlines()
    assert line.startswith(f"process {held} (")
    assert line.endswith("is at work on the work: waiting until it has ended")


def test_eight_at_once_are_one_after_the_other_and_leave_no_file(tmp_path: Path):
    count = tmp_path / "count"
    count.write_text("0")

    def add() -> None:
        for _ in range(5):
            with alone(tmp_path / ".lock", "the count", remove=True):
                count.write_text(str(int(count.read_text()) + 1))

    assert [status(pid) for pid in [child(add) for _ in range(8)]] == [0] * 8
    assert count.read_text() == "40"
    assert os.listdir(tmp_path) == ["count"]  # noqa: PTH208


def test_a_lock_of_another_user_is_respected(tmp_path: Path):
    if os.geteuid():
        pytest.skip("only root can become another user")
    enter(tmp_path)
    lock = tmp_path / "lock"
    lock.touch(0o644)

    def another() -> None:
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(UserError, match="is at work on"), alone(lock, "it", wait=False):
            raise AssertionError

    with alone(lock, "it"):
        assert status(child(another)) == 0


def test_where_there_are_no_locks_the_work_is_done_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    with alone(tmp_path / "lock", "the work"):
        assert "has no locks, so no other command should work on the work now" in caplog.text
    caplog.clear()
    (tmp_path / "file").touch()
    with caplog.at_level(logging.INFO), alone(tmp_path / "file" / "lock", "the work"):
        assert "cannot be locked" in caplog.text


def test_two_additions_at_once_are_both_made(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text("datasets: {}\nrendered: {}\nlandmark_nets: {}\nvariants: {}\n")
    names = ["poster_v2_rafdb", "poster_v2_caer_s"]
    pids = [child(lambda name=name: params_file.add(path, [("variants", name)])) for name in names]
    assert [status(pid) for pid in pids] == [0] * 2
    assert all(f"  {name}:" in path.read_text() for name in names)
    assert os.listdir(tmp_path) == ["params.yaml"]  # noqa: PTH208


def test_an_edit_by_hand_is_not_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "params.yaml"
    path.write_text("datasets: {}\nrendered: {}\nlandmark_nets: {}\nvariants: {}\n")
    path.chmod(0o640)
    edited = path.read_text() + "# a thought\n"
    check = params_file.check

    def meanwhile(*arguments: object) -> object:
        path.write_text(edited)
        return check(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(params_file, "check", meanwhile)
        with pytest.raises(UserError, match="was edited meanwhile"):
            params_file.add(path, [("variants", "poster_v2_rafdb")])
    assert path.read_text() == edited
    params_file.add(path, [("variants", "poster_v2_rafdb")])
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of head models, empty; a head is built in no time, and each time is noted."""
    values = {field.name: np.zeros(1) for field in head.fields(head.Head)}

    def build() -> head.Head:
        with (tmp_path / "times").open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        return head.Head(**values)

    monkeypatch.setattr(head, "_build", build)
    monkeypatch.setenv("DUCHENNE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def test_two_folders_build_one_head(built: Path):
    load = head.load_head.__wrapped__
    assert [status(pid) for pid in [child(load) for _ in range(3)]] == [0] * 3
    assert (built / "times").read_text() == "built\n"
    (built / "cache").chmod(0o555)
    load()  # also where the cache cannot be written


def test_a_cache_that_cannot_be_written_names_the_variable(built: Path):
    (built / "cache").touch()
    (built / "cache").chmod(0o444)

    def refused() -> None:
        if not os.geteuid():
            os.setuid(65534)
        with pytest.raises(UserError, match="set DUCHENNE_CACHE_DIR to a folder that can"):
            head.load_head.__wrapped__()

    (built / "cache").unlink()
    enter(built)
    assert status(child(refused)) == 0


def test_the_lock_of_a_stage_is_in_the_project(tmp_path: Path):
    from duchenne import stages

    with stages.by_itself("align", Workspace(tmp_path), "tiny"):
        assert (tmp_path / "work" / "locks" / "align tiny.lock").exists()
    with stages.by_itself("train", Workspace(tmp_path), "two"):  # folds lock themselves
        assert len(list((tmp_path / "work" / "locks").iterdir())) == 1
