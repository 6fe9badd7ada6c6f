"""FER2013 and FER+: images in the rows of a table, and labels by the majority of ten annotators."""

from __future__ import annotations

import io

import numpy as np
import pytest
from datasets_tools import FER, by_sample, dataset, fer2013, frames, index, picture, pictures, text
from PIL import Image

from duchenne.datasets.audit import compare
from duchenne.datasets.deep import decode_all
from duchenne.datasets.problems import IndexProblems
from duchenne.engines import Local
from duchenne.faces.sample import align_file
from duchenne.faces.settings import Faces
from duchenne.media.frames import read_frames
from duchenne.media.pixel_tables import decode, place, placed, read_pixels


def test_images_are_rows_of_the_table(tmp_path):
    found = index("fer2013", fer2013(tmp_path, plus=False))
    rows = by_sample(found)
    assert [(name, row["emotion"], row["split"], row["path"]) for name, row in rows.items()] == [
        ("fer2013/00002", "anger", "train", "fer2013.csv#2"),
        ("fer2013/00003", "happiness", "train", "fer2013.csv#3"),
        ("fer2013/00004", "neutral", "train", "fer2013.csv#4"),
        ("fer2013/00005", "happiness", "val", "fer2013.csv#5"),
        ("fer2013/00006", "surprise", "val", "fer2013.csv#6"),
        ("fer2013/00007", "fear", "test", "fer2013.csv#7"),
        ("fer2013/00008", "neutral", "test", "fer2013.csv#8"),
    ]
    assert set(found.rows["kind"]) == {"image"}
    for row, (*_, grey, _, _) in zip(rows.values(), FER, strict=True):
        ((number, image),) = read_frames(tmp_path / row["path"], "image", 100)
        assert (number, image.shape, image.dtype) == (0, (48, 48, 3), np.uint8)
        assert image[0, 0].tolist() == [255] * 3
        assert set(image.ravel()[3:]) == {grey}
    assert decode_all(found, tmp_path, 100, Local(1)).problems.empty


def test_columns_may_stand_in_another_order(tmp_path):
    fer2013(tmp_path, plus=False)
    lines = (tmp_path / "fer2013.csv").read_text().splitlines()
    emotions, pixels, usage = zip(*(line.split(",") for line in lines), strict=True)
    text(tmp_path / "icml_face_data.csv", [" , ".join(cells) for cells in zip(emotions, usage, pixels, strict=True)])
    before = index("fer2013", tmp_path).rows
    (tmp_path / "fer2013.csv").unlink()
    after = index("fer2013", tmp_path).rows
    assert after["emotion"].tolist() == before["emotion"].tolist()
    assert after["split"].tolist() == before["split"].tolist()
    assert read_pixels(tmp_path / "icml_face_data.csv", 8)[1, 1].tolist() == [70] * 3


def test_faces_are_enlarged(tmp_path):
    row = by_sample(index("fer2013", fer2013(tmp_path)))["fer2013/00007"]
    ((stored, failures),) = align_file([row], tmp_path, Faces(mode="aligned", size=96, encoding="png"))
    image = np.asarray(Image.open(io.BytesIO(stored["frames"][0])))
    assert (image.shape, failures) == ((96, 96, 3), [])
    assert set(image[8:].ravel()) == {60}


def test_labels_of_fer_plus_need_a_majority(tmp_path):
    found = index("fer2013", fer2013(tmp_path), label_set="ferplus")
    rows = by_sample(found)
    # 5 of 5 after single votes are dropped; 5 of 10 and 4 of 8 is no majority; 7 of 9 are unknown; 7 of 10; 8 of 10
    assert {name: (row["emotion"], row["split"], row["path"], list(row["votes"])) for name, row in rows.items()} == {
        "ferplus/fer0000000": ("anger", "train", "fer2013.csv#2", [0, 1, 1, 1, 5, 1, 1, 0]),
        "ferplus/fer0000004": ("fear", "test", "fer2013.csv#7", [0, 0, 3, 0, 0, 0, 7, 0]),
        "ferplus/fer0000004~8": ("neutral", "test", "fer2013.csv#8", [8, 0, 0, 2, 0, 0, 0, 0]),
    }
    assert found.left_out == {
        "images that FER+ removed (they have no name)": 1,
        "images without a majority: no emotion has over half of the votes": 2,
        "label 'unknown' (ignore)": 1,
    }
    assert [note[:3] for note in found.findings.notes] == [(8, "name", "fer0000004.png")]
    counts = {item.what: (item.found, item.expected, item.verdict) for item in compare(found, dataset_of(tmp_path))}
    assert counts == {
        "rows of the table": (7, 35887, "differs"),
        "rows of the votes": (7, 35887, "differs"),
        "of them with an image name": (6, 35714, "differs"),
    }


