"""Limits of the system for a block: sizes of files, and numbers of open files. No error is made up."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limited(kind: int, most: int) -> Iterator[None]:
    """Lower a limit of this process; the system then refuses what is above it."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let no file be opened."""
    with limited(resource.RLIMIT_NOFILE, 0):
        yield


@contextmanager
def files_of(most: int) -> Iterator[None]:
    """Let no file grow beyond ``most`` bytes, as on a disk that is full there."""
    with limited(resource.RLIMIT_FSIZE, most):
        yield


def contents(folder: os.PathLike[str]) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118
            with open(path, "rb") as file:  # noqa: PTH123
                found[os.path.relpath(path, folder)] = file.read()
    return found
