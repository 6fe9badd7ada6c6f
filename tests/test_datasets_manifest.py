"""Manifests in the forms that researchers use: delimiters, encodings, spreadsheets, any column names, votes."""

from __future__ import annotations

import json
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from datasets_tools import by_sample, pictures, sheet, text

from duchenne.config import CatalogError, load
from duchenne.datasets.build import build_index
from duchenne.datasets.index import Index
from duchenne.datasets.problems import IndexProblems
from duchenne.datasets.settings import Dataset

CLASSES = ["happiness", "anger", "neutral"]
ROWS = [("path", "label", "subject"), ("images/a.jpg", "anger", "007"), ("images/脸.jpg", "Happy", "")]


@pytest.fixture
def root(tmp_path) -> Path:
    pictures(tmp_path, ["images/a.jpg", "images/b.jpg", "images/脸.jpg"])
    return tmp_path


def index(root: Path, *lines: str, name: str = "manifest.csv", **more) -> Index:
    if lines:
        text(root / name, lines)
    return build_index("mine", Dataset(layout="manifest", root=root, manifest=name, **({"classes": CLASSES} | more)))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_every_delimiter_and_encoding_gives_the_same_index(root, delimiter, encoding, caplog):
    text(root / "manifest.csv", [delimiter.join(cells) for cells in ROWS], encoding, "\r\n")
    rows = index(root).rows
    assert rows[["path", "emotion"]].to_numpy().tolist() == [["images/a.jpg", "anger"], ["images/脸.jpg", "happiness"]]
    assert rows["subject"][0] == "007"
    assert rows["subject"].isna()[1]
    assert ("read as GB 18030: if names come out wrong" in caplog.text) == (encoding == "gb18030")


def test_a_hidden_sheet_comes_last(root):
    book = openpyxl.Workbook()
    book.active.append(["path", "label"])
    book.active.append(["images/b.jpg", "anger"])
    book.active.sheet_state = "hidden"
    shown = book.create_sheet("labels")
    for row in ROWS:
        shown.append(row)
    book.save(root / "labels.xlsx")
    assert sorted(index(root, name="labels.xlsx").rows["path"]) == ["images/a.jpg", "images/脸.jpg"]


@pytest.mark.parametrize("other", ["S7", "s007", "s 7", "s7\u200b", "ｓ７"])
def test_people_whose_names_look_alike_are_noted(root, other):
    found = index(root, "path,label,subject", "images/a.jpg,anger,s7", f'images/b.jpg,anger,"{other}"')
    ((row, column, path, oddity, done),) = found.findings.notes
    assert (row, column, path) == (3, "subject", "images/b.jpg")
    assert oddity.startswith(f"{other!a} and 's7' differ in")
    assert "read as two people" in done
    assert not index(root, "path,label,subject", "images/a.jpg,anger,s7", "images/b.jpg,anger,s70").findings.notes


def test_an_excel_file_is_read_from_the_sheet_that_has_the_columns(root):
    sheet(root / "labels.xlsx", [*ROWS[:1], (None,) * 3, *ROWS[1:]], empty_first=True)
    rows = index(root, name="labels.xlsx").rows
    assert rows[["path", "emotion"]].to_numpy().tolist() == [["images/a.jpg", "anger"], ["images/脸.jpg", "happiness"]]
    sheet(root / "labels.xlsx", [ROWS[0], ("images/a.jpg", "anger", None), ("images/gone.jpg", "anger", None)])
    with pytest.raises(IndexProblems, match=r"no such file or folder below the root\n +row 3: images/gone.jpg"):
        index(root, name="labels.xlsx")
    sheet(root / "labels.xlsx", [("file", "emotion"), ("images/a.jpg", "anger")])
    with pytest.raises(IndexProblems, match=r"path: the required column is missing \(there are: file, emotion\)"):
        index(root, name="labels.xlsx")


def test_columns_splits_and_labels_are_named_by_the_file_first(root):
    found = index(
        root,
        "image;emotion;label;Usage;SUBJECT",
        "images/a.jpg;0;x;Training;s1",
        "images/b.jpg;3.0;y;PublicTest;s2",
        columns={"image": "path", "emotion": "label", "Usage": "split"},
        labels={0: "anger", 3: "happiness"},
        splits={"training": "train", "PublicTest": "val"},
    )
    rows = by_sample(found)
    assert [(row["emotion"], row["split"], row["subject"], json.loads(row["factors"])) for row in rows.values()] == [
        ("anger", "train", "s1", {"label": "x"}),
        ("happiness", "val", "s2", {"label": "y"}),
    ]


