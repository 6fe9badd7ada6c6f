"""Settings of a rendered set: a block of ``rendered`` in ``params.yaml``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from duchenne.blocks import Probability, Range, Seed, Share, Strict
from duchenne.emotions import EMOTIONS
from duchenne.errors import nearest

SAMPLES, FRAMES = 1_000_000, 10_000_000
"""Largest numbers of samples and of frames of a set (chosen by us): each is planned in memory, and a core renders about
ten frames a second."""
LONGEST = 100_000
"""Largest number of frames of a clip (chosen by us): the course of all of them is drawn at once."""
LEAST = 8
"""Smallest number of frames of a clip (video sets)."""

BOUNDS: dict[str, tuple[float, float]] = {
    "intensity": (0, 10),
    "face_share": (0.01, 10),
    "distance": (0.1, 100),
    "light_azimuth": (-360, 360),
    "light_elevation": (-90, 90),
    "light_contrast": (0, 1),
    "exposure": (-20, 20),
    "warmth": (-1, 1),
    "blur": (0, 100),
    "noise": (0, 10),
    "jpeg_quality": (1, 100),
    "seconds": (0, LONGEST),
    "dilution": (0, 1),
    "frames": (3, LONGEST),
}
"""Smallest and largest values of the ranges (chosen by us, far from what looks like a face)."""


class Synth(Strict):
    """Settings of a rendered set: how many people, which expressions, and the range of every nuisance factor."""

    kind: Literal["image", "video", "micro"] = Field(description="pictures, clips, or clips of micro-expressions")
    classes: tuple[str, ...] = Field(
        ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"), description="expressions, by name"
    )
    subjects: int = Field(ge=2, le=100_000, description="number of people")
    per_class: int = Field(1, ge=1, le=10_000, description="samples of each class and subject")
    seed: Seed = Field(0, description="of people and pictures")
    size: int = Field(224, ge=64, le=1024, description="height and width of a frame, px")
    test_share: Share = Field(0.2, description="share of the subjects in the official test part (image sets)")
    folds: int = Field(5, ge=2, le=10_000, description="subject-disjoint official folds (video sets)")
    variety: float = Field(0.0, ge=0, le=1, description="how much more people differ in shape and looks")
    intensity: Range = Field((0.7, 1.1), description="strength of an expression; 1: full")
    mixture: Range = Field((0.0, 0.0), description="share of a second expression, below half; the label is the first")
    stray_units: Probability = Field(0.0, description="probability that an action unit joins (image sets)")
    yaw_sigma: float = Field(6.0, ge=0, le=180, description="degrees")
    pitch_sigma: float = Field(4.0, ge=0, le=180, description="degrees")
    roll_sigma: float = Field(4.0, ge=0, le=180, description="degrees")
    face_share: Range = Field((0.44, 0.54), description="share of the frame's height between brows and chin")
    shift: float = Field(0.03, ge=0, le=1, description="offset of the face from the frame centre, +- share of the size")
    distance: Range = Field((0.6, 1.5), description="distance of the camera, metres")
    light_azimuth: Range = Field((-60.0, 60.0), description="degrees from the front, positive: from the right")
    light_elevation: Range = Field((10.0, 60.0), description="degrees")
    light_contrast: Range = Field((0.35, 0.75), description="share of the light that comes from the key light")
    exposure: Range = Field((-0.35, 0.35), description="stops")
    warmth: Range = Field((-0.12, 0.12), description="tint of the light: negative blue, positive yellow")
    background: tuple[Literal["flat", "gradient", "noise", "clutter"], ...] = Field(
        ("flat", "gradient", "noise", "clutter"), description="kinds of background, one at random for each"
    )
    blur: Range = Field((0.0, 0.7), description="sigma, px")
    noise: Range = Field((0.0, 0.02), description="sigma of sensor noise, share of full scale")
    jpeg_quality: Range = Field((80.0, 97.0), description="of the files; micro-expressions are PNG")
    occlusion: Probability = Field(0.0, description="probability that something covers part of the face")
    gaze: float = Field(0.25, ge=0, le=1, description="how far the eyes may look away; 1: as far as eyes go")
    fps: float | None = Field(None, gt=0, le=10_000, description="frames a second; null: 25 (video), 200 (micro)")
    seconds: Range = Field((1.6, 3.2), description="length of a clip (video sets)")
    dilution: Range = Field((0.2, 0.6), description="share of a clip that shows the expression (video sets)")
    frames: Range = Field((8.0, 40.0), description="length of a clip (micro sets)")

    @field_validator(*BOUNDS)
    @classmethod
    def _within_bounds(cls, value: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        low, high = BOUNDS[str(info.field_name)]
        if not low <= value[0] <= value[1] <= high:
            raise ValueError(f"{list(value)} is not within {low:,g} to {high:,g}")
        return value

    @field_validator("mixture")
    @classmethod
    def _label_is_the_larger_part(cls, mixture: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= mixture[0] <= mixture[1] < 0.5:
            raise ValueError(f"{list(mixture)} is not within 0 to below 0.5: the label must be the larger part")
        return mixture

    @model_validator(mode="after")
    def _can_be_rendered(self) -> Self:
        samples = self.subjects * self.per_class * len(self.classes)
        if samples > SAMPLES:
            raise ValueError(
                f"subjects x per_class x classes are {samples:,} samples, over the limit of {SAMPLES:,} for a set"
            )
        if (longest := self.longest) > LONGEST:
            raise ValueError(f"seconds x fps are {longest:,} frames a clip, over the limit of {LONGEST:,}")
        if samples * longest > FRAMES:
            raise ValueError(f"{samples:,} clips of up to {longest:,} frames are over the limit of {FRAMES:,} frames")
        return self

    @property
    def longest(self) -> int:
        """Largest number of frames of a sample."""
        if self.kind == "video":
            return max(round(self.seconds[1] * self.rate), LEAST)
        return round(self.frames[1]) if self.kind == "micro" else 1

    @property
    def rate(self) -> float:
        """Frames a second of the clips."""
        return self.fps or (200.0 if self.kind == "micro" else 25.0)

    @field_validator("classes")
    @classmethod
    def _known_expressions(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        for name in classes:
            if name not in EMOTIONS:
                raise ValueError(f"{name!r} is not an emotion name{nearest(name, EMOTIONS)}")
        return classes
