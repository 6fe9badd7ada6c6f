"""The training loop of any :class:`Task`: epochs of steps, each followed by measuring and a checkpoint.

Every random number is a function of the seed and the epoch: the generators are seeded when an epoch begins, and
samplers and augmentations have their own generators. So an interrupted run that resumes from its last complete epoch
ends with the same weights, bit for bit, as an uninterrupted one, and no generator state needs to be stored.

Several processes may share every batch (:mod:`duchenne.training.sharing`); their state is that of one process.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object, set_seed
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
from duchenne.training.sharing import Part, Synchronised

log = logging.getLogger(__name__)

Row = dict[str, float]
"""Results of an epoch: a row of the task's table."""


class Outcome(NamedTuple):
    """Result of a forward pass over a batch."""

    loss: Tensor
    """scalar, to minimise"""
    kept: dict[str, Tensor]
    """name -> (B, ...), one value per sample without gradient, for :meth:`Task.summary`; one of them is ``loss``"""


class Task(ABC):
    """Definition of a training task: batches, their loss, and measurements after an epoch.

    Args:
        network: network to train.
        batches: batches (inputs (B, ...), targets (B, ...), rows (B,)) of :class:`duchenne.training.sharing.Batches`,
            on the device.
        draws: samples of an epoch.
        samples: name of each row, for messages.
        epochs: maximum number of epochs.
        title: title of the progress bar.
    """

    name = "history"
    """Name of the task; its table of epochs is ``<name>.csv``."""
    shown: str | None = None
    """Column of the last row that the progress bar shows besides the loss."""
    reported = True
    """Whether one of its epochs is the result; other tasks only provide initial weights."""
    first_draw = 0
    """Number of its first epoch in the series of random draws; different for the tasks of a run."""
    sam_rho: float | None = None
    """Radius of sharpness-aware minimisation; None: one pass per step."""
    clip_grad: float | None = None
    """Largest norm of the gradient."""
    memory: dict[str, Any] | None = None
    """What it keeps over the epochs besides its rows, as tensors and plain values; part of the state."""

    def __init__(
        self, network: nn.Module, batches: DataLoader, draws: Sized, samples: Sequence[str], epochs: int, title: str
    ) -> None:
        self.network, self.batches, self.draws = network, batches, draws
        self.samples, self.epochs, self.title = samples, epochs, title

    @abstractmethod
    def optimizer(self) -> Optimizer:
        """Create an optimiser."""

    @abstractmethod
    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """Create a learning-rate schedule, stepped after every step of the optimiser."""

    def module(self) -> nn.Module:
        """Return the module that computes the loss, which accelerate wraps for several processes."""
        return self.network

    @abstractmethod
    def prepare(self, inputs: Tensor, targets: Tensor, rows: Tensor) -> tuple[Any, ...]:
        """Return further arguments of :meth:`loss` for a batch; called once per step, even if SAM runs two passes.

        Of a batch that several processes share it gets the part of this one, as :meth:`loss` does.
        """

    @abstractmethod
    def loss(self, model: nn.Module, *prepared: Any) -> Outcome:
        """Run a forward pass; called under autocast. The loss is a mean over the samples.

        Args:
            model: :meth:`module`, wrapped by accelerate.
        """

    @abstractmethod
    def summary(self, kept: dict[str, Tensor]) -> Row:
        """Return columns on the training of an epoch, from :attr:`Outcome.kept` of all its samples (N, ...)."""

    def evaluate(self, network: nn.Module, row: Row) -> Row:
        """Return columns measured after an epoch.

        Args:
            network: :attr:`network`, or its average.
            row: number and columns of the epoch so far.
        """
        return {}

    def score(self, row: Row) -> list[float] | None:
        """Return the score that the best epoch maximises; None: the last epoch is reported."""
        return None

    def ended(self, rows: Sequence[Row]) -> bool:
        """Whether training is over after these epochs."""
        return len(rows) >= self.epochs

    def weights(self, network: nn.Module) -> Mapping[str, Tensor]:
        """Return the weights to keep of the best epoch."""
        return network.state_dict()


