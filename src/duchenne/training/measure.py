"""What a network scores after an epoch, and which epoch is the best."""

from __future__ import annotations

import logging
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from duchenne.metrics import METRICS, measured
from duchenne.training.data import over_views
from duchenne.training.device import Placement
from duchenne.training.errors import TrainingError
from duchenne.training.settings import Variant

log = logging.getLogger(__name__)


def scores(labels: Tensor, logits: Tensor) -> dict[str, float]:
    """Every metric of :data:`duchenne.metrics.METRICS`, over the classes that ``labels`` has; NaN: not defined.

    Args:
        labels: integers (N,).
        logits: (N, classes), from which the metrics of probabilities follow.
    """
    probabilities = logits.double().softmax(1)
    return measured(labels.numpy(), probabilities.numpy(), logits.argmax(1).numpy())


def unmeasured() -> dict[str, float]:
    """What :func:`measure` gives, all NaN: of a part without samples."""
    return dict.fromkeys(["loss", *METRICS], math.nan)


@torch.no_grad()
def measure(placement: Placement, network: nn.Module, batches: DataLoader) -> dict[str, float]:
    """Cross-entropy and every metric of a network over a part; the logits of a sample's views are averaged.

    Warns when all samples get the same class: too high a learning rate can end in that.
    """
    network.eval()
    outputs, targets, places = [], [], []
    for inputs, target, rows in batches:
        with placement.autocast():
            output = network(inputs.to(memory_format=placement.layout))
        output, target, rows = placement.accelerator.gather_for_metrics((output, target, rows))
        outputs.append(output.float().cpu())
        targets.append(target.cpu())
        places.append(rows.cpu())
    rows = torch.cat(places)
    logits, labels = over_views(torch.cat(outputs), rows), over_views(torch.cat(targets), rows).long()
    predicted = logits.argmax(1)
    if len(labels.unique()) > 1 and len(predicted.unique()) == 1:
        log.warning(
            "all %d evaluated samples are assigned to one class; if this persists over epochs, training has collapsed: "
            "lower recipe.lr",
            len(labels),
        )
    return {"loss": F.cross_entropy(logits, labels).item(), **scores(labels, logits)}


def score(row: dict[str, float], variant: Variant) -> list[float] | None:
    """What the best epoch has most of: the monitored metric, then a low loss; None when the last epoch is kept.

    A metric of which less is better counts with the other sign.

    With selection ``train`` the loss is the one that was minimised, further losses of the network included, over the
    augmented samples as they came during the epoch, before the steps that they took part in.

    Raises:
        TrainingError: the loss is not finite or the metric not defined, so that epochs cannot be compared.
    """
    if variant.selection == "last":
        return None
    loss = row[f"{variant.selection}_loss"]
    if not math.isfinite(loss):
        raise TrainingError(f"the {variant.selection} loss is {loss} after epoch {row['epoch']}: lower the lr")
    if variant.monitor == "loss":
        return [-loss, -loss]
    metric, value = METRICS[variant.monitor], row[f"{variant.selection}_{variant.monitor}"]
    if not math.isfinite(value):
        raise TrainingError(
            f"{metric.label} of the {variant.selection} part is {value} after epoch {row['epoch']}, as where the part "
            "has samples of one class alone: set another monitor, or change the protocol"
        )
    return [value if metric.better == "higher" else -value, -loss]
