"""Every kind of wrong row is reported, all together, with dataset, row and column."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from duchenne.datasets.build import build_index
from duchenne.datasets.index import read_index, write_index
from duchenne.datasets.problems import IndexProblems
from duchenne.datasets.settings import Dataset

CLASSES = ["happiness", "anger"]


@pytest.fixture
def root(tmp_path) -> Path:
    """A dataset's root with good.jpg, other.jpg and a folder of the frames 1, 2 and 4."""
    (tmp_path / "root" / "clip").mkdir(parents=True)
    for name in ("good.jpg", "other.jpg", "clip/1.jpg", "clip/2.jpg", "clip/4.jpg"):
        Image.new("L", (4, 4)).save(tmp_path / "root" / name)
    return tmp_path / "root"


def problems(root: Path, text: str | bytes, **more) -> IndexProblems:
    (root / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(IndexProblems) as caught:
        build_index("mine", Dataset(layout="manifest", root=root, classes=CLASSES, **more))
    return caught.value


@pytest.fixture
def pipe() -> Iterator[Callable[[Path], None]]:
    """Makes a pipe that would read as an image, and would not block a test that opens it."""
    ends = []

    def make(path: Path) -> None:
        os.mkfifo(path)
        ends.append(os.open(path, os.O_RDWR))
        os.write(ends[-1], b"\xff\xd8\xff" + bytes(100))

    yield make
    for end in ends:
        os.close(end)


ROWS = {  # header, cells of line 3, column, text of the message
    "missing file": ("path,label", "gone.jpg,anger", "path", "no such file or folder"),
    "other case": ("path,label", "Good.jpg,anger", "path", "there is 'good.jpg'"),
    "missing folder": ("path,label", "no/where/a.jpg,anger", "path", "no such file or folder"),
    "absolute": ("path,label", "/etc/hostname,anger", "path", "leads out of the dataset's root"),
    "windows drive": ("path,label", "C:\\faces\\a.jpg,anger", "path", "leads out of the dataset's root"),
    "parent": ("path,label", "../outside.jpg,anger", "path", "leads out of the dataset's root"),
    "absolute beside the root": ("path,label", "{root}2/a.jpg,anger", "path", "leads out of the dataset's root"),
    "dead link": ("path,label", "dead.jpg,anger", "path", "is a link to /no/where.jpg, which does not exist"),
    "file below a dead link": ("path,label", "gone/a.jpg,anger", "path", "gone is a link to /no/where, which does not"),
    "link to itself": ("path,label", "self.jpg,anger", "path", "is a link that leads to itself"),
    "pipe": ("path,label", "pipe.jpg,anger", "path", "is a device, a pipe or a socket"),
    "link to a device": ("path,label", "zero.jpg,anger", "path", "is a device, a pipe or a socket"),
    "dead link of a frame": ("path,label", "dead frame,anger", "path", "its frame 2.jpg is a link to /no/where.jpg"),
    "pipe as a frame": ("path,label", "pipe frame,anger", "path", "its frame 2.jpg is a device, a pipe or a socket"),
    "empty file": ("path,label", "empty.jpg,anger", "path", "the file is empty"),
    "text as image": ("path,label", "text.jpg,anger", "path", "is not an image"),
    "unknown kind": ("path,label", "notes.txt,anger", "path", "neither an image"),
    "empty frame folder": ("path,label", "bare,anger", "path", "the folder holds no image"),
    "empty path": ("path,label,subject", ",anger,s", "path", "is empty"),
    "empty sample": ("sample,path,label", ",good.jpg,anger", "sample", "is empty"),
    "unknown label": ("path,label", "good.jpg,hapiness", "label", "did you mean 'happiness'?"),
    "not a class": ("path,label", "good.jpg,fear", "label", "datasets.mine.ignore"),
    "empty label": ("path,label,subject", "good.jpg,,s", "label", "is empty"),
    "onset before the frames": (
        "path,label,onset",
        "clip,anger,0",
        "onset",
        "the first is 1: are the annotated",
    ),
    "apex behind the frames": (
        "path,label,onset,apex",
        "clip,anger,1,7",
        "apex",
        "7 is not there: the last is 4",
    ),
    "apex in a gap": ("path,label,onset,apex", "clip,anger,1,3", "apex", "frame 3 is not there: 2 is followed by 4"),
    "apex before onset": ("path,label,onset,apex", "clip,anger,5,4", "onset", "onset 5 lies after apex 4"),
    "offset before apex": ("path,label,apex,offset", "clip,anger,5,4", "apex", "apex 5 lies after offset 4"),
    "offset before onset": ("path,label,onset,offset", "clip,anger,5,4", "onset", "onset 5 lies after offset 4"),
    "onset no number": ("path,label,onset", "clip,anger,/", "onset", "'/' is not a number"),
    "onset no whole number": ("path,label,onset", "clip,anger,1.5", "onset", "'1.5' is not a whole number"),
    "onset negative": ("path,label,onset", "clip,anger,-1", "onset", "'-1' is negative"),
    "fold zero": ("path,label,fold", "good.jpg,anger,0", "fold", "folds count from 1"),
    "fps zero": ("path,label,fps", "clip,anger,0", "fps", "must be above 0"),
    "fps infinite": ("path,label,fps", "clip,anger,inf", "fps", "'inf' is not a number"),
    "flat box": ("path,label,x0,y0,x1,y1", "good.jpg,anger,5,5,5,9", "x0", "less than 1 px wide"),
    "half a box": ("path,label,x0,y0,x1,y1", "good.jpg,anger,5,5,,", "x0", "needs all of"),
    "unknown part": ("path,label,split", "good.jpg,anger,tset", "split", "did you mean 'test'?"),
    "cells": ("path,label", "good.jpg,anger,1", "", "has 3 cells, the header has 2"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_each_kind_of_wrong_row(root, pipe, kind):
    header, cells, column, message = ROWS[kind]
    cells = cells.replace("{root}", str(root))
    for name in ("dead frame", "pipe frame"):
        (root / name).mkdir()
        (root / name / "1.jpg").write_bytes((root / "good.jpg").read_bytes())
    for name in ("dead.jpg", "dead frame/2.jpg"):
        (root / name).symlink_to("/no/where.jpg")
    (root / "gone").symlink_to("/no/where")
    (root / "self.jpg").symlink_to("self.jpg")
    (root / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "pipe frame/2.jpg"):
        pipe(root / name)
    (root / "empty.jpg").touch()
    (root / "text.jpg").write_text("<html>404</html>")
    (root / "notes.txt").write_text("x")
    (root / "bare").mkdir()
    fine = {"path": "other.jpg", "label": "anger", "sample": "fine"}
    second = ",".join(fine.get(name, "") for name in header.split(","))
    error = problems(root, f"{header}\n{second}\n{cells}\n")
    assert message in str(error)
    assert f"{column}: " in str(error)
    assert "line 3" in str(error)
    assert "dataset mine" in str(error)
    assert "manifest.csv" in str(error)
    assert error.problems[["row", "column"]].to_numpy().tolist() == [[3, column]]

    skipping = Dataset(layout="manifest", root=root, classes=CLASSES, bad_rows="skip")
    index = build_index("mine", skipping)
    assert index.rows["path"].tolist() == ["other.jpg"]
    assert index.problems["row"].tolist() == [3]


def test_all_problems_in_one_message(root):
    text = "sample,path,label,onset\na,gone.jpg,anger,\nb,good.jpg,happpy,x\n\nc,other.jpg,fear,\n"
    error = problems(root, text)
    told = set(zip(error.problems["row"], error.problems["column"], strict=True))
    assert told == {(2, "path"), (3, "label"), (3, "onset"), (5, "label")}
    assert "4 problems" in str(error)


def test_many_equal_problems_are_counted(root):
    error = problems(root, "path,label\n" + "".join(f"gone{k}.jpg,anger\n" for k in range(500)))
    assert len(error.problems) == 500
    assert "... and 490 more" in str(error)
    assert len(str(error).splitlines()) < 20


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("sample,path,label\na,good.jpg,anger\na,other.jpg,anger\n", "sample", "the same sample as in line 2"),
        ("sample,path,label\na,good.jpg,anger\nb,./good.jpg,anger\n", "path", "the same path as in line 2"),
    ],
)
def test_twice_the_same(root, text, column, message):
    error = problems(root, text)
    assert message in str(error)
    assert error.problems[["row", "column"]].to_numpy().tolist() == [[3, column]]


def test_samples_of_one_video_are_those_frames_only(root):
    text = "sample,path,label,onset,apex,offset\na,clip,anger,1,1,2\nb,clip,anger,2,4,9\nc,clip,anger,,,\n"
    (root / "manifest.csv").write_text(text)
    index = build_index("mine", Dataset(layout="manifest", root=root, classes=CLASSES))
    cells = index.rows[["first", "last", "n_frames"]].fillna(-1).to_numpy().tolist()
    assert cells == [[1, 2, 2], [2, 9, 2], [-1, -1, 3]]
    assert index.findings.notes == [
        (3, "offset", "clip", "frame 9 is not there: the last is 4", "kept"),
        (4, "frames", "clip", "the numbers of its frames have gaps: 2 is followed by 4", "kept"),
    ]
    write_index(index, root / "index.parquet")
    assert read_index(root / "index.parquet").findings.notes == index.findings.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\ngood.jpg,anger\n".encode("utf-16-le"), "zero bytes"),
        ("path,label\né.jpg,anger\n".encode("latin-1"), "byte 0xe9 in line 2"),
        (b"path,lable\ngood.jpg,anger\n", "label: the required column is missing (did you mean 'lable'?)"),
        (b"file,emotion\ngood.jpg,anger\n", "path: the required column is missing (there are: file, emotion); name"),
        (b"path,Label,LABEL\ngood.jpg,anger,x\n", "'Label' and 'LABEL' may both be 'label': say which one"),
        (b"path,label,path\ngood.jpg,anger,x\n", "names 'path' more than once"),
        (b'path,label\n"good.jpg,anger\n', "is not CSV"),
        (b'"path" ,"label"\ngood.jpg,anger\n', "line 1 is not CSV"),
        (b"", "required column is missing"),
        (b"path,label\n", "there is no usable sample"),
    ],
)
@pytest.mark.parametrize("bad_rows", ["stop", "skip"])
def test_files_that_cannot_be_read(root, text, message, bad_rows):
    assert message in str(problems(root, text, bad_rows=bad_rows))


