"""Processes that end with the one for which they work, however that ends.

A killed process takes nothing along: what it started works on, and would write beside the command that is given again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache

import psutil

PULSE = 0.5
"""Seconds between two looks at whether a process still runs (chosen by us)."""

SHELLS = {"sh", "ash", "bash", "dash", "fish", "ksh", "zsh", "tcsh", "csh", "cmd.exe", "powershell.exe", "pwsh"}
"""Names of processes that may stand between DVC and the command of a stage, and be left when DVC has ended."""


def kill_tree(pid: int, itself: bool = True) -> None:
    """Kill a process with all below it."""
    try:
        process = psutil.Process(pid)
        family = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for each in [process, *family] if itself else family:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue


@cache
def end_with(pid: int) -> None:
    """End this process, and all below it, within about a second after process ``pid`` has ended, however it ended."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        _end()
    threading.Thread(target=_watch, args=(process,), daemon=True).start()


def end_with_dvc() -> None:
    """End this process, which DVC started as a stage, and all below it, as :func:`end_with` when DVC has ended.

    Nothing ends where another program stands above this process and DVC does not, as in a job of Slurm.
    """
    if (dvc := _dvc(psutil.Process().parents())) is not None:
        end_with(dvc)


def _dvc(above: Sequence[psutil.Process]) -> int | None:
    """Return the process of DVC among those above a stage, nearest first; 0: it has ended; None: it is not among them.

    Who is left without a parent gets the first process of the system, or of the session (systemd).
    """
    others = False
    for process in above:
        try:
            name, words = process.name(), process.cmdline()
        except psutil.Error:  # ended meanwhile
            continue
        if name in SHELLS:
            continue
        if any("dvc" in word or "python" in word for word in [name, *words]):
            return process.pid
        others |= name != "systemd" and process.pid != 1
    return None if others else 0


def _watch(process: psutil.Process) -> None:
    while _runs(process):
        time.sleep(PULSE)
    _end()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end() -> None:
    kill_tree(os.getpid(), itself=False)
    print("the process for which this one works has ended, so this one ends too", file=sys.stderr, flush=True)
    os._exit(1)
