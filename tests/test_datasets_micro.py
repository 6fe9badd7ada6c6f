"""CASME II, SAMM, SMIC and their composite: tables, subjects, apexes, and samples of the composite."""

from __future__ import annotations

import json
import os
import shutil

import pandas as pd
import pytest
from datasets_tools import (
    CASME2_2019,
    by_sample,
    casme2,
    casme3,
    dataset,
    frames,
    index,
    picture,
    samm,
    sheet,
    smic,
    text,
)

from duchenne.datasets.audit import compare
from duchenne.datasets.index import read_index, write_index
from duchenne.datasets.listing import digest
from duchenne.datasets.problems import IndexProblems
from duchenne.protocol import Protocol
from duchenne.splits import make_splits

CASME2 = [  # Subject, Filename, onset, apex, offset, AUs, emotion
    ("01", "EP90_01f", 46, 59, 86, 12, "happiness"),
    ("04", "EP90_02", 261, "/", 321, "4+7+L10", "disgust"),
    ("05", "EP90_05f", 30, 30, 70, 4, "disgust"),
    ("24", "EP07_01", 6, 49, 86, "R2+15", "surprise"),
    ("26", "EP90_03", 6, 49, 86, "?", "repression"),
    ("26", "EP90_04", 6, 49, 49, 1, "others"),
    ("26", "EP90_06", 6, 7, 49, 1, "sadness"),
]


def notes(found) -> dict[tuple[str, str], tuple[str, str]]:
    """(clip, column) -> (oddity, what was done); the clips of this file have gaps, which other tests look at."""
    told = [note[1:] for note in found.findings.notes if note[1] != "frames"]
    return {(path.rpartition("/")[2], column): (odd, done) for column, path, odd, done in told}


def test_casme2(tmp_path):
    found = index("casme2", casme2(tmp_path, CASME2), label_set="casme2_7")
    rows = by_sample(found)
    assert len(rows) == 7
    row = rows["casme2/sub01/EP90_01f"]
    assert (row["subject"], row["onset"], row["apex"], row["offset"], row["aus"], row["fps"]) == (
        "casme2/sub01", 46, 59, 86, "12", 200,
    )  # fmt: skip
    assert row["path"] == "CASME2_RAW_selected/sub01/EP90_01f"
    assert (rows["casme2/sub26/EP90_03"]["aus"], rows["casme2/sub24/EP07_01"]["aus"]) == ("?", "R2+15")
    assert found.findings.edition == "2019"
    lines = [f"{s}\t{f}\t{on}\t{'' if apex == '/' else apex}\t{off}\t{e}" for s, f, on, apex, off, _, e in CASME2]
    assert found.findings.digests == {"table": digest(lines)}


def test_casme2_oddities_are_told_with_what_was_done(tmp_path):
    found = index("casme2", casme2(tmp_path, CASME2), label_set="casme2_7")
    assert notes(found) == {
        ("EP90_02", "apex"): ("is missing", "291, by rule middle"),
        ("EP90_05f", "apex"): ("is the onset (30)", "kept"),
        ("EP90_04", "apex"): ("is the offset (49)", "kept"),
        ("EP90_06", "apex"): ("lies one frame after the onset 6", "kept"),
    }
    row = by_sample(found)["casme2/sub04/EP90_02"]
    assert row["apex"] == 291  # (261 + 321) // 2
    assert json.loads(row["factors"]) == {"apex_rule": "middle", "apex_annotated": None}
    write_index(found, tmp_path / "index.parquet")
    assert read_index(tmp_path / "index.parquet").findings == found.findings


def test_casme2_labels_of_the_protocols(tmp_path):
    casme2(tmp_path, CASME2)
    five = index("casme2", tmp_path, label_set="casme2_5")
    assert five.rows["emotion"].tolist() == ["happiness", "disgust", "disgust", "surprise", "repression", "others"]
    assert five.left_out == {"label 'sadness' (ignore)": 1}
    three = index("casme2", tmp_path, label_set="casme2_3")
    assert {name: row["emotion"] for name, row in by_sample(three).items()} == {
        "casme2/sub01/EP90_01f": "positive",
        "casme2/sub26/EP90_03": "negative",
    }
    assert three.left_out == {
        "clips left out by the protocol: apex is missing": 1,
        "clips left out by the protocol: apex is the onset": 1,
        "label 'others' (ignore)": 1,
        "label 'sadness' (ignore)": 2,
    }
    assert notes(three)["EP07_01", "label"] == ("is surprise in this edition", "sadness, as in the 2014 table")


