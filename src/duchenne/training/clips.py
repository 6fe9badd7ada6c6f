"""Clips of a video's faces: which frames, and as what.

The sampling is that of IFDD's official code (CyberPegasus/IFDD, core/datasets), which has one form a dataset:

- a window is ``frames`` frames, each ``stride`` after the one before;
- DFEW: trains on one window that begins anywhere, tests on all windows one after another from the first frame on,
  what is left at the end dropped, and averages their logits;
- FERV39k and MAFW: one window that begins anywhere, in testing too; here that draw follows from the sample's name.

A video shorter than a window is stretched to its length: each frame comes floor(window / length) times, and the first
(FERV39k) or last (MAFW) ``window mod length`` frames once more. DFEW's code leaves such videos out; we do not.

The paper says "uniformly sampled": here these are the middles of as many equal parts, a choice of this
package, and the stride has no meaning.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms import v2

from duchenne.faces.store import FaceStore
from duchenne.training.augment import seeded
from duchenne.training.data import FaceImages, Item
from duchenne.training.settings import Clip


def window(clip: Clip) -> int:
    """Frames from the first to the last of a window."""
    return (clip.frames - 1) * clip.stride + 1


def stretched(length: int, clip: Clip) -> np.ndarray:
    """Positions 0 ... length - 1, where need be repeated in order up to the length of a window."""
    positions = np.arange(length)
    times, more = divmod(window(clip), length)
    if not times:
        return positions
    extra = positions < more if clip.repeat == "first" else positions >= length - more
    return np.repeat(positions, times + extra)


def _window_at(start: int, line: np.ndarray, clip: Clip) -> np.ndarray:
    return line[start : start + window(clip) : clip.stride]


def random_window(length: int, clip: Clip, seed: int) -> np.ndarray:
    """A window that begins anywhere, every place as likely."""
    line = stretched(length, clip)
    return _window_at(int(np.random.default_rng(seed).integers(len(line) - window(clip) + 1)), line, clip)


def nth_window(length: int, clip: Clip, view: int) -> np.ndarray:
    """The ``view``-th (from 0) of the windows that follow one another from the first frame on."""
    return _window_at(view * window(clip), stretched(length, clip), clip)


def uniform(length: int, clip: Clip, seed: int) -> np.ndarray:
    """The middles of ``clip.frames`` equal parts."""
    return ((np.arange(clip.frames) + 0.5) * length / clip.frames).astype(int)


SAMPLING: dict[str, Callable[[int, Clip, int], np.ndarray]] = {
    "random_window": random_window,
    "windows": nth_window,
    "uniform": uniform,
}
"""(length, clip, seed or view) -> positions (clip.frames,) of the frames in the video."""


class FaceClips(FaceImages):
    """Frames of each video: ``[(row, seed)]`` -> (clip float (3, T, S, S), label, row).

    In testing the second number of an item is the view where ``clip.test`` is ``windows``.

    Args:
        rows: columns sample and label.
        transform: of the frames (T, 3, H, W) together.
        train: sample as in training.
    """

    def __init__(
        self, store: FaceStore, rows: pd.DataFrame, transform: v2.Transform, clip: Clip, train: bool = False
    ) -> None:
        super().__init__(store, rows, transform)
        self.clip, self._sampling = clip, clip.train if train else clip.test
        self.lengths = [len(store.frame_numbers(sample)) for sample in self.samples]

    @property
    def items(self) -> list[Item]:
        """One a window, or one a video."""
        if self._sampling == "windows":
            views = [max(length // window(self.clip), 1) for length in self.lengths]
            return [(row, view) for row, count in enumerate(views) for view in range(count)]
        return [(row, zlib.crc32(sample.encode())) for row, sample in enumerate(self.samples)]

    def __getitem__(self, item: Item) -> tuple[Tensor, int, int]:
        row, seed = item
        positions, places = np.unique(SAMPLING[self._sampling](self.lengths[row], self.clip, seed), return_inverse=True)
        frames = np.stack([self.store.frame(self.samples[row], int(i)) for i in positions])[places]
        images = seeded(self.transform, torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(), seed)
        return images.transpose(0, 1).contiguous(), self.labels[row], row
