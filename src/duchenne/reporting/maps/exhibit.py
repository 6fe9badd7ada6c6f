"""The test samples of a run, with what is needed to show them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from duchenne.evaluation.explain import View, views
from duchenne.faces.store import FaceStore
from duchenne.training.settings import Compute

SIDE = 224
"""Of a shown face, px: that of the networks' input."""

Network = Callable[[int], tuple[nn.Module, dict[str, Any]]]

RESULTS = {True: ("right", "rightly named"), False: ("wrong", "wrongly named")}


class Picture(NamedTuple):
    """A drawn figure and its words."""

    file: str
    title: str
    caption: str
    alt: str
    figure: Figure


Maps = tuple[list[Picture], dict[str, float], pd.DataFrame | None]
"""Pictures, numbers by name, and the table that these are made of."""


@dataclass(frozen=True)
class Exhibit:
    """The test samples of a run.

    Attributes:
        samples: columns of the run's predictions, and of its index emotion, onset, apex and offset.
        classes: emotion names by label.
        network: fold -> its trained network and card.
        landmarks: the Parquet file with the 68 points of the stored faces, or None.
        truth: folder of the true displacements of a rendered set of micro-expressions, or None.
        show_faces: False: maps without the face below them.
    """

    samples: pd.DataFrame
    classes: list[str]
    store: FaceStore
    network: Network
    compute: Compute
    landmarks: Path | None = None
    truth: Path | None = None
    show_faces: bool = True

    def views(self, samples: pd.DataFrame) -> Iterator[View]:
        """What the network that tested each sample shows of it."""
        for fold, own in samples.groupby("fold"):
            yield from views(*self.network(int(fold)), self.store, own, self.compute)

    def face(self, sample: str, position: int = 0) -> np.ndarray | None:
        """A stored frame in grey, uint8 (224, 224), or None where faces are not shown."""
        if not self.show_faces:
            return None
        grey = cv2.cvtColor(self.store.frame(sample, position), cv2.COLOR_RGB2GRAY)
        return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)

    def points(self, samples: list[str]) -> dict[str, np.ndarray]:
        """Sample -> the 68 points (68, 2) of its first frame, px of the shown face; empty where none may be shown."""
        if self.landmarks is None or not self.show_faces:
            return {}
        table = pd.read_parquet(self.landmarks, columns=["sample", "points"], filters=[("sample", "in", samples)])
        table = table.drop_duplicates("sample")
        scale = {sample: SIDE / self.store.frame(sample).shape[0] for sample in table["sample"]}
        return {row.sample: np.reshape(row.points, (-1, 2)) * scale[row.sample] for row in table.itertuples()}

    def named(self, sample: Any) -> str:
        """A title: class, the class it was taken for where that is another, and the confidence."""
        lines = [self.classes[sample.label]]
        if sample.label != sample.predicted:
            lines.append(f"named {self.classes[sample.predicted]}")
        return "\n".join([*lines, f"{sample.confidence:.0%}".replace("%", " %")])