def test_casme2_3_leaves_out_the_challenges_two_clips_even_where_a_copy_of_the_table_fills_in_the_apex(tmp_path):
    rows = [
        ("04", "EP12_01f", 261, 300, 321, "4", "disgust"),
        ("05", "EP09_05f", 30, 31, 70, "4", "disgust"),
        CASME2[0],
    ]
    found = index("casme2", casme2(tmp_path, rows, edition=2014), label_set="casme2_3")
    assert found.rows["sample"].tolist() == ["casme2/sub01/EP90_01f"]
    assert found.left_out == {"clips left out by the protocol: clip is one that it names": 2}
    assert len(index("casme2", tmp_path, label_set="casme2_5").rows) == 3


def test_casme2_of_2014_is_preferred_and_has_no_objective_classes(tmp_path):
    casme2(tmp_path, CASME2)
    rows = [(*row[:6], "sadness" if row[1] == "EP07_01" else row[6]) for row in CASME2]
    casme2(tmp_path, rows, edition=2014)
    found = index("casme2", tmp_path, label_set="casme2_3")
    assert found.findings.edition == "2014"
    assert ("EP07_01", "label") not in notes(found)
    later = index("casme2", tmp_path, label_set="casme2_7", annotations=tmp_path / "CASME2-coding-20190701.xlsx")
    assert later.findings.edition == "2019"


def test_casme2_saved_again_without_blank_columns_and_with_numbers_for_subjects(tmp_path):
    casme2(tmp_path, CASME2)
    (tmp_path / "CASME2-coding-20190701.xlsx").unlink()
    header = [name for name in CASME2_2019 if name]
    rows = [[int(s), f, on, apex, off, aus, emotion, 1] for s, f, on, apex, off, aus, emotion in CASME2]
    text(tmp_path / "CASME2-coding.csv", [";".join(map(str, row)) for row in [header, *rows]], newline="\r\n")
    found = index("casme2", tmp_path, label_set="casme2_7")
    assert set(found.rows["subject"]) == {f"casme2/sub{n}" for n in ("01", "04", "05", "24", "26")}


def test_casme2_doubled_cropped_folders(tmp_path):
    casme2(tmp_path, CASME2[:1], clips=False)
    frames(tmp_path / "Cropped/Cropped/sub01/EP90_01f", (46, 59, 86), "reg_img{}.jpg")
    text(tmp_path / "Cropped/Cropped/sub01/reg.lnk", "a stray link of Windows")
    found = index("casme2", tmp_path, label_set="casme2_7")
    assert found.rows["path"].tolist() == ["Cropped/Cropped/sub01/EP90_01f"]
    assert "cropped clips in Cropped/Cropped" in found.findings.recognised
    with pytest.raises(IndexProblems, match="media: 'raw' is not there; there is cropped"):
        index("casme2", tmp_path, label_set="casme2_7", media="raw")


def test_casme2_frames_that_are_not_on_the_disk(tmp_path):
    casme2(tmp_path, CASME2[:1], clips=False)
    clip = tmp_path / "CASME2_RAW_selected/sub01/EP90_01f"
    frames(clip, range(46, 60))
    found = index("casme2", tmp_path, label_set="casme2_7")
    assert notes(found) == {("EP90_01f", "offset"): ("frame 86 is not there: the last is 59", "kept")}
    assert found.findings.missing == []
    (clip / "img59.jpg").unlink()
    with pytest.raises(IndexProblems, match="apex: frame 59 is not there: the last is 58"):
        index("casme2", tmp_path, label_set="casme2_7")


