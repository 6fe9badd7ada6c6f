"""Engine of `duchenne predict`: sources, tracks, windows, files of rows, and what survives an interruption."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from faces_tools import MarksDetector, marked
from PIL import Image
from predict_tools import folds_of, movie, said, scene, write_clips
from starve_tools import contents
from training_tools import CLASSES, COMPUTE

from duchenne.datasets.index import as_schema
from duchenne.engines import Local
from duchenne.errors import UserError
from duchenne.faces.align import smooth
from duchenne.faces.build import align_dataset
from duchenne.faces.find import Face
from duchenne.faces.points import key_points
from duchenne.faces.settings import Faces
from duchenne.faces.store import FaceStore
from duchenne.media.display import Display
from duchenne.prediction import model as prediction_model
from duchenne.prediction import reading, tracks
from duchenne.prediction.ahead import read_ahead
from duchenne.prediction.model import Model
from duchenne.prediction.options import Options
from duchenne.prediction.run import run
from duchenne.prediction.sources import camera, expand
from duchenne.prediction.tables import flat, nested, table_of
from duchenne.prediction.tracks import Tracker, Trajectory, overlaps
from duchenne.training.trained import load_trained, predict

NOISE = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duchenne.faces.find.detector", lambda config: MarksDetector())


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    root = tmp_path_factory.mktemp("clips")
    return root, write_clips(root)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks of faces that are aligned already."""
    return folds_of(tmp_path_factory.mktemp("folds"), Faces(mode="aligned", size=64))