class Trainer:
    """Trains a network on one task after another, and keeps the state after every epoch.

    Args:
        network: moved to the device in place; with several processes its BatchNorms are those of the batch.
        checkpoints: where states are written and read.
        ema_decay: decay of an average of the weights over the steps of reported tasks, with warm-up (timm's
            ``ModelEmaV3``), which is measured and kept instead of the weights; None: no average.
        compile: run the network through ``torch.compile``.
        on_epoch: called in the main process with every new row of a reported task, after it is saved.
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
        several = self.accelerator.num_processes > 1
        self.synchronised = Synchronised(network, self.accelerator.device) if several else None
        self.network = network.to(self.accelerator.device, memory_format=placement.layout)
        self.average = ModelEmaV3(network, ema_decay, use_warmup=True) if ema_decay else None
        if compile:
            network.compile()
        self.tables: dict[str, list[Row]] = {}
        self.selected, self.best = 0, None

    @property
    def reported(self) -> nn.Module:
        """The network that is measured: the average, if there is one."""
        return self.average.module if self.average else self.network

    def fit(self, *tasks: Task) -> int:
        """Train each task in turn, starting from the last complete epoch of an earlier call.

        Returns:
            The epoch (from 1) of the reported task whose weights are kept.

        Raises:
            TrainingError: A loss is not finite, or the stored state is damaged.
        """
        saved = self._resume()
        for task in tasks:
            rows = self.tables.setdefault(task.name, [])
            if rows and saved:
                task.memory = saved.get("task")
            if not task.ended(rows):
                self._start(task, saved if rows else None)
                self._train(rows)
        return self.selected

    def _resume(self) -> dict[str, Any] | None:
        """Restore the parts of the state that do not depend on the current task; returns the state, or None."""
        if saved := self.checkpoints.resume(self.accelerator.device):
            self.tables, self.selected, self.best = saved["tables"], saved["selected"], saved["best"]
            self.network.load_state_dict(saved["network"])
            if self.average:
                self.average.module.load_state_dict(saved["average"])
            log.info("%s: resumes after %d epochs", self.checkpoints.folder, saved["epoch"])
        return saved

    def _start(self, task: Task, saved: Mapping[str, Any] | None) -> None:
        """Make ``task`` the current one, with optimiser and schedule from ``saved``."""
        self.task = task
        self.model = self.accelerator.prepare(task.module())
        self.optimizer = task.optimizer()
        self.scheduler = task.scheduler(self.optimizer)
        if saved:
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scheduler.load_state_dict(saved["scheduler"])

    def _train(self, rows: list[Row]) -> None:
        """Add epochs to ``rows`` until the current task has ended."""
        task, size = self.task, len(self.task.draws)
        hidden = not self.accelerator.is_main_process
        # without smoothing, the remaining time includes the measuring between epochs
        progress = {"total": task.epochs * size, "initial": len(rows) * size, "unit": "sample", "smoothing": 0}
        with tqdm(desc=task.title, disable=hidden, **progress) as bar:
            while not task.ended(rows):
                began = time.perf_counter()
                row = {"epoch": len(rows) + 1} | self._epoch(rows, bar)
                speed = size / (time.perf_counter() - began)
                row |= task.evaluate(self.reported, row)
                row |= {"seconds": time.perf_counter() - began, "images_per_second": speed}
                rows.append(row | {"ended": round(time.time(), 3)})
                self._keep(rows)

    def _epoch(self, rows: list[Row], bar: tqdm) -> Row:
        """Train the epoch after ``rows``; returns ``lr`` of its last step and the task's summary."""
        task, epoch = self.task, len(rows)
        set_seed(epoch_seed(self.seed, task.first_draw + epoch))  # the same in all processes: see sharing
        task.batches.set_epoch(task.first_draw + epoch)
        self.model.train()
        shown = {task.shown: f"{rows[-1][task.shown]:.2f}"} if rows and task.shown else {}
        kept: dict[str, list[Tensor]] = {}
        parts = zip(task.batches.batch_sampler.parts, task.batches, strict=True)
        for step, (part, batch) in enumerate(parts, epoch * len(task.batches)):
            lr = self.scheduler.get_last_lr()[0]
            outcome = self._step(batch, f"{task.title}, epoch {epoch + 1}, step {step + 1}, lr {lr:g}", part)
            if self.average and task.reported:
                self.average.update(self.network, step)
            if self.accelerator.is_main_process or not part.whole:
                for name, values in outcome.kept.items():
                    kept.setdefault(name, []).append(values)
            if self.accelerator.is_main_process:
                loss = torch.cat(kept["loss"][-20:]).mean()
                bar.set_postfix({"loss": f"{loss:.2f}"} | shown, refresh=False)
            bar.update(part.size)
        own = {name: torch.cat(values).cpu() for name, values in kept.items()}
        found = [values for values in gather_object([own]) if values]
        return {"lr": lr} | task.summary({name: torch.cat([values[name] for values in found]) for name in found[0]})

    def _step(self, batch: tuple[Tensor, Tensor, Tensor], place: str, part: Part | None = None) -> Outcome:
        """Run one step of the optimiser, with SAM in two passes; returns the outcome of the first.

        Args:
            part: part of the batch that ``batch`` is; None: all of it.
        """
        task = self.task
        with self._whole(part):
            prepared = task.prepare(*batch)
        first = self._backward(prepared, part)
        finite = first.loss.isfinite()
        if task.sam_rho:
            with ascended(self.network.parameters(), task.sam_rho):
                finite &= self._backward(prepared, part).loss.isfinite()
        if not finite:
            names = ", ".join(task.samples[row] for row in batch[-1].tolist())
            raise TrainingError(
                f"the loss is not finite in {place}: lower the lr or check the samples {names}. "
                "The previous epochs are kept."
            )
        if task.clip_grad:
            nn.utils.clip_grad_norm_(self.network.parameters(), task.clip_grad)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return first

    def _backward(self, prepared: tuple[Any, ...], part: Part | None) -> Outcome:
        with self._whole(part), self.placement.autocast():
            outcome = self.task.loss(self.model, *prepared)
        self.accelerator.backward(outcome.loss if part is None else outcome.loss * part.weight)
        return outcome

    def _whole(self, part: Part | None) -> AbstractContextManager[None]:
        """Return the context of a forward pass over a part of a batch, in which the whole batch counts."""
        return self.synchronised.over(part) if self.synchronised and part else nullcontext()

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
            "task": task.memory,
            "network": self.network.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        self.checkpoints.save(state, task.weights(self.reported) if chosen else None)
        if task.reported and self.on_epoch:
            self.on_epoch(row)


def epoch_seed(seed: int, epoch: int) -> int:
    """Return a seed in [0, 2^31) that other pairs of seed and epoch are unlikely to share."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1)
