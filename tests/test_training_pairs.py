"""Pairs of onset and apex: choice of frames, random apex, mirroring, flow, and refused inputs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duchenne.faces.store import FaceStore
from duchenne.training.data import Draws, loader
from duchenne.training.errors import TrainingError
from duchenne.training.pairs import FLOWS, PairImages, apex_range
from duchenne.training.settings import Augment

PLAIN = Augment(hflip=0)
ROWS = pd.DataFrame({"sample": ["a", "b"], "label": [2, 0], "onset": [46, 3], "apex": [56, 8]}).astype(
    {"onset": "Int64", "apex": "Int64"}
)


def texture(size: int) -> np.ndarray:
    """Smooth random grey values, uint8 (size, size)."""
    noise = cv2.GaussianBlur(np.random.default_rng(5).normal(size=(size, size)), (0, 0), 4)
    return cv2.normalize(noise, None, 20, 230, cv2.NORM_MINMAX).astype(np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FaceStore:
    """Two clips, 46 to 62 without 53, and 1 to 9: a texture that goes 0.25 px a frame to the right and up.

    The nine pixels in the corner are as bright as their frame's number.
    """
    folder = tmp_path_factory.mktemp("faces") / "micro"
    wide, rows = texture(260), []
    for sample, numbers in (("a", [*range(46, 53), *range(54, 63)]), ("b", range(1, 10))):
        frames = []
        for number in numbers:
            step = 0.25 * (number - numbers[0])
            # the pixel at p shows what was at p - (step, -step)
            grey = cv2.warpAffine(wide, np.array([[1, 0, step - 18], [0, 1, -step - 18]]), (224, 224))
            grey[:3, :3] = number
            frames.append(cv2.imencode(".png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))[1].tobytes())
        n = len(frames)
        row = {"sample": sample, "frame_numbers": list(numbers), "frames": frames, "phash": ""}
        rows.append(row | {"transforms": [[1.0, 0, 0, 0, 1, 0]] * n, "boxes": [[0.0, 0, 224, 224]] * n})
    datasets.Dataset.from_list(rows).save_to_disk(str(folder))
    (folder / "store.json").write_text(json.dumps({}))
    return FaceStore(folder)


def numbers(x: torch.Tensor) -> list[int]:
    """Frame numbers of a pair that is not mirrored."""
    return (x[:2, 1, 1] * 255).round().int().tolist()


@given(st.integers(0, 500), st.integers(1, 200), st.integers(0, 200), st.integers(0, 99))
def test_the_range_of_the_apex_is_that_of_the_equations(onset, way, more, percent):
    apex, last = onset + way, onset + way + more
    low, high = apex_range(onset, apex, last, percent / 100)
    assert onset < low <= apex <= high <= last
    reach = way * percent // 100
    assert (apex - low, high - apex) == (min(reach, way - 1), min(reach, more))


@pytest.mark.parametrize(
    ("onset", "apex", "last", "r", "expected"),
    [
        (46, 56, 62, 0.4, (52, 60)),
        (46, 56, 58, 0.4, (52, 58)),  # cut at the clip's end
        (3, 4, 9, 0.4, (4, 4)),  # floor(0.4) is no way at all
        (3, 5, 9, 0.9, (4, 6)),  # not before the frame after the onset
        (0, 100, 200, 0.29, (71, 129)),  # in floating point 0.29 * 100 is less than 29
        (10, 20, 40, 0.0, (20, 20)),
        (10, 10, 40, 0.4, (10, 10)),  # annotated so
    ],
)
def test_the_range_of_the_apex_by_hand(onset, apex, last, r, expected):
    assert apex_range(onset, apex, last, r) == expected


def test_the_apex_is_drawn_uniformly_from_the_frames_there_are(store):
    pairs = PairImages(store, ROWS, Augment(hflip=0, apex_random=0.4), train=True)
    drawn = [numbers(pairs[0, seed][0]) for seed in range(320)]
    assert {onset for onset, _ in drawn} == {46}
    found, counts = np.unique([apex for _, apex in drawn], return_counts=True)
    assert found.tolist() == [52, 54, 55, 56, 57, 58, 59, 60]  # both ends; the store has no 53
    assert np.abs(counts - 40).max() < 5 * math.sqrt(320 * 7 / 64)


def test_evaluation_takes_the_annotated_frames_as_they_are(store):
    pairs = PairImages(store, ROWS, Augment(hflip=1, apex_random=0.4))
    for row, (sample, label, onset, apex) in enumerate(ROWS.itertuples(index=False)):
        x, found, index = pairs[row, 9]
        assert (found, index, numbers(x)) == (label, row, [onset, apex])
        for channel, number in enumerate((onset, apex)):
            face = store.frame(sample, store.frame_numbers(sample).index(number))
            assert torch.equal(x[channel], torch.from_numpy(face[..., 0]) / 255)
    assert len(pairs) == 2
    assert pairs.items == [(0, 0), (1, 0)]


@pytest.mark.parametrize("flow", FLOWS)
def test_flow_is_the_way_from_onset_to_apex_in_px(store, flow):
    x, _, _ = PairImages(store, ROWS, PLAIN, flow=flow)[0, 0]
    assert x.shape == (4, 224, 224)
    assert x.dtype == torch.float32
    inner = x[2:, 40:-40, 40:-40]  # ten frames of 0.25 px
    torch.testing.assert_close(inner.mean((1, 2)), torch.tensor([2.5, -2.5]), rtol=0, atol=0.1)


@pytest.mark.parametrize("flow", FLOWS)
def test_mirroring_turns_both_frames_and_the_flow_to_the_right(store, flow):
    plain = PairImages(store, ROWS, PLAIN, flow=flow, train=True)[0, 1][0]
    mirrored = PairImages(store, ROWS, Augment(hflip=1), flow=flow, train=True)[0, 1][0]
    factor = torch.tensor([1, 1, -1, 1])[:, None, None]
    assert torch.equal(mirrored, factor * plain.flip(-1))


def test_half_the_pairs_are_mirrored(store):
    pairs = PairImages(store, ROWS, Augment(hflip=0.5), train=True)
    upright = sum(numbers(pairs[1, seed][0]) == [3, 8] for seed in range(200))
    assert abs(upright - 100) < 5 * math.sqrt(50)


def test_the_draw_decides_and_the_global_generators_are_left_alone(store):
    pairs = PairImages(store, ROWS, Augment(hflip=0.5, apex_random=0.4), train=True)
    before = torch.get_rng_state(), np.random.get_state()[1]
    first = pairs[0, 2**62][0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(pairs[0, 2**62][0], first)
    assert any(not torch.equal(pairs[0, seed][0], first) for seed in range(5))


def test_a_loader_makes_the_same_batches_with_any_number_of_workers(store):
    def batches(workers: int) -> list:
        pairs = PairImages(store, ROWS, Augment(apex_random=0.4), flow="dis", train=True)
        return list(loader(pairs, 2, workers, Draws(ROWS["label"], 2, balanced=False, seed=0)))

    ((x, labels, rows),), *others = map(batches, (0, 1, 2))
    assert x.shape == (2, 4, 224, 224)
    assert labels.tolist() == [ROWS["label"][row] for row in rows.tolist()]
    for (other,) in others:
        assert all(map(torch.equal, (x, labels, rows), other))


def test_a_frame_is_decoded_once(store, monkeypatch: pytest.MonkeyPatch):
    decoded: list[tuple[str, int]] = []
    frame = FaceStore.frame
    monkeypatch.setattr(
        FaceStore, "frame", lambda own, sample, i=0: decoded.append((sample, int(i))) or frame(own, sample, i)
    )
    pairs = PairImages(store, ROWS, Augment(hflip=0.5, apex_random=0.4), train=True)
    first = [pairs[row, seed][0] for row in (0, 1) for seed in range(30)]
    again = [pairs[row, seed][0] for row in (0, 1) for seed in range(30)]
    assert all(map(torch.equal, first, again))  # what is kept is not changed, as by mirroring
    assert len(decoded) == len(set(decoded)) > 4
    monkeypatch.setattr("duchenne.training.pairs.KEPT", 1)
    pairs = PairImages(store, ROWS, PLAIN)
    decoded.clear()
    assert torch.equal(pairs[0, 0][0], pairs[0, 0][0])
    assert len(decoded) == 3  # the onset once, the apex each time


def test_faces_of_another_size_are_resized(tmp_path: Path):
    picture = cv2.imencode(".png", np.full((300, 300, 3), 51, np.uint8))[1].tobytes()
    row = {"sample": "c", "frame_numbers": [0, 1], "frames": [picture, picture]}
    datasets.Dataset.from_list([row]).save_to_disk(str(tmp_path))
    (tmp_path / "store.json").write_text("{}")
    rows = pd.DataFrame({"sample": ["c"], "label": [0], "onset": [0], "apex": [1]})
    x, _, _ = PairImages(FaceStore(tmp_path), rows, PLAIN)[0, 0]
    assert torch.equal(x, torch.full((2, 224, 224), 51 / 255))


def test_grey_is_the_weighted_sum_of_red_green_and_blue(tmp_path: Path):
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255)}
    pictures = [np.full((224, 224, 3), colour[::-1], np.uint8) for colour in colours.values()]  # OpenCV writes BGR
    frames = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]
    datasets.Dataset.from_list([{"sample": "c", "frame_numbers": [0, 1], "frames": frames}]).save_to_disk(str(tmp_path))
    (tmp_path / "store.json").write_text("{}")
    rows = pd.DataFrame({"sample": ["c"], "label": [0], "onset": [0], "apex": [1]})
    x, _, _ = PairImages(FaceStore(tmp_path), rows, PLAIN)[0, 0]
    assert (x[:, 0, 0] * 255).round().tolist() == [76, 29]  # 0.299 and 0.114 of 255 (ITU-R BT.601)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"onset": pd.NA}, "sample 'b' has no onset: annotate it"),
        ({"apex": pd.NA}, "sample 'b' has no apex: annotate it"),
        ({"apex": 12}, r"sample 'b': its apex frame 12 is not among its faces \(frames 1 to 9\)"),
        ({"apex": 2}, "sample 'b': its apex 2 comes before its onset 3"),
    ],
)
def test_a_pair_that_cannot_be_is_one_error_that_names_the_sample(store, change, message):
    rows = ROWS.copy()
    for column, value in change.items():
        rows.loc[1, column] = value
    with pytest.raises(TrainingError, match=message):
        PairImages(store, rows, PLAIN)


def test_augmentation_that_pairs_do_not_have_is_refused(store):
    with pytest.raises(TrainingError, match="rotate, translate cannot be used on pairs"):
        PairImages(store, ROWS, Augment(rotate=5, translate=0.1), train=True)