@pytest.fixture(scope="module")
def finding(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks that need the detector."""
    return folds_of(tmp_path_factory.mktemp("finding"), Faces())


# Sources


def test_pictures_come_as_paths_patterns_arrays_images_and_bytes(folds, tmp_path: Path):
    paths = [tmp_path / "photos" / name for name in ("a.png", "deep/b.png", ".hidden.png")]
    for path, pixels in zip(paths, NOISE, strict=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    model = Model(folds["tiny"])
    given = [paths[0], NOISE[0], Image.fromarray(NOISE[0]), io.BytesIO(paths[0].read_bytes())]
    table = model.predict([*given, tmp_path / "photos", str(tmp_path / "photos" / "**" / "?.png")])
    folder = [str(paths[0]), str(paths[1])]
    assert table["source"].tolist() == [str(paths[0]), "picture 2", "picture 3", "picture 4", *folder, *folder]
    shares = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(shares[[0, 1, 2, 3, 4, 6]], shares[[0] * 6], atol=1e-6)
    assert not np.allclose(shares[4], shares[5], atol=1e-4)
    assert table["emotion"].tolist() == [CLASSES[i] for i in shares.argmax(axis=1)]
    assert table["frame"].isna().all()


def test_what_is_no_source_is_an_error(folds, tmp_path: Path):
    model = Model(folds["tiny"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.png").symlink_to("gone.png")
    (tmp_path / "loop").symlink_to("loop")
    for given, reason in (
        (NOISE[0].astype(float), r"picture 1: is float64 \(64, 64, 3\): a picture is an array uint8"),
        (NOISE[0, :, :, 0], "a picture is an array uint8"),
        (NOISE[0, :0], "a picture is an array uint8"),
        (None, "picture 1: NoneType is not a picture or a path"),
        ("", "an empty name is no source"),
        (str(tmp_path / "*.jpg"), "no file or folder matches"),
        (str(tmp_path / "**.jpg"), "no file or folder matches"),
        (tmp_path / "link.png", "is a link to gone.png, which does not exist"),
        (tmp_path / "loop", "is a link that leads to itself"),
        (tmp_path / "empty", "holds no picture and no video"),
        ([3], "picture 1: int is not a picture or a path"),
    ):
        with pytest.raises(UserError, match=reason):
            model.predict(given)


@pytest.mark.parametrize("takes", ["image", "clip"])
def test_links_that_lead_back_are_not_followed(takes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A pattern that follows two of them has 2^40 matches."""
    monkeypatch.chdir(tmp_path)
    Path("a/b/.hidden").mkdir(parents=True)
    for place in ("a", "a/b", "a/b/.hidden"):
        Path(place, "x.mp4").touch()
        Path(place, "here").symlink_to(".")
        Path(place, "back").symlink_to(tmp_path)
    there = ["a/b/x.mp4", "a/x.mp4"]
    for given in ("a", "**/x.mp4", "a/**", "**", str(tmp_path / "a" / "**" / "*.mp4")):
        found = [source.path for source in expand(given, takes)]
        assert sorted(path.relative_to(tmp_path) if path.is_absolute() else path for path in found) == [
            *map(Path, there)
        ]
    assert [source.name for source in expand("a/b/.h*/*.mp4", takes)] == ["a/b/.hidden/x.mp4"]
    Path("~").mkdir()
    Path("~", "y.mp4").touch()
    assert [source.path for source in expand("*/y.mp4", takes)] == [Path("~", "y.mp4")]  # not in the user's folder


def test_folders_may_be_as_deep_as_a_path_is_long(tmp_path: Path):
    deep = tmp_path.joinpath(*["d"] * 1500)
    for folder in reversed([deep, *deep.parents][:1501]):
        folder.mkdir(exist_ok=True)
    (deep / "x.png").touch()
    assert [source.path for source in expand(tmp_path, "image")] == [deep / "x.png"]
    while deep != tmp_path:  # deeper than pytest's own cleaning can
        (deep / "x.png").unlink(missing_ok=True)
        deep.rmdir()
        deep = deep.parent


@pytest.mark.parametrize("network", ["tiny", "tiny_clip", "tiny_pair"])
def test_a_name_that_is_not_utf_8_is_escaped(network: str, folds, tmp_path: Path):
    path = movie(tmp_path / "a.avi", 5).rename(tmp_path / "bad\udcff.avi")
    table = Model(folds[network]).predict(path)
    assert set(table["source"]) == {str(tmp_path / "bad\\xff.avi")}
    assert table["emotion"].notna().all()


def test_a_folder_of_photographs_stands_for_those_too_that_cannot_be_read(tmp_path: Path):
    for name, start in (("a.HEIC", b"ftypheic"), ("b.gif", b"GIF89a"), ("c", b"ftypavif"), ("d.txt", b"")):
        (tmp_path / name).write_bytes(bytes(4) + start)
    assert [source.data.name for source in expand(tmp_path, "image")] == ["a.HEIC", "b.gif"]
    assert expand(tmp_path / "c", "image")[0].kind == "image"  # AVIF begins like a video


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_name_that_is_not_utf8_is_written_with_escapes(folds, tmp_path: Path, suffix: str):
    picture, out = tmp_path / os.fsdecode(b"M\xfcller_\xe6\x9d\x8e.png"), tmp_path / f"rows{suffix}"
    Image.fromarray(NOISE[0]).save(picture)
    assert said(folds["tiny"], picture, "--out", out)[0] == 0
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet}.get(suffix, partial(pd.read_json, lines=True))
    assert read(out)["source"].tolist() == [f"{tmp_path}/M\\xfcller_李.png"]


def test_a_folder_of_frames_is_a_clip_where_the_network_takes_clips(clips, tmp_path: Path):
    root, rows = clips
    names = [root / "s00", root / "s01"]
    assert [(s.kind, s.data) for s in expand(root, "clip")][:2] == [("frames", names[0]), ("frames", names[1])]
    (tmp_path / "in").mkdir()
    movie(tmp_path / "in" / "a.avi", 1)
    assert [(s.kind, s.data.name) for s in expand(tmp_path, "clip")] == [("video", "a.avi")]
    pictures = expand(root, "image")
    assert len(pictures) == 8 * len(rows)
    assert {source.kind for source in pictures} == {"image"}


