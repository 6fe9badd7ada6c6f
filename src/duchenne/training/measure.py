"""Metrics after an epoch, and the choice of the best epoch."""

from __future__ import annotations

import logging
import math

import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from duchenne.metrics import METRICS, measured
from duchenne.training.data import over_views
from duchenne.training.device import Placement
from duchenne.training.errors import TrainingError
from duchenne.training.settings import Variant

log = logging.getLogger(__name__)


def scores(labels: Tensor, logits: Tensor) -> dict[str, float]:
    """Compute every metric of :data:`duchenne.metrics.METRICS` over the classes in ``labels``; NaN: not defined.

    Args:
        labels: integers (N,).
        logits: (N, classes), also for the metrics of probabilities.
    """
    probabilities = logits.double().softmax(1)
    return measured(labels.numpy(), probabilities.numpy(), logits.argmax(1).numpy())


def unmeasured() -> dict[str, float]:
    """Return the result of :func:`measure` for a part without samples: all NaN."""
    return dict.fromkeys(["loss", *METRICS], math.nan)


def measure(placement: Placement, network: nn.Module, batches: DataLoader) -> dict[str, float]:
    """Measure cross-entropy and every metric of a network on a part, as :func:`measured_part` does."""
    return measured_part(*answers(placement, network, batches))


@torch.no_grad()
def answers(placement: Placement, network: nn.Module, batches: DataLoader) -> tuple[Tensor, Tensor]:
    """Predict a part; the logits of a sample's views are averaged.

    Returns:
        Logits float32 (N, classes) and labels int64 (N,), in the order of the rows, on the CPU.
    """
    network.eval()
    own = []
    for inputs, target, rows in batches:
        with placement.autocast():
            output = network(inputs.to(memory_format=placement.layout))
        own.append((output.float().cpu(), target.cpu(), rows.cpu()))
    outputs, targets, rows = map(torch.cat, zip(*gather_object(own), strict=True))
    return over_views(outputs, rows), over_views(targets, rows).long()


def measured_part(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute cross-entropy and every metric of logits (N, classes) and labels (N,).

    Warns when all samples get the same class, which too high a learning rate can cause, unless so few samples often get
    the same class by chance.
    """
    predicted = logits.argmax(1)
    shares = labels.bincount() / len(labels)
    by_chance = (shares ** len(labels)).sum()  # of random predictions with the labels' shares
    if len(predicted.unique()) == 1 and by_chance < 0.05:
        log.warning(
            "all %d evaluated samples are assigned to one class; if this persists over epochs, training has collapsed: "
            "lower recipe.lr",
            len(labels),
        )
    return {"loss": F.cross_entropy(logits, labels).item(), **scores(labels, logits)}


def score(row: dict[str, float], variant: Variant) -> list[float] | None:
    """Return the score that the best epoch maximises: the monitored metric, then a low loss; None: keep the last epoch.

    A metric for which lower is better counts with a negative sign.

    With selection ``train`` the loss is the minimised one, including further losses of the network, over the augmented
    samples of the epoch, each computed before the step that used it.

    Raises:
        TrainingError: The loss is not finite or the metric is not defined, so that epochs cannot be compared.
    """
    if variant.selection == "last":
        return None
    loss = row[f"{variant.selection}_loss"]
    if not math.isfinite(loss):
        raise TrainingError(f"the {variant.selection} loss is {loss} after epoch {row['epoch']}: lower the lr")
    value = row[f"{variant.selection}_{variant.monitor}"]
    if not math.isfinite(value):
        raise TrainingError(
            f"{METRICS[variant.monitor].label} of the {variant.selection} part is {value} after epoch {row['epoch']}, "
            "perhaps because the part has samples of one class only: set another monitor, or change the protocol"
        )
    return scored(row, variant.selection, variant.monitor)


def scored(row: dict[str, float], part: str, monitor: str) -> list[float]:
    """Return the monitored metric of a part, negative where lower is better, and the negative loss; NaN as it is."""
    loss, value = row[f"{part}_loss"], row[f"{part}_{monitor}"]
    lower = monitor == "loss" or METRICS[monitor].better == "lower"
    return [-value if lower else value, -loss]
