"""Damages of aligned faces in five strengths, named and set like RAF-DB-C where that has the same damage.

RAF-DB-C (Greco, Strisciuglio, Vento and Vigilante, "Benchmarking deep networks for facial emotion recognition in the
wild", Multimedia Tools and Applications 82, 2023) damages the 100 px aligned test faces of RAF-DB. Its settings stand
in the functions of the same names in ``corruptions.py`` of https://github.com/MiviaLab/emotion-robustness. Lengths of
100 px faces are scaled here to the face at hand, and noise and JPEG are made at 100 px, so that a strength covers the
same part of the face. Their draws have no seed, so that the pictures cannot be equal, only their distribution.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from duchenne.faces.store import FaceStore

SIDE = 100
"""Side in px of the faces for which RAF-DB-C's settings are made."""

STRENGTHS = (1, 2, 3, 4, 5)

GREY = 127
"""Value of the square that hides a part of the face (chosen by us)."""

Damage = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""Frame uint8 (S, S, 3) RGB, setting of the strength, source of random numbers -> damaged frame, of the same kind."""


@dataclass(frozen=True)
class Corruption:
    """A kind of damage.

    Attributes:
        title: title on the page.
        settings: the setting of each of :data:`STRENGTHS`.
        unit: what the settings are.
        source: ``RAF-DB-C``, or ``chosen by us``.
        damage: damages a frame.
        per_frame: whether each frame of a clip has a draw of its own.
    """

    title: str
    settings: tuple[float, ...]
    unit: str
    source: str
    damage: Damage
    per_frame: bool = False


def gaussian_blur(frame: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian of ``sigma`` px of a face of 100 px; the edge is continued, as in scikit-image."""
    sigma *= frame.shape[0] / SIDE
    return _bytes(cv2.GaussianBlur(_shares(frame), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def gaussian_noise(frame: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise, independent in every pixel and channel of a face of 100 px, and enlarged with it."""
    side = frame.shape[0]
    noise = rng.standard_normal((min(side, SIDE), min(side, SIDE), 3), dtype=np.float32)
    return _bytes(_shares(frame) + scale * cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR))


def jpeg_compression(frame: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Compress as JPEG at 100 px: the face is made as small, compressed, and enlarged again."""
    side, small = frame.shape[0], frame
    if side > SIDE:
        small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "JPEG", quality=int(quality))
    found = np.asarray(Image.open(buffer))
    return cv2.resize(found, (side, side), interpolation=cv2.INTER_LINEAR) if side > SIDE else found.copy()


def brightness_minus(frame: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Subtract ``share`` of the range from the value of HSV."""
    hsv = cv2.cvtColor(_shares(frame), cv2.COLOR_RGB2HSV)
    hsv[:, :, 2] = np.clip(hsv[:, :, 2] - share, 0, 1)
    return _bytes(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def pixelate(frame: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Reduce to ``share`` of 100 px by averaging, and enlarge again without interpolation."""
    side = frame.shape[0]
    small = int(min(side, SIDE) * share)
    image = Image.fromarray(frame).resize((small, small), Image.Resampling.BOX)
    return np.array(image.resize((side, side), Image.Resampling.BOX))


def occlusion(frame: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Hide ``share`` of the area by a grey square inside the face, at a random place; a stronger one covers it."""
    side = frame.shape[0]
    edge = round(side * share**0.5)
    top, left = np.floor(rng.random(2) * (side - edge + 1)).astype(int)
    hidden = frame.copy()
    hidden[top : top + edge, left : left + edge] = GREY
    return hidden


def rotation(frame: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Turn in the plane about the centre, to a random side; the edge is continued into the corners."""
    side = frame.shape[0]
    centre = (side - 1) / 2
    turn = cv2.getRotationMatrix2D((centre, centre), degrees if rng.random() < 0.5 else -degrees, 1.0)
    return cv2.warpAffine(frame, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


THEIRS, OURS = "RAF-DB-C", "chosen by us"

CORRUPTIONS = {
    "gaussian_blur": Corruption(
        "Blur", (1, 1.8, 2.6, 3.4, 4), "standard deviation, px of a face of 100 px", THEIRS, gaussian_blur
    ),
    "gaussian_noise": Corruption(
        "Noise", (0.08, 0.12, 0.18, 0.24, 0.3), "standard deviation, share of the range", THEIRS, gaussian_noise, True
    ),
    "jpeg_compression": Corruption("JPEG", (25, 18, 15, 10, 7), "quality, at 100 px", THEIRS, jpeg_compression),
    "brightness_minus": Corruption(
        "Darkness",
        (0.1, 0.2, 0.3, 0.4, 0.5),
        "taken from the value of HSV, share of the range",
        THEIRS,
        brightness_minus,
    ),
    "pixelate": Corruption(
        "Low resolution", (0.6, 0.5, 0.41, 0.3, 0.25), "side of the reduced face, share of 100 px", THEIRS, pixelate
    ),
    "occlusion": Corruption("Occlusion", (0.05, 0.1, 0.2, 0.3, 0.4), "share of the area", OURS, occlusion),
    "rotation": Corruption("Turn in the plane", (5, 10, 15, 20, 30), "degrees", OURS, rotation),
}
"""Every kind of damage by name, in the order of figures and tables."""


def corrupt(frame: np.ndarray, name: str, strength: int, sample: str, position: int = 0) -> np.ndarray:
    """Damage one frame of a sample, the same way at every call.

    Place of the occlusion and side of the turn are drawn once for a sample: they are the same in all its frames, so
    that no motion is added, and at all strengths, so that a curve over strengths changes by the strength alone. Noise
    is drawn for each frame, as a sensor makes it: the same noise in all frames would vanish in their difference.

    Args:
        frame: uint8 (S, S, 3) RGB.
        name: one of :data:`CORRUPTIONS`.
        strength: 1 to 5.
        position: position of the frame in its sample.
    """
    kind = CORRUPTIONS[name]
    words = f"{name}/{sample}/{position if kind.per_frame else 0}"
    seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big")
    return kind.damage(frame, kind.settings[strength - 1], np.random.default_rng(seed))


class CorruptedStore(FaceStore):
    """A face store whose frames are damaged when they are read.

    Args:
        path: folder of the store.
        name: one of :data:`CORRUPTIONS`.
        strength: 1 to 5.
    """

    def __init__(self, path: Path, name: str, strength: int) -> None:
        super().__init__(path)
        self.name, self.strength = name, strength

    def __getstate__(self) -> dict[str, object]:
        return super().__getstate__() | {"name": self.name, "strength": self.strength}

    def frame(self, sample: str, i: int = 0) -> np.ndarray:
        """Return the ``i``-th stored frame, damaged: uint8 (S, S, 3) RGB."""
        return corrupt(super().frame(sample, i), self.name, self.strength, sample, int(i))

    def frames(self, sample: str) -> np.ndarray:
        """Return all frames of a sample, damaged: uint8 (T, S, S, 3) RGB."""
        return np.stack(
            [corrupt(frame, self.name, self.strength, sample, i) for i, frame in enumerate(super().frames(sample))]
        )


def _shares(frame: np.ndarray) -> np.ndarray:
    """Convert uint8 to float32 in [0, 1]."""
    return frame.astype(np.float32) / 255


def _bytes(image: np.ndarray) -> np.ndarray:
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
