"""Result of the explain stage: maps of some test samples as arrays and numbers, from which reporting draws."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from duchenne.files import replacing, write_json
from duchenne.networks import Takes
from duchenne.sealed import FILES, check_listed, digests, read_sealed, write_sealed

SIDE = 224
"""Height and width of a shown face, px: the input size of the networks."""

GRAD_CAM = {"grad_cam": "Grad-CAM"}
LISTED = ("explained.npz", "numbers.json", "numbers.csv")
"""Files whose digests are in ``explained.json`` beside them."""

PICTURES = "pictures.json"
"""Sealed record of the digests of the pictures of the maps and of ``maps.json``."""

CLIP = ["sample", "fold"]
"""Columns that identify a clip and the network that tested it."""


@dataclass(frozen=True)
class Explained:
    """Maps of the most confident right and wrong prediction of each class of a run.

    The arrays of a sample depend on the input of the networks:

    * images: ``face`` (224, 224), ``points`` (68, 2) in px of it, and each of ``maps`` (H, W);
    * clips: ``rows`` (n,), rows of ``table`` that are the frames of the window with the most attention, ``maps``
      (n, H, W) and ``faces`` (n, 224, 224), the nearest stored frame of each;
    * pairs: ``faces`` (2, 224, 224), onset and apex, ``field_<method>`` (224, 224, 2), displacements in px, the
      network's own as ``field_dgm`` and the truth as ``field_truth``, and each of ``maps`` (H, W).

    Faces are grey, uint8. They and the points are only there if ``faces`` is true.
    """

    takes: Takes
    """Kind of the input: image, clip or pair."""
    maps: Mapping[str, str]
    """Map of a sample -> its caption, in order; for clips, part -> its name."""
    own: Sequence[str]
    """Maps that are the network's own, not Grad-CAM."""
    caption: str
    """Sentences on the network's own maps."""
    layer: str | None
    """The module whose output Grad-CAM shows; None: there is no Grad-CAM."""
    classes: Sequence[str]
    """Emotion names by label."""
    faces: bool
    """Whether faces may be shown."""
    samples: pd.DataFrame
    """The shown samples by class: sample, fold, label, predicted, confidence, right; for clips also onset, offset,
    first and last, numbers of frames."""
    arrays: Sequence[Mapping[str, np.ndarray]]
    """Arrays of each of ``samples``."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Measures against the truth, if it is known."""
    table: pd.DataFrame | None = None
    """Data behind the numbers: for clips a row per frame read, for pairs the errors."""

    def save(self, folder: Path) -> None:
        """Write ``explained.json`` and ``.npz``, ``numbers.json`` and, if there is a table, ``numbers.csv``."""
        packed = {f"{i}.{name}": values for i, arrays in enumerate(self.arrays) for name, values in arrays.items()}
        with replacing(folder / "explained.npz") as path, path.open("wb") as file:
            np.savez_compressed(file, **packed)
        words = {name: getattr(self, name) for name in ("takes", "maps", "own", "caption", "layer", "classes", "faces")}
        samples = json.loads(self.samples.to_json(orient="records"))
        write_json(folder / "numbers.json", self.numbers)
        (folder / "numbers.csv").unlink(missing_ok=True)
        if self.table is not None:
            with replacing(folder / "numbers.csv") as path:
                self.table.to_csv(path, index=False)
        made = [path for name in LISTED if (path := folder / name).exists()]
        write_sealed(folder / "explained.json", words | {"samples": samples, FILES: digests(made)})

    @classmethod
    def load(cls, folder: Path) -> Explained:
        """Read the files written by :meth:`save`."""
        record = folder / "explained.json"
        about = read_sealed(record)
        about.pop(FILES, None)
        for name in LISTED:
            if (folder / name).exists():
                check_listed(folder / name, record)
        samples = pd.DataFrame(about.pop("samples"))
        arrays: list[dict[str, np.ndarray]] = [{} for _ in range(len(samples))]
        with np.load(folder / "explained.npz") as packed:
            for key in packed.files:
                number, name = key.split(".", 1)
                arrays[int(number)][name] = packed[key]
        numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
        table = folder / "numbers.csv"
        return cls(
            **about,
            samples=samples,
            arrays=arrays,
            numbers=numbers,
            table=pd.read_csv(table, dtype={"sample": str}) if table.exists() else None,
        )
