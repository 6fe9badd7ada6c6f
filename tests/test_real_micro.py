"""Micro-expressions from real faces: neutral portraits warped slightly towards the same person's smile."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import LinearNDInterpolator

from duchenne.datasets.index import as_schema
from duchenne.engines import Local
from duchenne.faces.align import apply, similarity
from duchenne.faces.annotate import landmark_dataset
from duchenne.faces.build import align_dataset
from duchenne.faces.find import find_face
from duchenne.faces.regions import REGIONS
from duchenne.faces.settings import Faces
from duchenne.faces.store import FaceStore
from duchenne.media.images import read_image
from duchenne.training.pairs import PairImages
from duchenne.training.settings import Augment

FACES = Faces(landmarks="dlib68", encoding="png")
STEADY = [*range(27, 31), *range(36, 48)]
"""Points that a smile hardly moves: bridge of the nose and eyes."""
STRENGTH, FRAMES, APEX = 0.2, 7, 5


def towards(neutral: np.ndarray, shift: np.ndarray, points: np.ndarray, share: float) -> np.ndarray:
    """The picture with its points moved by a share of their shifts, and its border by nothing."""
    height, width = neutral.shape[:2]
    border = [(x, y) for x in np.linspace(0, width - 1, 5) for y in (0, height - 1)]
    border += [(x, y) for y in np.linspace(0, height - 1, 5) for x in (0, width - 1)]
    places = np.concatenate([points + share * shift, border])
    back = np.concatenate([share * shift, np.zeros((len(border), 2))])
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    field = LinearNDInterpolator(places, back, fill_value=0.0)(x, y)
    return cv2.remap(neutral, *np.float32([x - field[..., 0], y - field[..., 1]]), cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def clips(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    root, london = tmp_path_factory.mktemp("micro"), shared / "data" / "london"
    table = pd.read_csv(london / "manifest.csv").pivot(index="subject", columns="label", values="path").dropna()
    rows = []
    for subject, files in table.iloc[::13].iterrows():
        neutral, smiling = (read_image(london / files[label]) for label in ("neutral", "smiling"))
        points, smile = (find_face(image, FACES).points for image in (neutral, smiling))
        shift = apply(similarity(smile[STEADY], points[STEADY]), smile) - points
        (root / str(subject)).mkdir()
        for number in range(FRAMES):
            picture = towards(neutral, shift, points, STRENGTH * number / APEX)
            cv2.imwrite(str(root / str(subject) / f"{number}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        name = str(subject)
        rows.append({"sample": name, "path": name, "kind": "frames", "label": 0, "onset": 0, "apex": APEX})
    return root, as_schema(pd.DataFrame(rows))


def test_the_mouth_moves_and_the_eyes_are_still(clips: tuple[Path, pd.DataFrame], tmp_path: Path):
    root, rows = clips
    align_dataset(rows, root, FACES, tmp_path / "faces", tmp_path / "work", engine=Local(1))
    store = FaceStore(tmp_path / "faces")
    assert len(store.samples) == len(rows) >= 4
    landmark_dataset(store, FACES, tmp_path / "landmarks.parquet", tmp_path / "centres.json", engine=Local(1))
    centres = pd.read_parquet(tmp_path / "landmarks.parquet").groupby("sample")["au_centers"].first()
    owners = np.repeat(list(REGIONS), list(REGIONS.values()))
    moved = {}
    for x, _, row in (PairImages(store, rows, Augment(), flow="dis")[(i, 0)] for i in range(len(rows))):
        assert x.shape == (4, 224, 224)
        length = np.hypot(*x[2:].numpy())
        for region in ("eyes", "mouth"):
            places = centres[rows["sample"][row]].reshape(-1, 2)[owners == region].round().astype(int)
            patches = [length[y - 14 : y + 14, x0 - 14 : x0 + 14].mean() for x0, y in places]
            moved.setdefault(region, []).append(np.mean(patches))
    mouth, eyes = np.mean(moved["mouth"]), np.mean(moved["eyes"])
    assert mouth > 3 * eyes
    assert 0.3 < mouth < 6.0  # px of 224: a micro-expression, not a grin
