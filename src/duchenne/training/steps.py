"""One epoch of training, step by step: with labels, and before that without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm

from duchenne.training.augment import Mixing
from duchenne.training.device import Precision, autocast
from duchenne.training.errors import TrainingError
from duchenne.training.losses import Loss, create_loss
from duchenne.training.measure import scores
from duchenne.training.optim import learning_rate
from duchenne.training.sam import ascended
from duchenne.training.settings import Recipe


class Pretext(nn.Module):
    """A network's loss without labels as a forward pass, which is what accelerate watches over several processes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.pretraining_loss(x)


@dataclass(frozen=True)
class Steps:
    """What every step needs.

    Attributes:
        network: as it was created.
        names: training samples by row.
        model: the network as accelerate wraps it; for an epoch without labels its :class:`Pretext`, wrapped.
        average: of the weights, updated after every step.
        shares: of the classes for every training sample (N, classes), which the loss compares with; None: labels.
    """

    accelerator: Accelerator
    recipe: Recipe
    network: nn.Module
    batches: DataLoader
    names: list[str]
    classes: int
    layout: torch.memory_format
    precision: Precision
    model: nn.Module
    optimizer: Optimizer
    average: ModelEmaV3 | None = None
    shares: Tensor | None = None

    def epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        """Train for the ``epoch``-th epoch (from 0): lr of its last step, then ``train_*``.

        Those are loss, further losses of the network, and every metric.

        Raises:
            TrainingError: a loss is not finite.
        """
        recipe, network = self.recipe, self.network
        mix = Mixing(recipe.mix, self.classes) if recipe.mix else None
        loss_of = create_loss(recipe)
        # In SAM's second pass a landmark branch that normalises by fixed statistics would give the same maps again.
        reuse = recipe.sam_rho is not None and getattr(network, "landmark_bn_frozen", False)
        self.model.train()
        kept: dict[str, list[Tensor]] = {"loss": []}
        targets: list[Tensor] = []  # label of each sample, (batch,) a step
        answers: list[Tensor] = []  # its logits, (batch, classes) a step
        for step, (x, labels, rows) in enumerate(self.batches, epoch * len(self.batches)):
            target = labels if self.shares is None else self.shares[rows]
            if mix:
                x, target = mix(x, target)
                labels = target.argmax(1)
            x = x.to(memory_format=self.layout)
            with autocast(self.accelerator.device, self.precision):
                maps = (network.landmark_maps(x),) if reuse else ()
            lr = learning_rate(recipe, step, len(self.batches))
            place = f"epoch {epoch + 1}, step {step + 1}"
            backward = partial(self._labelled, loss_of, x, target, maps)
            loss, logits, losses = self._step(backward, lr, rows, place, recipe.sam_rho)
            if self.average:
                self.average.update(network, step)

            targets.append(self.accelerator.gather(labels))
            answers.append(self.accelerator.gather(logits.float()))
            for name, value in {"loss": loss, **losses}.items():
                kept.setdefault(name, []).append(self.accelerator.gather(value.expand(len(x))))
            right = torch.cat(targets[-20:]) == torch.cat(answers[-20:]).argmax(1)
            shown = {"loss": torch.cat(kept["loss"][-20:]).mean(), "war": right.float().mean()}
            bar.set_postfix({name: f"{value:.2f}" for name, value in shown.items()}, refresh=False)
            bar.update(len(answers[-1]))
        means = {name: torch.cat(values).mean().item() for name, values in kept.items()}
        measured = means | scores(torch.cat(targets).cpu(), torch.cat(answers).cpu())
        return {"lr": lr} | {f"train_{name}": value for name, value in measured.items()}

    def epoch_without_labels(self, epoch: int, bar: tqdm) -> dict[str, float]:
        """Train on the network's own loss for an epoch at the recipe's pretrain_lr, without SAM: its mean.

        Raises:
            TrainingError: a loss is not finite.
        """
        self.model.train()
        lr = self.recipe.pretrain_lr or self.recipe.lr
        kept = []
        for step, (x, _, rows) in enumerate(self.batches, epoch * len(self.batches)):
            place = f"epoch {epoch + 1} without labels, step {step + 1}"
            backward = partial(self._unlabelled, x.to(memory_format=self.layout))
            (loss,) = self._step(backward, lr, rows, place)
            kept.append(self.accelerator.gather(loss.expand(len(x))))
            bar.update(len(kept[-1]))
        return {"loss": torch.cat(kept).mean().item()}

    def _labelled(
        self, loss_of: Loss, x: Tensor, target: Tensor, maps: tuple
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Forward and backward: the whole loss, the logits, and the losses of the network's own."""
        with autocast(self.accelerator.device, self.precision):
            output = self.model(x, *maps)
            logits, losses = output if isinstance(output, tuple) else (output, {})
            loss = loss_of(logits, target) + sum(losses.values())
        self.accelerator.backward(loss)
        return loss.detach(), logits.detach(), {name: value.detach() for name, value in losses.items()}

    def _unlabelled(self, x: Tensor) -> tuple[Tensor]:
        with autocast(self.accelerator.device, self.precision):
            loss = self.model(x)
        self.accelerator.backward(loss)
        return (loss.detach(),)

    def _step(
        self, backward: Callable[[], tuple], lr: float, rows: Tensor, place: str, rho: float | None = None
    ) -> tuple:
        """One step of the optimiser, with SAM two passes; returns what the first gave."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        first = backward()
        finite = first[0].isfinite()
        if rho:
            with ascended(self.network.parameters(), rho):
                finite &= backward()[0].isfinite()
        if not finite:
            names = ", ".join(self.names[row] for row in rows.tolist())
            raise TrainingError(
                f"the loss is not finite in {place}, lr {lr:g}: lower the lr or look at the samples {names}. "
                "What the epochs before learnt is kept."
            )
        if self.recipe.clip_grad:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return first
