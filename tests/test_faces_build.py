"""The align and landmarks stages: no lost samples, no partial results, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from faces_tools import moved, picture, render, rows, write

from duchenne.engines import Local
from duchenne.errors import UserError
from duchenne.faces.align import apply, similarity, template, template_box
from duchenne.faces.annotate import landmark_dataset
from duchenne.faces.arrow import CHUNK
from duchenne.faces.build import _changes_of, _chunks, align_dataset
from duchenne.faces.find import find_face
from duchenne.faces.hashing import face_hash
from duchenne.faces.landmarks import landmarker
from duchenne.faces.points import key_points
from duchenne.faces.regions import REGIONS
from duchenne.faces.settings import Faces
from duchenne.faces.store import FaceStore

PNG = Faces(encoding="png")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Eight rendered portraits, 0.jpg to 7.jpg."""
    folder = tmp_path_factory.mktemp("rendered")
    files = render(folder)["path"]
    for i, path in enumerate(files):
        (folder / "set" / path).rename(folder / f"{i}.jpg")
    return folder


def align(table: pd.DataFrame, root: Path, folder: Path, config: Faces = PNG, jobs: int = 1) -> FaceStore:
    align_dataset(table, root, config, folder / "faces", folder / "work", Local(jobs))
    return FaceStore(folder / "faces")


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def stills(root) -> pd.DataFrame:
    return rows(*({"sample": f"s{i}", "path": f"{i}.jpg"} for i in range(8)))


@pytest.fixture(scope="module")
def store(stills, root, tmp_path_factory) -> FaceStore:
    return align(stills, root, tmp_path_factory.mktemp("store"))


def test_a_store_holds_aligned_faces_with_their_transforms(store, root):
    assert store.samples == [f"s{i}" for i in range(8)]
    assert len(store) == 8
    assert "s3" in store
    assert "s8" not in store
    assert store.failures.empty
    row = store.row("s3")
    assert row["frame_numbers"] == [0]
    image = picture(root / "3.jpg")
    face = find_face(image, PNG)
    expected = similarity(key_points(face.points), template(224, PNG.eye_distance))
    np.testing.assert_allclose(np.reshape(row["transforms"][0], (2, 3)), expected)
    np.testing.assert_allclose(row["boxes"][0], face.box)
    assert row["confidence"] == [face.score]
    assert row["phash"] == face_hash(store.frame("s3")) == store.hashes()["s3"]
    assert store.frame("s3").shape == (224, 224, 3)
    assert store.frames("s3").shape == (1, 224, 224, 3)


def test_a_store_is_a_hugging_face_dataset(store):
    table = datasets.load_from_disk(str(store.path))
    assert table["sample"][:] == store.samples
    assert set(table.column_names) == {
        "sample", "frame_numbers", "frames", "transforms", "points", "boxes", "confidence", "doubtful", "faces",
        "phash",
    }  # fmt: skip


def test_a_store_goes_to_another_process(store):
    store.frame("s0")
    copy = pickle.loads(pickle.dumps(store))
    assert np.array_equal(copy.frame("s5"), store.frame("s5"))
    assert len(pickle.dumps(store)) < 2000


def test_no_store_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match="holds no aligned faces"):
        FaceStore(tmp_path)


def test_jpeg_is_smaller_and_nearly_the_same(stills, root, store, tmp_path):
    jpeg = align(stills, root, tmp_path, Faces())
    assert len(jpeg.row("s0")["frames"][0]) < len(store.row("s0")["frames"][0]) / 2
    assert np.abs(jpeg.frame("s0").astype(int) - store.frame("s0")).mean() < 2


@pytest.fixture(scope="module")
def many(root, tmp_path_factory) -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows of two chunks, of which the second has the last picture, and the digests of their store."""
    table = rows(*({"sample": f"s{i:03d}", "path": f"{i // 5}.jpg"} for i in range(40)))
    assert 35 - 5 < CHUNK["image"] <= 35
    return table, digests(align(table, root, tmp_path_factory.mktemp("many")).path)


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_a_byte(many, root, tmp_path):
    table, expected = many
    assert digests(align(table, root, tmp_path, jobs=2).path) == expected


SCRIPT = """
import os, signal, sys
from pathlib import Path
import pandas as pd
from duchenne.engines import Local
from duchenne.faces import build
from duchenne.faces.settings import Faces

