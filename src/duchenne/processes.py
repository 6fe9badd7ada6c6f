"""Processes that end with the one for which they work, however that ends.

A killed process takes nothing along: what it started works on, and would write beside the command that is given again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import cache

import psutil

PULSE = 0.5
"""Seconds between two looks at whether a process still runs (chosen by us)."""

SHELLS = {"sh", "ash", "bash", "dash", "fish", "ksh", "zsh", "tcsh", "csh", "cmd.exe", "powershell.exe", "pwsh"}
"""Names of processes that may stand between DVC and the command of a stage."""


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
    """End this process, which DVC started as a stage, and all below it, as :func:`end_with` when DVC has ended."""
    end_with(_dvc())


def _dvc() -> int:
    """Return the process of DVC: the first one above this that is not a shell; 0 if DVC has ended already.

    Who is left without a parent gets that of the system, which is neither DVC nor Python.
    """
    for process in psutil.Process().parents():
        try:
            name, words = process.name(), process.cmdline()
        except psutil.Error:
            return 0
        if name not in SHELLS:
            return process.pid if any("dvc" in word or "python" in word for word in [name, *words]) else 0
    return 0


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
    sys.stderr.flush()
    os._exit(1)
