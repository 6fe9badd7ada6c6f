"""The samples of a rendered set, and the seeds of their random numbers.

Every random stream is seeded by integers: the seed, its purpose, the subject, the class and the number.
Nothing depends on the size of the set or on the order of the work.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

import numpy as np

from duchenne.synth.head import load_head
from duchenne.synth.identity import Subject, make_subject
from duchenne.synth.settings import Synth

SUBJECT, SAMPLE, SCENE = range(3)  # purpose of a stream


@dataclass(frozen=True)
class Task:
    """One sample to render."""

    sample: str
    subject: int
    emotion: str
    number: int

    def stream(self, seed: int, purpose: int) -> list[int]:
        """Return the seed of this sample's random numbers for SAMPLE or SCENE."""
        return [seed, purpose, self.subject, zlib.crc32(self.emotion.encode()), self.number]


def plan(config: Synth) -> list[Task]:
    """List every sample of a set, in the order of its table."""
    return [
        Task(f"s{subject:04d}_{emotion}_{number:03d}", subject, emotion, number)
        for subject in range(config.subjects)
        for emotion in sorted(config.classes)
        for number in range(config.per_class)
    ]


@functools.lru_cache(maxsize=4)
def subject_of(seed: int, number: int, variety: float = 0.0) -> Subject:
    """Return the subject of a number: the same person in every set of the same seed and variety."""
    return make_subject(load_head(), np.random.default_rng([seed, SUBJECT, number]), variety)
