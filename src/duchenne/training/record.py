"""Record of a variant's training run: ``training.json`` beside its folds."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from duchenne.faces.store import FaceStore
from duchenne.locks import alone
from duchenne.sealed import read_sealed, write_sealed
from duchenne.training.device import Precision, device_of, precision_of
from duchenne.training.fingerprint import code_version, fingerprint, start_digest
from duchenne.training.settings import Compute, Variant

FILE = "training.json"

AGAIN = "delete it to begin a new record; finished folds are not trained again"


def training_key(
    variant: Variant,
    classes: list[str],
    parts: pd.DataFrame,
    store: FaceStore,
    files: Iterable[Path],
    precision: Precision,
) -> str:
    """Compute the SHA-256 of everything that determines a variant's folds: contents of their fingerprints, and code.

    Args:
        parts: rows of the split with fold, sample, part and label, for pairs also onset and apex.
        files: initial weights of folds and their cards, and landmarks; existing files count by their contents.
    """
    samples = parts.assign(part=parts["fold"].astype(str) + "/" + parts["part"])
    digests = [start_digest(path) for path in sorted(set(files)) if path.exists()]
    known = [
        fingerprint(variant, classes, samples, store, None, precision),
        digests,
        code_version(variant.model.architecture),
        *([variant.seeds] if variant.seeds else []),
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def begin(
    work: Path,
    key: Callable[[Precision], str],
    compute: Compute,
    facts: dict[str, Any],
    automatic: Callable[[], Precision] | None = None,
) -> tuple[dict[str, Any], Compute]:
    """Return the record of the training run in ``work``: that of a run with the same ``key``, else a new one.

    So an interrupted run that resumes, and a finished one that is not trained again, keep their id. They keep their
    precision too: with ``auto``, the process that begins a run chooses it, and all others that train folds of the run
    follow, on any machine. Processes that begin at the same time get the same record.

    Args:
        key: the run's key (:func:`training_key`) for a precision.
        automatic: chooses the precision ``auto`` of a new run; None: that of this machine.

    Returns:
        The record: ``id`` (random), ``key``, ``precision``, ``started`` (Unix time, s) and ``facts``, as they were when
        the run began; and ``compute`` with that precision.
    """
    file = work / FILE
    work.mkdir(parents=True, exist_ok=True)
    with alone(work / f".{FILE}.lock", f"{file}"):
        known = read_sealed(file, AGAIN) if file.exists() else {}
        precision = known.get("precision") if compute.precision == "auto" else compute.precision
        if precision is None or known.get("key") != key(precision):
            chosen = automatic if automatic and compute.precision == "auto" else None
            precision = chosen() if chosen else precision_of(compute, device_of(compute))
            if known.get("key") != (fresh := key(precision)):
                run = {"id": uuid.uuid4().hex, "key": fresh, "precision": precision}
                known = run | {"started": round(time.time(), 3), **facts}
                write_sealed(file, known)
    return known, compute.model_copy(update={"precision": precision})