@pytest.mark.parametrize(
    ("cell", "message"),
    [("x", "'x' is not a number"), ("4.5", "'4.5' is not a whole number"), ("-3", "'-3' is negative")],
)
def test_casme2_cells_that_are_no_frame(tmp_path, cell, message):
    rows = [CASME2[0], ("02", "EP1", cell, 59, 86, 12, "happiness")]
    casme2(tmp_path, rows, clips=False)
    for subject, clip in (("01", "EP90_01f"), ("02", "EP1")):
        frames(tmp_path / f"CASME2_RAW_selected/sub{subject}/{clip}", (46, 59, 86))
    with pytest.raises(IndexProblems, match=message) as caught:
        index("casme2", tmp_path, label_set="casme2_7")
    assert caught.value.problems["row"].tolist() == [3]


@pytest.mark.parametrize("column", [0, 1, 2, 4])
def test_casme2_cells_that_are_empty_because_others_are_merged(tmp_path, column):
    rows = [CASME2[0], tuple(None if i == column else cell for i, cell in enumerate(CASME2[4]))]
    casme2(tmp_path, rows, clips=False)
    casme2(tmp_path / "clips", [CASME2[0]])
    with pytest.raises(IndexProblems, match="of merged cells only the first has the value") as caught:
        index("casme2", tmp_path / "clips", label_set="casme2_7", annotations=tmp_path)
    name = ("subject", "clip", "onset", None, "offset")[column]
    assert caught.value.problems[["row", "column"]].to_numpy().tolist() == [[3, name]]


def test_casme2_rules_for_a_missing_apex(tmp_path):
    casme2(tmp_path, [("04", "EP90_02", 1, "/", 9, "4", "disgust")], clips=False)
    clip = tmp_path / "CASME2_RAW_selected/sub04/EP90_02"
    for number, grey in {1: 100, 3: 110, 4: 130, 6: 150, 8: 118, 9: 100}.items():
        picture(clip / f"img{number}.jpg", grey)
    for rule, apex in {"middle": 4, "difference": 6, "none": None}.items():  # the middle, 5, is not on the disk
        row = index("casme2", tmp_path, label_set="casme2_7", apex=rule).rows.iloc[0]
        assert row["apex"] is pd.NA if apex is None else row["apex"] == apex
        assert json.loads(row["factors"])["apex_rule"] == rule


def test_casme2_that_is_not_there(tmp_path):
    text(tmp_path / "CASME2_label_Ver_2.xls", "x")
    with pytest.raises(IndexProblems, match=r"no CASME2-coding-20140508\.xlsx .*CASME2_label_Ver_2\.xls is an older"):
        index("casme2", tmp_path, label_set="casme2_5")
    casme2(tmp_path, CASME2, clips=False)
    with pytest.raises(IndexProblems, match="no folder CASME2_RAW_selected/sub01 or Cropped/sub01"):
        index("casme2", tmp_path, label_set="casme2_5")


SAMM = [
    ("006", "006_9_1", 5562, 5588, 5632, "4+7", "Anger"),
    ("007", "007_9_2", 497, 511, 541, "(R6 or R12)+R15 ", "Happiness"),
    ("016", "016_9_1", 9990, 10_005, 10_020, "A14C", "Other"),
    ("028", "028_9_1", 1090, 1143, 1134, "T23", "Sadness"),
    ("032", "032_9_1", 4896, 1930, 4960, "1", "Surprise"),
    ("011", "011_9_6", 100, 140, 200, "1", "Fear"),
]


def test_samm(tmp_path):
    found = index("samm", samm(tmp_path, SAMM), label_set="samm_8")
    rows = by_sample(found)
    assert rows["samm/006/006_9_1"]["subject"] == "samm/006"
    assert rows["samm/007/007_9_2"]["aus"] == "(R6 or R12)+R15"
    assert rows["samm/016/016_9_1"]["apex"] == 10_005
    assert {name: row["emotion"] for name, row in rows.items()}["samm/016/016_9_1"] == "others"
    assert rows["samm/028/028_9_1"]["apex"] == 1112  # (1090 + 1134) // 2
    assert json.loads(rows["samm/032/032_9_1"]["factors"]) == {"apex_rule": "middle", "apex_annotated": 1930}
    lines = [f"{s}\t{f}\t{on}\t{apex}\t{off}\t{e}" for s, f, on, apex, off, _, e in SAMM]
    assert found.findings.digests == {"table": digest(lines)}
    assert notes(found) == {
        ("028_9_1", "apex"): ("1143 lies outside onset..offset 1090..1134", "1112, by rule middle"),
        ("032_9_1", "apex"): ("1930 lies outside onset..offset 4896..4960", "4928, by rule middle"),
        ("011_9_6", "offset"): ("101 frames are over half a second", "kept"),
    }


