"""Ground truth written beside a picture: everything that was put into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from duchenne.files import replacing
from duchenne.synth.expression import ACTION_UNITS
from duchenne.synth.identity import Subject
from duchenne.synth.landmarks import face_box, key_points
from duchenne.synth.nuisance import Factors
from duchenne.synth.photo import Photo
from duchenne.synth.plan import Task


def describe(task: Task, subject: Subject, factors: Factors) -> dict[str, Any]:
    """Return the columns that describe a whole sample."""
    return {
        "sample": task.sample,
        "emotion": task.emotion,
        "subject": f"s{task.subject:04d}",
        "factors": json.dumps(subject.traits | factors),
    }


def record(photo: Photo, strength: np.ndarray, factors: Factors) -> dict[str, Any]:
    """Return the columns of one picture: action units (the stronger side), geometry in px, pose in degrees."""
    points = photo.points.astype(float)  # rounding float32 would leave its tail
    return {
        f"au{unit:02d}": round(float(level), 3) for unit, level in zip(ACTION_UNITS, strength.max(axis=1), strict=True)
    } | {
        "landmarks": points.round(2).ravel().tolist(),
        "landmarks_visible": photo.visible.tolist(),
        "key_points": key_points(points).round(2).ravel().tolist(),
        "box": face_box(points).round(2).tolist(),
        "yaw": factors["yaw"],
        "pitch": factors["pitch"],
        "roll": factors["roll"],
    }


def write_picture(path: Path, pixels: np.ndarray, quality: int | None) -> None:
    """Write RGB ``pixels`` as a JPEG of the given ``quality``, or as PNG when it is ``None``."""
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    ok, data = cv2.imencode(path.suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise OSError(f"{path} could not be encoded")
    with replacing(path) as part:
        part.write_bytes(data.tobytes())
