"""Folders, manifests and rendered sets give the same index."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from duchenne.datasets.build import build_index
from duchenne.datasets.index import SCHEMA, read_index, summarise, write_index
from duchenne.datasets.problems import IndexProblems
from duchenne.datasets.settings import Dataset

CLASSES = ["surprise", "happiness", "anger"]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 150, 120)).save(path, format="PNG" if path.suffix.lower() == ".png" else "JPEG")
    return path


def folder(root: Path, **more) -> Dataset:
    return Dataset(layout="folder", root=root, classes=CLASSES, **more)


def manifest(root: Path, text: str, encoding: str = "utf-8", **more) -> Dataset:
    (root / "manifest.csv").write_bytes(text.encode(encoding))
    return Dataset(layout="manifest", root=root, classes=CLASSES, **more)


def test_a_class_folder_tree_with_parts(tmp_path):
    for path in ("train/Happy/a.JPG", "train/anger/deep/er/b.jpeg", "valid/surprise/c.png", "test/Happy/脸.jpg"):
        picture(tmp_path / path)
    (tmp_path / "train/Happy/notes.txt").write_text("x")
    (tmp_path / "train/Happy/._a.jpg").write_bytes(b"resource fork")
    (tmp_path / "__MACOSX/Happy").mkdir(parents=True)
    rows = build_index("set", folder(tmp_path)).rows
    assert rows["sample"].tolist() == [
        "test/Happy/脸.jpg",
        "train/Happy/a.JPG",
        "train/anger/deep/er/b.jpeg",
        "valid/surprise/c.png",
    ]
    assert rows["split"].tolist() == ["test", "train", "train", "val"]
    assert rows["emotion"].tolist() == ["happiness", "happiness", "anger", "surprise"]
    assert rows["label"].tolist() == [1, 1, 2, 0]
    assert set(rows["kind"]) == {"image"}
    assert build_index("set", folder(tmp_path)).left_out == {"files that are neither image nor video": 2}


def test_a_class_folder_tree_without_parts_and_one_level_too_deep(tmp_path):
    picture(tmp_path / "unpacked/archive/happiness/1.jpg")
    picture(tmp_path / "unpacked/archive/anger/1.jpg")
    rows = build_index("set", folder(tmp_path)).rows
    assert rows["path"].tolist() == ["unpacked/archive/anger/1.jpg", "unpacked/archive/happiness/1.jpg"]
    assert rows["split"].isna().all()


def test_numbered_folders_are_named_by_labels(tmp_path):
    for number in "123":
        picture(tmp_path / f"train/{number}/x.jpg")
    labels = {"1": "anger", "2": "surprise", "3": "happiness"}
    rows = build_index("set", folder(tmp_path, labels=labels)).rows
    assert rows["emotion"].tolist() == ["anger", "surprise", "happiness"]


def test_the_class_order_is_the_one_of_the_configuration(tmp_path):
    for name in CLASSES:
        picture(tmp_path / name / "x.jpg")
    turned = Dataset(layout="folder", root=tmp_path, classes=CLASSES[::-1])
    for config in (folder(tmp_path), turned):
        index = build_index("set", config)
        assert index.classes == config.classes
        assert all(config.classes[row.label] == row.emotion for row in index.rows.itertuples())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_manifest_as_editors_write_it(tmp_path, encoding, newline):
    picture(tmp_path / "images/惊讶 1.png")
    picture(tmp_path / "images/b.jpg")
    lines = ["path,label,subject,age", 'images\\惊讶 1.png, Surprised ,007,"3\r\n1"', "", "./images/b.jpg,HAPPY,,"]
    rows = build_index("set", manifest(tmp_path, newline.join(lines), encoding)).rows
    assert rows["path"].tolist() == ["images/b.jpg", "images/惊讶 1.png"]
    assert rows["emotion"].tolist() == ["happiness", "surprise"]
    assert rows["subject"].isna().tolist() == [True, False]
    assert rows["subject"][1] == "007"
    assert json.loads(rows["factors"][1]) == {"age": "3\r\n1"}
    assert rows["factors"].isna()[0]


def test_a_manifest_with_every_column(tmp_path):
    picture(tmp_path / "clips/a/1.jpg")
    picture(tmp_path / "clips/a/2.jpg")
    (tmp_path / "clips/a/Thumbs.db").write_bytes(b"x")
    (tmp_path / "b.MP4").write_bytes(b"not looked into")
    text = """sample,path,label,subject,source,split,fold,onset,apex,offset,fps,aus,x0,y0,x1,y1
