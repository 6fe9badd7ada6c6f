"""Doubtful faces are marked and counted; turned pictures are not classified as upright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from faces_tools import MarksDetector, marked, rows

from duchenne.datasets.deep import _damaged
from duchenne.engines import Local
from duchenne.faces.build import align_dataset
from duchenne.faces.find import find_face, turned
from duchenne.faces.settings import Faces
from duchenne.faces.store import FaceStore
from duchenne.media.images import read_image

FACES = Faces()


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duchenne.faces.find.detector", lambda config: MarksDetector())


def align(table: pd.DataFrame, root: Path, **config: object) -> FaceStore:
    align_dataset(table, root, Faces(encoding="png", **config), root / "faces", root / "work", engine=Local(1))
    return FaceStore(root / "faces")


@pytest.mark.parametrize(
    ("score", "others", "how"),
    [
        (0.5, {2: 1.5}, None),  # clear: nobody asks
        (0.49, {2: 1.5}, "upside down"),
        (0.2, {2: 0.49}, None),  # not 0.3 above
        (0.2, {2: 0.5}, "upside down"),
        (-0.5, {2: -0.1}, None),  # 0.4 above, but doubtful itself
        (-0.5, {1: 0.1}, "turned by 90 degrees clockwise"),
        (-0.5, {3: 0.1}, "turned by 90 degrees counter-clockwise"),
        (-0.5, {1: 0.4, 2: 0.6, 3: 0.5}, "upside down"),  # the best of several
        (None, {}, None),
        (None, {3: 0.0}, "turned by 90 degrees counter-clockwise"),
    ],
)
def test_another_turn_counts_where_its_score_is_clearly_higher(marks, tmp_path: Path, score, others, how):
    image = read_image(marked(tmp_path / "a.png", {} if score is None else {40: score}, others))
    assert turned(image, find_face(image, FACES), FACES) == (
        how and f"seems to be {how}: turn the file, or set its orientation"
    )


def test_where_boxes_are_given_nobody_asks(marks, tmp_path: Path):
    config, image = Faces(mode="boxes"), read_image(marked(tmp_path / "a.png", {}, {2: 1.0}))
    assert turned(image, find_face(image, config, np.array([20, 20, 60, 60])), config) is None


@pytest.fixture
def set_of_pictures(marks, tmp_path: Path) -> pd.DataFrame:
    pictures = {
        "clear": ({40: 1.0}, {}),
        "doubtful": ({40: -0.1}, {}),
        "two": ({10: 1.0, 50: 0.7}, {}),
        "turned": ({40: 0.3}, {1: 1.0}),
        "none": ({}, {}),
    }
    return rows(*({"sample": n, "path": marked(tmp_path / f"{n}.png", *p).name} for n, p in pictures.items()))


def test_a_store_knows_which_faces_are_doubtful_and_which_pictures_are_turned(set_of_pictures, tmp_path: Path):
    store = align(set_of_pictures, tmp_path)
    table = store.detection().set_index("sample")
    assert table["score"].round(2).to_dict() == {"clear": 1.0, "doubtful": -0.1, "two": 1.0}
    assert table["doubtful"].to_dict() == {"clear": False, "doubtful": True, "two": False}
    assert table["faces"].to_dict() == {"clear": 1, "doubtful": 1, "two": 2}
    assert store.row("doubtful")["doubtful"] == [True]
    assert store.failures.set_index("sample")["reason"].to_dict() == {
        "none": "no face found",
        "turned": "seems to be turned by 90 degrees clockwise: turn the file, or set its orientation",
    }
    assert store.findings() == {
        "a doubtful face: the detector's score is below its own threshold": ["doubtful"],
        "several faces, of which the largest central one is used": ["two"],
    }


def test_where_misses_are_whole_frames_a_turned_one_is_too(set_of_pictures, tmp_path: Path):
    store = align(set_of_pictures, tmp_path, misses="whole")
    assert store.samples == sorted(set_of_pictures["sample"])
    assert set(store.failures["sample"]) == {"none", "turned"}
    assert store.row("turned")["transforms"] == store.row("none")["transforms"] != store.row("clear")["transforms"]
    assert np.isnan(store.row("turned")["boxes"]).all()
    assert store.detection().set_index("sample")["faces"].to_dict()["turned"] == 0


def clip(root: Path, *frames: tuple[dict, dict]) -> dict:
    for number, frame in enumerate(frames):
        marked(root / f"{number}.png", *frame)
    return {"sample": root.name, "path": root.name, "kind": "frames"}


def test_of_clips_one_clear_frame_is_enough(marks, tmp_path: Path):
    upright, unclear, turn = ({40: 1.0}, {}), ({40: 0.3}, {}), ({40: -0.3}, {2: 1.0})
    clips = [
        clip(tmp_path / "clear later", turn, upright),
        clip(tmp_path / "turned", turn, unclear),
        clip(tmp_path / "unclear", unclear, unclear),
        clip(tmp_path / "one frame", upright),
        clip(tmp_path / "doubtful", ({40: -0.2}, {}), ({40: -0.2}, {}), upright),
    ]
    clip(tmp_path / "damaged", upright, upright, upright)
    (tmp_path / "damaged" / "1.png").write_bytes(b"")
    store = align(rows(*clips, {"sample": "damaged", "path": "damaged", "kind": "frames"}), tmp_path)
    reasons = store.failures.set_index("sample")["reason"]
    assert reasons["turned"].startswith("seems to be upside down")
    assert set(reasons.index) == {"turned", "damaged"}
    assert store.findings() == {
        "a doubtful face: the detector's score is below its own threshold": ["doubtful"],
        "frames that cannot be used (failures.parquet says why)": ["damaged"],
        "a clip of one frame: no motion to see": ["one frame"],
    }


def test_of_a_micro_expression_the_onset_is_asked(marks, tmp_path: Path):
    turned_onset = clip(tmp_path / "a", ({40: 1.0}, {}), ({40: 0.0}, {2: 1.0}), ({40: 1.0}, {}))
    upright_onset = clip(tmp_path / "b", ({40: 0.0}, {2: 1.0}), ({40: 1.0}, {}), ({40: 0.0}, {2: 1.0}))
    store = align(rows(*(one | {"onset": 1, "apex": 2} for one in (turned_onset, upright_onset))), tmp_path)
    assert store.samples == ["b"]


def test_a_clip_of_one_frame_is_a_problem_of_a_deep_check(tmp_path: Path):
    marks = dict.fromkeys(("first", "last", "onset", "apex", "offset"))
    clips = [clip(tmp_path / "one", ({}, {})), clip(tmp_path / "two", ({}, {}), ({}, {}))]
    assert _damaged([[one | marks] for one in clips], tmp_path, 100) == [
        (None, "path", "one", "has one frame only: a clip needs motion")
    ]


class TestRealFaces:
    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    def test_turned_portraits_are_noticed_and_upright_ones_left_alone(self, shared: Path, turns: int):
        """Of all 130 portraits: upright none, turned 388 of 390."""
        words = [None, "counter-clockwise", "upside down", "clockwise"][turns]
        for path in sorted((shared / "data" / "london").rglob("*.jpg"))[::60]:
            image = np.ascontiguousarray(np.rot90(read_image(path), turns))
            how = turned(image, find_face(image, FACES), FACES)
            assert (how is None) if words is None else f" {words}:" in how, path
