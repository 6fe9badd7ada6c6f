"""One sample through the align stage: its frames, their faces, its transforms, its row of the face store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from duchenne.catalog import Faces
from duchenne.faces.align import similarity, smooth, template, warp, whole
from duchenne.faces.clips import read_frames
from duchenne.faces.find import Face, find_face
from duchenne.faces.hashing import face_hash
from duchenne.faces.images import ImageError
from duchenne.faces.points import key_points
from duchenne.faces.store import encode

FPS = 25.0
"""Of a clip whose index does not say (ours)."""

NO_FACE = "no face found"
"""How the reason begins where a sample was read and shows no face."""

Failure = dict[str, Any]
"""sample, frame (None: the whole sample), reason."""


def align_sample(row: dict[str, Any], root: Path, config: Faces) -> tuple[dict[str, Any] | None, list[Failure]]:
    """The store's row of a sample, or None where there is no face to store; and what failed.

    A clip is decoded twice, first to find its faces and then to warp them, so that one frame is in memory at a time.

    Args:
        row: of the dataset's index.
        root: the dataset's root.
    """
    read = partial(read_frames, root / row["path"], row["kind"], config.max_megapixels)
    if row["kind"] == "image":
        once = list(read())
        read = partial(iter, once)
    micro = row["kind"] != "image" and pd.notna(row["onset"]) and pd.notna(row["apex"])

    numbers: list[int] = []
    faces: list[Face | None] = []
    damaged: dict[int, str] = {}
    last = None
    for number, image in read():
        if isinstance(image, ImageError):
            damaged[number] = str(image)
            continue
        wanted = config.mode != "aligned" and (not micro or number == row["onset"])
        face = find_face(image, config, row["box"], last) if wanted else None
        last = face or last
        numbers.append(number)
        faces.append(face)

    failures = [{"sample": row["sample"], "frame": number, "reason": reason} for number, reason in damaged.items()]
    if reason := _missing(row, config, micro, numbers, faces, damaged):
        lost = {"sample": row["sample"], "frame": None, "reason": reason}
        if not numbers or config.misses == "drop":
            return None, [lost]
        failures.append(lost)

    pictures, transforms, phash = [], [], ""
    usable = (image for _, image in read() if not isinstance(image, ImageError))
    for image, matrix in zip(usable, _transforms(faces, row, config, micro), strict=True):
        matrix = whole(image, config.size) if matrix is None else matrix
        aligned = warp(image, matrix, config.size)
        phash = phash or face_hash(aligned)
        pictures.append(encode(aligned, config.encoding, config.quality))
        transforms.append(matrix.ravel().tolist())
    stored = [last] * len(faces) if micro else faces
    return {
        "sample": row["sample"],
        "frame_numbers": numbers,
        "frames": pictures,
        "transforms": transforms,
        "boxes": [(face.box if face else np.full(4, np.nan)).tolist() for face in stored],
        "confidence": [face.score if face else float("nan") for face in stored],
        "faces": [face.count if face else 0 for face in stored],
        "phash": phash,
    }, failures


def _missing(
    row: dict[str, Any],
    config: Faces,
    micro: bool,
    numbers: Sequence[int],
    faces: Sequence[Face | None],
    damaged: dict[int, str],
) -> str | None:
    """Why a sample has no face; None when it has one, or needs none."""
    if not numbers:
        return next(iter(damaged.values()), "holds no frame")
    if config.mode == "aligned" or any(faces):
        return None
    if not micro:
        return NO_FACE
    if row["onset"] in numbers:
        return f"{NO_FACE} in the onset frame"
    if row["onset"] in damaged:
        return f"the onset frame {row['onset']} {damaged[row['onset']]}"
    return f"the onset frame {row['onset']} is not among frames {numbers[0]} to {numbers[-1]}"


def _transforms(
    faces: Sequence[Face | None], row: dict[str, Any], config: Faces, micro: bool
) -> Sequence[np.ndarray | None]:
    """The transform of each frame; None stands for the whole frame."""
    if not any(faces):
        return [None] * len(faces)
    target = template(config.size, config.eye_distance)
    if micro:
        onset = next(face for face in faces if face)
        return [similarity(key_points(onset.points), target)] * len(faces)
    unknown = np.full((68, 2), np.nan)
    points = key_points(np.stack([face.points if face else unknown for face in faces]))
    fps = row["fps"] if pd.notna(row["fps"]) else FPS
    return [similarity(p, target) for p in smooth(points, config.smoothing * fps)]
