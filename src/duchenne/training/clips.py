"""Clips of a video's faces: choice of frames and conversion to inputs.

The sampling is that of IFDD's official code (CyberPegasus/IFDD, core/datasets), which has one form per dataset:

- a window is ``frames`` frames, each ``stride`` after the one before;
- DFEW: trains on one window at a random position, tests on all consecutive complete windows from the first frame on,
  and averages their logits;
- FERV39k and MAFW: one window at a random position, also in testing; here that draw is seeded by the sample's name.

A video shorter than a window is stretched to its length: each frame comes floor(window / length) times, and the first
(FERV39k) or last (MAFW) ``window mod length`` frames once more. DFEW's code leaves such videos out; we do not.

For "uniformly sampled" frames of the paper we take the centre frame of each of ``frames`` equal segments; the stride is
then not used.
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
    """Return the number of frames from the first to the last of a window."""
    return (clip.frames - 1) * clip.stride + 1


def stretched(length: int, clip: Clip) -> np.ndarray:
    """Return positions 0 ... length - 1, repeated in order up to the length of a window if necessary."""
    positions = np.arange(length)
    times, more = divmod(window(clip), length)
    if not times:
        return positions
    extra = positions < more if clip.repeat == "first" else positions >= length - more
    return np.repeat(positions, times + extra)


def _window_at(start: int, line: np.ndarray, clip: Clip) -> np.ndarray:
    return line[start : start + window(clip) : clip.stride]


def random_window(length: int, clip: Clip, seed: int) -> np.ndarray:
    """Draw a window that begins at a uniformly random position."""
    line = stretched(length, clip)
    return _window_at(int(np.random.default_rng(seed).integers(len(line) - window(clip) + 1)), line, clip)


def nth_window(length: int, clip: Clip, view: int) -> np.ndarray:
    """Return the ``view``-th (from 0) of the consecutive windows from the first frame on."""
    return _window_at(view * window(clip), stretched(length, clip), clip)


def uniform(length: int, clip: Clip, seed: int) -> np.ndarray:
    """Return the centre frames of ``clip.frames`` equal segments."""
    return ((np.arange(clip.frames) + 0.5) * length / clip.frames).astype(int)


SAMPLING: dict[str, Callable[[int, Clip, int], np.ndarray]] = {
    "random_window": random_window,
    "windows": nth_window,
    "uniform": uniform,
}
"""(length, clip, seed or view) -> positions (clip.frames,) of the frames in the video."""


class FaceClips(FaceImages):
    """Frames of each video: ``[(row, seed)]`` -> (clip float (3, T, S, S), label, row).

    In testing with ``clip.test`` ``windows``, the second number of an item is the view.

    Args:
        rows: columns sample and label.
        transform: transform of all frames (T, 3, H, W) together.
        train: whether to sample as in training.
    """

    def __init__(
        self, store: FaceStore, rows: pd.DataFrame, transform: v2.Transform, clip: Clip, train: bool = False
    ) -> None:
        super().__init__(store, rows, transform)
        self.clip, self._sampling = clip, clip.train if train else clip.test
        self.lengths = [len(store.frame_numbers(sample)) for sample in self.samples]

    @property
    def items(self) -> list[Item]:
        """List the items: one per window, or one per video."""
        if self._sampling == "windows":
            views = [max(length // window(self.clip), 1) for length in self.lengths]
            return [(row, view) for row, count in enumerate(views) for view in range(count)]
        return [(row, zlib.crc32(sample.encode())) for row, sample in enumerate(self.samples)]

    def __getitem__(self, item: Item) -> tuple[Tensor, int, int]:
        row, seed = item
        positions, places = np.unique(SAMPLING[self._sampling](self.lengths[row], self.clip, seed), return_inverse=True)
        frames = np.stack([self.store.frame(self.samples[row], int(i)) for i in positions])[places]
        images = seeded(self.transform, torch.from_numpy(frames).permute(0, 3, 1, 2), seed)  # channels-last is faster
        return images.transpose(0, 1).contiguous(), self.labels[row], row
