"""The training loop: epochs of steps, then measuring and a checkpoint, for whatever a :class:`Task` says to learn.

Every random number is a function of the seed and the epoch: the generators are seeded anew when an epoch begins, and
samplers and augmentations have generators of their own. So a killed run that resumes from its last whole epoch ends
with the same weights, bit for bit, as one that was never interrupted, and no state of a generator need be stored.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import set_seed
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from duchenne.training.checkpoint import Checkpoints
from duchenne.training.device import Placement, reuse_memory
from duchenne.training.errors import TrainingError
from duchenne.training.sam import ascended

log = logging.getLogger(__name__)

Row = dict[str, float]
"""What is known of an epoch: a row of the task's table."""


class Outcome(NamedTuple):
    """Result of a forward pass over a batch."""

    loss: Tensor
    """scalar, to minimise"""
    kept: dict[str, Tensor]
    """name -> (B, ...), a value a sample without gradient, for :meth:`Task.summary`; one of them is ``loss``"""


class Task(ABC):
    """What to train a network for: batches, the loss of one, and what is measured after an epoch.

    Args:
        network: whose parameters are trained.
        batches: of (inputs (B, ...), targets (B, ...), rows (B,)), as accelerate prepared them.
        draws: samples of an epoch.
        samples: name of each row, for messages.
        epochs: how many there are at most.
        title: of the progress bar.
    """

    name = "history"
    """Its table of epochs is ``<name>.csv``."""
    shown: str | None = None
    """Column of the last row that the progress bar shows beside the loss."""
    reported = True
    """Whether one of its epochs is the result; the weights of the others serve as a start."""
    first_draw = 0
    """Number of its first epoch in the series of random draws; two tasks of a run have different ones."""
    sam_rho: float | None = None
    """Radius of sharpness-aware minimisation; None: one pass a step."""
    clip_grad: float | None = None
    """Largest norm of the gradient."""

    def __init__(
        self, network: nn.Module, batches: DataLoader, draws: Sized, samples: Sequence[str], epochs: int, title: str
    ) -> None:
        self.network, self.batches, self.draws = network, batches, draws
        self.samples, self.epochs, self.title = samples, epochs, title

    @abstractmethod
    def optimizer(self) -> Optimizer:
        """A new optimiser."""

    @abstractmethod
    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """A new learning-rate schedule, stepped after every step of the optimiser."""

    def module(self) -> nn.Module:
        """What is called for the loss, and what accelerate watches over several processes."""
        return self.network

    @abstractmethod
    def prepare(self, inputs: Tensor, targets: Tensor, rows: Tensor) -> tuple[Any, ...]:
        """Further arguments of :meth:`loss` for a batch; made once a step, also where SAM passes it twice."""

    @abstractmethod
    def loss(self, model: nn.Module, *prepared: Any) -> Outcome:
        """Forward pass; called under autocast.

        Args:
            model: :meth:`module`, wrapped by accelerate.
        """

    @abstractmethod
    def summary(self, kept: dict[str, Tensor]) -> Row:
        """Columns that describe the training of an epoch, from :attr:`Outcome.kept` of all its samples (N, ...)."""

    def evaluate(self, network: nn.Module) -> Row:
        """Columns that are measured after an epoch.

        Args:
            network: :attr:`network`, or its average.
        """
        return {}

    def score(self, row: Row) -> list[float] | None:
        """What the best epoch has most of; None: the last epoch is the one that is reported."""
        return None

    def ended(self, rows: Sequence[Row]) -> bool:
        """Whether training is over after these epochs."""
        return len(rows) >= self.epochs

    def weights(self, network: nn.Module) -> Mapping[str, Tensor]:
        """What is kept of the best epoch."""
        return network.state_dict()


