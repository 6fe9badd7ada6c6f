"""The true displacement of facial points in rendered micro-expressions, which no set of people has."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from duchenne.sealed import damaged

RENDER = "`dvc repro --force synthesize` renders it again"


def read_displacement(path: Path) -> np.ndarray:
    """Read the displacement of a sample from onset to apex, in its raw frame: float32 (H, W, 2) in px, right and down.

    Raises:
        DamagedError: The file is damaged.
        FileNotFoundError: It is missing.
    """
    try:
        with np.load(path) as file:
            return file["displacement"].astype(np.float32)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise damaged(path, RENDER, error) from None