def test_upper_case_does_not_matter_where_one_column_fits(root):
    found = index(root, "Path,LABEL,Split,Age", "images/a.jpg,anger,Testing,31")
    assert found.rows[["path", "emotion", "split"]].to_numpy().tolist() == [["images/a.jpg", "anger", "test"]]
    found = index(root, "path,Path,label", "images/a.jpg,/elsewhere,anger")
    assert json.loads(found.rows["factors"][0]) == {"Path": "/elsewhere"}
    with pytest.raises(IndexProblems, match="'Path' and 'PATH' may both be 'path': say which one"):
        index(root, "Path,PATH,label", "images/a.jpg,images/a.jpg,anger")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"columns": {"imag": "path"}}, "there is no column 'imag', which datasets.*.columns names (did you mean 'im"),
        ({}, "the required column is missing (there are: image, label); name the column that has it, as columns: {im"),
    ],
)
def test_columns_that_are_not_there(root, more, message):
    with pytest.raises(IndexProblems) as caught:
        index(root, "image,label", "images/a.jpg,anger", **more)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"columns": {"path": "image"}}, "columns.path: the file's name stands first: write {image: path}"),
        ({"columns": {"image": "pth"}}, "there is no column 'pth' (did you mean 'path'?)"),
        ({"columns": {"a": "path", "b": "path"}}, "path is given to more than one column"),
        ({"splits": {"a": "training"}}, "Input should be 'train', 'val' or 'test'"),
        ({"layout": "folder", "splits": {"a": "train"}}, "splits: layout folder does not read this"),
        ({"labels": {True: "anger"}}, "put it in quotes"),
    ],
)
def test_blocks_that_do_not_fit(more, message):
    with pytest.raises(ValueError, match=r"validation error") as caught:
        Dataset(**({"layout": "manifest", "root": "x", "classes": CLASSES} | more))
    assert message in str(caught.value)