def test_samm_labels_of_the_protocols(tmp_path):
    samm(tmp_path, SAMM)
    five = index("samm", tmp_path, label_set="samm_5")
    assert five.rows["emotion"].tolist() == ["anger", "happiness", "others", "surprise"]
    three = index("samm", tmp_path, label_set="samm_3")
    assert three.rows["emotion"].tolist() == ["negative", "positive", "negative", "negative", "surprise"]


def test_samm_subject_that_is_not_the_clips(tmp_path):
    samm(tmp_path, [*SAMM, ("007", "008_9_1", 1, 5, 9, "1", "Anger")])
    with pytest.raises(IndexProblems, match=r"subject is not the one in the clip's name\n +row 21: SAMM/007/008_9_1"):
        index("samm", tmp_path, label_set="samm_5")


def test_samm_saved_again_with_numbers_for_subjects(tmp_path):
    samm(tmp_path, SAMM[:1])
    (tmp_path / "SAMM_Micro_FACS_Codes_v2.xlsx").unlink()
    header = "Subject,Filename,Onset Frame,Apex Frame,Offset Frame,Estimated Emotion"
    text(tmp_path / "SAMM_Micro_FACS_Codes_v2.csv", [header, "6,006_9_1,5562,5588,5632,anger"])
    assert index("samm", tmp_path, label_set="samm_5").rows["sample"].tolist() == ["samm/006/006_9_1"]


CLIPS = ["s1_ne_01", "s1_ne_02", "s6_po_01", "s20_sur_10"]


def test_smic(tmp_path):
    smic(tmp_path, CLIPS, first=99_998)
    smic(tmp_path / "other", ["s2_ne_01"])
    (tmp_path / "other/SMIC_all_raw/HS").rename(tmp_path / "SMIC_all_raw/NIR")
    frames(tmp_path / "SMIC-E_raw image/VIS_long/SMIC-VIS-E/s11/s11_ne_01", (1, 2), "image{:06d}.jpg")
    frames(tmp_path / "SMIC_all_raw/HS/s1/non_micro/s1_ne_07", (1, 2), "image{:06d}.bmp")
    found = index("smic", tmp_path)
    rows = by_sample(found)
    assert {name: (row["emotion"], row["subject"]) for name, row in rows.items()} == {
        "smic/s01/s01_ne_01": ("negative", "smic/s01"),
        "smic/s01/s01_ne_02": ("negative", "smic/s01"),
        "smic/s06/s06_po_01": ("positive", "smic/s06"),
        "smic/s20/s20_sur_10": ("surprise", "smic/s20"),
    }
    row = rows["smic/s20/s20_sur_10"]
    assert (row["onset"], row["apex"], row["offset"], row["fps"]) == (99_998, 100_000, 100_002, 100)
    assert json.loads(row["factors"]) == {"apex_rule": "middle", "apex_annotated": None}
    assert found.classes == ["negative", "positive", "surprise"]
    assert found.findings.notes == []
    assert found.findings.recognised[1] == "no apex is given by the owners: rule middle"
    assert index("smic", tmp_path, apex="none").rows["apex"].isna().all()


@pytest.mark.parametrize(("folder", "wrong"), [("s1/micro/positive", "positive"), ("s2/micro/negative", "s2")])
def test_smic_clip_in_the_folder_of_another(tmp_path, folder, wrong):
    smic(tmp_path, CLIPS)
    frames(tmp_path / "SMIC_all_raw/HS" / folder / "s1_ne_09", (1, 2))
    with pytest.raises(IndexProblems, match=f"lies in the folder {wrong} of another subject or emotion"):
        index("smic", tmp_path)