def test_files_that_are_not_there(root):
    config = Dataset(layout="manifest", root=root / "nowhere", classes=CLASSES)
    with pytest.raises(IndexProblems, match=r"no such folder: put the dataset there or set datasets\.mine\.root"):
        build_index("mine", config)
    (root / "manifset.csv").touch()
    with pytest.raises(IndexProblems, match=r"no such manifest \(did you mean 'manifset.csv'\?\)"):
        build_index("mine", config.model_copy(update={"root": root}))
    (root / "manifest.parquet").write_text("path,label")
    with pytest.raises(IndexProblems, match="is not a Parquet file"):
        build_index("mine", config.model_copy(update={"root": root, "manifest": "manifest.parquet"}))


def test_folders_that_do_not_fit(tmp_path):
    for name in ("train/happiness/a.jpg", "train/hapy/b.jpg", "train/c.jpg", "extra/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    with pytest.raises(IndexProblems) as caught:
        build_index("mine", Dataset(layout="folder", root=tmp_path, classes=CLASSES))
    told = dict(zip(caught.value.problems["path"], caught.value.problems["column"], strict=True))
    assert told == {"train/hapy/b.jpg": "label", "train/c.jpg": "label", "extra/d.jpg": "split"}
    assert "'hapy' is none of the classes ['happiness', 'anger'] (did you mean 'happy'?)" in str(caught.value)


def test_labels_that_lead_to_no_emotion_are_refused():
    with pytest.raises(
        ValueError,
        match=r"labels\.1: 'hapiness' is neither an emotion name nor one of the classes \(did you mean 'happiness'\?\)",
    ):
        Dataset(layout="folder", root=Path(), classes=CLASSES, labels={"1": "hapiness"})