# Frames and tracks


def test_a_video_gives_an_image_network_a_row_per_frame(folds, tmp_path: Path):
    model = Model(folds["tiny"])
    table = model.predict(movie(tmp_path / "a.avi", 7), every=3, features=True)
    assert table["frame"].tolist() == [0, 3, 6]
    np.testing.assert_allclose(table["time"], [0, 0.12, 0.24])
    assert table["kind"].tolist() == ["frame"] * 3
    features = table[[f"f_{i}" for i in range(model.feature_count)]].to_numpy()
    with torch.no_grad():
        logits = model.network.forward_head(torch.from_numpy(features.copy()))
    np.testing.assert_allclose(torch.softmax(logits, 1), table[[f"p_{name}" for name in CLASSES]], atol=1e-5)


def test_two_people_are_two_tracks_through_gaps_and_a_third_is_new(detector, finding, tmp_path: Path):
    path = scene(tmp_path / "a.avi", 45, [(5, set(range(12, 18))), (90, set(range(20, 45))), (50, set(range(25)))])
    table = Model(finding["tiny"]).predict(path, faces="all")
    rows = {track: set(part["frame"]) for track, part in table.groupby("track")}
    assert rows == {
        0: set(range(45)) - set(range(12, 18)),
        1: set(range(20)),
        2: set(range(30, 45)),  # every tenth frame is searched for new faces
    }
    for track, start in ((0, 5), (1, 90), (2, 50)):
        part = table[table["track"] == track]
        assert (part["x0"] == start + part["frame"] // 4).all()
    assert table[table["frame"] == 0]["faces"].tolist() == [2, 2]


def test_a_face_that_returns_after_long_is_a_new_track_and_frames_without_one_say_so(detector, finding, tmp_path: Path):
    hidden = set(range(5, 6 + tracks.GAP))
    path = scene(tmp_path / "a.avi", 25, [(5, hidden)])
    table = Model(finding["tiny"]).predict(path)
    without = table[table["emotion"].isna()]
    assert set(without["frame"]) == hidden
    assert set(without["note"]) == {"no face found"}
    assert table.set_index("frame")["track"].dropna().to_dict() == {n: int(n > 5) for n in set(range(25)) - hidden}


def test_boxes_of_two_faces_are_not_exchanged_where_they_are_close(detector):
    tracker = Tracker(Faces(), everyone=True)
    for k in range(40):
        image = np.full((100, 160, 3), 50, np.uint8)
        image[0, 10 + k], image[0, 100 - k] = (255, 255, 200), (255, 255, 190)
        found = {track: face.box[0] for track, face in tracker(image)}
        if k < 20:
            assert found == {0: 10 + k, 1: 100 - k}, k


@pytest.mark.parametrize("gaps", [set(), {5, 6, 7, 20}])
def test_a_trajectory_is_that_of_the_whole_clip(gaps: set[int], monkeypatch: pytest.MonkeyPatch):
    rng, config = np.random.default_rng(1), Faces(smoothing=0.08)
    points = rng.normal(0, 3, (30, 68, 2)).cumsum(axis=0) + rng.uniform(100, 300, (68, 2))
    seen: list[np.ndarray] = []
    monkeypatch.setattr(tracks, "similarity", lambda points, target: seen.append(points))
    monkeypatch.setattr(tracks, "warp", lambda image, matrix, size: image)
    trajectory, numbers, held = Trajectory(config), [], 0
    for k, each in enumerate(points):
        face = None if k in gaps else Face(each, np.zeros(4), 1.0)
        numbers += [crop.number for crop in trajectory.push(k, None, np.zeros(0), face)]
        held = max(held, len(trajectory._held))
    numbers += [crop.number for crop in trajectory.close()]
    assert numbers == list(range(30))
    assert held <= 8 + 1 + 4  # 0.08 s at 25 frames/s, four standard deviations, and the gap
    known = key_points(points)
    known[sorted(gaps)] = np.nan
    np.testing.assert_allclose(seen, smooth(known, 0.08 * 25), atol=1e-9)


def test_overlap_is_intersection_over_union():
    a, b = np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]])
    np.testing.assert_allclose(overlaps(a, b), [[1, 1 / 3, 0]])


