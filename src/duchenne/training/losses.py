"""Classification losses by the names that a recipe gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from duchenne.training.settings import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, K), classes (B,) or their shares (B, K)) -> the mean over the batch."""


def ce_plus_2ls(logits: Tensor, target: Tensor) -> Tensor:
    """The loss of POSTER's official training scripts: CE + 2 LSCE(0.2), so 2.6 -log p_y + 0.4 mean_k(-log p_k).

    For shares q of the classes -log p_y is their mean, sum_k q_k (-log p_k).
    """
    return F.cross_entropy(logits, target) + 2 * F.cross_entropy(logits, target, label_smoothing=0.2)


def create_loss(recipe: Recipe) -> Loss:
    """The recipe's loss; smoothing s leaves 1 - s + s/K of the target on the true class and s/K on every other.

    Of a target that is shares q of the classes (votes, or labels that mixup mixed) it makes (1 - s) q + s/K. Votes come
    first, then mixup, then the smoothing.
    """
    losses: dict[str, Loss] = {
        "ce": partial(F.cross_entropy, label_smoothing=recipe.label_smoothing),
        "ce_plus_2ls": ce_plus_2ls,
    }
    return losses[recipe.loss]