@pytest.mark.parametrize("camera", ["VIS", "NIR"])
def test_smic_slower_cameras_on_demand(tmp_path, camera):
    smic(tmp_path, ["s11_ne_01", "s20_po_02"])
    (tmp_path / "SMIC_all_raw/HS").rename(tmp_path / "SMIC_all_raw" / camera)
    with pytest.raises(IndexProblems, match=rf"no clips of the high-speed camera.*media: {camera.lower()} reads"):
        index("smic", tmp_path)
    smic(tmp_path, ["s1_ne_01"])
    assert index("smic", tmp_path).rows["fps"].tolist() == [100]
    found = index("smic", tmp_path, media=camera.lower())
    assert found.rows["sample"].tolist() == ["smic/s11/s11_ne_01", "smic/s20/s20_po_02"]
    assert found.rows["fps"].tolist() == [25, 25]
    assert found.findings.edition == camera.lower()


@pytest.mark.parametrize("outside", ["203", "9" * 5000])
def test_smic_with_a_third_partys_apexes(tmp_path, outside):
    smic(tmp_path, CLIPS, first=100, n=10)
    header = "data,subject,clip,label,onset_frame,apex_frame,offset_frame"
    lines = [
        header,
        "SMIC,s01,s01_ne_01,0,100,103,109",
        f"SMIC,s01,s1_ne_02,0,100,{outside},",
        "SMIC,s06,s06_po_01,1,100,,",
    ]
    found = index("smic", tmp_path, annotations=text(tmp_path / "smic_apex.csv", lines))
    assert found.rows["apex"].tolist() == [103, 104, 104, 104]
    assert notes(found) == {("s1_ne_02", "apex"): (f"{outside} of smic_apex.csv is not in the clip", "ignored")}


@pytest.mark.parametrize("name", ["smic_apex.csv", "SMIC-E/SMIC-HS-E_annotation.csv"])
def test_smic_tables_with_names_that_are_no_clips(tmp_path, name):
    frames(tmp_path / "SMIC-E/SMIC-HS-E/s01/s1_ne_01", range(10, 31), "image{}.jpg")
    text(tmp_path / "SMIC-E/SMIC-HS-E_annotation.csv", ["Filename,OnsetF,OffsetF", "s1_ne_01,15,25"])
    header = "clip,apex_frame" if name == "smic_apex.csv" else "Filename,OnsetF,OffsetF"
    text(tmp_path / name, [header, "s1_ne_01,16,25", "total,1,2"])
    with pytest.raises(IndexProblems, match=r"row 3: 'total' is not a clip name such as s1_ne_01"):
        index("smic", tmp_path, annotations=tmp_path)


def test_smic_extended_clip_without_onset(tmp_path):
    frames(tmp_path / "SMIC-E/SMIC-HS-E/s01/s1_ne_01", range(10, 31), "image{}.jpg")
    text(tmp_path / "SMIC-E/SMIC-HS-E_annotation.csv", ["Filename,OnsetF,OffsetF", "s1_ne_01,,25"])
    with pytest.raises(IndexProblems, match=r"has no onset or no offset in SMIC-HS-E_annotation\.csv"):
        index("smic", tmp_path)


def test_smic_extended_takes_onset_and_offset_from_its_table(tmp_path):
    top = tmp_path / "SMIC-E_raw image/HS_long"
    frames(top / "SMIC-HS-E/s01/s1_ne_01", range(10, 31), "image{}.jpg")
    frames(top / "SMIC-HS-E/s03/s3_ne_99", range(10, 31), "image{}.jpg")
    header = "Subject,Filename,OnsetF,ApexF,OffsetF,Emotion"
    text(top / "SMIC-HS-E_annotation_2019.csv", [header, "1,s1_ne_01,15,,35,negative"])
    found = index("smic", tmp_path, bad_rows="skip")
    row = by_sample(found)["smic/s01/s01_ne_01"]
    assert (row["onset"], row["apex"], row["offset"]) == (15, 25, 35)
    assert notes(found)["s1_ne_01", "offset"] == ("frame 35 is not there: the last is 30", "kept")
    write_index(found, tmp_path / "index.parquet")
    assert read_index(tmp_path / "index.parquet").findings.notes == found.findings.notes
    assert found.problems["problem"].tolist() == ["is not in SMIC-HS-E_annotation_2019.csv"]
    assert any("157 of the 164" in sentence for sentence in found.findings.recognised)
    smic(tmp_path, ["s1_ne_01"])
    assert index("smic", tmp_path).rows["path"][0].startswith("SMIC_all_raw/")
    (top / "SMIC-HS-E_annotation_2019.csv").unlink()
    with pytest.raises(IndexProblems, match="there is SMIC-E, but not its table"):
        index("smic", tmp_path, media="extended")