# Windows


def test_windows_of_the_networks_length_are_those_of_the_pipeline(folds, clips, tmp_path: Path):
    root, rows = clips
    faces = Faces(mode="aligned", size=64, encoding="png")
    align_dataset(as_schema(rows.iloc[:1]), root, faces, tmp_path / "faces", tmp_path / "work", engine=Local(1))
    store = FaceStore(tmp_path / "faces")
    network, card = load_trained(folds["tiny_clip"])
    logits, _ = predict(network, store, rows.iloc[:1], card | {"alignment": store.meta}, COMPUTE)
    table = Model(folds["tiny_clip"]).predict(root / "s00", window=4)
    assert table["kind"].tolist() == ["window", "window", "clip"]
    assert table[["frame", "last"]].to_numpy().tolist() == [[1, 4], [5, 8], [1, 8]]
    shares = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(shares[2], torch.softmax(torch.from_numpy(logits[0]), 0), atol=1e-5)
    assert not np.allclose(shares[0], shares[1], atol=1e-5)
    overlapping = Model(folds["tiny_clip"]).predict(root / "s00", window=6, stride=1)
    assert overlapping["frame"].tolist() == [1, 2, 3, 1]
    long = Model(folds["tiny_clip"]).predict(root / "s00", window=20)
    assert long["kind"].tolist() == ["window", "clip"]


def test_each_face_of_a_clip_has_windows_and_a_clip_of_its_own(detector, finding, tmp_path: Path):
    path = scene(tmp_path / "a.avi", 24, [(5, {7, 8}), (90, set())])
    table = Model(finding["tiny_clip"]).predict(path, faces="all", window=8)
    ends = table[table["kind"] == "clip"].set_index("track")
    assert ends[["frame", "last"]].to_numpy().tolist() == [[0, 23], [0, 23]]
    assert ends["note"].tolist()[0] == "no face found in 2 of 24 frames"
    windows = table[table["kind"] == "window"]
    assert windows.groupby("track")["frame"].apply(list).to_dict() == {0: [0, 8, 16], 1: [0, 8, 16]}
    assert windows["time"].round(2).tolist() == [0, 0, 0.32, 0.32, 0.64, 0.64]
    whole = Model(finding["tiny_clip"]).predict(path, faces="all")
    assert whole["kind"].tolist() == ["clip", "clip"]
    one = Model(finding["tiny_clip"]).predict(scene(tmp_path / "b.avi", 24, [(90, set())]))
    np.testing.assert_allclose(whole.filter(like="p_").to_numpy()[1], one.filter(like="p_").to_numpy()[0], atol=1e-6)
    none = Model(finding["tiny_clip"]).predict(scene(tmp_path / "c.avi", 9, []), window=4)
    assert none["note"].tolist() == ["no face found"]


@pytest.mark.parametrize(
    ("network", "options", "reason"),
    [
        ("tiny", {"window": 4}, "windows are for networks that take clips"),
        ("tiny_clip", {"stride": 4}, "give window as well"),
        ("tiny_clip", {"every": 2}, "every is for networks that take single pictures"),
        ("tiny", {"every": 0}, "every is 0: it must be at least 1"),
        ("tiny", {"faces": "all"}, "aligned faces, one per frame"),
        ("tiny", {"faces": "both"}, "it must be largest or all"),
        ("tiny_pair", {"faces": "all", "onset": 1, "apex": 2}, "onset and apex of one face"),
    ],
)
def test_options_that_do_not_fit_the_network_are_errors(folds, clips, network: str, options: dict, reason: str):
    with pytest.raises(UserError, match=reason):
        Model(folds[network]).predict(clips[0] / "s00", **options)


