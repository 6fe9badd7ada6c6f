"""Frames of a video that a network sees, compared with the published rules computed by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_tools import write_store

from duchenne.faces.store import FaceStore
from duchenne.training.augment import transform
from duchenne.training.clips import SAMPLING, FaceClips, nth_window, random_window, stretched, uniform, window
from duchenne.training.data import Draws, loader, over_views
from duchenne.training.settings import Augment, Clip

DATA = {"input_size": (3, 4, 32, 32), "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
LENGTHS = [3, 4, 9, 13]

clips = st.builds(Clip, frames=st.integers(1, 32), stride=st.integers(1, 4), repeat=st.sampled_from(["first", "last"]))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "videos"
    samples = write_store(folder, len(LENGTHS), size=32, lengths=LENGTHS)
    return FaceStore(folder), samples


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        # FERV39k's code: 7 = 2 * 3 + 1, so each frame twice and the first once more
        (Clip(frames=7, repeat="first"), [0, 0, 0, 1, 1, 2, 2]),
        # MAFW's code counts the extra frames from the end
        (Clip(frames=8, repeat="last"), [0, 0, 1, 1, 1, 2, 2, 2]),
        # MAFW's form, 4 frames of stride 2: the window is 7 frames, and every second of them is taken
        (Clip(frames=4, stride=2, repeat="last"), [0, 1, 2, 2]),
        (Clip(frames=3), [0, 1, 2]),
    ],
)
def test_short_videos_are_stretched_as_the_official_code_does(clip, expected):
    assert random_window(3, clip, 0).tolist() == expected
    assert nth_window(3, clip, 0).tolist() == expected


def test_published_windows():
    assert window(Clip(frames=16)) == 16
    assert window(Clip(frames=32, stride=2)) == 63  # MAFW


@given(st.integers(1, 90), clips)
def test_a_stretched_video_keeps_its_order_and_repeats_evenly(length, clip):
    line = stretched(length, clip)
    counts = np.bincount(line, minlength=length)
    assert (np.diff(line) >= 0).all()
    assert len(line) == max(length, window(clip))
    assert counts.max() - counts.min() <= 1
    assert (np.diff(counts) * (1 if clip.repeat == "last" else -1) >= 0).all()


@given(st.integers(1, 90), clips, st.integers(0, 2**62), st.sampled_from(sorted(SAMPLING)))
def test_every_rule_gives_as_many_frames_as_asked_for_in_order(length, clip, seed, rule):
    positions = SAMPLING[rule](length, clip, 0 if rule == "windows" else seed)
    assert positions.shape == (clip.frames,)
    assert positions.min() >= 0
    assert positions.max() < length
    assert (np.diff(positions) >= 0).all()


def test_a_random_window_begins_everywhere_equally_often():
    starts = [random_window(20, Clip(frames=16), seed)[0] for seed in range(1000)]
    counts = np.bincount(starts)
    assert len(counts) == 5  # 0 to 20 - 16, both included
    assert np.abs(counts - 200).max() < 5 * 12.7  # a standard deviation of sqrt(1000 * 0.2 * 0.8)


def test_uniform_frames_are_the_middles_of_equal_parts():
    assert uniform(8, Clip(frames=4), 0).tolist() == [1, 3, 5, 7]
    assert uniform(3, Clip(frames=6), 0).tolist() == [0, 0, 1, 1, 2, 2]


def test_windows_follow_one_another_and_the_rest_is_dropped(videos):
    store, samples = videos
    faces = FaceClips(store, samples, transform(DATA), Clip(frames=4))
    assert faces.items == [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    assert len(faces) == 7
    assert [nth_window(9, faces.clip, view).tolist() for view in (0, 1)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    strided = FaceClips(store, samples, transform(DATA), Clip(frames=3, stride=2))
    assert nth_window(13, strided.clip, 1).tolist() == [5, 7, 9]
    assert strided.items[-2:] == [(3, 0), (3, 1)]


def test_a_clip_holds_the_frames_of_its_window(videos):
    store, samples = videos
    clip, label, row = FaceClips(store, samples, transform(DATA), Clip(frames=4))[3, 1]
    expected = torch.from_numpy(store.frames("s003")[4:8]).permute(3, 0, 1, 2) / 255
    torch.testing.assert_close(clip, expected)
    assert clip.is_contiguous()
    assert (label, row) == (samples["label"][3], 3)


def test_the_frames_of_a_clip_are_augmented_alike(videos):
    store, samples = videos
    strong = Augment(
        resized_crop={"scale": [0.5, 1.0]},
        jitter={"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.4},
        erase={"probability": 1.0, "scale": [0.1, 0.3]},
    )
    faces = FaceClips(store, samples, transform(DATA, strong), Clip(frames=8), train=True)
    faces.lengths[0] = 1  # the first frame eight times
    for seed in range(8):
        clip = faces[0, seed][0]
        assert all(torch.equal(clip[:, 0], clip[:, i]) for i in range(8))


def test_workers_change_no_clip(videos):
    store, samples = videos
    crop, colours = {"scale": [0.5, 1.0]}, {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.4}
    strong = Augment(resized_crop=crop, jitter=colours, erase={"probability": 0.5})
    faces = FaceClips(store, samples, transform(DATA, strong), Clip(frames=3), train=True)
    alone, *others = (
        list(loader(faces, 3, workers, Draws(samples["label"], 3, balanced=True, seed=4))) for workers in (0, 1, 2)
    )
    assert len(alone) == 1
    for batches in others:
        for one, other in zip(alone, batches, strict=True):
            assert all(map(torch.equal, one, other))


def test_a_random_test_window_follows_from_the_name_alone(videos):
    store, samples = videos
    config = Clip(frames=2, test="random_window")
    faces = FaceClips(store, samples, transform(DATA), config)
    turned = FaceClips(store, samples[::-1], transform(DATA), config)
    assert [item[1] for item in faces.items] == [item[1] for item in turned.items][::-1]
    assert len(faces) == len(LENGTHS)


def test_views_are_averaged_by_sample(videos):
    store, samples = videos
    faces = FaceClips(store, samples, transform(DATA), Clip(frames=4))
    values, rows = [], []
    for clips, _, places in loader(faces, 3):
        values.append(clips.mean((1, 2, 3, 4)))
        rows.append(places)
    means = over_views(torch.cat(values), torch.cat(rows))
    for mean, sample, used in zip(means, samples["sample"], (None, 4, 8, 12), strict=True):
        frames = store.frames(sample)[:used] / 255
        expected = frames[[0, 0, 1, 2]].mean() if used is None else frames.mean()
        assert mean.item() == pytest.approx(expected, rel=1e-5)