def composite(root, edition=2019):
    casme2(root / "casme2", CASME2, edition)
    samm(root / "samm", SAMM)
    smic(root / "smic", CLIPS)
    return root


EXPECTED = {
    "casme2/sub01/EP90_01f": "positive",
    "casme2/sub26/EP90_03": "negative",
    "samm/006/006_9_1": "negative",
    "samm/007/007_9_2": "positive",
    "samm/011/011_9_6": "negative",
    "samm/028/028_9_1": "negative",
    "samm/032/032_9_1": "surprise",
    "smic/s01/s01_ne_01": "negative",
    "smic/s01/s01_ne_02": "negative",
    "smic/s06/s06_po_01": "positive",
    "smic/s20/s20_sur_10": "surprise",
}


def test_composite_by_rule(tmp_path):
    found = index("megc2019", composite(tmp_path))
    rows = by_sample(found)
    assert {name: row["emotion"] for name, row in rows.items()} == EXPECTED
    assert {row["subject"] for row in rows.values()} == {name.rpartition("/")[0] for name in EXPECTED}
    assert json.loads(rows["samm/028/028_9_1"]["factors"])["part"] == "samm"
    assert rows["casme2/sub01/EP90_01f"]["path"] == "casme2/CASME2_RAW_selected/sub01/EP90_01f"
    assert found.findings.digests["list"] == digest(
        "\t".join([*name.split("/"), emotion]) for name, emotion in EXPECTED.items()
    )
    splits = make_splits(found.rows, Protocol(kind="loso", val_share=0))
    assert splits["fold"].nunique() == len({row["subject"] for row in rows.values()})


def test_composite_by_the_challenges_list(tmp_path):
    codes = {"negative": "0", "positive": "1", "surprise": "2"}
    lines = []
    for name, emotion in EXPECTED.items():
        part, subject, clip = name.split("/")
        lines.append(f"{part},{subject.lstrip('0') if part == 'samm' else subject},{clip},{codes[emotion]}")
    text(composite(tmp_path) / "combined_3class_gt.csv", lines, newline="\r\n")
    found = index("megc2019", tmp_path)
    assert {name: row["emotion"] for name, row in by_sample(found).items()} == EXPECTED
    assert "the challenge's list combined_3class_gt.csv" in found.findings.recognised

    fewer = ["casme2,sub01,EP90_01f,0", "samm,99,099_1_1,1", *lines[2:]]
    text(tmp_path / "combined_3class_gt.csv", fewer)
    with pytest.raises(IndexProblems, match=r"in no table of the three .*\n +row 2 of combined_3class_gt\.csv: samm"):
        index("megc2019", tmp_path)
    found = index("megc2019", tmp_path, bad_rows="skip")
    assert by_sample(found)["casme2/sub01/EP90_01f"]["emotion"] == "negative"
    assert found.left_out["clips that combined_3class_gt.csv does not name"] == 1
    assert notes(found)["EP90_01f", "label"] == ("is positive by rule, negative in the list", "negative")


