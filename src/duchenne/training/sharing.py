"""Batches that several processes share, so that training gives what one process gives, up to rounding.

Each process computes a part of every batch. What concerns the whole batch is computed for the whole batch:

- the loss is the mean over the batch: parts of unequal size are weighted (:attr:`Part.weight`), and no sample is
  repeated to fill a part;
- BatchNorm in training mode takes the statistics of the batch (:func:`batch_norm`; :class:`torch.nn.SyncBatchNorm` on a
  GPU), with the running variance that one process would keep;
- mixup and CutMix mix a batch with itself in reverse order, so a process gets both samples of each such pair;
- every process draws the random numbers of dropout and stochastic depth for the whole batch, in the same order, and
  uses those of its samples.

A batch with fewer samples than there are processes is computed by every process, without exchange. Dropout inside
fused attention (``dropout_p`` of ``scaled_dot_product_attention``), which some networks of timm have as an option,
draws other numbers for another number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import BatchSampler, Sampler

from duchenne.models.batch import part_of_batch


@dataclass(frozen=True)
class Part:
    """The samples of a batch that a process computes.

    Attributes:
        positions: their positions in the batch, ascending.
        size: number of samples in the whole batch.
        weight: factor of the mean loss over the part, with which the mean of the processes' gradients is the gradient
            of the mean loss over the batch.
    """

    positions: tuple[int, ...]
    size: int
    weight: float

    @property
    def whole(self) -> bool:
        """Whether it is the whole batch."""
        return len(self.positions) == self.size


@dataclass(frozen=True)
class Share:
    """The share of a process in every batch.

    Attributes:
        rank: number of the process, from 0.
        processes: number of processes.
        mirrored: whether samples at the same distance from both ends of a batch stay together.
    """

    rank: int = 0
    processes: int = 1
    mirrored: bool = False

    def of(self, size: int) -> Part:
        """Return the part of a batch of ``size`` samples.

        >>> [Share(rank, processes=2).of(5).positions for rank in (0, 1)]
        [(0, 2, 4), (1, 3)]
        >>> [Share(rank, processes=2, mirrored=True).of(5).positions for rank in (0, 1)]
        [(0, 2, 4), (1, 3)]
        >>> [Share(rank, processes=2, mirrored=True).of(8).positions for rank in (0, 1)]
        [(0, 2, 5, 7), (1, 3, 4, 6)]
        >>> [Share(rank, processes=3).of(2).positions for rank in (0, 1, 2)]
        [(0, 1), (0, 1), (0, 1)]
        """
        units = math.ceil(size / 2) if self.mirrored else size
        if units < self.processes:
            return Part(tuple(range(size)), size, 1.0)
        mine = set(range(self.rank, units, self.processes))
        if self.mirrored:
            mine |= {size - 1 - i for i in mine}
        return Part(tuple(sorted(mine)), size, len(mine) * self.processes / size)


class Batches(BatchSampler):
    """The parts of a process in the batches of ``items``.

    Args:
        size: number of samples in a batch of all processes.
    """

    def __init__(self, items: Sampler | Sequence, size: int, share: Share = Share()) -> None:
        super().__init__(items, size, drop_last=False)
        count = len(cast(Sized, items))
        self.parts = [share.of(min(size, count - start)) for start in range(0, count, size)]

    def __iter__(self) -> Iterator[list[Any]]:
        for items, part in zip(super().__iter__(), self.parts, strict=True):
            yield [items[position] for position in part.positions]


class Synchronised:
    """BatchNorms of a network that is trained by several processes; converts those on a GPU in place."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._modules: list[nn.SyncBatchNorm] = []
        if device.type != "cpu":  # SyncBatchNorm refuses the CPU
            convert_sync_batchnorm(network)
            self._modules = [module for module in network.modules() if isinstance(module, nn.SyncBatchNorm)]
        self._alone, _ = dist.new_subgroups(group_size=1)

    @contextmanager
    def over(self, part: Part) -> Iterator[None]:
        """Inside the block a forward pass over a part computes as if over the whole batch."""
        for module in self._modules:
            module.process_group = self._alone if part.whole else None
        if part.whole:
            yield
            return
        with WholeBatch(part), part_of_batch(len(part.positions), part.size):
            yield


class WholeBatch(TorchFunctionMode):
    """Replaces the functions of a forward pass that concern a whole batch, for a process that has a part of it.

    It covers all modules that call these functions: every BatchNorm, dropout and stochastic depth of torch, torchvision
    and timm.
    """

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _OF_BATCH.get(function, _as_it_is)(function, self.part, *args, **(kwargs or {}))


def _as_it_is(function: Callable, part: Part, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _batch_norm(
    function: Callable,
    part: Part,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return function(x, running_mean, running_var, weight, bias, training, momentum, eps)
    return batch_norm(x, running_mean, running_var, weight, bias, momentum, eps)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise (B, C, ...) by mean and variance of the batches of all processes, as ``F.batch_norm`` does in training.

    Gradients flow through the statistics too, to the samples of all processes. Sums are in float64.
    """
    axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
    values = x if x.dtype == torch.float64 else x.float()
    own = values.sum(axes, dtype=torch.float64)
    sums = _sum(torch.cat([own, own.new_tensor([x.numel() // x.shape[1]])]))
    mean, count = sums[:-1] / sums[-1], sums[-1]
    centred = values - mean.to(values.dtype).view(shape)
    variance = _sum(centred.square().sum(axes, dtype=torch.float64)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    scale = (variance + eps).rsqrt().to(values.dtype)
    if weight is not None:
        scale = scale * weight
    normalised = centred * scale.view(shape)
    return (normalised if bias is None else normalised + bias.view(shape)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """Sum over the processes; the gradient is summed as well, because each process has a loss of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


_sum: Callable[[Tensor], Tensor] = _Sum.apply


def _dropout(
    function: Callable, part: Part, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    if not training or len(x) % len(part.positions):
        return function(x, p, training, inplace)
    kept = _drawn(partial(function, p=p, training=True), part, torch.ones_like(x))
    return x.mul_(kept) if inplace else x * kept


def _bernoulli_(function: Callable, part: Part, x: Tensor, p: Any = 0.5, **kwargs: Any) -> Tensor:
    if isinstance(p, Tensor) or len(x) % len(part.positions):
        return function(x, p, **kwargs)
    return x.copy_(_drawn(partial(function, p=p, **kwargs), part, x))


def _drawn(draw: Callable[[Tensor], Tensor], part: Part, x: Tensor) -> Tensor:
    """Draw for a tensor of the whole batch, and return the part that belongs to ``x`` (B or a multiple of it, ...)."""
    rows = len(x) // len(part.positions)
    whole = draw(x.new_ones(part.size * rows, *x.shape[1:]))
    return whole.unflatten(0, (part.size, rows))[list(part.positions)].flatten(0, 1)


_OF_BATCH: dict[Callable, Callable] = {
    F.batch_norm: _batch_norm,
    torch.Tensor.bernoulli_: _bernoulli_,
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d), _dropout),
}
"""Function -> what replaces it."""
