"""RAF-DB, AffectNet and CAER-S, in every distributed form."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from datasets_tools import RAF, by_sample, code_file, cropped, dataset, index, picture, pictures, raf, text

from duchenne.datasets.build import build_index
from duchenne.datasets.layouts.affectnet import read_code
from duchenne.datasets.listing import digest
from duchenne.datasets.problems import IndexProblems


def test_raf_db_of_the_owners(tmp_path):
    found = index("raf_db", raf(tmp_path))
    rows = by_sample(found)
    assert {name: (row["emotion"], row["split"]) for name, row in rows.items()} == {
        "raf_db/train_00001": ("sadness", "train"),
        "raf_db/train_00003": ("happiness", "train"),
        "raf_db/test_0001": ("neutral", "test"),
        "raf_db/test_3068": ("surprise", "test"),
    }
    assert rows["raf_db/test_3068"]["path"] == "basic/Image/aligned/test_3068_aligned.jpg"
    assert rows["raf_db/test_3068"]["label"] == 0  # POSTER's order: file code minus 1
    assert found.classes == ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    assert found.findings.recognised == [
        "the owners' list list_patition_label.txt",
        "aligned images in basic/Image/aligned",
    ]
    assert found.findings.digests == {
        "train": digest(["train_00001\t5", "train_00003\t4"]),
        "test": digest(["test_0001\t7", "test_3068\t1"]),
    }


@pytest.mark.parametrize(
    "more", [{"name": "list_partition_label.txt"}, {"newline": "\r\n"}, {"encoding": "utf-8-sig"}, {"form": "original"}]
)
def test_raf_db_as_people_have_it(tmp_path, more):
    assert len(index("raf_db", raf(tmp_path, **more)).rows) == 4


def test_raf_db_originals_on_demand_and_files_no_list_names(tmp_path):
    raf(tmp_path)
    raf(tmp_path, form="original")
    picture(tmp_path / "basic/Image/original/train_99999.JPG")
    text(tmp_path / "basic/Image/original/Thumbs.db", "x")
    found = index("raf_db", tmp_path, media="original")
    assert found.rows["path"][0] == "basic/Image/original/test_0001.jpg"
    assert found.findings.extra == ["basic/Image/original/train_99999.JPG"]
    (tmp_path / "basic/Image/aligned").rename(tmp_path / "basic/Image/faces")
    with pytest.raises(IndexProblems, match=r"media: 'aligned' is not there; there is original"):
        index("raf_db", tmp_path, media="aligned")
    with pytest.raises(ValueError, match=r"'orginal' is not a form of layout raf_db \(did you mean 'original'\?\)"):
        index("raf_db", tmp_path, media="orginal")


def test_raf_db_upper_case_endings_and_links_to_another_disk_as_root(tmp_path):
    raf(tmp_path / "disk")
    for file in (tmp_path / "disk/basic/Image/aligned").iterdir():
        file.rename(file.with_suffix(".JPG"))
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    assert index("raf_db", tmp_path / "root").rows["path"][0] == "basic/Image/aligned/test_0001_aligned.JPG"


def test_raf_db_names_a_missing_image(tmp_path):
    raf(tmp_path)
    (tmp_path / "basic/Image/aligned/train_00003_aligned.jpg").unlink()
    with pytest.raises(IndexProblems, match=r"line 2: basic/Image/aligned/train_00003_aligned\.jpg"):
        index("raf_db", tmp_path)


@pytest.mark.parametrize("code", ["8", "11"])
def test_raf_db_refuses_the_list_of_the_compound_emotions(tmp_path, code):
    raf(tmp_path, ["train_0001.jpg 5", f"train_0002.jpg {code}"])
    with pytest.raises(IndexProblems, match=f"line 2 has code {code}: this is the list of the compound emotions"):
        index("raf_db", tmp_path)


def test_raf_db_beside_its_compound_half(tmp_path):
    text(tmp_path / "a/compound/EmoLabel/list_patition_label.txt", ["train_0001.jpg 11"])
    assert len(index("raf_db", raf(tmp_path / "a")).rows) == 4


@pytest.mark.parametrize("code", ["0", "12", "x"])
def test_raf_db_codes_that_do_not_exist(tmp_path, code):
    raf(tmp_path, [*RAF, f"train_00004.jpg {code}"])
    with pytest.raises(IndexProblems, match=rf"'{code}' is none of the classes \['surprise', 'fear'"):
        index("raf_db", tmp_path)


@pytest.mark.parametrize("bad_rows", ["stop", "skip"])
def test_raf_db_codes_from_0_are_not_read_one_class_off(tmp_path, bad_rows):
    message = r"counts from 0 \({} has class 0\), the owners' codes are 1 \(surprise\) to 7 \(neutral\): add 1"
    raf(tmp_path / "a", ["train_00001.jpg 4", "train_00003.jpg 0", "test_0001.jpg 6"])
    with pytest.raises(IndexProblems, match=message.format("line 2")):
        index("raf_db", tmp_path / "a", bad_rows=bad_rows)
    pictures(tmp_path / "b", ["train/0/1.jpg", "train/6/2.jpg", "valid/3/3.jpg"])
    with pytest.raises(IndexProblems, match=message.format("a folder")):
        index("raf_db", tmp_path / "b", bad_rows=bad_rows)
    classes = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    found = index("raf_db", tmp_path / "a", labels=dict(enumerate(classes)))
    assert by_sample(found)["raf_db/test_0001"]["emotion"] == "neutral"


LITTER = ("@eaDir", "@EADIR", "#recycle", ".AppleDouble", "lost+found", "$RECYCLE.BIN", "__MACOSX")


def test_what_storage_devices_add_is_not_data(tmp_path):
    pictures(tmp_path, ["train/Anger/1.jpg", "test/Sad/2.jpg"])
    pictures(tmp_path, [f"train/Anger/{name}/1.jpg/SYNOFILE_THUMB_M.jpg" for name in LITTER])
    pictures(tmp_path, [f"{name}/train/Sad/1.jpg" for name in LITTER])
    for layout, more in (("caer_s", {}), ("folder", {"classes": ["anger", "sadness"]})):
        assert index(layout, tmp_path, **more).rows["path"].tolist() == ["test/Sad/2.jpg", "train/Anger/1.jpg"]


PACKED = {
    "raf_db": ("RAF-DB.zip", {}),
    "affectnet": ("AffectNet.tar", {"label_set": "affectnet_7"}),
    "caer_s": ("CAER-S.zip", {}),
    "dfew": ("EmoLabel_DataSplit.zip", {"media": "clip_224x224_16f"}),
    "ferv39k": ("4_setups.rar", {}),
    "mafw": ("data/MAFW.zip", {}),
    "casme2": ("Cropped.zip", {"label_set": "casme2_5"}),
    "samm": ("SAMM.7z", {"label_set": "samm_5"}),
    "smic": ("SMIC_all_raw.z01", {}),
    "megc2019": ("casme2/CASME2_RAW_selected.zip", {}),
    "folder": ("faces.tgz", {"classes": ["anger", "neutral"]}),
}


@pytest.mark.parametrize("layout", PACKED)
def test_archives_that_are_still_packed_are_named(tmp_path, layout):
    name, more = PACKED[layout]
    archive = text(tmp_path / name, "PK")
    with pytest.raises(IndexProblems, match=rf"\(still packed: {re.escape(name)}: unpack what is needed\)"):
        index(layout, tmp_path, **more)
    with pytest.raises(IndexProblems, match=rf"is a file, not a folder: unpack it and set datasets\.{layout}\.root"):
        index(layout, archive, **more)


@pytest.mark.parametrize("evaluation", ["valid", "test", "val"])
@pytest.mark.parametrize("names", [("5", "7"), ("sadness", "neutral"), ("Sad", "Neutral")])
def test_raf_db_as_poster_plus_plus_reads_it(tmp_path, evaluation, names):
    picture(tmp_path / f"RAF/train/{names[0]}/train_00001_aligned.jpg")
    picture(tmp_path / f"RAF/{evaluation}/{names[1]}/test_0001_aligned.jpg")
    found = index("raf_db", tmp_path)
    rows = by_sample(found)
    assert {name: (row["emotion"], row["split"]) for name, row in rows.items()} == {
        "raf_db/train_00001": ("sadness", "train"),
        "raf_db/test_0001": ("neutral", "test"),
    }
    assert found.findings.digests == {"train": digest(["train_00001\t5"]), "test": digest(["test_0001\t7"])} or (
        names[0] == "Sad"
    )


def test_raf_db_that_is_not_there(tmp_path):
    text(tmp_path / "read_me.txt", "no list")
    with pytest.raises(IndexProblems, match=r"there is neither EmoLabel/list_patition_label\.txt"):
        index("raf_db", tmp_path)
    text(tmp_path / "EmoLabel/list_patition_label.txt", RAF)
    (tmp_path / "Image.zip").touch()
    with pytest.raises(IndexProblems, match=r"no folder Image/aligned .*still packed: Image\.zip"):
        index("raf_db", tmp_path)


@pytest.mark.parametrize("evaluation", ["val_set", "valid_set"])
def test_affectnet_of_npy_files(tmp_path, evaluation):
    cropped(tmp_path, evaluation=evaluation)
    picture(tmp_path / "train_set/images/9.jpg")
    found = index("affectnet", tmp_path, label_set="affectnet_8")
    assert {name: (row["emotion"], row["split"]) for name, row in by_sample(found).items()} == {
        f"affectnet/{part}/{number}": (emotion, part)
        for part in ("train", "test")
        for number, emotion in ((1, "neutral"), (22, "contempt"), (333, "surprise"))
    }
    assert found.findings.extra == ["train_set/images/9.jpg"]
    seven = index("affectnet", tmp_path, label_set="affectnet_7")
    assert len(seven.rows) == 4
    assert "contempt" not in seven.classes
    assert seven.left_out == {"label '7' (ignore)": 2}


@pytest.mark.parametrize("value", ["3", 3, np.int64(3), 3.0, np.float32(3), ["3"], [3]])
def test_affectnet_codes_of_any_type(tmp_path, value):
    assert read_code(str(code_file(tmp_path / "1_exp.npy", value))) == 3


@pytest.mark.parametrize("value", ["x", 1.5, [1, 2], "", np.array(None)])
def test_affectnet_codes_that_are_none(tmp_path, value):
    path = tmp_path / "1_exp.npy"
    np.save(path, value, allow_pickle=True)
    with pytest.raises(ValueError):  # noqa: PT011 (in the words of Python, NumPy or ours)
        read_code(str(path))


@pytest.mark.parametrize("cut", [0, 5, 60, 128])
def test_affectnet_codes_cut_short(tmp_path, cut):
    path = code_file(tmp_path / "1_exp.npy", "3")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError):  # noqa: PT011
        read_code(str(path))
    cropped(tmp_path)
    path.rename(tmp_path / "train_set/annotations/22_exp.npy")
    with pytest.raises(IndexProblems, match=r"holds no expression code: .*\n +train_set/annotations/22_exp\.npy"):
        index("affectnet", tmp_path, label_set="affectnet_8")
    assert len(index("affectnet", tmp_path, label_set="affectnet_8", bad_rows="skip").rows) == 5


def test_affectnet_doubled_folders(tmp_path):
    cropped(tmp_path / "other")
    for part in ("train_set", "val_set"):
        for inner in ("images", "annotations"):
            shutil.move(tmp_path / "other" / part / inner, tmp_path / part / part / inner / inner)
    assert len(index("affectnet", tmp_path, label_set="affectnet_8").rows) == 6


def test_affectnet_names_a_missing_image(tmp_path):
    cropped(tmp_path)
    (tmp_path / "val_set/images/22.jpg").unlink()
    with pytest.raises(IndexProblems, match=r"val_set/images/22\.jpg"):
        index("affectnet", tmp_path, label_set="affectnet_8")


def test_affectnet_by_the_lists_that_poster_makes(tmp_path):
    for part in ("train", "valid"):
        pictures(tmp_path / f"{part}_set/images", ["1.jpg", "2.jpg"])
        text(tmp_path / f"{part}_set/{part}_annotations_7class.txt", ["1.jpg 0", "2.jpg 6"])
    found = index("affectnet", tmp_path, label_set="affectnet_7")
    assert found.rows["emotion"].tolist() == ["neutral", "anger"] * 2
    with pytest.raises(IndexProblems, match=r"neither a folder annotations nor train_annotations_8class\.txt"):
        index("affectnet", tmp_path, label_set="affectnet_8")


CSV = """subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal
12/aaaa0001.jpg,40,41,300,301,61.1;120.4,1,0.78,0.12
12/aaaa0002.JPG,10,14,220,220,55.0;98.2,6,-0.40,0.66
7/aaaa0003.png,0,0,128,128,30.3;44.9,9,-2,-2
7/aaaa0004.jpg,NULL,NULL,NULL,NULL,,10,-2,-2
7/aaaa0005.jpg,1,1,9,9,,7,-2,-2
"""


def older(root, training=CSV, **more):
    lists = root / "Manually_Annotated_file_lists"
    text(lists / "training.csv", training, **more)
    text(lists / "validation.csv", CSV.splitlines()[0] + "\n3/b.jpg,0,0,5,6,1;2,0,-0.1,0.2\n")
    media = root / "Manually_Annotated_Images/Manually_Annotated_Images"
    pictures(media, ["12/aaaa0001.jpg", "12/aaaa0002.JPG", "7/aaaa0003.png", "7/aaaa0005.jpg", "3/b.jpg"])
    return root


@pytest.mark.parametrize("more", [{}, {"encoding": "utf-8-sig"}, {"training": CSV.replace("\n", "\r\n")}])
def test_affectnet_of_csv_files(tmp_path, more):
    found = index("affectnet", older(tmp_path, **more), label_set="affectnet_8")
    rows = by_sample(found)
    assert {name: (row["emotion"], row["split"], list(row["box"])) for name, row in rows.items()} == {
        "affectnet/12/aaaa0001.jpg": ("happiness", "train", [40, 41, 340, 342]),
        "affectnet/12/aaaa0002.JPG": ("anger", "train", [10, 14, 230, 234]),
        "affectnet/7/aaaa0005.jpg": ("contempt", "train", [1, 1, 10, 10]),
        "affectnet/3/b.jpg": ("neutral", "test", [0, 0, 5, 6]),
    }
    assert json.loads(rows["affectnet/12/aaaa0002.JPG"]["factors"]) == {"valence": -0.4, "arousal": 0.66}
    assert pd.isna(rows["affectnet/7/aaaa0005.jpg"]["factors"])  # -2: no value
    assert found.left_out == {"label '9' (ignore)": 1, "label '10' (ignore)": 1}
    assert found.findings.edition == "csv"


def test_affectnet_of_csv_files_that_do_not_fit(tmp_path):
    older(tmp_path, CSV.replace("expression", "expresion"))
    with pytest.raises(IndexProblems, match="expression: the column 'expression' is missing"):
        index("affectnet", tmp_path, label_set="affectnet_8")
    older(tmp_path, CSV.replace(",1,0.78", ",1.0,0.78").replace("face_x", " Face_X "))
    assert len(index("affectnet", tmp_path, label_set="affectnet_8").rows) == 4
    older(tmp_path, CSV + '8/c.jpg,"1,1,9,9,,7,-2,-2\n')
    with pytest.raises(IndexProblems, match=r"training\.csv\n  is not a comma-separated table"):
        index("affectnet", tmp_path, label_set="affectnet_8")
    older(tmp_path, CSV.replace("40,41,", "NULL,41,"))
    found = index("affectnet", tmp_path, label_set="affectnet_8", bad_rows="skip")
    assert found.problems["row"].tolist() == [2]
    assert "a face box needs all of x0, y0, x1, y1" in found.problems["problem"][0]
    (tmp_path / "Manually_Annotated_file_lists/validation.csv").unlink()
    with pytest.raises(IndexProblems, match=r"there is no validation\.csv"):
        index("affectnet", tmp_path, label_set="affectnet_8")


def test_affectnet_as_poster_plus_plus_reads_it(tmp_path):
    pictures(tmp_path, ["train/7/a.jpg", "train/0/b.jpg", "valid/happy/c.jpg"])
    rows = index("affectnet", tmp_path, label_set="affectnet_7").rows
    assert rows[["sample", "emotion", "split"]].to_numpy().tolist() == [
        ["affectnet/train/0/b", "neutral", "train"],
        ["affectnet/valid/happy/c", "happiness", "test"],
    ]


def test_affectnet_needs_a_label_set(tmp_path):
    with pytest.raises(ValueError, match=r"label_set is missing \(choose from affectnet_7, affectnet_8\)"):
        dataset("affectnet", tmp_path)
    with pytest.raises(ValueError, match="'dfew' does not go with layout affectnet"):
        dataset("affectnet", tmp_path, label_set="dfew")
    with pytest.raises(ValueError, match="does not go with layout folder: leave it out"):
        dataset("folder", tmp_path, label_set="dfew", classes=["anger", "fear"])


@pytest.mark.parametrize("evaluation", ["test", "valid"])
def test_caer_s(tmp_path, evaluation):
    pictures(tmp_path / "CAER-S", [f"{part}/{emotion}/0001.png" for part in ("train", evaluation) for emotion in CAER])
    found = index("caer_s", tmp_path)
    assert len(found.rows) == 14
    row = by_sample(found)[f"caer_s/{evaluation}/Sad/0001"]
    assert (row["emotion"], row["label"], row["split"]) == ("sadness", 5, "test")
    assert found.classes == ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]


CAER = ["Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]


@pytest.mark.parametrize("prefix", ["{}/", ""])
def test_caer_s_with_a_third_partys_boxes(tmp_path, prefix):
    pictures(tmp_path / "CAER-S", [f"{part}/Sad/000{i}.png" for part in ("train", "test") for i in (1, 2)])
    for part in ("train", "test"):
        text(tmp_path / f"boxes/{part}.txt", [prefix.format(part) + "Sad/0001.png,5,191,109,293,211"])
    if not prefix:
        (tmp_path / "CAER-S/test").rename(tmp_path / "CAER-S/valid")
    found = index("caer_s", tmp_path / "CAER-S", annotations=tmp_path / "boxes")
    assert [list(box) for box in found.rows["box"]] == [[191, 109, 293, 211]] * 2
    assert found.left_out == {"images without a face box in the lists": 2}
    text(tmp_path / "more/test.txt", text(tmp_path / "more/train.txt", "train/Sad/0009.png,5,1,2,3,4").read_text())
    with pytest.raises(
        IndexProblems, match=r"has a face box, but is not there\n +line 1 of train\.txt: train/Sad/0009"
    ):
        index("caer_s", tmp_path / "CAER-S", annotations=tmp_path / "more")
    with pytest.raises(IndexProblems, match="is not a folder with a list of face boxes"):
        index("caer_s", tmp_path / "CAER-S", annotations=tmp_path / "CAER-S")
    with pytest.raises(IndexProblems, match="there is no such file or folder"):
        index("caer_s", tmp_path / "CAER-S", annotations=tmp_path / "nowhere")


@pytest.mark.parametrize("there", ["Anger", "Angry", "angry"])
def test_caer_s_boxes_are_found_by_emotion(tmp_path, there):
    """The public list of boxes writes train/Angry and test/Anger; either is on the disk."""
    pictures(tmp_path / "CAER-S", [f"{part}/{there}/0001.png" for part in ("train", "test")])
    text(tmp_path / "boxes/train.txt", "train/Angry/0001.png,0,1,2,30,40")
    text(tmp_path / "boxes/test.txt", "test/Anger/0001.png,0,5,6,70,80")
    found = index("caer_s", tmp_path / "CAER-S", annotations=tmp_path / "boxes")
    assert {row.split: list(row.box) for row in found.rows.itertuples()} == {
        "train": [1, 2, 30, 40], "test": [5, 6, 70, 80],
    }  # fmt: skip


def test_caer_s_boxes_where_two_folders_hold_one_emotion(tmp_path):
    pictures(tmp_path / "CAER-S", [f"train/{name}/0001.png" for name in ("Anger", "Angry")] + ["test/Sad/0001.png"])
    text(tmp_path / "boxes/test.txt", "test/Sad/0001.png,5,1,2,3,4")
    text(tmp_path / "boxes/train.txt", ["train/Angry/0001.png,0,1,2,30,40", "train/Anger/0001.png,0,5,6,70,80"])
    found = index("caer_s", tmp_path / "CAER-S", annotations=tmp_path / "boxes")
    assert list(by_sample(found)["caer_s/train/Anger/0001"]["box"]) == [5, 6, 70, 80]
    text(tmp_path / "boxes/train.txt", "train/anger/0001.png,0,1,2,30,40")
    with pytest.raises(IndexProblems, match=r"may be any of train/Anger/0001\.png, train/Angry/0001\.png"):
        index("caer_s", tmp_path / "CAER-S", annotations=tmp_path / "boxes")


def test_what_the_configuration_adds_to_a_label_set(tmp_path):
    pictures(tmp_path, ["train/Sad/1.png", "test/bad/1.png", "test/Happy/1.png"])
    config = dataset("caer_s", tmp_path, labels={"bad": "not a class"}, ignore=["not a class"])
    assert build_index("caer_s", config).rows["emotion"].tolist() == ["happiness", "sadness"]


def test_raf_db_has_what_annotators_saw_as_factors(tmp_path):
    root = raf(tmp_path)
    points = ["10.5\t20.25"] * 5
    text(root / "basic/Annotation/manual/train_00001_manu_attri.txt", [*points, "1", "2", "3"])
    text(root / "basic/Annotation/manual/test_0001_manu_attri.txt", [*points, "2", "0", "4", ""], newline="\r\n")
    text(root / "basic/Annotation/manual/test_3068_manu_attri.txt", [*points, "1", "7", "0"])  # no such race
    found = index("raf_db", root)
    factors = {name: row["factors"] for name, row in by_sample(found).items()}
    assert json.loads(factors["raf_db/train_00001"]) == {"gender": "female", "race": "Asian", "age": "40-69"}
    assert json.loads(factors["raf_db/test_0001"]) == {"gender": "unsure", "race": "Caucasian", "age": "70+"}
    assert pd.isna(factors["raf_db/train_00003"])
    assert pd.isna(factors["raf_db/test_3068"])
    assert "gender, race and age of 2 of 4 images in basic/Annotation/manual" in found.findings.recognised
