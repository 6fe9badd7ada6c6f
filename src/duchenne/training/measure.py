"""What a network scores after an epoch, and which epoch is the best."""

from __future__ import annotations

import logging
import math

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from sklearn.metrics import accuracy_score, f1_score, recall_score
from torch import Tensor, nn
from torch.utils.data import DataLoader

from duchenne.catalog import Variant
from duchenne.training.data import over_views
from duchenne.training.device import Precision, autocast
from duchenne.training.errors import TrainingError

log = logging.getLogger(__name__)

METRICS = ("loss", "war", "uar", "uf1")


def rates(labels: Tensor, predicted: Tensor) -> dict[str, float]:
    """WAR, UAR and UF1, the last two over the classes that ``labels`` has; both are integers (N,)."""
    present = labels.unique().tolist()
    return {
        "war": accuracy_score(labels, predicted),
        "uar": recall_score(labels, predicted, labels=present, average="macro"),
        "uf1": f1_score(labels, predicted, labels=present, average="macro", zero_division=0),
    }


@torch.no_grad()
def measure(
    accelerator: Accelerator,
    network: nn.Module,
    batches: DataLoader,
    layout: torch.memory_format,
    precision: Precision,
) -> dict[str, float]:
    """Cross-entropy, WAR, UAR and UF1 of a network over a part; the logits of a sample's views are averaged.

    A network that gives every sample the same class is warned of: too high a learning rate can end in that.
    """
    network.eval()
    outputs, targets, places = [], [], []
    for inputs, target, rows in batches:
        with autocast(accelerator.device, precision):
            output = network(inputs.to(memory_format=layout))
        output, target, rows = accelerator.gather_for_metrics((output, target, rows))
        outputs.append(output.float().cpu())
        targets.append(target.cpu())
        places.append(rows.cpu())
    rows = torch.cat(places)
    logits, labels = over_views(torch.cat(outputs), rows), over_views(torch.cat(targets), rows).long()
    predicted = logits.argmax(1)
    if len(labels.unique()) > 1 and len(predicted.unique()) == 1:
        log.warning(
            "all %d samples are given one class: if it stays so, the network has collapsed; lower recipe.lr",
            len(labels),
        )
    return {"loss": F.cross_entropy(logits, labels).item(), **rates(labels, predicted)}


def score(row: dict[str, float], variant: Variant) -> list[float] | None:
    """What the best epoch has most of: the monitored figure, then a low loss; None when the last epoch is kept.

    With selection ``train`` the loss is the one that was minimised, further losses of the network included, over the
    augmented samples as they came during the epoch, before the steps that they took part in.

    Raises:
        TrainingError: the loss is not finite, so that epochs cannot be compared.
    """
    if variant.selection == "last":
        return None
    loss = row[f"{variant.selection}_loss"]
    if not math.isfinite(loss):
        raise TrainingError(f"the {variant.selection} loss is {loss} after epoch {row['epoch']}: lower the lr")
    figure = row[f"{variant.selection}_{variant.monitor}"]
    return [-loss if variant.monitor == "loss" else figure, -loss]
