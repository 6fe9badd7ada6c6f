"""Temperature scaling: one number per fold that makes confidence fit accuracy, fitted on the validation part.

Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", section 4.2. The logits of a sample
are divided by the temperature before the softmax; those of a clip are first averaged over its windows, in fitting and
in use. The order of the logits, and so every predicted class, stays.

The temperature is an entry of the fold's card. It is fitted after training, so that switching it on or off trains
nothing again.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax

from duchenne.faces.store import FaceStore
from duchenne.metrics import measured
from duchenne.sealed import write_sealed
from duchenne.training.errors import TrainingError
from duchenne.training.settings import Compute
from duchenne.training.trained import CARD, load_trained, predict

log = logging.getLogger(__name__)

RANGE = (0.1, 10.0)
"""Lowest and highest temperature (chosen by us). A part that is classified without an error has its best value at 0."""


def temperature_of(card: dict[str, Any]) -> float:
    """Return the temperature on a card; 1 for a network that is not calibrated."""
    return float((card.get("calibration") or {}).get("temperature", 1.0))


def probabilities(logits: np.ndarray, card: dict[str, Any]) -> np.ndarray:
    """Return probabilities, float64 (..., classes), of logits (..., classes), at the temperature of the card."""
    return softmax(logits.astype(np.float64) / temperature_of(card), axis=-1)


def nll(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood, in nats, of labels (N,) under logits (N, classes)."""
    scaled = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-scaled[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature within :data:`RANGE` of the lowest negative log-likelihood.

    The likelihood is convex in 1 / temperature, so it has one minimum, which Brent's bounded method finds in float64.

    >>> logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 4)  # confidence 3 / 4: 2 / T = log 3
    1.8205

    Args:
        logits: finite, (N, classes).
        labels: integers (N,) from 0.
    """
    from scipy.optimize import minimize_scalar  # takes half a second to import

    def loss(logarithm: float) -> float:
        return nll(logits, labels, float(np.exp(logarithm)))

    found = minimize_scalar(loss, bounds=tuple(np.log(RANGE)), method="bounded", options={"xatol": 1e-8})
    temperature = float(np.exp(found.x))
    return min((temperature, 1.0, *RANGE), key=lambda value: nll(logits, labels, value))


def calibrate(folder: Path, samples: pd.DataFrame, store: FaceStore, compute: Compute) -> dict[str, Any]:
    """Fit the temperature of a trained fold and write it on its card; returns the card's entry ``calibration``.

    ``temperature``; ``samples`` it was fitted on; and their ``nll`` and ``ece`` ``before`` and ``after``. The network
    predicts in the precision on the card, as it will in use.

    Args:
        folder: folder of a trained fold.
        samples: the fold's own split, with sample, part and label, for pairs also onset and apex; only ``val`` is used.
        store: faces of the samples.

    Raises:
        TrainingError: The fold has no validation sample, or cannot predict.
    """
    part = samples[samples["part"] == "val"].sort_values("sample")
    if part.empty:
        raise TrainingError(
            f"{folder}: calibration: temperature is fitted on the validation part, which has no sample: raise "
            "protocol.val_share, or set calibration: none"
        )
    network, card = load_trained(folder)
    card.pop("calibration", None)
    logits, _ = predict(network, store, part, card, compute)
    labels = part["label"].to_numpy(np.int64)
    temperature = fit_temperature(logits, labels)
    if temperature in RANGE:
        log.warning(
            "%s: the temperature is %g, the end of its range: its %d validation samples are too few, too easy or too "
            "hard to calibrate on",
            folder, temperature, len(part),
        )  # fmt: skip
    entry: dict[str, Any] = {"method": "temperature", "temperature": temperature, "samples": len(part)}
    ends = {"before": 1.0, "after": temperature}
    entry["nll"] = {end: nll(logits, labels, value) for end, value in ends.items()}
    shares = {end: softmax(logits.astype(np.float64) / value, axis=1) for end, value in ends.items()}
    entry["ece"] = {end: measured(labels, each, logits.argmax(axis=1))["ece"] for end, each in shares.items()}
    write_sealed(folder / CARD, card | {"calibration": entry})
    return entry
