"""End-point errors of displacements, and the true displacement in the aligned face."""

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_tools import write_store

from duchenne.engines import Local
from duchenne.errors import UserError
from duchenne.evaluation.motion import aligned, at_start, end_point_error, errors, estimates, true_displacement
from duchenne.faces.align import apply
from duchenne.faces.build import align_dataset
from duchenne.faces.settings import Faces
from duchenne.faces.store import FaceStore
from duchenne.synth.generate import generate
from duchenne.synth.settings import Synth


def field(side: int = 224) -> np.ndarray:
    """A smooth displacement that is unknown in the upper half."""
    y, x = np.mgrid[:side, :side] / side
    result = np.stack([2 * np.sin(4 * x), 1 + np.cos(3 * y)], axis=2).astype(np.float32)
    result[: side // 2] = np.nan
    return result


def test_the_truth_is_right_and_no_motion_is_off_by_its_length():
    truth = field()
    assert end_point_error(truth, truth) == 0
    length = np.hypot(truth[..., 0], truth[..., 1])
    assert end_point_error(np.zeros_like(truth), truth) == pytest.approx(np.nanmean(length))


@given(st.floats(-9, 9), st.floats(-9, 9))
def test_a_constant_error_is_its_length(x, y):
    truth = field(8)
    assert end_point_error(truth + np.float32([x, y]), truth) == pytest.approx(np.hypot(x, y), abs=1e-5)


def test_a_turned_and_doubled_face_turns_and_doubles_its_motion():
    raw = np.full((200, 200, 2), np.nan, np.float32)
    raw[50:60, 80:100] = 3, 1  # to the right and a little down
    quarter = np.array([[0, -2, 250], [2, 0, -60.0]])  # (x, y) to (250 - 2 y, 2 x - 60): clockwise on the screen
    moved = aligned(raw, quarter, 224)
    assert moved.shape == (224, 224, 2)
    x, y = apply(quarter, np.array([90.0, 55.0])).astype(int)
    np.testing.assert_allclose(moved[y, x], (-2, 6), atol=1e-4)
    known = np.argwhere(np.isfinite(moved[..., 0]))[:, ::-1]
    inside = apply(np.linalg.inv(np.vstack([quarter, [0, 0, 1]]))[:2], known)
    assert (inside >= (80 - 0.1, 50 - 0.1)).all()
    assert (inside <= (99 + 0.1, 59 + 0.1)).all()
    assert len(known) > 4 * 17 * 7  # four px for each of the others


def test_a_face_of_another_size_is_seen_at_224_px():
    raw = np.full((112, 112, 2), 1.5, np.float32)
    corner = raw.copy()
    corner[:56, :56] = 0
    same = np.eye(3)[:2]
    np.testing.assert_allclose(aligned(raw, same, 112)[50:150, 50:150], 3, atol=1e-5)
    moved = aligned(corner, same, 112)[..., 0]
    # as cv2.resize has it: the middle of the edge, between the small px 55 and 56, lies between px 111 and 112
    assert moved[60, 111] + moved[60, 112] == pytest.approx(3, abs=0.1)


def test_motion_that_is_given_where_it_arrives_is_read_there():
    truth = np.zeros((224, 224, 2), np.float32)
    truth[..., 0] = 0.1 * np.arange(224)  # x goes to 1.1 x
    x = np.tile(np.arange(224, dtype=np.float32), (224, 1))
    arriving = np.stack([x / 11, 0 * x], axis=2)  # what is at x was at x / 1.1
    read = at_start(arriving, truth)
    np.testing.assert_allclose(read[:, :200], truth[:, :200], atol=0.01)
    learnt = arriving.transpose(2, 0, 1)
    frame = np.zeros((2, 224, 224), np.float32)
    truth[:, 200:] = np.nan
    found = estimates(frame, learnt)
    assert errors(found, truth)["dgm"] < 0.01
    assert end_point_error(found["dgm"], truth) > 0.5  # read where it starts it would be wrong


def test_flow_finds_a_shift():
    noise = cv2.GaussianBlur(np.random.default_rng(0).random((230, 230)).astype(np.float32), (0, 0), 3)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    pair = np.stack([noise[3:227, 3:227], noise[3:227, 1:225]])  # two px to the right
    truth = np.full((224, 224, 2), np.nan, np.float32)
    truth[20:-20, 20:-20] = 2, 0
    found = errors(estimates(pair, None), truth)
    assert found.keys() == {"farneback", "dis", "zero"}
    assert found["zero"] == 2
    assert found["farneback"] < 0.2
    assert found["dis"] < 0.2


def test_a_set_without_the_truth_is_named(tmp_path):
    write_store(tmp_path / "store", 1, lengths=[4])
    with pytest.raises(UserError, match="lacks the displacement of s000"):
        true_displacement(tmp_path / "none", FaceStore(tmp_path / "store"), "s000", 1)


def test_the_true_displacement_explains_a_rendered_apex(tmp_path):
    root = tmp_path / "set"
    config = Synth(
        kind="micro", classes=["surprise"], subjects=2, per_class=1, seed=3, frames=[8, 9], intensity=[0.3, 0.4]
    )
    generate(config, root, tmp_path / "work", engine=Local(1))
    rows = pd.read_parquet(root / "truth.parquet").head(1)
    faces = Faces(encoding="png", size=160)
    align_dataset(rows, root, faces, tmp_path / "store", tmp_path / "align", engine=Local(1))
    store, row = FaceStore(tmp_path / "store"), rows.iloc[0]
    truth = true_displacement(root / "displacement", store, row["sample"], row["onset"])

    numbers = store.frame_numbers(row["sample"])
    onset, apex = (
        cv2.resize(store.frame(row["sample"], numbers.index(row[name])), (224, 224)).mean(2)
        for name in ("onset", "apex")
    )
    shown = at_start(np.stack([apex] * 2, axis=2).astype(np.float32), truth)[..., 0]  # the apex, read where it went
    moving = np.linalg.norm(truth, axis=2) > 1
    assert moving.sum() > 500
    assert np.abs(shown - onset)[moving].mean() < 0.7 * np.abs(apex - onset)[moving].mean()
