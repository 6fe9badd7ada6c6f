"""Time courses of an expression and of the unlabelled movement around it (chosen by us)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duchenne.synth.expression import gaze, wander
from duchenne.synth.settings import LEAST, Synth


@dataclass(frozen=True)
class Course:
    """A clip of T frames: ``level`` (T,) is the share of the full expression, 0 outside ``onset``..``offset``.

    Frame numbers start at 1. ``others`` (T, 52) are the face units of talking, blinking and wandering eyes;
    ``turns`` (T, 3) are degrees of yaw, pitch and roll that the head moves from where it was at first.
    """

    onset: int
    apex: int
    offset: int
    level: np.ndarray
    others: np.ndarray
    turns: np.ndarray


def smooth(x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 to 1 over 0..1, with zero slope at both ends."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def drift(frames: int, fps: float, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a slow random movement (frames,) within -1..1 with no component above ``hertz``."""
    time = np.arange(frames) / fps
    pitch = rng.uniform(0.15, 1.0, 4) * hertz
    waves = np.sin(2 * np.pi * (pitch[:, None] * time + rng.random((4, 1))))
    return rng.dirichlet(np.ones(4)) @ waves


def blinks(frames: int, fps: float, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Draw how closed the lids are (frames,), with about ``rate`` blinks a second of 0.2 to 0.35 s each."""
    closed = np.zeros(frames)
    time = np.arange(frames) / fps
    for _ in range(rng.poisson(rate * frames / fps)):
        middle, half = rng.uniform(0, frames / fps), rng.uniform(0.10, 0.17)
        closed = np.maximum(closed, smooth(1.6 * (1.0 - np.abs(time - middle) / half)))
    return closed


def video_course(config: Synth, names: tuple[str, ...], rng: np.random.Generator) -> Course:
    """Draw a clip whose expression takes a share ``config.dilution`` of the time, among talking and head motion."""
    frames = max(round(rng.uniform(*config.seconds) * config.rate), LEAST)
    span = max(round(rng.uniform(*config.dilution) * frames), 3)
    first = int(rng.integers(0, frames - span + 1))
    place = (np.arange(frames) - first + 1) / (span + 1)
    level = smooth(place / 0.3) * smooth((1.0 - place) / 0.3)
    talking = (0.4 + 0.6 * rng.random()) * (rng.random() < 0.7) * (1.0 - 0.8 * level)
    return Course(
        onset=first + 1,
        apex=first + 1 + (span - 1) // 2,
        offset=first + span,
        level=level,
        others=_others(config, names, frames, 0.35, talking, rng),
        turns=np.stack([a * drift(frames, config.rate, 0.8, rng) for a in (6.0, 4.0, 2.5)], axis=1),
    )


def micro_course(config: Synth, names: tuple[str, ...], rng: np.random.Generator) -> Course:
    """Draw a short clip with one micro-expression, jitter of the head and an occasional blink."""
    frames = int(rng.integers(round(config.frames[0]), round(config.frames[1]) + 1))
    onset = 1 + int(rng.integers(0, max(frames // 8, 1)))
    offset = frames - int(rng.integers(0, max(frames // 8, 1)))
    apex = onset + max(1, round(rng.uniform(0.35, 0.6) * (offset - onset)))
    number = np.arange(1, frames + 1)
    level = np.where(
        number <= apex, smooth((number - onset) / (apex - onset)), smooth((offset - number) / (offset - apex))
    )
    return Course(
        onset=onset,
        apex=apex,
        offset=offset,
        level=level,
        others=_others(config, names, frames, 0.5, np.zeros(frames), rng),
        turns=np.stack([a * drift(frames, config.rate, 3.0, rng) for a in (0.35, 0.25, 0.15)], axis=1),
    )


def _others(config: Synth, names: tuple[str, ...], frames: int, blink_rate: float, talking: np.ndarray,
            rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    def move(hertz: float) -> np.ndarray:
        return drift(frames, config.rate, hertz, rng)

    look = zip(config.gaze * move(0.5), config.gaze * move(0.5), strict=True)
    units = wander(names, rng) + np.stack([gaze(names, right, up) for right, up in look])
    closed = blinks(frames, config.rate, blink_rate, rng)
    lip = 0.5 * talking * np.clip(move(4.0), 0.0, None)
    for name, course in {
        "eyeBlinkLeft": closed,
        "eyeBlinkRight": closed,
        "jawOpen": 0.22 * talking * np.clip(move(5.0) + 0.35, 0.0, None),
        "mouthFunnel": 0.4 * talking * np.clip(move(3.0), 0.0, None),
        "mouthLowerDownLeft": lip,
        "mouthLowerDownRight": lip,
    }.items():
        units[:, names.index(name)] += course
    return units
