"""Digest of everything that determines the result of training, to recognise finished folds and states."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
from torch import Tensor

from duchenne.faces.store import FaceStore
from duchenne.files import as_json, file_digest, read_json, unusable
from duchenne.metrics import METRICS
from duchenne.sealed import KEY, read_sealed, sealed
from duchenne.sources import HARMLESS, network_digest, source_digest
from duchenne.training.device import Precision
from duchenne.training.errors import TrainingError
from duchenne.training.settings import Variant

TRAINS = {"model", "recipe", "selection", "monitor", "seed"}
"""Fields of a variant on which the weights depend; dataset and protocol act only through the samples."""
STARTS = ("weights.safetensors", "card.json")
"""Files of a trained fold on which training that starts from it depends."""
_PUT = "put the file there (docs/checkpoints.md), or set its part of model.pretrained to null: random weights"


def fingerprint(
    variant: Variant,
    classes: list[str],
    samples: pd.DataFrame,
    store: FaceStore,
    init: Path | None,
    precision: Precision,
    centres: Tensor | None = None,
    shares: Tensor | None = None,
) -> str:
    """Compute the SHA-256 of everything that determines what a fold learns.

    It includes the variant's network, recipe, selection and seed; the classes; every sample with its label, part, onset
    and apex and the perceptual hash of its face; the settings of the face store; the contents of initial and published
    weights, and the card of initial ones, whose network and order of classes say how they are used; the precision; the
    definition of the metric that picks the epoch; the centres of the action-unit regions, if the network has them; soft
    targets. It does not include device, workers, memory format and compilation, which change speed and the last bits,
    and the code, for which see :func:`code_version`.
    """
    hashes = store.hashes()
    rows = samples.sort_values("sample")
    marks = rows.reindex(columns=["onset", "apex"]).astype(object)
    marks = marks.where(marks.notna(), None).values.tolist()
    published = [_digest(path, _PUT) for path in variant.model.files.values()]
    initial = [_digest(init / name, f"train {init.parent.name} first", start_digest) for name in STARTS] if init else []
    parts = {
        "variant": variant.model_dump(mode="json", include=TRAINS),
        "classes": classes,
        "samples": [
            [sample, int(label), part, hashes[sample], *frames]
            for sample, label, part, frames in zip(rows["sample"], rows["label"], rows["part"], marks, strict=True)
        ],
        "store": store.meta,
        "weights": published + initial,
        "precision": precision,
        "monitor": METRICS[variant.monitor].definition if variant.monitor in METRICS else "",
        "centres": None if centres is None else centres.tolist(),
        "shares": None if shares is None else shares.tolist(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def code_version(architecture: str) -> str:
    """Compute the SHA-256 of the sources that train a network; after an edit, finished folds are trained again.

    Sources of other networks and the metrics are not included: a new metric does not change the weights, and the metric
    that picks the epoch is part of the fingerprint.
    """
    trains = source_digest("duchenne.training.fold", without={*HARMLESS, "duchenne.metrics"})
    return hashlib.sha256((trains + network_digest(architecture)).encode()).hexdigest()


def start_digest(path: Path) -> str:
    """Compute the SHA-256 of a file of :data:`STARTS`; of a card as it was before its temperature was fitted.

    A temperature does not change the weights, so calibrating a run does not train again what starts from it.
    """
    if path.name == STARTS[1]:
        card = read_sealed(path)
        if isinstance(card, dict) and card.pop("calibration", None):
            before = sealed(card, path.name) if KEY in read_json(path) else card
            return hashlib.sha256(as_json(before).encode()).hexdigest()
    return file_digest(path)


def _digest(path: Path, remedy: str, digest: Callable[[Path], str] = file_digest) -> str:
    if reason := unusable(path):
        raise TrainingError(f"{path} {reason}: {remedy}")
    return digest(path)
