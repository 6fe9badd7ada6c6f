"""Faces of a store as batches for a network, in an order that follows from seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from duchenne.catalog import Compute
from duchenne.faces import FaceStore
from duchenne.training.augment import seeded

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

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: Item) -> tuple[Tensor, int, int]:
        row, seed = item
        frame = torch.from_numpy(self.store.frame(self.samples[row])).permute(2, 0, 1).contiguous()
        return seeded(self.transform, frame, seed), self.labels[row], row


class Draws(Sampler[Item]):
    """Which samples an epoch trains on, in which order and with which augmentation.

    ``balanced`` draws with replacement, each sample with weight 1 / size of its class, as many as there are samples
    (the official AffectNet recipe); else every sample comes once. A last batch of one sample is left out: BatchNorm
    cannot train on it.
    """

    def __init__(self, labels: Sequence[int], batch_size: int, balanced: bool, seed: int) -> None:
        self.labels, self.balanced, self.seed, self.epoch = np.asarray(labels), balanced, seed, 0
        lonely = batch_size > 1 and len(labels) % batch_size == 1
        self._count = len(labels) - lonely

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


def loader(faces: FaceImages, batch_size: int, compute: Compute, draws: Draws | None = None) -> DataLoader:
    """Batches of (images (B, 3, S, S), labels (B,), rows (B,)): those of ``draws``, or each sample once in order."""
    return DataLoader(
        faces,
        batch_size,
        sampler=[(row, 0) for row in range(len(faces))] if draws is None else draws,
        num_workers=compute.loader_workers,
        persistent_workers=compute.loader_workers > 0,
        pin_memory=torch.accelerator.is_available(),
        generator=torch.Generator(),  # its own, so that starting workers draws nothing from the global one
    )
