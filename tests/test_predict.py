"""`duchenne predict` on clips and on onset-apex pairs gives what the pipeline gives."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import training_networks  # noqa: F401  (registers the tiny networks)
from training_tools import CLASSES, COMPUTE, parts, variant

from duchenne.catalog import Augment, Clip, Faces
from duchenne.datasets.index import as_schema
from duchenne.errors import UserError
from duchenne.faces import FaceStore, align_dataset
from duchenne.predict import Predictor
from duchenne.training import load_trained, predict, train_fold

RECIPES = {
    "tiny_clip": {"clip": Clip(frames=4)},
    "tiny_pair": {"optimizer": "adamw", "augment": Augment(apex_random=0.4)},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """Folders of frames with a bright bar at the height of the class; no file has the number 0."""
    root, rng, rows = tmp_path_factory.mktemp("clips"), np.random.default_rng(0), []
    for i in range(18):
        folder, top = root / f"s{i:02d}", i % 3 * 21
        folder.mkdir()
        for number in range(1, 9):
            image = rng.integers(40, 120, (64, 64, 3), dtype=np.uint8)
            image[top : top + 21] += 100
            cv2.imwrite(str(folder / f"img{number}.png"), image)
        rows.append(
            {"sample": folder.name, "path": folder.name, "kind": "frames", "label": i % 3, "onset": 2, "apex": 6}
        )
    return root, pd.DataFrame(rows)


@pytest.mark.parametrize("architecture", sorted(RECIPES))
def test_a_new_clip_is_named_as_the_pipeline_names_it(architecture: str, clips, tmp_path: Path):
    root, rows = clips
    faces = Faces(mode="aligned", size=64)
    align_dataset(as_schema(rows), root, faces, tmp_path / "faces", tmp_path / "work", jobs=1)
    store = FaceStore(tmp_path / "faces")
    centres = [{"sample": sample, "au_centers": np.full(18, 30.0)} for sample in rows["sample"]]
    pd.DataFrame(centres).to_parquet(tmp_path / "landmarks.parquet")
    config = variant(architecture=architecture, options={}, sam_rho=None, lr=0.02, **RECIPES[architecture])
    samples = parts(rows, 12, 3)
    fold = tmp_path / "fold_1"
    train_fold(
        config, CLASSES, 1, samples, store, fold, tmp_path / "train", COMPUTE, landmarks=tmp_path / "landmarks.parquet"
    )

    last = rows.iloc[-1]
    network, card = load_trained(fold)
    as_here = COMPUTE.model_copy(update={"precision": "auto"})  # bf16 where the machine has it, like the predictor
    logits, _ = predict(network, store, rows.iloc[-1:], card, as_here)
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    answer = Predictor(fold)(root / last["path"], onset=2, apex=6)
    assert answer["emotion"] == CLASSES[int(shares.argmax())]
    np.testing.assert_allclose(list(answer["probabilities"].values()), shares, atol=1e-5)
    assert answer["box"] is None  # aligned faces are not looked for


def test_what_a_network_cannot_take_is_said(clips, tmp_path: Path):
    root, rows = clips
    predictor = Predictor.__new__(Predictor)
    predictor.takes = "pair"
    with pytest.raises(UserError, match="give both frame numbers"):
        predictor(root / rows["path"][0])
    with pytest.raises(UserError, match="path of a video"):
        predictor(object())
