"""The integer that counts a clip's frames, among all that their names hold."""

from __future__ import annotations

import os

import pytest
from datasets_tools import index, pictures, text

from duchenne.datasets import IndexProblems
from duchenne.datasets.frames import FrameNameError, numbered, numbers


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["img2.jpg", "img10.jpg", "img1.jpg"], [2, 10, 1]),
        (["reg_img46.bmp", "reg_img047.bmp"], [46, 47]),
        (["006_05562.jpg", "006_05563.jpg"], [5562, 5563]),
        (["frame_0046_224.jpg", "frame_0047_224.jpg"], [46, 47]),
        (["frame_det_00_000001.jpg", "frame_det_00_000002.jpg"], [1, 2]),
        (["s1_f1.jpg", "s01_f2.jpg", "s1_f003.jpg"], [1, 2, 3]),
        (["a1.JPG", "b2.png"], [1, 2]),
        (["frame_0046_224.jpg"], [224]),
        (["face.jpg"], [0]),
        ([], []),
    ],
)
def test_the_number_that_varies_counts(names, expected):
    assert numbers(names) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["frame_det_00_000001.jpg", "frame_det_00_000002.jpg", "frame_det_01_000001.jpg"],
            r"2 numbers vary .*\(frame_det_00_000001\.jpg, frame_det_01_000001\.jpg\): are these several faces\?",
        ),
        (["det_01_02.jpg", "det_00_01.jpg"], r"\(det_00_01\.jpg, det_01_02\.jpg\)"),
        (["1.jpg", "1_2.jpg"], r"different forms \(1\.jpg, 1_2\.jpg\)"),
        (["1.jpg", "cover.jpg"], r"its frame cover\.jpg has no number"),
        (["a.jpg", "b.jpg"], r"its frame a\.jpg has no number"),
        (["img1.jpg", "reg_img1.jpg"], r"have the number 1 \(img1\.jpg, reg_img1\.jpg\)"),
        (["1.jpg", "1.png", "2.jpg"], r"have the number 1 \(1\.jpg, 1\.png\)"),
        (["img1.jpg", f"img{10**18}.jpg"], "too large"),
    ],
)
def test_names_that_do_not_say_which_frame_is_which(names, message):
    with pytest.raises(FrameNameError, match=message):
        numbers(names)


def test_only_images_are_frames(tmp_path):
    pictures(tmp_path, ["img10.jpg", "img9.jpg", "._img3.jpg"])
    (tmp_path / "img1.txt").touch()
    (tmp_path / "folder7.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe8")
    assert numbered(tmp_path) == [(9, "img9.jpg"), (10, "img10.jpg")]


def test_a_folder_of_two_faces_is_refused(tmp_path):
    pictures(tmp_path / "clip", [f"frame_det_0{face}_{number:06d}.jpg" for face in (0, 1) for number in (1, 2)])
    text(tmp_path / "manifest.csv", ["path,label", "clip,anger"])
    with pytest.raises(IndexProblems, match=r"are these several faces\?.*\n +line 2: clip"):
        index("manifest", tmp_path, classes=["anger", "fear"])
