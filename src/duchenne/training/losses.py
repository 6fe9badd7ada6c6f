"""Classification losses by their names in a recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from duchenne.training.settings import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]
"""Function of logits (B, K) and classes (B,) or their shares (B, K) that returns the mean loss of the batch."""


def ce_plus_2ls(logits: Tensor, target: Tensor) -> Tensor:
    """The loss of POSTER's official training scripts: CE + 2 LSCE(0.2), so 2.6 -log p_y + 0.4 mean_k(-log p_k).

    With shares q of the classes, -log p_y is replaced by the mean sum_k q_k (-log p_k).
    """
    return F.cross_entropy(logits, target) + 2 * F.cross_entropy(logits, target, label_smoothing=0.2)


def create_loss(recipe: Recipe) -> Loss:
    """Create the recipe's loss; smoothing s gives a target of 1 - s + s/K for the true class and s/K for every other.

    A target of shares q of the classes (votes, or labels mixed by mixup) becomes (1 - s) q + s/K. Votes are applied
    first, then mixup, then smoothing.
    """
    losses: dict[str, Loss] = {
        "ce": partial(F.cross_entropy, label_smoothing=recipe.label_smoothing),
        "ce_plus_2ls": ce_plus_2ls,
    }
    return losses[recipe.loss]
