"""Explanations of a run's test samples as arrays, with measures if the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from torch import nn

from duchenne.evaluation.explain import View, agreement, most_confident, readings, views
from duchenne.evaluation.explained import CLIP, GRAD_CAM, SIDE, Explained
from duchenne.evaluation.motion import errors, estimates, true_displacement
from duchenne.faces.store import FaceStore
from duchenne.networks import Facts
from duchenne.sealed import read_table
from duchenne.training.settings import Compute, Recipe

Trained = Callable[[int], tuple[nn.Module, dict[str, Any]]]


@dataclass(frozen=True)
class RunToExplain:
    """The test samples of a run and its networks.

    Attributes:
        samples: columns of the run's predictions, with emotion, onset, apex and offset of the index.
        classes: emotion names by label.
        trained: fold -> its trained network and card.
        landmarks: the Parquet file with the 68 points of the stored faces, or None.
        truth: folder of the true displacements of a rendered set of micro-expressions, or None.
        show_faces: whether to keep faces and their points.
    """

    samples: pd.DataFrame
    classes: list[str]
    store: FaceStore
    trained: Trained
    compute: Compute
    landmarks: Path | None = None
    truth: Path | None = None
    show_faces: bool = True

    @cached_property
    def network(self) -> Trained:
        """Load a fold by ``trained``, without reading the same fold twice in a row."""
        return lru_cache(maxsize=1)(self.trained)

    def views(self, samples: pd.DataFrame) -> Iterator[View]:
        """Yield the maps of each sample by the network that tested it."""
        for fold, own in samples.groupby("fold"):
            yield from views(*self.network(int(fold)), self.store, own, self.compute)

    def face(self, sample: str, position: int = 0) -> np.ndarray:
        """Return a stored frame in grey, uint8 (224, 224)."""
        grey = cv2.cvtColor(self.store.frame(sample, position), cv2.COLOR_RGB2GRAY)
        return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)

    def points(self, samples: list[str]) -> dict[str, np.ndarray]:
        """Return sample -> points (68, 2) of its first frame, px of the shown face; empty if there are none."""
        if self.landmarks is None:
            return {}
        table = read_table(self.landmarks, ["sample", "points"], [("sample", "in", samples)])
        table = table.drop_duplicates("sample")
        scale = {sample: SIDE / self.store.frame(sample).shape[0] for sample in table["sample"]}
        return {row.sample: np.reshape(row.points, (-1, 2)) * scale[row.sample] for row in table.itertuples()}


def explain(run: RunToExplain) -> Explained:
    """Explain the most confident right and wrong prediction of each class of a run.

    For the numbers, all clips with known onset and offset, and all pairs with known motion, are used.
    """
    network, card = run.network(int(run.samples["fold"].min()))
    return KINDS[network.facts.takes](run, network.facts, card, most_confident(run.samples))


def _images(run: RunToExplain, facts: Facts, card: dict[str, Any], chosen: pd.DataFrame) -> Explained:
    shown = sorted(run.views(chosen), key=lambda view: view.sample.label)
    points = run.points([view.sample.sample for view in shown]) if run.show_faces else {}
    arrays = []
    for view in shown:
        name = view.sample.sample
        faces = {"face": run.face(name)} if run.show_faces else {}
        arrays.append(faces | ({"points": points[name]} if name in points else {}) | view.maps)
    return _explained(run, facts, facts.maps | GRAD_CAM, [view.sample for view in shown], arrays)


def _clips(run: RunToExplain, facts: Facts, card: dict[str, Any], chosen: pd.DataFrame) -> Explained:
    clip = Recipe.model_validate(card["variant"]["recipe"]).clip
    known = run.samples[run.samples[["onset", "offset"]].notna().all(axis=1)]
    looked_at = pd.concat([known, chosen]).drop_duplicates(CLIP)
    read = pd.DataFrame([frame for view in run.views(looked_at) for frame in readings(view, run.store, clip)])
    parts = {name.removeprefix("attention_"): label for name, label in facts.maps.items()} | {"clip": "clip"}
    if read.empty:
        return _explained(run, facts, parts, [], [])
    rows, arrays = [], []
    for row in chosen.itertuples(index=False):
        own = read[(read["sample"] == row.sample) & (read["fold"] == row.fold)]
        own = own[own["window"] == own.loc[own["attention"].idxmax(), "window"]]
        shown = {"rows": own.index.to_numpy(), "maps": np.stack(list(own["map"]))}
        if run.show_faces:
            shown["faces"] = np.stack([run.face(row.sample, position) for position in own["position"]])
        rows.append(row)
        arrays.append(shown)
    return _explained(run, facts, parts, rows, arrays, agreement(read), read.drop(columns="map"))


def _pairs(run: RunToExplain, facts: Facts, card: dict[str, Any], chosen: pd.DataFrame) -> Explained:
    wanted = chosen.set_index(CLIP).index
    found, table = {}, []
    for view in run.views(chosen if run.truth is None else run.samples):
        fields, off = _motion(run, view)
        key = view.sample.sample, view.sample.fold
        if off:
            table.append(dict(zip(CLIP, key, strict=True)) | off)
        if key in wanted:
            maps = {name: values for name, values in view.maps.items() if name != "displacement"}
            maps |= {f"field_{method}": values for method, values in fields.items()}
            faces = {"faces": (view.x[:2] * 255).round().astype(np.uint8)} if run.show_faces else {}
            found[key] = faces | maps
    rows = list(chosen.itertuples(index=False))
    errors_of = pd.DataFrame(table) if table else None
    methods = [] if errors_of is None else [name for name in errors_of if name not in CLIP]
    numbers = {f"error_{name}": float(errors_of[name].mean()) for name in methods}
    maps = {name: label for name, label in facts.maps.items() if name != "displacement"} | GRAD_CAM
    return _explained(run, facts, maps, rows, [found[row.sample, row.fold] for row in rows], numbers, errors_of)


def _motion(run: RunToExplain, view: View) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Displacements of a pair by several methods, and their end-point errors if the truth is known."""
    learnt = view.maps.get("displacement") if len(view.x) == 2 else None  # otherwise it is the flow of the input
    found = estimates(view.x, learnt)
    if run.truth is None:
        return found, {}
    truth = true_displacement(run.truth, run.store, view.sample.sample, view.sample.onset)
    return {"truth": truth} | found, errors(found, truth)


def _explained(
    run: RunToExplain,
    facts: Facts,
    maps: dict[str, str],
    rows: list[Any],
    arrays: list[dict[str, np.ndarray]],
    numbers: dict[str, float] | None = None,
    table: pd.DataFrame | None = None,
) -> Explained:
    columns = ["sample", "fold", "label", "predicted", "confidence", "right", "onset", "offset"]
    samples = pd.DataFrame(rows, columns=list(rows[0]._fields) if rows else columns)[columns]
    frames = [run.store.frame_numbers(sample) for sample in samples["sample"]]
    samples = samples.assign(first=[own[0] for own in frames], last=[own[-1] for own in frames])
    return Explained(
        facts.takes,
        maps,
        [name.removeprefix("attention_") for name in facts.maps],
        facts.caption,
        facts.layer,
        run.classes,
        run.show_faces,
        samples,
        arrays,
        numbers or {},
        table,
    )


KINDS = {"image": _images, "clip": _clips, "pair": _pairs}
"""Kind of a network's input -> function that explains it."""
