"""Onset and apex of micro-expressions, for networks that take two frames."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from duchenne.faces.store import FaceStore
from duchenne.training.data import Item
from duchenne.training.errors import TrainingError
from duchenne.training.settings import Augment

SIZE = 224
"""Height and width of a frame, px."""
APPLIES = {"hflip", "apex_random"}
"""Fields of a recipe's augmentation that apply to pairs."""


def apex_range(onset: int, apex: int, last: int, r: float) -> tuple[int, int]:
    """Return first and last frame (inclusive) that may replace the apex: Eqs. 2 and 3 of FRL-DGT's supplement.

    Args:
        last: number of the clip's last frame.
        r: distance from the apex, as a share of the distance from onset to apex.
    """
    reach = math.floor(round((apex - onset) * r, 9))  # 0.29 * 100 is 28.999999999999996
    first = max(onset + 1, apex - reach)
    return min(first, apex), min(apex + reach, last)  # one clip of CASME II has its apex at its onset


def farneback(onset: np.ndarray, apex: np.ndarray) -> np.ndarray:
    """Compute optical flow by polynomial expansion (Farnebäck 2003), with the parameters of OpenCV's example."""
    return cv2.calcOpticalFlowFarneback(
        onset, apex, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
    )


def dis(onset: np.ndarray, apex: np.ndarray) -> np.ndarray:
    """Compute optical flow by dense inverse search (Kroeger et al. 2016), OpenCV's preset "medium"."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(onset, apex, None)


FLOWS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"farneback": farneback, "dis": dis}
"""Optical flow by name: grey uint8 onset and apex (H, W) -> motion of the onset (H, W, 2), px right and down."""


KEPT = 10_000
"""Largest number of decoded frames that are kept: 0.5 GB of 50 kB each (chosen by us)."""


class PairImages(Dataset):
    """Onset and apex of each sample: ``[(row, seed)]`` -> (grey frames (2, 224, 224) in [0, 1], label, row).

    In training the apex is a random frame near the annotated one (supplement of FRL-DGT, Eqs. 2-4), drawn among those
    in the store, and both frames are mirrored together. The seed determines both. Decoded frames are kept
    (:data:`KEPT`), so that each is decoded once in all epochs.

    Args:
        rows: columns sample, label, onset and apex, as frame numbers of the store.
        augment: augmentation of the recipe; only ``hflip`` and ``apex_random`` apply to pairs.
        flow: name in :data:`FLOWS`; adds optical flow from onset to apex as channels 2 and 3, px right and down.
        train: whether to augment.

    Raises:
        TrainingError: A sample has no onset or no apex, its apex comes before its onset, the store lacks one of
            the two frames, or ``augment`` has fields that do not apply to pairs.
    """

    def __init__(
        self, store: FaceStore, rows: pd.DataFrame, augment: Augment, flow: str | None = None, train: bool = False
    ) -> None:
        if extra := sorted(augment.model_dump(exclude_defaults=True).keys() - APPLIES):
            raise TrainingError(f"recipe.augment: {', '.join(extra)} cannot be used on pairs of onset and apex")
        self.store, self.flow = store, FLOWS[flow] if flow else None
        self.hflip, self.apex_random = (augment.hflip, augment.apex_random) if train else (0.0, 0.0)
        self.samples, self.labels = rows["sample"].tolist(), rows["label"].tolist()
        self._grey_frames: dict[tuple[int, int], np.ndarray] = {}
        self.frames = []
        for sample, onset, apex in rows[["sample", "onset", "apex"]].itertuples(index=False):
            numbers = np.array(store.frame_numbers(sample))
            for name, number in (("onset", onset), ("apex", apex)):
                if pd.isna(number):
                    raise TrainingError(f"sample {sample!r} has no {name}: annotate it or leave the sample out")
                if number not in numbers:
                    span = f"frames {numbers[0]} to {numbers[-1]}"
                    raise TrainingError(f"sample {sample!r}: its {name} frame {number} is not among its faces ({span})")
            if apex < onset:
                raise TrainingError(f"sample {sample!r}: its apex {apex} comes before its onset {onset}")
            self.frames.append((onset, apex, numbers))

    @property
    def items(self) -> list[Item]:
        """List the items of an evaluation, in order."""
        return [(row, 0) for row in range(len(self.samples))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: Item) -> tuple[Tensor, int, int]:
        row, seed = item
        rng = np.random.default_rng(seed)
        onset, apex, numbers = self.frames[row]
        low, high = apex_range(onset, apex, numbers[-1], self.apex_random)
        chosen = rng.choice(numbers[(numbers >= low) & (numbers <= high)])
        grey = [self._grey(row, number) for number in (onset, chosen)]
        x = np.stack(grey).astype(np.float32) / 255
        if self.flow:
            x = np.concatenate([x, self.flow(*grey).transpose(2, 0, 1)])
        if rng.random() < self.hflip:
            x = x[:, :, ::-1].copy()
            x[2:3] *= -1  # flow to the right becomes flow to the left
        return torch.from_numpy(x), self.labels[row], row

    def _grey(self, row: int, number: int) -> np.ndarray:
        """Return a frame by its number: uint8 (224, 224), of those that are kept if it is one."""
        if (row, number) in self._grey_frames:
            return self._grey_frames[row, number]
        position = np.flatnonzero(self.frames[row][2] == number)[0]
        image = cv2.cvtColor(self.store.frame(self.samples[row], position), cv2.COLOR_RGB2GRAY)
        if image.shape != (SIZE, SIZE):
            image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        if len(self._grey_frames) < KEPT:
            self._grey_frames[row, number] = image
        return image
