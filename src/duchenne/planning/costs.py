"""Costs of one sample, one face and one fold: measured in this project, on another machine, or assumed.

Each constant says which it is. "Performance" is docs/performance.md, where the command that printed a number stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from duchenne.config import Catalog
from duchenne.faces.settings import Faces
from duchenne.networks import facts_of
from duchenne.planning.estimate import Basis, Estimate, between, exactly, largest
from duchenne.sealed import read_history
from duchenne.training.settings import Recipe, Variant
from duchenne.workspace import Workspace

RATE = 40e12
"""Operations a second of a GPU in training, bf16 (assumed: an eighth of the 312e12 that NVIDIA states for an A100)."""
LAUNCHED = between(0.01, 0.1)
"""Shortest time of a forward and backward pass on a GPU, s, however small network and batch are (assumed: a thousand to
ten thousand operations of 10 us to start)."""
DOUBT = 3.0
"""Factor by which the assumed rate may be wrong, either way (assumed: a consumer GPU, or a better used one)."""

LOADED = {"image": between(787, 1728), "clip": between(24, 55), "pair": between(832, 1566)}
"""Samples that a core decodes and augments in a second, by what the network takes; clips have 16 frames (measured on
two machines: Performance, Input)."""
CLIP_OF_LOADED = 16
FACES = {"image": between(20, 31), "frame": between(37, 55)}
"""Faces that a core aligns in a second, with their landmarks: pictures, and frames of a clip (measured on two machines:
Performance, Faces)."""
GPUS_OF_A_HOST = 8
"""GPUs of a machine; faces are aligned on the cores of one machine, unless ``compute.engine`` is dask or ray
(assumed)."""

PAIR_OF_HASHES = 6e-9
"""Seconds of a core to compare two face hashes (measured: Performance, Growth)."""
EVALUATED = {1_000: (0.2, 38e6), 10_000: (0.95, 86e6), 30_000: (3.25, 166e6), 100_000: (20.69, 224e6)}
"""Predictions -> seconds of a core and bytes that their metrics with intervals take (measured: Performance, Growth)."""
STAGES = {"evaluate": 10.0, "explain": 9.0, "complexity and report": 16.0}
"""Seconds of a variant's further stages with a few samples on two cores: imports, maps of two samples of each class,
figures (measured: Performance, Demonstration, a quarter of each of its four)."""
T_SNE = 15 / 12_271
"""Seconds of t-SNE for each sample (measured on two cores: 12,271 samples of 768 features in 15 s)."""
HASHED = between(100e6, 1e9)
"""Bytes a second that DVC hashes and copies to its cache (assumed)."""

FACE = {"jpeg": 13.1e3, "png": 70.3e3}
"""Bytes of an aligned face of 224 px (measured: mean of the demonstration's 654 JPEGs and 240 PNGs)."""
COPIES = 3
"""Copies of weights: work/, models/ and DVC's cache. Faces and results have two of them."""
RESULT = 4096
"""Bytes of a tested sample in results/: 768 features of float32, and its probabilities (assumed)."""
WRITTEN = between(0.2e9, 2e9)
"""Bytes a second that the disk takes, for the state after each epoch (assumed)."""
STATE = 4
"""Copies of the weights in the state of a running fold: weights, Adam's two moments, the best epoch."""

FOLD_MEMORY = {"poster_v2": (16, 3.2e9), "ifdd_2dcnn": (4, 5.5e9)}
"""Network -> batch size and bytes of training a fold with it (measured on a CPU: duchenne.training.device)."""


class Size(NamedTuple):
    """Size of a network: multiply-accumulates of one sample, and parameters."""

    macs: int
    params: int


@cache
def _counted(architecture: str, classes: int, options: str) -> Size:
    from duchenne.evaluation.complexity import count_published

    found = count_published(architecture, classes, json.loads(options))
    return Size(found.macs, found.total)


def size_of(variant: Variant, classes: int) -> Size:
    """Count a variant's network, as ``duchenne complexity`` does; takes about half a second.

    Raises:
        UserError: There is no network of this name.
    """
    return _counted(variant.model.architecture, classes, json.dumps(variant.model.options, sort_keys=True))


def passes(recipe: Recipe) -> int:
    """Forward and backward passes of a training step: two with SAM."""
    return 2 if recipe.sam_rho else 1


class Speed(NamedTuple):
    """Training samples a second on one device.

    Attributes:
        whole: whether loading is included, as in a history.
    """

    rate: Estimate
    basis: Basis
    source: str
    whole: bool


def derived(variant: Variant, size: Size, rate: float | None = None) -> Speed:
    """Derive the speed from the operations: two a MAC, forward and twice as much backward, for each pass.

    A step takes at least :data:`LAUNCHED` for each pass, which limits small networks.

    Args:
        rate: operations a second, known to the user; None: :data:`RATE`, which may be wrong by :data:`DOUBT`.
    """
    steps = seconds_of_a_step(variant, size, rate)
    source = f"a GPU of {(rate or RATE) / 1e12:g}e12 operations/s"
    return Speed(steps.inverse().times(variant.recipe.batch_size), "assumed", source + " (--rate)" * bool(rate), False)


def seconds_of_a_step(variant: Variant, size: Size, rate: float | None) -> Estimate:
    """Return the seconds of a training step on a GPU."""
    one = 6 * passes(variant.recipe) * size.macs * variant.recipe.batch_size / (rate or RATE)
    doubt = 1.0 if rate else DOUBT
    return largest(Estimate(one / doubt, one, one * doubt), LAUNCHED.times(passes(variant.recipe)))


def recorded(catalog: Catalog, workspace: Workspace, name: str, at_once: int) -> Speed | None:
    """Return the speed in the histories of this project, of this variant or another of the same network and input.

    Args:
        at_once: folds that train at once on a device, whose speeds add up.
    """
    wanted = catalog.variants[name]
    others = [other for other in catalog.variants if other != name]
    for run in (name, *others):
        found = list(_histories(workspace, run))
        if not found or not _same_input(wanted, catalog.variants[run]):
            continue
        speeds = [float(table["images_per_second"].iloc[-min(len(table), 5) :].median()) for _, table in found]
        rate = min(at_once, len(found)) * float(np.median(speeds))
        rate *= passes(catalog.variants[run].recipe) / passes(wanted.recipe)
        return Speed(exactly(rate), "measured here", str(found[0][0].relative_to(workspace.root)), True)
    return None


def _same_input(one: Variant, other: Variant) -> bool:
    return one.model.architecture == other.model.architecture and one.model.options == other.model.options


def _histories(workspace: Workspace, variant: str) -> Iterator[tuple[Path, pd.DataFrame]]:
    """Yield the histories of a variant's folds, finished or running; a fold in both places counts once."""
    seen = set()
    for folder in (workspace.model(variant), workspace.work("train", variant)):
        for path in sorted(folder.glob("**/fold_*/history.csv")):
            name = path.parent.relative_to(folder)
            if name in seen:
                continue
            seen.add(name)
            table = read_history(path)
            if len(table) and "images_per_second" in table:
                yield path, table


def loaded(variant: Variant) -> Estimate:
    """Return the samples that a core decodes and augments in a second."""
    takes = facts_of(variant.model.architecture).takes
    frames = variant.recipe.clip.frames if takes == "clip" else CLIP_OF_LOADED
    return LOADED[takes].times(CLIP_OF_LOADED / frames)


def evaluated(samples: int) -> tuple[float, float]:
    """Return seconds of a core and bytes of memory of the metrics of so many predictions.

    Between measured numbers by powers, beyond the last by the last power.
    """
    sizes = np.log([float(size) for size in EVALUATED])
    place = np.log(max(samples, 1))
    found = []
    for column in (0, 1):
        values = np.log([row[column] for row in EVALUATED.values()])
        slope = (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])
        beyond = values[-1] + slope * (place - sizes[-1])
        found.append(float(np.exp(beyond if place > sizes[-1] else np.interp(place, sizes, values))))
    return found[0], found[1]


class FaceBytes(NamedTuple):
    """Bytes of an aligned face in the store."""

    each: float
    basis: Basis
    source: str


def face_bytes(workspace: Workspace, dataset: str, faces: Faces, held: float | None) -> FaceBytes:
    """Return the bytes of a face: of the store on disk if there is one, else documented ones, by the face's area.

    Args:
        held: number of faces in the store on disk, if it is known.
    """
    folder = workspace.faces(dataset)
    total = sum(path.stat().st_size for path in folder.glob("*.arrow"))
    if total and held:
        return FaceBytes(total / held, "measured here", str(folder.relative_to(workspace.root)))
    each = FACE[faces.encoding] * (faces.size / 224) ** 2
    return FaceBytes(each, "measured elsewhere", "docs/scale.md, faces of 224 px")


def fold_memory(variant: Variant) -> float | None:
    """Return bytes that training a fold takes, in proportion to the batch; None: not measured for this network."""
    known = FOLD_MEMORY.get(variant.model.architecture)
    return known and known[1] * max(1.0, variant.recipe.batch_size / known[0])


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping for JSON: estimates as low, value and high."""
    return {key: value._asdict() if isinstance(value, Estimate) else value for key, value in values.items()}