def dataset_of(root):
    return dataset("fer2013", root, label_set="ferplus")


@pytest.mark.parametrize("box", ['"(0, 0, 48, 48)",', ""])
def test_fer_plus_as_the_owners_script_writes_it(tmp_path, box):
    parts = {"Training": "Train", "PublicTest": "Valid", "PrivateTest": "Test"}
    lines: dict[str, list[str]] = {part: [] for part in parts.values()}
    for _, usage, _, name, votes in FER:
        if name:
            picture(tmp_path / f"FER2013{parts[usage]}" / name)
            lines[parts[usage]].append(f"{name},{box}{','.join(map(str, votes))}")
    for part, rows in lines.items():
        text(tmp_path / f"FER2013{part}/label.csv", rows)
    found = index("fer2013", tmp_path, label_set="ferplus")
    assert {name: (row["emotion"], row["split"], row["path"]) for name, row in by_sample(found).items()} == {
        "ferplus/fer0000000": ("anger", "train", "FER2013Train/fer0000000.png"),
        "ferplus/fer0000004": ("neutral", "test", "FER2013Test/fer0000004.png"),
    }
    assert found.left_out["images that others of the same name replaced"] == 1
    (tmp_path / "FER2013Valid/label.csv").unlink()
    with pytest.raises(IndexProblems, match="there is no such list: FER\\+ has one in each"):
        index("fer2013", tmp_path, label_set="ferplus")


def test_kaggles_tree_of_images(tmp_path):
    pictures(tmp_path, ["train/angry/Training_1.jpg", "test/sad/PrivateTest_2.jpg"])
    found = index("fer2013", tmp_path)
    assert found.rows[["emotion", "split"]].to_numpy().tolist() == [["sadness", "test"], ["anger", "train"]]
    expected = {item.what: item.expected for item in compare(found, dataset("fer2013", tmp_path))}
    assert (expected["train"], expected["test"]) == (28709, 7178)


def test_tables_that_do_not_fit(tmp_path):
    text(tmp_path / "read_me.txt", "no table")
    with pytest.raises(IndexProblems, match=r"there is neither fer2013\.csv nor train/<emotion>"):
        index("fer2013", tmp_path)
    fer2013(tmp_path, plus=False)
    with pytest.raises(IndexProblems, match=r"there is no fer2013new\.csv, the votes of FER\+"):
        index("fer2013", tmp_path, label_set="ferplus")
    fer2013(tmp_path)
    votes = (tmp_path / "fer2013new.csv").read_text().splitlines()
    text(tmp_path / "fer2013new.csv", votes[:-1])
    with pytest.raises(IndexProblems, match=r"has 6 rows, fer2013\.csv 7: they must be the same images"):
        index("fer2013", tmp_path, label_set="ferplus")
    text(tmp_path / "fer2013new.csv", [*votes[:-1], votes[-1].replace("8", "x")])
    with pytest.raises(IndexProblems, match=r"votes: a cell is not a number of votes .*\n +line 8: fer0000004\.png"):
        index("fer2013", tmp_path, label_set="ferplus")
    lines = (tmp_path / "fer2013.csv").read_text().splitlines()
    text(tmp_path / "fer2013.csv", [*lines[:2], lines[2].replace("20 20", "20"), lines[3].replace("Training", "Tset")])
    with pytest.raises(IndexProblems) as caught:
        index("fer2013", tmp_path)
    assert "pixels: holds 1153 pixels, expected 48 x 48\n      line 3: fer2013.csv#3" in str(caught.value)
    assert "split: 'Tset' is none of train, val, test" in str(caught.value)


def test_pixels_by_line(tmp_path):
    table = fer2013(tmp_path) / "fer2013.csv"
    assert placed(tmp_path / place("fer2013.csv", 17)) == (table, 17)
    assert placed(tmp_path / "a.png") is None
    for line in (0, 1, 9):
        with pytest.raises(ValueError, match=f"no line {line}"):
            read_pixels(table, line)
    text(table, ["emotion,pixels,Usage", "0,1 2 3 4,Training"])  # a changed table is read again
    assert read_pixels(table, 2)[..., 0].tolist() == [[1, 2], [3, 4]]
    for words, message in (
        ("1 2 3", "3 pixels"),
        ("1 2 3 256", "outside"),
        ("1 x 3 4", "not whole numbers"),
        ("", "0 pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            decode(words)
    ((_, image),) = read_frames(tmp_path / "gone.csv#2", "image", 100)
    assert str(image) == "No such file or directory"


def test_a_manifest_of_pixels_is_recognised(tmp_path):
    frames(tmp_path, [1])
    fer2013(tmp_path)
    with pytest.raises(IndexProblems, match="this is FER2013's table of pixels, which layout: fer2013 reads"):
        index("manifest", tmp_path, manifest="fer2013.csv", classes=["anger", "neutral"])