class Trainer:
    """Trains a network for one task after the other, and keeps the state after every epoch.

    Args:
        network: moved to the device in place.
        checkpoints: where states are kept and looked for.
        ema_decay: of an average of the weights over the steps of reported tasks, which is then measured and kept
            instead of them; it warms up: timm's ``ModelEmaV3``.
        compile: run the network through ``torch.compile``.
        on_epoch: called in the main process with every new row of a reported task, once it is saved.
    """

    def __init__(
        self,
        network: nn.Module,
        placement: Placement,
        checkpoints: Checkpoints,
        seed: int,
        ema_decay: float | None = None,
        compile: bool = False,
        on_epoch: Callable[[Row], None] | None = None,
    ) -> None:
        self.accelerator, self.placement = placement.accelerator, placement
        self.checkpoints, self.seed, self.on_epoch = checkpoints, seed, on_epoch
        reuse_memory()
        torch.backends.cudnn.deterministic = True
        self.network = network.to(self.accelerator.device, memory_format=placement.layout)
        self.average = ModelEmaV3(network, ema_decay, use_warmup=True) if ema_decay else None
        if compile:
            network.compile()
        self.tables: dict[str, list[Row]] = {}
        self.selected, self.best = 0, None

    @property
    def reported(self) -> nn.Module:
        """The network that is measured: the average where there is one."""
        return self.average.module if self.average else self.network

    def fit(self, *tasks: Task) -> int:
        """Train for each task in turn, from the last whole epoch of an earlier call on.

        Returns:
            The epoch of the reported task whose weights are kept, from 1.

        Raises:
            TrainingError: a loss is not finite, or the stored state is damaged.
        """
        saved = self._resume()
        for task in tasks:
            rows = self.tables.setdefault(task.name, [])
            if not task.ended(rows):
                self._start(task, saved if rows else None)
                self._train(rows)
        return self.selected

    def _resume(self) -> dict[str, Any] | None:
        """Restore what does not depend on the task at hand; returns the whole state, None without one."""
        if saved := self.checkpoints.resume(self.accelerator.device):
            self.tables, self.selected, self.best = saved["tables"], saved["selected"], saved["best"]
            self.network.load_state_dict(saved["network"])
            if self.average:
                self.average.module.load_state_dict(saved["average"])
            log.info("%s: resumes after %d epochs", self.checkpoints.folder, saved["epoch"])
        return saved

    def _start(self, task: Task, saved: Mapping[str, Any] | None) -> None:
        """Make ``task`` the one at hand, with its optimiser and schedule as ``saved``."""
        self.task = task
        self.model = self.accelerator.prepare(task.module())
        self.optimizer = task.optimizer()
        self.scheduler = task.scheduler(self.optimizer)
        if saved:
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scheduler.load_state_dict(saved["scheduler"])

    def _train(self, rows: list[Row]) -> None:
        """Add epochs to ``rows`` until the task at hand has ended."""
        task, size = self.task, len(self.task.draws)
        hidden = not self.accelerator.is_main_process
        # without smoothing the remaining time counts the measuring between epochs in
        progress = {"total": task.epochs * size, "initial": len(rows) * size, "unit": "sample", "smoothing": 0}
        with tqdm(desc=task.title, disable=hidden, **progress) as bar:
            while not task.ended(rows):
                began = time.perf_counter()
                row = {"epoch": len(rows) + 1} | self._epoch(rows, bar)
                speed = size / (time.perf_counter() - began)
                row |= task.evaluate(self.reported)
                row |= {"seconds": time.perf_counter() - began, "images_per_second": speed}
                rows.append(row | {"ended": round(time.time(), 3)})
                self._keep(rows)

    def _epoch(self, rows: list[Row], bar: tqdm) -> Row:
        """Train for the epoch after ``rows``: ``lr`` of its last step and the task's summary."""
        task, epoch = self.task, len(rows)
        set_seed(epoch_seed(self.seed, task.first_draw + epoch), device_specific=True)
        task.batches.set_epoch(task.first_draw + epoch)
        self.model.train()
        shown = {task.shown: f"{rows[-1][task.shown]:.2f}"} if rows and task.shown else {}
        kept: dict[str, list[Tensor]] = {}
        for step, batch in enumerate(task.batches, epoch * len(task.batches)):
            lr = self.scheduler.get_last_lr()[0]
            outcome = self._step(batch, f"{task.title}, epoch {epoch + 1}, step {step + 1}, lr {lr:g}")
            if self.average and task.reported:
                self.average.update(self.network, step)
            for name, values in outcome.kept.items():
                kept.setdefault(name, []).append(self.accelerator.gather(values))
            loss = torch.cat(kept["loss"][-20:]).mean()
            bar.set_postfix({"loss": f"{loss:.2f}"} | shown, refresh=False)
            bar.update(len(kept["loss"][-1]))
        return {"lr": lr} | task.summary({name: torch.cat(values) for name, values in kept.items()})

    def _step(self, batch: tuple[Tensor, Tensor, Tensor], place: str) -> Outcome:
        """One step of the optimiser, with SAM two passes; returns what the first gave."""
        task = self.task
        prepared = task.prepare(*batch)
        first = self._backward(prepared)
        finite = first.loss.isfinite()
        if task.sam_rho:
            with ascended(self.network.parameters(), task.sam_rho):
                finite &= self._backward(prepared).loss.isfinite()
        if not finite:
            names = ", ".join(task.samples[row] for row in batch[-1].tolist())
            raise TrainingError(
                f"the loss is not finite in {place}: lower the lr or look at the samples {names}. "
                "The epochs before are kept."
            )
        if task.clip_grad:
            nn.utils.clip_grad_norm_(self.network.parameters(), task.clip_grad)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return first

    def _backward(self, prepared: tuple[Any, ...]) -> Outcome:
        with self.placement.autocast():
            outcome = self.task.loss(self.model, *prepared)
        self.accelerator.backward(outcome.loss)
        return outcome

    def _keep(self, rows: list[Row]) -> None:
        """Write the state after the last of ``rows``, and its weights when it is the best epoch so far."""
        task, row = self.task, rows[-1]
        chosen = False
        if task.reported:
            score = task.score(row)
            chosen = task.ended(rows) if score is None else self.best is None or score > self.best
        if chosen:
            self.selected, self.best = len(rows), score
        if not self.accelerator.is_main_process:
            return
        state = {
            "epoch": sum(map(len, self.tables.values())),
            "tables": self.tables,
            "selected": self.selected,
            "best": self.best,
            "network": self.network.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        self.checkpoints.save(state, task.weights(self.reported) if chosen else None)
        if task.reported and self.on_epoch:
            self.on_epoch(row)


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed in [0, 2^31) that no other pair of seed and epoch is likely to share."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1)
