"""Frame numbers of a clip from the names of its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from datasets_tools import casme2, casme3, dataset, dfew, ferv39k, frames, index, picture, pictures, samm, smic, text

from duchenne.datasets.audit import audit, incomplete_clips
from duchenne.datasets.problems import IndexProblems
from duchenne.media.frame_names import FrameNameError, numbered, numbers


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


def whole(layout: str, root: Path, **more) -> tuple[list[tuple[int, int, str]], list[str]]:
    """(clips with all frames, clips, verdict) of ``duchenne check``, and the clips that it names."""
    found, wrong = incomplete_clips(index(layout, root, **more), dataset(layout, root, **more))
    return [(item.found, item.expected, item.verdict) for item in found], wrong


def test_dfew_clips_of_16_frames(tmp_path):
    root = dfew(tmp_path)
    assert whole("dfew", root) == ([(5, 5, "ok")], [])
    clip = root / "Clip/clip_224x224_16f/00015"
    for number in range(2, 17):
        (clip / f"{number}.jpg").unlink()
    picture(root / "Clip/clip_224x224_16f/00016/17.jpg")
    assert whole("dfew", root) == (
        [(3, 5, "differs")],
        [
            "Clip/clip_224x224_16f/00015 (1 frames, expected 16)",
            "Clip/clip_224x224_16f/00016 (17 frames, expected 16)",
        ],
    )
    found = index("dfew", root)
    assert [note[1:4] for note in found.findings.notes] == [
        ("frames", "Clip/clip_224x224_16f/00015", "has frame 1 alone")
    ]
    result = audit(found, dataset("dfew", root))
    assert not result["complete"]
    assert len(result["missing frames"]) == 2
    dfew(root, form="clip_224x224")
    for number in range(12, 17):
        (root / f"Clip/clip_224x224/00015/{number}.jpg").unlink()
    assert whole("dfew", root, media="clip_224x224") == ([(5, 5, "ok")], [])
    (root / "Clip/clip_224x224/00015/11.jpg").unlink()
    assert whole("dfew", root, media="clip_224x224")[1] == ["Clip/clip_224x224/00015 (10 frames, expected 11 to 847)"]


def test_ferv39k_clips_of_less_than_the_shortest(tmp_path):
    root = ferv39k(tmp_path)
    assert whole("ferv39k", root) == ([(4, 4, "ok")], [])
    (root / "2_ClipsforFaceCrop/War/Fear/0069/img3.jpg").unlink()
    assert whole("ferv39k", root)[1] == ["2_ClipsforFaceCrop/War/Fear/0069 (7 frames, expected 8 to 47)"]
    (note,) = index("ferv39k", root).findings.notes
    assert note[3] == "the numbers of its frames have gaps: 2 is followed by 4"


def test_micro_expressions_of_three_frames_are_not_complete(tmp_path):
    clips = [("01", "EP90_01f", 46, 59, 86, 12, "happiness"), ("16", "EP01_08", 73, 80, 110, 12, "happiness")]
    casme2(tmp_path, clips, edition=2014)
    folder = "CASME2_RAW_selected/sub01/EP90_01f"
    assert whole("casme2", tmp_path, label_set="casme2_7") == (
        [(1, 2, "differs")], [f"{folder} (4 frames, expected 41)"],
    )  # fmt: skip
    frames(tmp_path / folder, range(40, 90))  # more than the clip
    assert whole("casme2", tmp_path, label_set="casme2_7") == ([(2, 2, "ok")], [])
    samm(tmp_path / "samm", [("006", "006_9_1", 10, 12, 15, "4", "Anger")])
    assert whole("samm", tmp_path / "samm", label_set="samm_8")[1] == ["SAMM/006/006_9_1 (3 frames, expected 6)"]


def test_casme3_expressions_in_whole_videos(tmp_path):
    root = casme3(tmp_path, clips=False, videos=True)
    (found,), wrong = whole("casme3", root, label_set="casme3_7")
    assert (found[0], found[2], wrong) == (found[1], "ok", [])
    (root / "part_A/spNO.1/a/color/357.jpg").unlink()
    assert whole("casme3", root, label_set="casme3_7")[1][0] == "part_A/spNO.1/a/color (12 frames, expected 13)"


def test_the_parts_of_the_composite_are_looked_at_too(tmp_path):
    casme2(tmp_path / "casme2", [("01", "EP90_01f", 46, 47, 50, 12, "happiness")])
    samm(tmp_path / "samm", [("006", "006_9_1", 1, 2, 3, "4", "Anger")])
    smic(tmp_path / "smic", ["s1_ne_01"])
    assert whole("megc2019", tmp_path) == (
        [(1, 2, "differs")], ["casme2/CASME2_RAW_selected/sub01/EP90_01f (4 frames, expected 5)"],
    )  # fmt: skip


def test_manifests_may_hold_every_tenth_frame(tmp_path):
    for name, numbers_ in {"a": range(0, 50, 10), "b": (1, 2, 5, 6), "c": (1, 3, 4), "d": (7,)}.items():
        frames(tmp_path / name, numbers_)
    text(tmp_path / "manifest.csv", ["sample,path,label", *(f"dfew/{name},{name},anger" for name in "abcd")])
    found = index("manifest", tmp_path, classes=["anger", "fear"])
    assert incomplete_clips(found, dataset("manifest", tmp_path, classes=["anger", "fear"])) == ([], [])
    assert [note[:4] for note in found.findings.notes] == [
        (3, "frames", "b", "the numbers of its frames have gaps: 2 is followed by 5; likewise 1 more clips"),
        (5, "frames", "d", "has frame 7 alone"),
    ]