# Files of rows


@pytest.mark.parametrize("features", [True, False])
def test_every_format_holds_the_same_rows(detector, finding, tmp_path: Path, features: bool):
    given = [marked(tmp_path / "a.png", {0: 0.5}), marked(tmp_path / "b.png", {}), tmp_path / "gone.png"]
    more = ["--features"] if features else []
    status, answers, errors = said(finding["tiny"], *given, *more)
    assert (status, [row["emotion"] is None for row in answers]) == (1, [False, True])
    files = {suffix: tmp_path / f"rows.{suffix}" for suffix in ("jsonl", "csv", "parquet")}
    for path in files.values():
        assert said(finding["tiny"], *given, *more, "--out", path) == (1, [], errors)
        assert not path.with_name(f"{path.name}.parts").exists()
        assert "exists already" in said(finding["tiny"], *given, "--out", path)[2][0]
    assert [json.loads(line) for line in files["jsonl"].read_text().splitlines()] == answers
    table = pd.read_csv(files["csv"], float_precision="round_trip")  # the default of pandas 3.0 is one bit off
    parquet = pd.read_parquet(files["parquet"])
    assert table.columns.tolist()[:19] == parquet.columns.tolist()[:19]
    assert table["x0"].tolist()[0] == answers[0]["box"][0]
    for frame in (table, parquet):
        assert frame["p_anger"].tolist()[0] == answers[0]["probabilities"]["anger"]
        assert frame["emotion"].isna().tolist() == [False, True]
    if features:
        np.testing.assert_allclose(table.filter(regex="^f_").to_numpy()[0], answers[0]["features"])
        np.testing.assert_allclose(parquet["features"][0], answers[0]["features"])


def test_what_no_rows_can_be_written_to_is_refused_before_any_work(folds, tmp_path: Path):
    _, _, (error,) = said(folds["tiny"], tmp_path / "gone.png", "--out", tmp_path / "rows.xlsx")
    assert error.endswith("rows are written as .jsonl, .csv, .parquet: give the file one of these suffixes")
    (tmp_path / "rows.csv").mkdir()
    _, _, (error,) = said(folds["tiny"], tmp_path / "gone.png", "--out", tmp_path / "rows.csv", "--force")
    assert error.endswith("rows.csv is a folder: give the name of a file")
    _, _, (error,) = said(folds["tiny"], tmp_path / "gone.png", "--out", tmp_path / "bad\udcff.csv")
    assert error.endswith("the name is not UTF-8 text: give another one")


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_nothing_is_replaced_that_is_not_of_the_command(folds, tmp_path: Path, force: tuple[str, ...]):
    clip, picture = tmp_path / "clip", tmp_path / "rows.jsonl"
    clip.mkdir()
    for path in (clip / "1.png", clip / "2.png", tmp_path / "a.png"):
        Image.fromarray(NOISE[0]).save(path)
    picture.write_bytes((clip / "1.png").read_bytes())  # whatever its name
    before = contents(tmp_path)
    for network, given in (
        ("tiny", (picture, "--out", picture)),
        ("tiny_clip", (clip, "--window", "2", "--plot", clip / "1.png")),
        ("tiny", (tmp_path / "a.png", movie(tmp_path / "a.avi", 2), "--plot", tmp_path / "a.png")),
    ):
        _, _, (error,) = said(folds[network], *given, *force)
        assert "would replace" in error
        (tmp_path / "a.avi").unlink(missing_ok=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["folder", "link", "file", "pipe"])