def test_yaml_needs_no_quotes_about_numbers_and_tilde_is_the_home(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    block = (
        f"{{layout: manifest, root: {root}, classes: [anger, neutral], labels: {{0: anger}}, ignore: [8], "
        "manifest: ~/m.csv}"
    )
    maps = "variants: {}\nrendered: {}\nlandmark_nets: {}\n"
    params = text(root / "params.yaml", f"datasets: {{mine: {block}}}\n{maps}")
    text(root / "m.csv", ["path,label", "~/images/a.jpg,0", "images/b.jpg,8"])
    found = build_index("mine", load(params).datasets["mine"])
    assert found.rows[["path", "emotion"]].to_numpy().tolist() == [["images/a.jpg", "anger"]]
    assert found.left_out == {"label '8' (ignore)": 1}
    text(params, f"datasets: {{mine: {block.replace(f'root: {root}', 'root: ~/x')}}}\n{maps}")
    with pytest.raises(CatalogError, match=f"DVC does not know ~: write {root}/x"):
        load(params)


def test_absolute_paths_below_the_root_are_read(root):
    (root.parent / f"{root.name}_link").symlink_to(root)
    link = root.parent / f"{root.name}_link"
    lines = ["path,label", f"{root}/images/a.jpg,anger", f"{link}/images/b.jpg,anger"]
    rows = index(link, *lines).rows
    assert rows["path"].tolist() == ["images/a.jpg", "images/b.jpg"]
    for path in (f"{root}/../x.jpg", f"{root}x/a.jpg"):
        with pytest.raises(IndexProblems, match="leads out of the dataset's root"):
            index(root, "path,label", f"{path},anger")


def test_endings_in_another_case_are_told_once(root):
    pictures(root, ["images/c.JPG", "images/d.JPG", "images/D.JPG"])
    found = index(root, "path,label", "images/a.JPG,anger", "images/c.jpg,anger", "images/d.JPG,neutral")
    assert found.rows["path"].tolist() == ["images/a.jpg", "images/c.JPG", "images/d.JPG"]
    assert found.rows["sample"].tolist() == ["images/a.JPG", "images/c.jpg", "images/d.JPG"]
    ((_, column, path, oddity, done),) = found.findings.notes
    assert (column, path, done) == ("path", "images/a.JPG", "read")
    assert "'images/a.jpg' on the disk: the ending of 2 names" in oddity
    with pytest.raises(IndexProblems, match="path: the same path as in line 2"):
        index(root, "sample,path,label", "x,images/a.jpg,anger", "y,images/a.JPG,anger")


def test_a_mass_of_equal_mistakes_is_one_paragraph(root):
    videos = [f"images/{i:02d}.jpg" for i in range(30)]
    pictures(root, videos)
    with pytest.raises(IndexProblems) as caught:
        index(root, "path,label,onset,offset", *(f"{video},anger,{k},{k + 5}" for video in videos for k in (1, 9)))
    assert len(caught.value.problems) == 30
    lines = str(caught.value).splitlines()
    assert len(lines) == 13
    assert lines[1] == (
        "  sample: the same sample as in line ...; where one video holds several expressions, add a column ``sample`` "
        "that names each of them (30 times)"
    )
    assert lines[2] == "      line 3: images/00.jpg: the same sample as in line 2"
    assert lines[-1] == "      ... and 20 more"


def test_many_problems_that_differ_in_a_word_are_one_paragraph(root):
    with pytest.raises(IndexProblems) as caught:
        index(root, "path,label", *(f"images/a.jpg,mood{i}" for i in range(30)))
    lines = str(caught.value).splitlines()
    (head,) = [line for line in lines if "(30 times)" in line]
    assert head.startswith("  label: ... is none of the classes [..., ..., ...]: map it to a class")
    assert (
        f"      line 3: images/a.jpg: 'mood1' is none of the classes {CLASSES}: map it to a class under "
        "datasets.mine.labels, or add it to datasets.mine.classes" in lines
    )
    assert "      ... and 20 more" in lines


def test_votes_are_kept_in_the_order_of_the_classes(root):
    found = index(
        root,
        "path,label,votes_Angry,votes_neutral,happy,votes_unknown",
        "images/a.jpg,anger,6,1,3,0",
        "images/b.jpg,,,2,2.0,1",
        "images/脸.jpg,,0,9,1,0",
        columns={"happy": "votes_happiness"},
        ignore=["unknown"],
    )
    assert found.rows[["path", "emotion"]].to_numpy().tolist() == [
        ["images/a.jpg", "anger"],
        ["images/脸.jpg", "neutral"],
    ]
    assert [list(votes) for votes in found.rows["votes"]] == [[3, 6, 1], [1, 0, 9]]
    assert found.left_out == {"rows without a label, whose votes are equal for several emotions": 1}


def test_a_row_whose_votes_elect_what_is_ignored_is_counted(root):
    found = index(root, "path,votes_anger,votes_unknown", "images/a.jpg,1,0", "images/b.jpg,1,2", ignore=["unknown"])
    assert found.rows["path"].tolist() == ["images/a.jpg"]
    assert found.left_out == {"label 'unknown' (ignore)": 1}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("anger,-1,0", "votes: '-1' for 'anger' is not a number of votes"),
        ("anger,x,0", "votes: 'x' for 'anger' is not a number of votes"),
        ("anger,0,3", "votes: none is for any of the classes"),
    ],
)
def test_votes_that_are_none(root, cells, message):
    with pytest.raises(IndexProblems) as caught:
        index(root, "path,label,votes_anger,votes_unknown", f"images/a.jpg,{cells}", ignore=["unknown"])
    assert message in str(caught.value)
    with pytest.raises(IndexProblems, match="votes: 'unknown' is none of the classes"):
        index(root, "path,label,votes_anger,votes_unknown", "images/a.jpg,anger,1,1")


def test_parquet_manifests_have_numbers_of_votes(root):
    table = pd.DataFrame({"path": ["images/a.jpg"], "label": [0], "votes_anger": [4], "votes_neutral": [1.5]})
    table.to_parquet(root / "m.parquet")
    found = index(root, name="m.parquet", labels={0: "anger"})
    assert list(found.rows["votes"][0]) == [0, 4, 1.5]