align_file, left = build.align_file, int(sys.argv[3])

def killed(*arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return align_file(*arguments)

build.align_file = killed
folder, root = Path(sys.argv[1]), Path(sys.argv[2])
table = pd.read_pickle(folder / "rows.pkl")
build.align_dataset(table, root, Faces(encoding="png"), folder / "faces", folder / "work", Local(1))
"""
"""Aligns faces, and is killed at the start of the file of a number; 0: never."""


@pytest.fixture(scope="module")
def resumed(many, root, tmp_path_factory) -> Path:
    """A folder of what a process made, which took over from one that was killed in the second chunk, and its home."""
    folder, (table, _) = tmp_path_factory.mktemp("resumed"), many
    table.to_pickle(folder / "rows.pkl")
    (folder / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    home = {"HOME": str(folder / "home"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run(killed_before: int) -> int:
        command = [sys.executable, "-c", SCRIPT, folder, root, str(killed_before)]
        return subprocess.run(command, env=kept | home, stderr=subprocess.DEVNULL, check=False).returncode

    assert run(8) == -signal.SIGKILL
    assert len(list((folder / "work").glob("0*.arrow"))) == 1
    assert not (folder / "faces").exists()
    assert run(0) == 0
    return folder


@pytest.mark.slow
def test_a_killed_run_resumes_and_gives_the_same_bytes(many, resumed):
    assert digests(resumed / "faces") == many[1]
    assert not (resumed / "work").exists()


def test_nothing_is_written_to_the_home_folder(resumed):
    assert len(FaceStore(resumed / "faces")) == 40
    assert not list((resumed / "home").iterdir())


def test_chunks_of_other_settings_samples_or_code_are_not_taken(root, tmp_path, monkeypatch):
    table = rows(*({"sample": f"s{i:03d}", "path": f"{i % 8}.jpg"} for i in range(40)))

    def names(table: pd.DataFrame, config: Faces) -> set[str]:
        return {chunk.path.name for chunk in _chunks(table, root, config, tmp_path)}

    known = names(table, PNG)
    assert len(known) == 2
    assert names(table, PNG) == known
    assert not names(table, PNG.model_copy(update={"size": PNG.size + 1})) & known
    assert len(names(table.replace("s039", "other"), PNG) & known) == 1  # one chunk has the sample
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path.name == "align.py" else b""))
    assert not names(table, PNG) & known


def test_a_picture_replaced_between_two_runs_is_done_again(root, tmp_path):
    write(tmp_path / "a.png", picture(root / "0.jpg"))
    table = rows({"sample": "a", "path": "a.png"})
    before = align(table, tmp_path, tmp_path).frame("a")
    write(tmp_path / "a.png", picture(root / "1.jpg"))
    assert not np.array_equal(before, align(table, tmp_path, tmp_path).frame("a"))


def test_a_frame_overwritten_in_its_folder_is_noticed(root, tmp_path):
    clip(tmp_path / "v", picture(root / "0.jpg"), [0, 0])
    before = _changes_of(tmp_path / "v")
    assert before == _changes_of(tmp_path / "v")
    with (tmp_path / "v" / "img1.png").open("ab") as file:
        file.write(b"more")
    assert before != _changes_of(tmp_path / "v")


def test_a_copy_of_the_pictures_gives_the_same_bytes(stills, root, store, tmp_path):
    for path in stills["path"]:
        shutil.copy(root / path, tmp_path / path)  # of another time, in another folder
    assert digests(align(stills, tmp_path, tmp_path).path) == digests(store.path)


def test_what_fails_is_listed_with_its_reason(root, tmp_path):
    write(tmp_path / "good.png", picture(root / "0.jpg"))
    write(tmp_path / "wall.png", np.full((200, 200, 3), 128, np.uint8))
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "video.mp4").write_bytes(b"no video")
    (tmp_path / "clip").mkdir()
    names = {"good": "good.png", "wall": "wall.png", "text": "text.jpg", "zero": "zero.jpg", "gone": "gone.jpg"}
    gone = {"sample": "gone clip", "path": "gone clip", "kind": "frames"}
    store = align(
        rows(
            *({"sample": sample, "path": path} for sample, path in names.items()),
            {"sample": "video", "path": "video.mp4", "kind": "video"},
            {"sample": "clip", "path": "clip", "kind": "frames"},
            gone,
        ),
        tmp_path,
        tmp_path,
    )
    assert store.samples == ["good"]
    failures = store.failures.set_index("sample")
    assert failures["frame"].isna().all()
    reasons = failures["reason"].to_dict()
    assert reasons.pop("video") == "is not a video of a kind that is read here, or is damaged"
    assert reasons == {
        "gone": "cannot be read: No such file or directory",
        "gone clip": "cannot be read: No such file or directory",
        "wall": "no face found",
        "text": "is not an image",
        "zero": "is empty",
        "clip": "holds no frame",
    }


def test_a_missed_face_may_be_the_whole_frame(root, tmp_path):
    wall = np.random.default_rng(0).integers(100, 120, (224, 224, 3), np.uint8)
    write(tmp_path / "wall.png", wall)
    table = rows({"sample": "wall", "path": "wall.png"})
    store = align(table, tmp_path, tmp_path, Faces(encoding="png", misses="whole"))
    assert np.array_equal(store.frame("wall"), wall)
    assert np.isnan(store.row("wall")["confidence"]).all()
    assert store.failures["reason"].tolist() == ["no face found"]


def test_aligned_frames_are_only_resized(root, tmp_path):
    image = np.ascontiguousarray(picture(root / "0.jpg"))
    write(tmp_path / "a.png", image)
    store = align(rows({"sample": "a", "path": "a.png"}), tmp_path, tmp_path, Faces(mode="aligned", encoding="png"))
    assert np.array_equal(store.frame("a"), image)
    assert "template" not in store.meta


def test_given_boxes_are_used_and_their_lack_is_named(root, tmp_path):
    config = Faces(mode="boxes", encoding="png")
    box = find_face(picture(root / "0.jpg"), PNG).box
    with_box = {"sample": "a", "path": "0.jpg", "box": box.tolist()}
    store = align(rows(with_box), root, tmp_path, config)
    np.testing.assert_allclose(store.row("a")["boxes"][0], box)
    outside = [
        {"sample": f"b{i}", "path": "1.jpg", "box": box} for i, box in enumerate(([9e5, 0, 1e6, 9], [-9, 0, 0, 9]))
    ]
    store = align(rows(with_box, *outside), root, tmp_path / "other", config)
    assert store.failures["reason"].tolist() == ["the face box lies outside the picture"] * 2
    with pytest.raises(UserError, match="1 rows have none, the first is 'b'"):
        align(rows(with_box, {"sample": "b", "path": "1.jpg"}), root, tmp_path, config)


def clip(folder: Path, image: np.ndarray, shifts: list[float], start: int = 1) -> None:
    for k, shift in enumerate(shifts, start):
        write(folder / f"img{k}.png", moved(image, shift, 0))


def test_a_micro_expression_has_one_transform_from_its_onset(root, tmp_path):
    clip(tmp_path / "m", picture(root / "0.jpg"), [0, 1.5, 3.0, 2.0, 0.5], start=9)
    row = {"sample": "m", "path": "m", "kind": "frames", "onset": 10, "apex": 11, "offset": 13, "fps": 200.0}
    store = align(rows(row), tmp_path, tmp_path)
    stored = store.row("m")
    assert stored["frame_numbers"] == [9, 10, 11, 12, 13]
    assert len({tuple(matrix) for matrix in stored["transforms"]}) == 1
    onset = find_face(picture(tmp_path / "m" / "img10.png"), PNG)
    expected = similarity(key_points(onset.points), template(224, PNG.eye_distance))
    np.testing.assert_allclose(np.reshape(stored["transforms"][0], (2, 3)), expected)


@pytest.mark.parametrize(
    ("onset", "reason"),
    [(99, "the onset frame 99 is not among frames 1 to 3"), (2, "the onset frame 2 is empty"),
     (3, "no face found in the onset frame")],
)  # fmt: skip
def test_a_micro_expression_without_its_onset_face_fails(root, tmp_path, onset, reason):
    clip(tmp_path / "m", picture(root / "0.jpg"), [0, 0])
    (tmp_path / "m" / "img2.png").write_bytes(b"")
    write(tmp_path / "m" / "img3.png", np.zeros((224, 224, 3), np.uint8))
    row = {"sample": "m", "path": "m", "kind": "frames", "onset": onset, "apex": onset + 1}
    store = align(rows(row), tmp_path, tmp_path)
    assert store.samples == []
    assert store.failures["reason"].tolist() == [reason]


def test_a_clip_has_a_smooth_trajectory(root, tmp_path):
    image = picture(root / "0.jpg")
    rng = np.random.default_rng(0)
    for k in range(16):
        frame = moved(image, 0.8 * k, 0) + rng.normal(0, 12, image.shape)
        write(tmp_path / "v" / f"{k}.png", frame.clip(0, 255).astype(np.uint8))
    write(tmp_path / "v" / "10.png", np.zeros_like(image))  # a frame without a face
    row = {"sample": "v", "path": "v", "kind": "frames", "fps": 25.0}
    jitters = []
    for smoothing in (0.0, 0.08):  # dlib's points shake: there is something to smooth
        config = Faces(landmarks="dlib68", smoothing=smoothing)
        store = align(rows(row), tmp_path, tmp_path / str(smoothing), config)
        stored = store.row("v")
        assert np.isnan(stored["confidence"][10])
        assert not np.isnan(np.delete(stored["confidence"], 10)).any()
        matrices = np.reshape(stored["transforms"], (-1, 2, 3))
        seen = np.stack([apply(m, np.array([112 + 0.8 * k, 112])) for k, m in enumerate(matrices)])
        assert np.abs(seen - seen.mean(axis=0)).max() < 6  # the point that moves with the face stays in its place
        jitters.append(np.abs(np.diff(seen, axis=0)).mean())
    assert jitters[1] < 0.6 * jitters[0]


def test_a_clip_with_a_bad_frame_keeps_the_others_and_says_so(root, tmp_path):
    clip(tmp_path / "v", picture(root / "0.jpg"), [0, 0, 0])
    (tmp_path / "v" / "img2.png").write_bytes(b"")
    store = align(rows({"sample": "v", "path": "v", "kind": "frames"}), tmp_path, tmp_path)
    assert store.row("v")["frame_numbers"] == [1, 3]
    assert store.failures.to_dict("records") == [{"sample": "v", "frame": 2, "reason": "is empty"}]


def test_landmarks_of_every_frame_and_the_mean_centres(store, root, tmp_path):
    out, centres = tmp_path / "points.parquet", tmp_path / "au_centers.json"
    landmark_dataset(store, PNG, out, centres, Local(1))
    table = pd.read_parquet(out)
    assert table["sample"].tolist() == store.samples
    assert table["points"].map(len).eq(136).all()
    keys = np.stack(table["key_points"]).reshape(-1, 5, 2)
    target = template(224, PNG.eye_distance)
    truth = np.stack(pd.read_parquet(root / "set" / "truth.parquet")["landmarks"]).reshape(-1, 68, 2) - 0.5
    true = np.stack([apply(similarity(key, target), key) for key in key_points(truth)])
    away, least = (np.linalg.norm(points - target, axis=-1).mean() for points in (keys, true))
    assert away == pytest.approx(least, abs=1)  # turned heads leave what no similarity takes away
    np.testing.assert_allclose(keys, key_points(np.stack(table["points"]).reshape(-1, 68, 2)), atol=1e-4)
    mean = json.loads(centres.read_text())
    assert (mean["size"], mean["n"], list(mean["mean"])) == (224, 8, list(REGIONS))
    flat = [value for boxes in mean["mean"].values() for point in boxes for value in point]
    np.testing.assert_allclose(flat, np.stack(table["au_centers"]).mean(axis=0), atol=1e-3)


def test_points_of_the_alignment_are_moved_and_the_other_frames_searched(root, tmp_path):
    clip(tmp_path / "m", picture(root / "0.jpg"), [0, 1.5, 3.0])
    write(tmp_path / "i.png", picture(root / "1.jpg"))
    micro = {"sample": "m", "path": "m", "kind": "frames", "onset": 2, "apex": 3}
    store = align(rows(micro, {"sample": "i", "path": "i.png"}), tmp_path, tmp_path)
    landmark_dataset(store, PNG, tmp_path / "p.parquet", tmp_path / "c.json", Local(1))
    points = pd.read_parquet(tmp_path / "p.parquet").set_index(["sample", "frame"])["points"].map(np.array)
    for sample, frame, file in (("i", 0, "i.png"), ("m", 2, "m/img2.png")):
        row = store.row(sample)
        matrix = np.reshape(row["transforms"][row["frame_numbers"].index(frame)], (2, 3))
        expected = apply(matrix, find_face(picture(tmp_path / file), PNG).points)
        np.testing.assert_allclose(points[sample, frame].reshape(68, 2), expected, atol=1e-3)
    assert [found is None for found in store.row("m")["points"]] == [True, False, True]
    for place, frame in ((0, 1), (2, 3)):
        found = landmarker(PNG)(store.frame("m", place), template_box(224, PNG.eye_distance))
        np.testing.assert_allclose(points["m", frame].reshape(68, 2), found, atol=1e-3)


def test_every_sample_counts_once_in_the_mean_centres(root, tmp_path):
    clip(tmp_path / "v", picture(root / "0.jpg"), [0, 0, 0])
    write(tmp_path / "i.png", picture(root / "1.jpg"))
    table = rows({"sample": "v", "path": "v", "kind": "frames"}, {"sample": "i", "path": "i.png"})
    store = align(table, tmp_path, tmp_path)
    landmark_dataset(store, PNG, tmp_path / "p.parquet", tmp_path / "c.json", Local(1), work=tmp_path / "lm")
    frames = pd.read_parquet(tmp_path / "p.parquet")
    assert frames["frame"].tolist() == [0, 1, 2, 3]
    by_sample = [np.stack(part).mean(axis=0) for _, part in frames.groupby("sample")["au_centers"]]
    mean = json.loads((tmp_path / "c.json").read_text())
    np.testing.assert_allclose(np.concatenate(mean["mean"]["chin"]), np.mean(by_sample, axis=0)[-2:], atol=1e-3)
    assert mean["n"] == 2
    assert not (tmp_path / "lm").exists()


def test_a_whole_frame_without_a_face_has_no_landmarks(root, tmp_path):
    write(tmp_path / "wall" / "1.png", np.full((200, 200, 3), 128, np.uint8))
    (tmp_path / "wall" / "2.png").write_bytes(b"")
    write(tmp_path / "face.png", picture(root / "0.jpg"))
    config = Faces(misses="whole")
    wall = {"sample": "wall", "path": "wall", "kind": "frames"}
    store = align(rows({"sample": "face", "path": "face.png"}, wall), tmp_path, tmp_path, config)
    assert store.samples == ["face", "wall"]
    assert store.failures["reason"].tolist() == ["is empty", "no face found"]
    landmark_dataset(store, config, tmp_path / "p.parquet", tmp_path / "c.json", Local(1))
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert table["sample"].tolist() == ["face"]
    centres = json.loads((tmp_path / "c.json").read_text())
    assert centres["n"] == 1
    np.testing.assert_allclose(centres["mean"]["chin"][0], table["au_centers"][0][-2:], atol=1e-3)


def test_faces_that_others_aligned_are_looked_for(stills, root, tmp_path):
    config = Faces(mode="aligned")
    store = align(stills, root, tmp_path, config)
    landmark_dataset(store, config, tmp_path / "p.parquet", tmp_path / "c.json", Local(1))
    for row in pd.read_parquet(tmp_path / "p.parquet").itertuples():
        face = find_face(store.frame(row.sample), PNG)
        assert row.confidence == face.score
        np.testing.assert_allclose(row.points, face.points.ravel(), atol=1e-3)


def test_without_a_detector_the_face_is_where_the_template_has_it(stills, root, tmp_path):
    config = Faces(mode="aligned", detector="none")
    store = align(stills, root, tmp_path, config)
    landmark_dataset(store, config, tmp_path / "p.parquet", tmp_path / "c.json", Local(1))
    for row in pd.read_parquet(tmp_path / "p.parquet").itertuples():
        points = landmarker(config)(store.frame(row.sample), template_box(224, 0.34))
        assert np.isnan(row.confidence)
        np.testing.assert_allclose(row.points, points.ravel(), atol=1e-3)


@pytest.mark.parametrize("misses", ["drop", "whole"])
def test_landmarks_of_a_store_without_a_face_are_one_clear_error(tmp_path, misses):
    write(tmp_path / "wall.png", np.full((200, 200, 3), 128, np.uint8))
    config = Faces(misses=misses)
    store = align(rows({"sample": "a", "path": "wall.png"}), tmp_path, tmp_path, config)
    with pytest.raises(UserError, match="has no face at all; most often: no face found"):
        landmark_dataset(store, config, tmp_path / "p.parquet", tmp_path / "c.json", Local(1))
    assert not list(tmp_path.glob("*p.parquet*"))
