"""DFEW, FERV39k and MAFW: official folds and parts, and the forms of their clips."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from datasets_tools import DFEW, FERV, MAFW, by_sample, dfew, ferv39k, frames, index, mafw, picture, sheet, text

from duchenne.datasets.listing import digest
from duchenne.datasets.problems import IndexProblems
from duchenne.protocol import Protocol
from duchenne.splits import make_splits


@pytest.mark.parametrize("split", ["{}(single-labeled)", "{}(single_labeled)", "{}_single-labeled", "{}"])
def test_dfew(tmp_path, split):
    found = index("dfew", dfew(tmp_path, split))
    rows = by_sample(found)
    assert {name: (row["emotion"], list(row["folds"]), row["kind"], row["n_frames"]) for name, row in rows.items()} == {
        "dfew/02522": ("disgust", [1], "frames", 16),
        "dfew/00007": ("happiness", [2], "frames", 16),
        "dfew/00015": ("fear", [3], "frames", 16),
        "dfew/00016": ("neutral", [4], "frames", 16),
        "dfew/11000": ("anger", [5], "frames", 16),
    }
    assert found.classes == ["happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear"]
    assert found.findings.digests["fold 1 test"] == digest(["02522\t6"])
    assert found.findings.digests["fold 5 train"] == digest(["02522\t6", "00007\t1", "00015\t7", "00016\t3"])


@pytest.mark.filterwarnings("ignore:classes without a sample")
def test_dfew_trains_on_all_other_folds(tmp_path):
    rows = index("dfew", dfew(tmp_path)).rows
    splits = make_splits(rows, Protocol(kind="official", val_share=0))
    assert splits[splits["part"] == "test"].groupby("fold")["sample"].agg(list).tolist() == [
        [f"dfew/{clip:05d}"] for clip in DFEW
    ]
    assert (splits["part"] == "train").sum() == 20


def test_dfew_forms(tmp_path):
    dfew(tmp_path)
    dfew(tmp_path, form="clip_224x224/clip_224x224", pattern="00001_{}.jpg")  # doubled, and named as the README says
    (tmp_path / "Clip/original/part_1").mkdir(parents=True)
    for clip in (*DFEW, 99):
        (tmp_path / f"Clip/original/part_1/{clip}.mp4").write_bytes(b"not looked into")
    assert index("dfew", tmp_path).rows["path"][0] == "Clip/clip_224x224_16f/00007"
    assert index("dfew", tmp_path, media="clip_224x224").rows["path"][0] == "Clip/clip_224x224/clip_224x224/00007"
    videos = index("dfew", tmp_path, media="original")
    assert videos.rows["path"][0] == "Clip/original/part_1/7.mp4"
    assert set(videos.rows["kind"]) == {"video"}
    assert videos.findings.extra == ["Clip/original/part_1/99.mp4"]


@pytest.mark.parametrize(
    "more", [{"newline": "\r\n"}, {"encoding": "utf-8-sig"}, {"encoding": "utf-16"}, {"header": "Video_Name,Label"}]
)
def test_dfew_lists_of_any_editor(tmp_path, more):
    assert len(index("dfew", dfew(tmp_path, **more)).rows) == 5


def test_dfew_lists_that_do_not_fit(tmp_path):
    dfew(tmp_path, header="video,label")
    with pytest.raises(IndexProblems, match=r"set_1\.csv\n  video_name: the column 'video_name' is missing"):
        index("dfew", tmp_path)
    dfew(tmp_path)
    (tmp_path / "EmoLabel_DataSplit/test(single-labeled)/set_3.csv").unlink()
    with pytest.raises(IndexProblems, match=r"there is no set_3\.csv"):
        index("dfew", tmp_path)


def test_dfew_lists_that_contradict_each_other(tmp_path):
    dfew(tmp_path)
    train = tmp_path / "EmoLabel_DataSplit/train(single-labeled)"
    text(train / "set_1.csv", ["video_name,label", "7,2", "2522,6", "15,7", "16,3", "77,1"])
    with pytest.raises(IndexProblems) as caught:
        index("dfew", tmp_path)
    told = caught.value.problems
    assert told[["row", "problem"]].to_numpy().tolist() == [
        [2, "is 2 here, but 1 in test(single-labeled)/set_2.csv"],
        [3, "trains and tests in fold 1"],
        [6, "trains here, but tests in no fold"],
    ]
    found = index("dfew", tmp_path, bad_rows="skip")
    assert [note[3] for note in found.findings.notes] == ["1 clips of other folds do not train in fold 1: 11000"]


def test_dfew_clip_in_two_folds_or_without_a_number(tmp_path):
    dfew(tmp_path)
    test = tmp_path / "EmoLabel_DataSplit/test(single-labeled)"
    text(test / "set_2.csv", ["video_name,label", "7,1", "2522,6", "x,1"])
    with pytest.raises(IndexProblems) as caught:
        index("dfew", tmp_path)
    assert "is not a clip number\n      line 4 of test(single-labeled)/set_2.csv: x" in str(caught.value)
    assert "the same sample as in line 2 of test(single-labeled)/set_1.csv\n      line 3 of" in str(caught.value)


def test_dfew_names_missing_clips(tmp_path):
    dfew(tmp_path)
    for file in (tmp_path / "Clip/clip_224x224_16f/00015").iterdir():
        file.unlink()
    (tmp_path / "Clip/clip_224x224_16f/00015").rmdir()
    with pytest.raises(IndexProblems, match=r"line 2 of .*/set_3\.csv: Clip/clip_224x224_16f/00015"):
        index("dfew", tmp_path)


@pytest.mark.parametrize("ending", ["xlsx", "csv"])
def test_dfew_votes_alone_give_labels_and_no_folds(tmp_path, ending):
    header = ("1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "order", "label")
    rows = [header, (9, 1, 0, 0, 0, 0, 0, 1, 1), (4, 4, 2, 0, 0, 0, 0, 2, 0), (0, 0, 0, 0, 0, 0, 10, 3, 7)]
    if ending == "xlsx":
        sheet(tmp_path / "Annotation/annotation.xlsx", rows)
    else:
        text(tmp_path / "Annotation/annotation.csv", [",".join(map(str, row)) for row in rows])
    for clip in (1, 2, 3):
        picture(tmp_path / f"clip_224x224/{clip:05d}/1.jpg")
    found = index("dfew", tmp_path)
    assert found.rows[["sample", "emotion"]].to_numpy().tolist() == [
        ["dfew/00001", "happiness"],
        ["dfew/00003", "fear"],
    ]
    assert found.left_out == {"label '0' (ignore)": 1}  # no single label
    assert found.rows["folds"].isna().all()


def test_ferv39k(tmp_path):
    found = index("ferv39k", ferv39k(tmp_path))
    rows = by_sample(found)
    assert {name: (row["emotion"], row["split"]) for name, row in rows.items()} == {
        "ferv39k/Action/Happy/0267": ("happiness", "train"),
        "ferv39k/War/Fear/0069": ("fear", "train"),
        "ferv39k/War/Happy/0267": ("happiness", "test"),
        "ferv39k/DailyLife/Sad/0001": ("sadness", "test"),
    }
    assert json.loads(rows["ferv39k/War/Fear/0069"]["factors"]) == {"scene": "War"}
    assert found.findings.digests["train"] == digest(["Action/Happy/0267\tHappy", "War/Fear/0069\tFear"])


def test_ferv39k_scenes_are_those_of_the_lists_and_the_crops_come_first(tmp_path):
    ferv39k(tmp_path)
    for clip in FERV:
        frames(tmp_path / "0_ClipsOriginal" / clip, range(8))
    found = index("ferv39k", tmp_path)
    assert found.rows["path"][0] == "2_ClipsforFaceCrop/Action/Happy/0267"
    shutil.rmtree(tmp_path / "2_ClipsforFaceCrop")
    assert index("ferv39k", tmp_path).rows["path"][0] == "0_ClipsOriginal/Action/Happy/0267"
    shutil.rmtree(tmp_path / "0_ClipsOriginal")
    with pytest.raises(IndexProblems, match="no folder of scenes"):
        index("ferv39k", tmp_path)


def test_ferv39k_names_the_list_of_a_missing_clip(tmp_path):
    shutil.rmtree(ferv39k(tmp_path) / "2_ClipsforFaceCrop/DailyLife")
    with pytest.raises(
        IndexProblems, match=r"line 2 of 4_setups/All_scenes/test_All\.csv: 2_ClipsforFaceCrop/DailyLife"
    ):
        index("ferv39k", tmp_path)


def test_ferv39k_lists_of_their_own_archive_and_clips_no_list_names(tmp_path):
    ferv39k(tmp_path / "clips", lists="../lists")
    frames(tmp_path / "clips/2_ClipsforFaceCrop/War/Fear/0070", range(8))
    found = index("ferv39k", tmp_path / "clips", annotations=tmp_path / "lists")
    assert len(found.rows) == 4
    assert found.findings.extra == ["2_ClipsforFaceCrop/War/Fear/0070"]
    with pytest.raises(IndexProblems, match=r"no 4_setups/All_scenes/train_All\.csv.*annotations"):
        index("ferv39k", tmp_path / "clips")


@pytest.mark.parametrize("line", ["War/Fear/0069 Happy", "War/0069 Fear"])
def test_ferv39k_label_that_is_not_the_folder(tmp_path, line):
    text(ferv39k(tmp_path) / "4_setups/All_scenes/train_All.csv", ["Action/Happy/0267 Happy", line])
    with pytest.raises(IndexProblems, match="lies in another folder") as caught:
        index("ferv39k", tmp_path)
    assert caught.value.problems["row"].tolist() == [2]


@pytest.mark.parametrize("top", ["Train & Test Set/single/no_caption", "split/single/no_caption", "label", "."])
@pytest.mark.parametrize("ending", [".mp4", ""])
def test_mafw(tmp_path, top, ending):
    found = index("mafw", mafw(tmp_path, top, ending))
    rows = by_sample(found)
    assert {name: (row["emotion"], list(row["folds"]), row["path"]) for name, row in rows.items()} == {
        f"mafw/{clip:05d}": (name, [fold], f"data/frames/{clip:05d}")
        for fold, (clip, name) in enumerate(MAFW.items(), 1)
    }
    assert found.classes[-4:] == ["contempt", "anxiety", "helplessness", "disappointment"]
    assert found.findings.digests["fold 2 test"] == digest(["07499\tanxiety"])


def test_mafw_videos(tmp_path):
    mafw(tmp_path)
    for clip in MAFW:
        path = tmp_path / f"data/clips/{clip:05d}.MP4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not looked into")
    assert index("mafw", tmp_path, media="clips").rows["path"][0] == "data/clips/00019.MP4"


def test_mafw_single_lists_are_chosen_among_the_others(tmp_path):
    mafw(tmp_path)
    for other in ("compound/no_caption", "single/with_caption", "compound/with_caption"):
        text(tmp_path / "Train & Test Set" / other / "set_1/train.txt", ["1.mp4 anger_disgust"])
    assert len(index("mafw", tmp_path).rows) == 5


def test_mafw_compound_classes(tmp_path):
    compound = {3747: "anger", 7499: "anger_disgust_anxiety", 19: "Fear_Surprise", 20: "neutral", 20098: "sadness"}
    mafw(mafw(tmp_path), "Train & Test Set/compound/no_caption", clips=compound)
    assert set(index("mafw", tmp_path).rows["emotion"]) == set(MAFW.values())
    found = index("mafw", tmp_path, label_set="mafw_43")
    assert {name: (row["emotion"], list(row["folds"])) for name, row in by_sample(found).items()} == {
        f"mafw/{clip:05d}": (name.lower(), [fold]) for fold, (clip, name) in enumerate(compound.items(), 1)
    }
    assert len(found.classes) == 43
    with pytest.raises(IndexProblems, match=r"'anger_disgust_anxiety' is none of the classes"):
        index("mafw", mafw(tmp_path / "named otherwise", "label", clips=compound))
    shutil.rmtree(tmp_path / "Train & Test Set/compound")
    with pytest.raises(IndexProblems, match="no folder compound/no_caption/set_1"):
        index("mafw", tmp_path, label_set="mafw_43")


def test_mafw_captioned_lists_are_no_benchmark(tmp_path):
    mafw(tmp_path, "Train & Test Set/single/with_caption", encoding="gb18030")
    with pytest.raises(IndexProblems, match="no neutral clips and are not the benchmark"):
        index("mafw", tmp_path)


def test_mafw_list_that_is_missing(tmp_path):
    (mafw(tmp_path) / "Train & Test Set/single/no_caption/set_4/train.txt").unlink()
    with pytest.raises(IndexProblems, match=r"set_4/train\.txt"):
        index("mafw", tmp_path)


def test_dfew_frames_under_the_other_name_of_their_folder(tmp_path):
    dfew(tmp_path, form="clip_224x16f")
    for more in ({}, {"media": "clip_224x224_16f"}):  # the second as in params.yaml
        assert index("dfew", tmp_path, **more).rows["path"][0] == "Clip/clip_224x16f/00007"


def test_dfew_media_that_is_still_packed(tmp_path):
    dfew(tmp_path)
    (tmp_path / "Clip/clip_224x224_16f").rename(tmp_path / "Clip/x")
    text(tmp_path / "Clip/clip_224x224_16f.zip", "PK")
    with pytest.raises(IndexProblems, match=r"still packed: Clip/clip_224x224_16f\.zip"):
        index("dfew", tmp_path, media="clip_224x224_16f")


@pytest.mark.parametrize("bad_rows", ["stop", "skip"])
def test_dfew_codes_from_0_are_not_read_one_class_off(tmp_path, bad_rows):
    dfew(tmp_path)
    path = tmp_path / "EmoLabel_DataSplit/train(single-labeled)/set_1.csv"
    text(path, ["video_name,label", "7,0", "15,6", "16,2", "11000,3"])
    message = r"line 2 has class 0\), the owners' codes are 1 \(happiness\) to 7 \(fear\)"
    with pytest.raises(IndexProblems, match=message):
        index("dfew", tmp_path, bad_rows=bad_rows)


def test_ferv39k_list_with_folders_before_the_scenes(tmp_path):
    plain = index("ferv39k", ferv39k(tmp_path))
    for part in ("train", "test"):
        lines = [f"./2_ClipsforFaceCrop/{clip} {clip.split('/')[1]}" for clip, here in FERV.items() if here == part]
        text(tmp_path / f"4_setups/All_scenes/{part}_All.csv", lines)
    frames(tmp_path / "2_ClipsforFaceCrop/Action/Happy/@eaDir", [1])
    found = index("ferv39k", tmp_path)
    pd.testing.assert_frame_equal(found.rows, plain.rows)
    assert found.findings.extra == []
