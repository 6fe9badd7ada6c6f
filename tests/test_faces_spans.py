"""Samples that are parts of a longer video: only their frames are used, and the video is read once for all of them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from datasets_tools import text
from faces_tools import moved, picture, render, rows, video, write

from duchenne.datasets.build import build_index
from duchenne.datasets.deep import decode_all
from duchenne.datasets.settings import Dataset
from duchenne.engines import Local
from duchenne.faces import sample
from duchenne.faces.arrow import CHUNK
from duchenne.faces.build import _batches, align_dataset
from duchenne.faces.settings import Faces
from duchenne.faces.store import FaceStore
from duchenne.media.frames import Span, read_frames
from duchenne.media.images import ImageError
from duchenne.training.clips import SAMPLING
from duchenne.training.settings import Clip

ALIGNED = Faces(mode="aligned", size=32, encoding="png")
CLASSES = ["anger", "happiness"]


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the videos and pictures that were opened, in order."""
    names, open_video, read_image = [], av.open, sample.read_frames.__globals__["read_image"]

    def counted(path, *args, **kwargs):
        names.append(Path(path).name)
        return open_video(path, *args, **kwargs)

    def counted_image(path, *args):
        names.append(path.name)
        return read_image(path, *args)

    monkeypatch.setattr(av, "open", counted)
    monkeypatch.setitem(sample.read_frames.__globals__, "read_image", counted_image)
    return names


def align(table: pd.DataFrame, root: Path, config: Faces = ALIGNED) -> FaceStore:
    align_dataset(table, root, config, root / "faces", root / "work", engine=Local(1))
    return FaceStore(root / "faces")


def manifest(root: Path, *lines: str) -> Dataset:
    text(root / "manifest.csv", ["sample,path,label,onset,apex,offset", *lines])
    return Dataset(layout="manifest", root=root, classes=CLASSES)


def greys(store: FaceStore, name: str, step: int) -> list[int]:
    """The grey of each stored frame, in steps."""
    return [round(frame.mean() / step) for frame in store.frames(name)]


def folder_of(path: Path, numbers: range) -> None:
    for number in numbers:
        write(path / f"{number}.png", np.full((32, 32, 3), 5 * number, np.uint8))


def test_two_samples_of_one_folder_hold_their_own_frames(tmp_path, opened):
    folder_of(tmp_path / "v1", range(40))
    index = build_index("set", manifest(tmp_path, "a,v1,anger,3,6,9", "b,v1,happiness,20,25,30", "c,v1,anger,8,9,10"))
    assert index.rows["n_frames"].tolist() == [7, 11, 3]
    store = align(index.rows, tmp_path)
    for name, first, last in (("a", 3, 9), ("b", 20, 30), ("c", 8, 10)):
        assert store.frame_numbers(name) == greys(store, name, 5) == list(range(first, last + 1))
    assert sorted(opened) == sorted(f"{number}.png" for number in (*range(3, 11), *range(20, 31)))
    clip = Clip(frames=4, stride=1)
    sampled = np.array(store.frame_numbers("b"))[SAMPLING["windows"](len(store.frame_numbers("b")), clip, 1)]
    assert sampled.tolist() == [24, 25, 26, 27]


def test_a_video_of_five_samples_is_opened_once(tmp_path, opened):
    video(tmp_path / "v.mp4", 25, step=10)
    spans = [(0, 2), (2, 9), (12, 12), (14, 20), (24, 24)]
    lines = [f"s{first},v.mp4,anger,{first},{first},{last}" for first, last in spans]
    index = build_index("set", manifest(tmp_path, *lines))
    assert sorted(index.rows["n_frames"]) == [1, 1, 3, 7, 8]
    opened.clear()
    store = align(index.rows, tmp_path)
    assert opened == ["v.mp4"]
    for first, last in spans:
        assert store.frame_numbers(f"s{first}") == greys(store, f"s{first}", 10) == list(range(first, last + 1))
    assert decode_all(index, tmp_path, 100, Local(1)).problems.empty