def test_composite_of_links_to_the_three_sets(tmp_path):
    composite(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    for name in ("casme2", "samm", "smic"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "elsewhere" / name)
    assert len(index("megc2019", tmp_path / "root").rows) == len(EXPECTED)


def test_composite_of_one_folder(tmp_path):
    casme2(tmp_path, CASME2)
    samm(tmp_path, SAMM)
    smic(tmp_path, CLIPS)
    assert len(index("megc2019", tmp_path).rows) == len(EXPECTED)


def test_composite_of_links_tells_what_dvc_does_not_see(tmp_path):
    composite(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/casme2").symlink_to(tmp_path / "elsewhere/casme2")
    for name in ("samm", "smic"):
        shutil.copytree(tmp_path / "elsewhere" / name, tmp_path / "root" / name, copy_function=os.symlink)
    found = index("megc2019", tmp_path / "root")
    assert len(found.rows) == len(EXPECTED)
    assert {path for path, column in notes(found) if column == "path"} == {"casme2"}


def test_composite_with_its_list_elsewhere_and_of_other_paddings(tmp_path):
    lines = ["CASME2,1,EP90_01f,1", "samm,006,006_9_1,0", "samm,7,007_9_2,1", "smic,s1,s1_ne_1,0"]
    path = text(tmp_path / "lists/combined_3class_gt.csv", lines)
    found = index("megc2019", composite(tmp_path / "data"), annotations=path)
    assert sorted(by_sample(found)) == [
        "casme2/sub01/EP90_01f",
        "samm/006/006_9_1",
        "samm/007/007_9_2",
        "smic/s01/s01_ne_01",
    ]
    text(path, ["casme3,1,EP90_01f,1", "samm,x,006_9_1,0", "smic,s1,s1_ne_1,4"])
    with pytest.raises(IndexProblems) as caught:
        index("megc2019", tmp_path / "data", annotations=path)
    told = caught.value.problems
    assert told[["row", "column"]].to_numpy().tolist() == [[1, "subject"], [2, "subject"], [3, "code"]]
    assert set(told["file"]) == {str(path)}


def test_composite_names_the_table_of_a_wrong_row(tmp_path):
    composite(tmp_path)
    shutil.rmtree(tmp_path / "samm/SAMM/007")
    with pytest.raises(IndexProblems, match=r"row 16 of samm/SAMM_Micro_FACS_Codes_v2\.xlsx: samm/SAMM/007/007_9_2"):
        index("megc2019", tmp_path)


def test_composite_that_lacks_a_set(tmp_path):
    casme2(tmp_path / "casme2", CASME2)
    with pytest.raises(IndexProblems, match=r"samm: there is no SAMM_Micro_FACS_Codes_v2\.xlsx"):
        index("megc2019", tmp_path)


def test_smic_extended_has_counts_of_its_own(tmp_path):
    frames(tmp_path / "SMIC-E/SMIC-HS-E/s01/s1_ne_01", range(10, 31), "image{}.jpg")
    text(tmp_path / "SMIC-E/SMIC-HS-E_annotation.csv", ["Filename,OnsetF,OffsetF", "s1_ne_01,15,25"])
    expected = {item.what: item.expected for item in compare(index("smic", tmp_path), dataset("smic", tmp_path))}
    assert (expected["samples"], expected["negative"]) == (157, 65)


def test_samm_table_is_chosen_by_its_columns(tmp_path):
    samm(tmp_path, [("006", "006_1_2", 5562, 5588, 5632, "4", "Anger")])
    long = [("Subject", "Filename", "Onset", "Apex", "Offset", "Type"), ("006", "006_1", 1, 2, 3, "Macro")]
    sheet(tmp_path / "SAMM_V2.xlsx", long)
    text(tmp_path / "SAMM_LongVideos_V2_Release.csv", [",".join(map(str, cells)) for cells in long])
    (tmp_path / "SAMM_Micro_FACS_Codes_v2.xlsx").rename(tmp_path / "SAMM_20181215_Micro_FACS_Codes_v2.xlsx")
    found = index("samm", tmp_path, label_set="samm_5")
    assert found.rows["sample"].tolist() == ["samm/006/006_1_2"]
    assert "FACS table SAMM_20181215_Micro_FACS_Codes_v2.xlsx" in found.findings.recognised
    (tmp_path / "SAMM_20181215_Micro_FACS_Codes_v2.xlsx").unlink()
    with pytest.raises(IndexProblems, match="the column 'Estimated Emotion' is missing"):
        index("samm", tmp_path, label_set="samm_5")


def test_columns_by_the_names_of_other_tables(tmp_path):
    casme2(tmp_path, [("01", "EP02_01f", 46, 59, 86, 12, "happiness")])
    header = "Subject,Filename,Apex,Onset,OffsetF,AU,Emotion"
    (tmp_path / "CASME2-coding-20190701.xlsx").unlink()
    text(tmp_path / "CASME2-coding-20190701.csv", [header, "1,EP02_01f,59,46,86,12,happiness"])
    (row,) = index("casme2", tmp_path, label_set="casme2_5").rows.to_dict("records")
    assert (row["onset"], row["apex"], row["offset"], row["aus"], row["emotion"]) == (46, 59, 86, "12", "happiness")
    both = ["Subject,Filename,Apex,Apex Frame,Onset,Offset,Emotion", "1,EP02_01f,1,59,46,86,happiness"]
    text(tmp_path / "CASME2-coding-20190701.csv", both)
    assert index("casme2", tmp_path, label_set="casme2_5").rows["apex"].tolist() == [59]


def test_composite_lists_of_others_are_told_and_names_of_the_sets_understood(tmp_path):
    lines = ["CASME II,sub01,EP90_01f,1", "SMIC-HS,s01,s01_ne_01,0"]
    text(composite(tmp_path) / "combined_3class_gt.csv", lines)
    text(tmp_path / "combined_3_class2_for_optical_flow.csv", ["sub,filename_o", "s01,s01_ne_01"])
    found = index("megc2019", tmp_path)
    assert sorted(found.rows["sample"]) == ["casme2/sub01/EP90_01f", "smic/s01/s01_ne_01"]
    told = [note[2:] for note in found.findings.notes if note[1] == "list"]
    assert told == [
        (
            "combined_3_class2_for_optical_flow.csv",
            "is not the challenge's list, which is called combined_3class_gt.csv",
            "not read",
        )
    ]


@pytest.mark.parametrize("media", ["clips", "videos"])
def test_casme3(tmp_path, media):
    casme3(tmp_path, clips=media == "clips", videos=media == "videos")
    found = index("casme3", tmp_path, label_set="casme3_7", media=media)
    rows = by_sample(found)
    assert {name: (row["onset"], row["apex"], row["offset"], row["emotion"]) for name, row in rows.items()} == {
        "casme3/spNO.1/a/355": (355, 361, 367, "disgust"),
        "casme3/spNO.1/a/380": (380, 384, 386, "happiness"),
        "casme3/spNO.10/l/116": (116, 120, 120, "surprise"),  # the table's offset is 0
        "casme3/spNO.10/l/130": (130, 133, 136, "others"),
    }
    expected = {
        "clips": "Part_A_ME_clip/frame/spNo.10_l_116",
        "videos": "part_A/spNO.10/l/color",
    }
    row = rows["casme3/spNO.10/l/116"]
    assert (row["first"], row["last"], row["n_frames"]) == (116, 120, 5)
    assert (row["path"], row["subject"], row["fps"], row["aus"]) == (expected[media], "casme3/spNO.10", 30, "1+2")
    assert json.loads(row["factors"]) == {"objective_class": "3"}
    notes = [(note[1], note[3], note[4]) for note in found.findings.notes]
    assert ("offset", "0 lies before the onset", "120, the apex") in notes
    assert found.findings.counts == {"rows of the table": 4, "videos": 2}


def test_casme3_classes(tmp_path):
    casme3(tmp_path)
    three = index("casme3", tmp_path, label_set="casme3_3")
    assert three.rows["emotion"].tolist() == ["negative", "positive", "surprise"]
    assert three.left_out == {"label 'others' (ignore)": 1}
    four = index("casme3", tmp_path, label_set="casme3_4")
    assert four.rows["emotion"].tolist() == ["negative", "positive", "surprise", "others"]
    counts = {item.what: (item.expected, item.verdict) for item in compare(four, dataset_3(tmp_path))}
    assert counts["samples"] == (860, "about")
    assert counts["rows of the table"] == (860, "differs")


def dataset_3(root):
    return dataset("casme3", root, label_set="casme3_4")


def test_casme3_that_is_not_there(tmp_path):
    text(tmp_path / "CAS(ME)3_part_A_v2.csv", ["Subject"])
    with pytest.raises(IndexProblems, match=r"no cas\(me\)3_part_A_ME_label_JpgIndex_v2\.xlsx \(CAS\(ME\)3_part_A_v2"):
        index("casme3", tmp_path, label_set="casme3_3")
    casme3(tmp_path, clips=False)
    with pytest.raises(IndexProblems, match="there is no folder Part_A_ME_clip/frame/spNo"):
        index("casme3", tmp_path, label_set="casme3_3")
    casme3(tmp_path)
    shutil.rmtree(tmp_path / "Part_A_ME_clip/frame/spNo.1_a_380")
    with pytest.raises(IndexProblems, match=r"row 3: Part_A_ME_clip/frame/spNO\.1_a_380"):
        index("casme3", tmp_path, label_set="casme3_3")
