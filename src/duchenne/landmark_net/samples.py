"""Training samples of the landmark network: rendered faces, randomly warped, turned, mirrored and degraded.

A third of the crops are as inaccurate as a detector's box, a third almost aligned and a third closer, as in the three
passes of :class:`duchenne.faces.mobilefacenet.MobileFaceNet68`. The landmark branch of POSTER uses the second kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2

from duchenne.faces.align import apply, similarity, template, warp
from duchenne.faces.mobilefacenet import EYE_DISTANCE, MIRROR, SIZE, nearer
from duchenne.faces.points import key_points
from duchenne.sealed import read_table

Item = tuple[int, int]
"""Row of the set, and the epoch that seeds its random crop."""

SPOIL = v2.Compose(
    [
        v2.RandomApply([v2.ColorJitter(0.5, 0.5, 0.6, 0.08)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(21, (0.3, 5.0))], 0.2),  # 2 % of a portrait's height are about 4 px here
        v2.RandomAutocontrast(0.1),
        v2.RandomEqualize(0.05),
        v2.ToDtype(torch.float32, scale=True),
        v2.RandomApply([v2.GaussianNoise(sigma=0.05)], 0.25),
        v2.RandomErasing(0.15, (0.02, 0.2), value="random"),
    ]
)


class Renders(Dataset):
    """Crops of a rendered image set: ``[(row, epoch)]`` -> (crop (3, SIZE, SIZE) in 0..1, points (68, 2) in px, row).

    Args:
        root: the set's folder.
        part: official part, train or test.
        seed: seed of the random crops; with ``None`` every crop is aligned and not degraded.
        bend: largest standard deviation of how far parts of a face are moved against each other, in eye distances.
    """

    def __init__(
        self, root: Path, part: str, seed: int | None = None, limit: int | None = None, bend: float = 0.0
    ) -> None:
        truth = read_table(root / "truth.parquet")
        truth = truth[truth["split"] == part].iloc[:limit]
        self.paths = [str(root / path) for path in truth["path"]]
        self.points = np.stack(truth["landmarks"].to_list()).reshape(-1, 68, 2)
        self.seed, self.bend = seed, bend

    @property
    def items(self) -> list[Item]:
        """The items of an evaluation, in order."""
        return [(row, 0) for row in range(len(self))]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: Item) -> tuple[Tensor, Tensor, int]:
        row, epoch = item
        image = cv2.cvtColor(cv2.imread(self.paths[row]), cv2.COLOR_BGR2RGB)
        points = self.points[row] - 0.5  # the middle of the first pixel is (0.5, 0.5) in a render, (0, 0) in OpenCV
        rng = np.random.default_rng([self.seed or 0, epoch, row])
        if self.bend:
            eyes = float(np.linalg.norm(np.subtract(*key_points(points)[:2])))
            amount = rng.uniform(0, self.bend)
            image, points = warped(image, points, bending(image.shape[:2], eyes, amount, rng))
        if self.seed is not None and rng.random() < 0.5:
            image, points = image[:, ::-1].copy(), (points * [-1, 1] + [image.shape[1] - 1, 0])[MIRROR]
        matrix = similarity(key_points(points), template(SIZE, EYE_DISTANCE))
        if self.seed is None:
            crop = torch.from_numpy(warp(image, matrix, SIZE)).permute(2, 0, 1)
            return crop.float() / 255, torch.from_numpy(apply(matrix, points)).float(), row
        look = rng.integers(3)
        if look == 2:
            matrix = nearer(apply(matrix, points)) @ np.vstack([matrix, [0, 0, 1]])
        matrix = jitter(look == 0, rng) @ np.vstack([matrix, [0, 0, 1]])
        pixels = coarse(warp(image, matrix, SIZE), rng)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            crop = SPOIL(torch.from_numpy(pixels).permute(2, 0, 1))
        return crop, torch.from_numpy(apply(matrix, points)).float(), row


class Shuffled(Sampler[Item]):
    """Samples every row once per epoch, in an order that depends only on seed and epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        generator = torch.Generator().manual_seed(self.seed * 1000 + self.epoch)
        for row in torch.randperm(self.count, generator=generator).tolist():
            yield row, self.epoch


def bending(shape: tuple[int, int], eyes: float, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth random field, float32 (H, W, 2) in px, that moves the parts of a face against each other.

    All heads come from one model, in which the position of one part predicts that of another; a network that relies on
    this does not locate each part.

    Args:
        shape: H, W.
        eyes: distance of the eyes in px; the field changes over 0.5 to 1.5 of it.
        amount: standard deviation at the knots of the field, in eye distances.
    """
    knots = np.ceil(np.array(shape) / (eyes * rng.uniform(0.5, 1.5))).astype(int) + 1
    field = rng.normal(0, amount * eyes, (*knots, 2)).astype(np.float32)
    return cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC)


def warped(image: np.ndarray, points: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move an image (H, W, 3) and points (N, 2) in px by a field of :func:`bending`."""
    grid = np.stack(np.meshgrid(*map(np.arange, image.shape[1::-1])), axis=-1).astype(np.float32)
    image = cv2.remap(image, grid + field, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    moved = points
    for _ in range(20):  # the pixel at p comes from p + field(p): the inverse is found by iteration
        at = moved.astype(np.float32)[None]
        moved = points - cv2.remap(field, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    return image, moved


def jitter(far: bool, rng: np.random.Generator) -> np.ndarray:
    """Draw a random similarity (2, 3) of the crop about its middle: small, or as large as a detector's error."""
    if far:
        angle, log_scale, shift = rng.uniform(-35, 35), rng.uniform(-0.25, 0.25), rng.uniform(-0.1, 0.1, 2)
    else:
        angle, log_scale, shift = rng.normal(0, 4), rng.normal(0, 0.05), rng.normal(0, 0.02, 2)
    middle = (SIZE - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, float(np.exp(log_scale)))
    matrix[:, 2] += SIZE * shift
    return matrix


def coarse(pixels: np.ndarray, rng: np.random.Generator, often: float = 0.2) -> np.ndarray:
    """Degrade a crop as if the face were a small part of the photograph, or the file strongly compressed."""
    if rng.random() < often:
        side = int(rng.integers(28, SIZE))
        small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        pixels = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    if rng.random() < often:
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))])
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return pixels
