"""Errors of estimated facial motion against the true motion of rendered micro-expressions.

A displacement is (H, W, 2) px, right and down, from onset to apex. The truth and optical flow are given where the
motion *starts*: what the onset shows at p is at p + d(p) in the apex. The network's displacement module (DGM) gives it
where it *arrives* (:mod:`duchenne.models.displacement`). All are compared at the same points of the face.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from duchenne.errors import UserError
from duchenne.evaluation.displacement import read_displacement
from duchenne.faces.store import FaceStore
from duchenne.training.pairs import FLOWS, SIZE


def true_displacement(folder: Path, store: FaceStore, sample: str, onset: int) -> np.ndarray:
    """Read the true displacement of a rendered sample in its aligned face.

    Args:
        folder: folder of the rendered set, where ``<sample>.npz`` has it in px of the raw frames.
        onset: number of the onset frame.

    Returns:
        float32 (224, 224, 2) in px, NaN outside the face.

    Raises:
        UserError: The set has no displacement of this sample.
    """
    try:
        raw = read_displacement(folder / f"{sample}.npz")
    except FileNotFoundError:
        raise UserError(f"{folder} lacks the displacement of {sample}: run dvc repro --force synthesize") from None
    row = store.row(sample)
    matrix = np.array(row["transforms"][row["frame_numbers"].index(onset)]).reshape(2, 3)
    return aligned(raw, matrix, store.frame(sample).shape[0])


def aligned(raw: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Convert a displacement in a raw frame, (H, W, 2), to one in the face of 224 px, (224, 224, 2).

    Positions are changed by the whole transform, vectors by the transform without the shift.

    Args:
        matrix: (2, 3), raw px -> px of the stored face.
        size: size of the stored face, px, which is resized to 224 for the network.
    """
    scale = SIZE / size
    matrix = scale * matrix
    matrix[:, 2] += (scale - 1) / 2  # pixel centres are at whole numbers
    nowhere = (float("nan"),) * 2
    moved = cv2.warpAffine(raw, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_CONSTANT, borderValue=nowhere)
    return moved @ matrix[:, :2].T.astype(np.float32)


def at_start(arriving: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Read a displacement given at the end of the motion at the true end point of each point."""
    y, x = np.mgrid[: truth.shape[0], : truth.shape[1]].astype(np.float32)
    ends = np.nan_to_num(truth) + np.stack([x, y], axis=2)
    return cv2.remap(arriving, ends, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def end_point_error(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Compute the mean end-point distance in px of two displacements (H, W, 2), over points with known truth."""
    return float(np.nanmean(np.linalg.norm(estimate - truth, axis=2)))


def estimates(pair: np.ndarray, learnt: np.ndarray | None) -> dict[str, np.ndarray]:
    """Estimate displacements (H, W, 2) in px by each method: ``farneback``, ``dis``, and ``dgm`` if given.

    Args:
        pair: a network's input (C, H, W), whose first channels are grey onset and apex in [0, 1].
        learnt: displacement of the DGM, (2, H, W).
    """
    onset, apex = (pair[:2] * 255).round().astype(np.uint8)
    found = {name: flow(onset, apex) for name, flow in FLOWS.items()}
    return found if learnt is None else found | {"dgm": np.ascontiguousarray(learnt.transpose(1, 2, 0))}


def errors(found: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, float]:
    """Compute the mean end-point error in px of each of :func:`estimates`, and of ``zero``, no motion."""
    starting = found | {"zero": np.zeros_like(truth)}
    if "dgm" in found:
        starting["dgm"] = at_start(found["dgm"], truth)
    return {name: end_point_error(estimate, truth) for name, estimate in starting.items()}
