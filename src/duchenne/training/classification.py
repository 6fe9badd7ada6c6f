"""Training of a classifier with labels and, if the recipe says so, pre-training without labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from duchenne.training.augment import Mixing
from duchenne.training.data import Draws
from duchenne.training.device import Placement
from duchenne.training.losses import create_loss
from duchenne.training.measure import answers, measured_part, score, scores, unmeasured
from duchenne.training.optim import create_optimizer, create_scheduler
from duchenne.training.rules import Rules
from duchenne.training.settings import Variant
from duchenne.training.trainer import Outcome, Row, Task


class Classification(Task):
    """Training with labels by the recipe, measured by every metric of :mod:`duchenne.metrics`.

    Args:
        names: names of the training samples, by row.
        held_out: part -> its batches; None: it has no samples and is not measured.
        classes: number of classes.
        title: title of the progress bar.
        shares: soft targets (N, classes) of the training samples, as shares of the classes; None: labels.
        rules: keeps test logits; None: they are not kept.
    """

    def __init__(
        self,
        network: nn.Module,
        placement: Placement,
        variant: Variant,
        batches: DataLoader,
        draws: Draws,
        names: list[str],
        held_out: Mapping[str, DataLoader | None],
        classes: int,
        title: str,
        shares: Tensor | None = None,
        rules: Rules | None = None,
    ) -> None:
        self.variant, self.recipe = variant, variant.recipe
        super().__init__(network, batches, draws, names, self.recipe.epochs, title)
        self.placement, self.held_out, self.shares, self.rules = placement, held_out, shares, rules
        self.memory = None if rules is None else {}
        self.sam_rho, self.clip_grad = self.recipe.sam_rho, self.recipe.clip_grad
        self.shown = f"val_{variant.monitor}"
        self.mix = Mixing(self.recipe.mix, classes) if self.recipe.mix else None
        self.criterion = create_loss(self.recipe)

    def optimizer(self) -> Optimizer:
        return create_optimizer(self.recipe, self.network.parameters())

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        return create_scheduler(self.recipe, optimizer, len(self.batches))

    def prepare(self, inputs: Tensor, targets: Tensor, rows: Tensor) -> tuple[Any, ...]:
        """Return inputs, targets of the loss, labels, and values that both passes of SAM can share."""
        labels = targets
        targets = labels if self.shares is None else self.shares[rows]
        if self.mix:
            inputs, targets = self.mix(inputs, targets)
            labels = targets.argmax(1)
        inputs = inputs.to(memory_format=self.placement.layout)
        shared = ()
        if self.sam_rho:
            with self.placement.autocast():
                shared = self.network.reusable(inputs)
        return inputs, targets, labels, shared

    def loss(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, labels: Tensor, shared: tuple[Any, ...]
    ) -> Outcome:
        output = model(inputs, *shared)
        logits, losses = output if isinstance(output, tuple) else (output, {})
        loss = self.criterion(logits, targets) + sum(losses.values())
        kept = {name: value.detach().expand(len(inputs)) for name, value in {"loss": loss, **losses}.items()}
        return Outcome(loss, kept | {"labels": labels, "logits": logits.detach().float()})

    def summary(self, kept: dict[str, Tensor]) -> Row:
        """Return ``train_*``: mean losses and metrics of the samples, each computed before the step that used it."""
        labels, logits = kept.pop("labels").cpu(), kept.pop("logits").cpu()
        means = {name: values.mean().item() for name, values in kept.items()}
        return {f"train_{name}": value for name, value in (means | scores(labels, logits)).items()}

    def evaluate(self, network: nn.Module, row: Row) -> Row:
        """Return ``<part>_*``: plain cross-entropy and every metric of the held-out parts."""
        measured: Row = {}
        for part, batches in self.held_out.items():
            found, logits = unmeasured(), None
            if batches is not None:
                logits, labels = answers(self.placement, network, batches)
                found = measured_part(logits, labels)
            measured |= {f"{part}_{name}": value for name, value in found.items()}
            if self.rules and part == "test" and logits is not None:  # the last part
                self.rules.keep(self.memory, row | measured, logits)
        return measured

    def kept(self, classes: list[str]) -> pd.DataFrame | None:
        """Return the table of :meth:`duchenne.training.rules.Rules.table`; None if logits were not kept."""
        return self.rules and self.rules.table(self.memory, classes)

    def score(self, row: Row) -> list[float] | None:
        return score(row, self.variant)

    def ended(self, rows: list[Row]) -> bool:
        """Whether all epochs are over, or the last one was good enough in validation."""
        enough = self.recipe.early_stop_above
        return super().ended(rows) or bool(rows and enough and rows[-1]["val_war"] > enough)


class Pretraining(Task):
    """Training without labels on the network's ``pretraining_loss``, at a constant rate and without SAM.

    It precedes :class:`Classification` and has its own optimiser and random draws.
    """

    name = "pretraining"
    reported = False

    def __init__(self, after: Classification) -> None:
        """Use the samples of the task ``after`` it."""
        recipe, title = after.recipe, f"{after.title} without labels"
        super().__init__(after.network, after.batches, after.draws, after.samples, recipe.pretrain_epochs, title)
        self.recipe = recipe.model_copy(update={"lr": recipe.pretrain_lr or recipe.lr, "schedule": "constant"})
        self.placement, self.clip_grad, self.first_draw = after.placement, recipe.clip_grad, recipe.epochs

    def module(self) -> nn.Module:
        return PretrainingLoss(self.network)

    def optimizer(self) -> Optimizer:
        return create_optimizer(self.recipe, self.network.parameters())

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        return create_scheduler(self.recipe, optimizer, len(self.batches))

    def prepare(self, inputs: Tensor, targets: Tensor, rows: Tensor) -> tuple[Any, ...]:
        return (inputs.to(memory_format=self.placement.layout),)

    def loss(self, model: nn.Module, inputs: Tensor) -> Outcome:
        loss = model(inputs)
        return Outcome(loss, {"loss": loss.detach().expand(len(inputs))})

    def summary(self, kept: dict[str, Tensor]) -> Row:
        """Return ``loss``, the mean over the samples."""
        return {"loss": kept["loss"].mean().item()}


class PretrainingLoss(nn.Module):
    """Wraps a network's loss without labels as a forward pass, which accelerate needs for several processes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.pretraining_loss(x)