def test_a_folder_of_parts_that_is_not_of_a_job_is_left(folds, tmp_path: Path, kind: str):
    parts = tmp_path / "rows.csv.parts"
    match kind:
        case "folder":
            parts.mkdir()
            (parts / "mine.txt").touch()
        case "link":
            (tmp_path / "mine").mkdir()
            parts.symlink_to("mine")
        case "file":
            parts.touch()
        case "pipe":
            os.mkfifo(parts)
    Image.fromarray(NOISE[0]).save(tmp_path / "a.png")
    before = sorted(tmp_path.rglob("*"))
    for force in ((), ("--force",)):
        _, _, (error,) = said(folds["tiny"], tmp_path / "a.png", "--out", tmp_path / "rows.csv", *force)
        assert error.endswith("is not of a prediction: move it away")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_row_survives_the_table():
    row = dict.fromkeys(prediction_model.FIELDS) | {"source": "a", "doubtful": False}
    face = row | {"box": [1.0, 2.0, 3.0, 4.0], "emotion": "b", "probabilities": {"a": 0.25, "b": 0.75}, "frame": 3}
    columns = table_of([row, face], ["a", "b"], False).to_pylist()
    assert [nested(each, ["a", "b"]) for each in columns] == [row, face]
    assert flat(face, ["a", "b"])["p_b"] == 0.75


def test_an_interrupted_job_resumes_with_the_same_rows(
    detector, finding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "CHUNK", 8)
    monkeypatch.setattr(prediction_model, "PICTURES", 2)
    pictures = [marked(tmp_path / f"{i}.png", {10 * i: 0.5}) for i in range(3)]
    given = [*pictures[:2], tmp_path / "gone.png", scene(tmp_path / "a.avi", 30, [(5, {14, 15, 16}), (90, set())])]
    given.append(pictures[2])
    out, command = tmp_path / "rows.csv", (finding["tiny"], *given, "--faces", "all", "--batch-size", "7", "--out")
    status, _, errors = said(*command, tmp_path / "whole.csv")
    assert (status, len(errors)) == (1, 2)
    answers = Model.answers
    for after in (0, 1, 5, 40):

        def cut(*arguments, after=after, **keywords):
            for count, answer in enumerate(answers(*arguments, **keywords)):
                if count == after:
                    raise KeyboardInterrupt
                yield answer

        with monkeypatch.context() as patch:
            patch.setattr(Model, "answers", cut)
            status_then, _, words = said(*command, out)
        assert status_then == 130
        assert words[-1].startswith("interrupted: the same command resumes after ")
        assert not out.exists()
    assert len(list((tmp_path / "rows.csv.parts").glob("*.parquet"))) > 3  # some of them of the video
    refused = said(*command, out, "--every", "2")[2][0]
    assert "another command's rows (different: options)" in refused
    assert said(*command, out) == (status, [], errors)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_force_starts_again(folds, tmp_path: Path):
    picture, out = tmp_path / "a.png", tmp_path / "rows.jsonl"
    Image.fromarray(NOISE[0]).save(picture)
    out.write_text("old")
    assert said(folds["tiny"], picture, "--out", out)[0] == 1
    assert out.read_text() == "old"
    assert said(folds["tiny"], picture, "--out", out, "--force")[0] == 0
    assert json.loads(out.read_text())["source"] == str(picture)


# Cameras, and what passes by


def test_a_camera_is_read_until_it_ends_or_is_stopped(folds, tmp_path: Path):
    path = movie(tmp_path / "a.avi", 9)
    status, answers, _ = said(folds["tiny"], "--camera", path, "--every", "2")
    assert (status, [row["frame"] for row in answers]) == (0, [0, 2, 4, 6, 8])
    assert [row["time"] for row in answers] == pytest.approx([0, 0.08, 0.16, 0.24, 0.32])
    for name in (tmp_path / "gone.avi", 2**64):
        assert said(folds["tiny"], "--camera", name)[2][0].endswith("and not in use elsewhere?")
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(OSError, match="is a device, a pipe or a socket"):
        run(folds["tiny"], {}, [], [str(path)], Options(), show=print, out=tmp_path / "a.csv", force=True)
    stop = threading.Event()
    rows = []
    for row in Model(folds["tiny"]).answers([camera(str(path))], Options(), stop=stop, workers=0):
        rows.append(row)
        stop.set()
    assert len(rows) == 2  # a row and the mark of the end
    assert said(folds["tiny_clip"], "--camera", path)[2][0].endswith("which a network of clips then takes")
    assert [row["frame"] for row in said(folds["tiny_clip"], "--camera", path, "--window", "4")[1]] == [0, 4, 0]