s/a,clips/a,anger,01,film,TRAIN,2,1,2,2,200,4+R5?,1.5,2,30,40
s/b,b.MP4,happiness,02,film,test,1,,,,29.97,,,,,
"""
    rows = build_index("set", manifest(tmp_path, text)).rows
    assert list(rows.columns) == SCHEMA.names
    a, b = rows.itertuples(index=False)
    assert (a.kind, a.n_frames, a.onset, a.apex, a.offset, a.fps) == ("frames", 2, 1, 2, 2, 200.0)
    assert (a.subject, a.source, a.split, a.aus) == ("01", "film", "train", "4+R5?")
    assert list(a.folds) == [2]
    assert list(a.box) == [1.5, 2, 30, 40]
    assert (b.kind, b.fps, b.split) == ("video", 29.97, "test")
    assert b.box is None
    assert pd.isna([b.n_frames, b.onset, b.apex, b.offset, b.aus]).all()


def test_parquet_and_csv_manifests_give_the_same_index(tmp_path):
    picture(tmp_path / "clips/a/1.jpg")
    picture(tmp_path / "b.jpg")
    table = pd.DataFrame(
        {
            "path": ["clips/a", "b.jpg"],
            "label": ["anger", "happiness"],
            "subject": ["01", None],
            "onset": pd.array([1, None], "Int64"),
            "offset": [9.0, np.nan],
            "fps": [200.0, np.nan],
        }
    )
    table.to_csv(tmp_path / "manifest.csv", index=False)
    table.to_parquet(tmp_path / "table.parquet")
    config = Dataset(layout="manifest", root=tmp_path, classes=CLASSES)
    other = config.model_copy(update={"manifest": "table.parquet"})
    first, second = build_index("set", config), build_index("set", other)
    pd.testing.assert_frame_equal(first.rows, second.rows)
    assert first.rows["onset"].tolist() == [pd.NA, 1]


def test_parquet_manifests_keep_lists_and_numbers_of_unknown_columns(tmp_path):
    picture(tmp_path / "a.jpg")
    table = pd.DataFrame({"path": ["a.jpg"], "label": ["anger"], "age": [31], "votes": [[1, 9]]})
    table.to_parquet(tmp_path / "table.parquet")
    config = Dataset(layout="manifest", root=tmp_path, classes=CLASSES, manifest="table.parquet")
    assert json.loads(build_index("set", config).rows["factors"][0]) == {"age": "31", "votes": "[1, 9]"}


def test_a_rendered_set(tmp_path):
    picture(tmp_path / "images/s1/a.jpg")
    picture(tmp_path / "images/s2/b.jpg")
    truth = pd.DataFrame(
        {
            "sample": ["a", "b"],
            "kind": "image",
            "path": ["images/s1/a.jpg", "images/s2/b.jpg"],
            "emotion": ["anger", "happiness"],
            "subject": ["s1", "s2"],
            "split": ["train", "test"],
            "aus": ["4+5", "6+12"],
            "factors": ['{"blur": 0.5}', "{}"],
            "landmarks": [[0.0] * 136] * 2,
            "box": [[1.0, 2.0, 3.0, 4.0]] * 2,
        }
    )
    truth.to_parquet(tmp_path / "truth.parquet")
    config = Dataset(layout="synth", root=tmp_path, classes=CLASSES)
    rows = build_index("set", config).rows
    assert rows["sample"].tolist() == ["a", "b"]
    assert rows["factors"].tolist() == ['{"blur": 0.5}', "{}"]
    assert list(rows["box"][0]) == [1, 2, 3, 4]
    (tmp_path / "truth.parquet").unlink()
    with pytest.raises(IndexProblems, match="not been rendered yet"):
        build_index("set", config)


def test_written_and_read_back(tmp_path):
    picture(tmp_path / "raw/a.jpg")
    text = "path,label,fold,x0,y0,x1,y1\na.jpg,anger,1,1,1,2,2\ngone.jpg,anger,1,,,,\n,anger,,,,,\n"
    index = build_index("set", manifest(tmp_path / "raw", text, bad_rows="skip"))
    write_index(index, tmp_path / "index" / "set.parquet")
    again = read_index(tmp_path / "index" / "set.parquet")
    pd.testing.assert_frame_equal(again.rows, index.rows)
    pd.testing.assert_frame_equal(again.problems, index.problems)
    assert (again.classes, again.dataset, again.left_out) == (CLASSES, "set", {})
    assert sorted(p.name for p in (tmp_path / "index").iterdir()) == ["set.parquet", "set.problems.csv"]


def test_ignored_labels_are_counted_and_not_looked_at(tmp_path):
    picture(tmp_path / "a.jpg")
    text = "path,label\na.jpg,anger\ngone.jpg,Others\ngone.jpg,?\n"
    index = build_index("set", manifest(tmp_path, text, ignore=["others", "?"]))
    assert index.rows["sample"].tolist() == ["a.jpg"]
    assert index.left_out == {"label 'Others' (ignore)": 1, "label '?' (ignore)": 1}


def people(root: Path, subjects: int, per_class: dict[str, int], split: bool) -> str:
    lines = ["path,label,subject,split"]
    picture(root / "x.jpg")
    for s in range(subjects):
        for label, n in per_class.items():
            for k in range(n):
                path = root / f"{s}_{label}_{k}.jpg"
                path.write_bytes((root / "x.jpg").read_bytes())
                lines.append(f"{path.name},{label},p{s},{('test' if s % 4 == 0 else 'train') if split else ''}")
    return "\n".join(lines)


def test_limit_takes_whole_subjects(tmp_path):
    text = people(tmp_path, 40, {"surprise": 1, "happiness": 3, "anger": 2}, split=False)
    rows = build_index("set", manifest(tmp_path, text, limit=72)).rows
    assert rows["subject"].value_counts().tolist() == [6] * 12
    assert rows["emotion"].value_counts().to_dict() == {"happiness": 36, "anger": 24, "surprise": 12}


def test_limit_keeps_each_part_in_proportion_but_never_below_five_subjects(tmp_path):
    text = people(tmp_path, 40, {"happiness": 3, "anger": 3}, split=True)  # 10 of 40 test
    for limit, parts in {144: {"test": 6, "train": 18}, 72: {"test": 5, "train": 9}}.items():
        rows = build_index("set", manifest(tmp_path, text, limit=limit)).rows
        assert rows.groupby("split")["subject"].nunique().to_dict() == parts


def test_limit_without_subjects_is_stratified_by_class_and_part(tmp_path):
    for part, n in {"train": 60, "test": 30}.items():
        for label, share in {"happiness": 1.0, "anger": 0.1}.items():
            for k in range(int(n * share)):
                picture(tmp_path / part / label / f"{k}.jpg")
    rows = build_index("set", folder(tmp_path, limit=33)).rows
    counts = rows.groupby(["split", "emotion"]).size().to_dict()
    assert counts == {
        ("train", "happiness"): 20,
        ("train", "anger"): 2,
        ("test", "happiness"): 10,
        ("test", "anger"): 1,
    }


def test_limit_leaves_no_class_out(tmp_path):
    for k in range(300):
        picture(tmp_path / "happiness" / f"{k}.jpg")
    picture(tmp_path / "anger/only.jpg")
    rows = build_index("set", folder(tmp_path, limit=10)).rows
    assert rows["emotion"].value_counts().to_dict() == {"happiness": 10, "anger": 1}


def test_summary_counts(tmp_path):
    text = people(tmp_path, 4, {"happiness": 2, "anger": 1}, split=True)
    summary = summarise(build_index("set", manifest(tmp_path, text)))
    assert summary["samples"] == 12
    assert summary["classes"] == {"surprise": 0, "happiness": 8, "anger": 4}
    assert summary["parts"]["test"] == {"surprise": 0, "happiness": 2, "anger": 1}
    assert summary["subjects"] == 4
    assert summary["samples a subject"] == {"min": 3, "median": 3, "max": 3}
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize(("name", "samples"), [("lfw-emotion", 936), ("london", 130)])
def test_real_manifests(shared, name, samples):
    config = Dataset(
        layout="manifest",
        root=shared / "data" / name,
        classes=["anger", "happiness", "neutral", "sadness", "surprise"],
        labels={"smiling": "happiness"},
    )
    index = build_index(name, config)
    assert len(index.rows) == samples
    assert index.problems.empty
