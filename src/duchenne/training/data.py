"""Batches of a store's faces for a network, in an order that depends only on seed and epoch."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from duchenne.faces.store import FaceStore
from duchenne.training.augment import seeded
from duchenne.training.sharing import Batches, Share

Item = tuple[int, int]
"""Position of a sample in its part, and the seed of its augmentation."""


class FaceImages(Dataset):
    """The first frame of each sample: ``[(row, seed)]`` -> (image float (3, S, S), label, row).

    Args:
        rows: columns sample and label.
    """

    def __init__(self, store: FaceStore, rows: pd.DataFrame, transform: v2.Transform) -> None:
        self.store, self.transform = store, transform
        self.samples, self.labels = rows["sample"].tolist(), rows["label"].tolist()

    @property
    def items(self) -> list[Item]:
        """List the items of an evaluation, in order."""
        return [(row, 0) for row in range(len(self.samples))]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: Item) -> tuple[Tensor, int, int]:
        row, seed = item
        frame = torch.from_numpy(self.store.frame(self.samples[row])).permute(2, 0, 1).contiguous()
        return seeded(self.transform, frame, seed), self.labels[row], row


class Draws(Sampler[Item]):
    """Draws the samples of a training epoch, with their order and augmentation.

    ``balanced`` draws as many samples as there are, with replacement and weight 1 / size of the class (the official
    AffectNet recipe); otherwise every sample comes once. A last batch of one sample is left out, because BatchNorm
    cannot train on it. With ``drop_last`` any last batch that is not full is left out, unless it is the only one.
    """

    def __init__(
        self, labels: Sequence[int], batch_size: int, balanced: bool, seed: int, drop_last: bool = False
    ) -> None:
        self.labels, self.balanced, self.seed, self.epoch = np.asarray(labels), balanced, seed, 0
        whole, rest = divmod(len(labels), batch_size)
        drop = (drop_last and whole > 0) or (rest == 1 and batch_size > 1)
        self._count = len(labels) - rest * drop

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        rng = np.random.default_rng([self.seed, self.epoch])
        weights = None
        if self.balanced:
            weights = 1 / np.bincount(self.labels)[self.labels]
            weights /= weights.sum()
        rows = rng.choice(len(self.labels), size=self._count, replace=self.balanced, p=weights)
        seeds = rng.integers(2**63, size=self._count)
        return zip(rows.tolist(), seeds.tolist(), strict=True)


def loader(
    faces: FaceImages,
    batch_size: int,
    workers: int = 0,
    draws: Draws | None = None,
    share: Share = Share(),  # noqa: B008  (frozen)
) -> DataLoader:
    """Load batches (inputs (B, ...), labels (B,), rows (B,)) of ``draws``, or of all ``faces.items`` in order.

    Args:
        workers: number of processes that load; 0: this one. The batches are the same for any number.
        share: part of this process, in each batch of ``draws``, or of ``faces.items``: then in no fixed batches,
            because without gradient these do not matter.
    """
    if draws is None:
        batches = Batches(faces.items[share.rank :: share.processes], batch_size)
    else:
        batches = Batches(draws, batch_size, share)
    return DataLoader(
        faces,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=_start_method() if workers else None,
        pin_memory=torch.accelerator.is_available(),
        generator=torch.Generator(),  # so that starting workers does not use the global generator
    )


def _start_method() -> str:
    """Start method of a loader's processes: Python's default, except in the process of a fold.

    There joblib has set its own method, which cannot start further processes.
    """
    method = multiprocessing.get_start_method()
    if method in multiprocessing.get_all_start_methods():
        return method
    return "fork" if sys.platform == "linux" else "spawn"


def over_views(values: Tensor, rows: Tensor) -> Tensor:
    """Average the values (N, ...) that have the same row (N,), in ascending order of the row: (samples, ...)."""
    samples, places = rows.unique(return_inverse=True)
    total = values.new_zeros(len(samples), *values.shape[1:]).index_add_(0, places, values)
    return total / places.bincount().view(-1, *[1] * (values.ndim - 1))