def test_decoding_ends_with_the_last_frame_that_is_wanted(tmp_path, monkeypatch):
    path = video(tmp_path / "v.avi", 40)
    assert [n for n, _ in read_frames(path, "video", 100, [Span(5, 6), Span(2, 3)])] == [2, 3, 5, 6]
    path.write_bytes(path.read_bytes()[:-2500])
    assert any(isinstance(image, ImageError) for _, image in read_frames(path, "video", 100))
    early = [image for _, image in read_frames(path, "video", 100, [Span(0, 6)])]
    assert len(early) == 7
    assert all(isinstance(image, np.ndarray) for image in early)  # what is damaged later does not matter


def test_annotated_frames_behind_the_end_of_a_video(tmp_path):
    video(tmp_path / "v.mp4", 12)
    config = manifest(tmp_path, "a,v.mp4,anger,3,12,13", "b,v.mp4,anger,5,11,12", "c,v.mp4,anger,,,")
    index = build_index("set", config.model_copy(update={"bad_rows": "skip"}))
    assert index.rows["sample"].tolist() == ["b", "c"]
    assert index.rows["n_frames"].isna().tolist() == [False, True]
    assert index.problems[["row", "column", "problem"]].to_numpy().tolist() == [
        [2, "apex", "frame 12 is not there: the last is 11"]
    ]
    store = align(index.rows, tmp_path)
    assert [len(store.frame_numbers(name)) for name in ("b", "c")] == [7, 12]


def test_a_sample_whose_part_of_a_damaged_video_is_gone(tmp_path):
    path = video(tmp_path / "v.mp4", 40, step=5)
    table = rows(
        *(
            {"sample": name, "path": "v.mp4", "kind": "video", "first": first, "last": last}
            for name, first, last in (("a", 0, 4), ("b", 38, 39), ("c", 60, 61))
        )
    )
    store = align(table, tmp_path)
    assert store.samples == ["a", "b"]
    assert store.failures[["sample", "reason"]].to_numpy().tolist() == [["c", "none of its frames 60 to 61 is there"]]
    path.write_bytes(path.read_bytes()[:1000])
    store = align(table, tmp_path)
    assert set(store.failures["sample"]) == {"a", "b", "c"}
    assert store.failures["reason"].str.startswith("is damaged or cut off").all()


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("rendered")
    return picture(folder / "set" / render(folder)["path"][0])


def test_two_micro_expressions_in_one_folder_have_transforms_of_their_own(portrait, tmp_path):
    for number in range(1, 9):
        write(tmp_path / "v" / f"img{number}.png", moved(portrait, 3.0 * number, 0))
    marks = {"a": (2, 3, 4), "b": (6, 7, 8)}
    table = rows(
        *(
            {"sample": name, "path": "v", "kind": "frames", "onset": on, "apex": apex, "offset": off}
            | {"first": on, "last": off}
            for name, (on, apex, off) in marks.items()
        )
    )
    store = align(table, tmp_path, Faces(encoding="png"))
    matrices = {name: store.row(name)["transforms"] for name in marks}
    assert store.frame_numbers("b") == [6, 7, 8]
    for matrix in matrices.values():
        assert matrix[0] == matrix[1] == matrix[2]
    shift = np.reshape(matrices["a"][0], (2, 3)) @ [100 + 3.0 * 2, 100, 1]
    np.testing.assert_allclose(np.reshape(matrices["b"][0], (2, 3)) @ [100 + 3.0 * 6, 100, 1], shift, atol=1.5)


def test_a_clip_too_large_to_hold_is_read_twice_and_gives_the_same(portrait, tmp_path, monkeypatch, opened):
    for number in range(4):
        write(tmp_path / "v" / f"{number}.png", moved(portrait, 2.0 * number, 0))
    table = rows({"sample": "a", "path": "v", "kind": "frames", "fps": 25.0})
    held = align(table, tmp_path, Faces(encoding="png")).row("a")
    assert len(opened) == 4
    monkeypatch.setattr(sample, "HELD", portrait.nbytes)
    again = align(table, tmp_path, Faces(encoding="png")).row("a")
    assert len(opened) == 4 + 8
    np.testing.assert_equal(again, held)


def test_a_chunk_has_whole_files():
    paths = pd.Series(["a", "b", "a", "c", "a", "d"])
    assert list(_batches(paths, 2)) == [[0, 2, 4], [1, 3], [5]]
    assert list(_batches(paths, CHUNK["image"])) == [[0, 2, 4, 1, 3, 5]]
