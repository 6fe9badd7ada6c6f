"""Record of a variant's training run: ``training.json`` beside its folds."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from duchenne.faces.store import FaceStore
from duchenne.files import file_digest, write_json
from duchenne.training.device import device_of, precision_of
from duchenne.training.fingerprint import code_version, fingerprint
from duchenne.training.settings import Compute, Variant

FILE = "training.json"


def training_key(
    variant: Variant,
    classes: list[str],
    parts: pd.DataFrame,
    store: FaceStore,
    files: Iterable[Path],
    compute: Compute,
) -> str:
    """Compute the SHA-256 of everything that determines a variant's folds: contents of their fingerprints, and code.

    Args:
        parts: rows of the split with fold, sample, part and label, for pairs also onset and apex.
        files: initial weights of folds and their cards, and landmarks; existing files count by their contents.
    """
    samples = parts.assign(part=parts["fold"].astype(str) + "/" + parts["part"])
    precision = precision_of(compute, device_of(compute))
    digests = [file_digest(path) for path in sorted(set(files)) if path.exists()]
    known = [
        fingerprint(variant, classes, samples, store, None, precision),
        digests,
        code_version(variant.model.architecture),
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def begin(work: Path, key: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the training run in ``work``: that of a run with the same ``key``, else a new one.

    So an interrupted run that resumes, and a finished one that is not trained again, keep their id.

    Returns:
        ``id`` (random), ``key``, ``started`` (Unix time, s) and ``facts``, as they were when the run began.
    """
    file = work / FILE
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if known.get("key") != key:
        known = {"id": uuid.uuid4().hex, "key": key, "started": round(time.time(), 3), **facts}
        write_json(file, known)
    return known