class Seen:
    """Remembers what passes by."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, int, list[dict]]] = []

    def frame(self, source, image, rows) -> None:
        self.frames.append((source.name, int(image[50, 80, 0]), list(rows)))

    def close(self) -> None:
        self.frames.append(("closed", 0, []))


def test_frames_pass_by_with_their_rows(detector, finding, tmp_path: Path):
    path = scene(tmp_path / "a.avi", 12, [(5, {3}), (90, set())])
    for network, options in (("tiny", {}), ("tiny_clip", {"window": 4})):
        seen = Seen()
        rows = list(Model(finding[network]).stream(path, Options(faces="all", **options), look=[seen]))
        assert [(name, value) for name, value, _ in seen.frames] == [(str(path), 50 + k) for k in range(12)]
        shown = [row for _, _, rows in seen.frames for row in rows]
        if network == "tiny":
            assert shown == rows
        else:
            assert [row["box"] and row["box"][0] for row in seen.frames[5][2]] == [6, 6, 91, 91]
            assert [row["kind"] for row in seen.frames[5][2]] == ["window", "clip", "window", "clip"]


def test_memory_stays_flat_over_a_long_video(folds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows come out while the video is still being read, and few frames wait in between."""
    path, model, shown, read = movie(tmp_path / "a.avi", 300), Model(folds["tiny"]), Display.__call__, 0

    def counted(*arguments):
        nonlocal read
        read += 1
        return shown(*arguments)

    monkeypatch.setattr(Display, "__call__", counted)
    waiting = [read - n for n, _ in enumerate(model.stream(path, batch_size=8, workers=2), start=1)]
    assert len(waiting) == read == 300
    assert 0 < max(waiting) <= 8 + prediction_model.WAITING["image"] + 2


def test_frames_find_their_windows_among_many():
    rng = np.random.default_rng(0)
    spans = zip(rng.integers(0, 60, 80).tolist(), rng.integers(0, 30, 80).tolist(), strict=True)
    rows = [{"frame": first, "last": first + length, "n": n} for n, (first, length) in enumerate(spans)]
    around = prediction_model.Around([*rows, {"frame": None, "last": None}])
    for number in (0, 1, 2, 5, *range(9, 80), 95):
        assert around(number) == [row for row in rows if row["frame"] <= number <= row["last"]]
    began = time.process_time()
    around = prediction_model.Around({"frame": 2 * n, "last": 2 * n + 15} for n in range(20_000))
    assert sum(len(around(number)) for number in range(40_000)) == 16 * 20_000 - 56  # the last eight end later
    assert time.process_time() - began < 10  # if each frame asks each window, minutes


def test_reading_ahead_keeps_the_order_raises_in_place_and_ends():
    def read(source: int):
        for k in range(3):
            if source == 3 and k == 1:
                raise UserError("three")
            yield 10 * source + k

    for workers in (0, 1, 3):
        found = []
        for _, items in read_ahead(range(6), read, workers, ahead=2, bound=1):
            try:
                found.extend(items)
            except UserError as error:
                found.append(str(error))
        assert found == [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, "three", 40, 41, 42, 50, 51, 52]
    before = threading.active_count()
    for _, items in read_ahead(range(100), read, 2, ahead=4, bound=1):
        next(items)
        break
    assert threading.active_count() == before
