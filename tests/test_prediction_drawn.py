"""Files of drawn predictions, and `duchenne predict --draw`, `--plot` and without onset and apex."""

from __future__ import annotations

import resource
from pathlib import Path
from time import process_time
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from faces_tools import MarksDetector
from PIL import Image
from predict_tools import folds_of, movie, said, scene, write_clips

from duchenne.datasets.apex import find_apex
from duchenne.errors import UserError
from duchenne.faces.settings import Faces
from duchenne.prediction.drawn import Drawings, Video
from duchenne.prediction.model import Model
from duchenne.prediction.sources import Source

GREY = np.full((330, 401, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks of faces that are aligned already."""
    return folds_of(tmp_path_factory.mktemp("folds"), Faces(mode="aligned", size=64))


@pytest.fixture(scope="module")
def finding(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks that need the detector."""
    return folds_of(tmp_path_factory.mktemp("finding"), Faces())


def row(kind: str = "picture", share: float = 0.9, **more: Any) -> dict[str, Any]:
    shares = {"anger": share, "surprise": 1 - share}
    return {"kind": kind, "track": 0, "emotion": "anger", "probabilities": shares, "box": [50, 90, 200, 240]} | more


def frames_of(path: Path) -> tuple[list[np.ndarray], list[float], av.VideoStream]:
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames], stream


def test_pictures_of_the_same_name_have_files_of_their_own(tmp_path: Path):
    sources = [Source(name, "image", tmp_path / name) for name in ("a/x.png", "b/x.png", "b/x.jpg", "y.v2.png")]
    sources.append(Source("picture 5", "image", GREY))
    names = ["x.jpg", "b_x.jpg", "x_2.jpg", "y.v2.jpg", "picture_5.jpg"]
    for first in (0, 2):  # the second time as a resumed job
        out = tmp_path / f"from_{first}"
        drawings = Drawings(out, sources)
        for source in sources[first:]:
            drawings.frame(source, GREY, [row()])
        drawings.close()
        assert {path.name for path in out.iterdir()} == {*names[first:]}
    assert np.asarray(Image.open(out / "x_2.jpg")).shape == GREY.shape


def test_long_names_are_cut(tmp_path: Path):
    sources = [Source(f"{name}.jpg", "image", GREY) for name in ("x" * 251, "x" * 250, "\u4e2d" * 83)]
    drawings = Drawings(tmp_path / "out", sources)
    for source in sources:
        drawings.frame(source, GREY, [row()])
    assert len([*(tmp_path / "out").iterdir()]) == 3


def test_thousands_of_pictures_of_one_name_are_named_at_once(tmp_path: Path):
    began = process_time()
    drawings = Drawings(tmp_path / "out", [Source(f"{n}/x.png", "image", GREY) for n in range(20_000)])
    assert process_time() - began < 10  # with each name sought from the first on, minutes
    assert len({*drawings._names.values()}) == 20_000


def test_no_source_is_drawn_over(tmp_path: Path):
    elsewhere = tmp_path / "link.jpg"
    elsewhere.symlink_to("/elsewhere/x.jpg")
    for kind, data in (("image", tmp_path / "x.jpg"), ("frames", tmp_path), ("image", elsewhere)):
        with pytest.raises(UserError, match="where drawings go: name another folder"):
            Drawings(tmp_path, [Source("x", kind, data)])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file cannot be made: File exists"):
        Drawings(tmp_path / "file")


def test_a_video_keeps_frames_sides_and_times(tmp_path: Path):
    video = Video(tmp_path / "a.mp4", 12.5)
    for k in range(5):
        video.add(np.full((33, 45, 3), 40 * k, np.uint8))
    assert not (tmp_path / "a.mp4").exists()
    video.close()
    frames, times, stream = frames_of(tmp_path / "a.mp4")
    assert [round(float(frame.mean()) / 40) for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[0].shape == (34, 46, 3)
    assert (stream.codec_context.name, stream.average_rate) == ("h264", 12.5)
    assert times == pytest.approx([0, 0.08, 0.16, 0.24, 0.32])
    video = Video(tmp_path / "b.mp4", 25)
    for time in (3.0, 3.5, 3.5, 5.0):
        video.add(GREY, time)
    video.close()
    assert frames_of(tmp_path / "b.mp4")[1] == pytest.approx([0, 0.5, 0.5, 2.0], abs=1e-4)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
    Video(tmp_path / "c.mp4", 25).close()
    assert not (tmp_path / "c.mp4").exists()


@pytest.mark.parametrize("size", [100, 200_000])  # the head of the file, and the frames before the last
def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path, size: int):
    video, noise = Video(tmp_path / "a.mp4", 25), np.random.default_rng(0)

    def fill() -> None:
        for _ in range(100):
            video.add(noise.integers(0, 256, (160, 160, 3), np.uint8))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large.*a\.mp4"):
            fill()
        video.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_of_a_face_s_windows_the_latest_is_drawn(tmp_path: Path):
    source = Source("a", "frames", tmp_path / "a")
    pictures = []
    for rows in ([row("window", 0.2), row("window", 0.9), row("clip", 0.5)], [row("window", 0.9)], [row("clip", 0.5)]):
        drawings = Drawings(tmp_path / "out")
        drawings.frame(source, GREY, rows)
        drawings.close()
        pictures.append(frames_of(tmp_path / "out" / "a.mp4")[0][0])
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[1] != pictures[2]).any()


def test_a_pair_is_drawn_with_its_displacement(tmp_path: Path):
    x = np.stack([np.full((224, 224), 0.2), np.full((224, 224), 0.8)]).astype(np.float32)
    drawings = Drawings(tmp_path)
    source = Source("clips/s1", "frames", tmp_path / "clips" / "s1")
    drawings.pair(source, row("clip", onset=1, apex=4), x, np.ones((2, 224, 224), np.float32))
    drawn = np.asarray(Image.open(tmp_path / "s1_displacement.jpg"))
    assert drawn[200, [200, 700]].mean(axis=1).round(-1).tolist() == [50, 200]


def test_the_command_draws_and_plots(finding, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("duchenne.faces.find.detector", lambda config: MarksDetector())
    path, out = scene(tmp_path / "a.avi", 12, [(5, set()), (90, set())]), tmp_path / "out"
    options = ("--faces", "all", "--every", "2", "--draw", out, "--plot", out / "plot.svg")
    status, rows, errors = said(finding["tiny"], path, *options)
    assert (status, errors) == (0, [])
    frames, times, _ = frames_of(out / "a.mp4")
    assert times == pytest.approx([0, 0.08, 0.16, 0.24, 0.32, 0.40], abs=1e-3)
    assert frames[0].shape == (400, 640, 3)  # enlarged four times
    x0, y0, x1, _ = (round(4 * edge) for edge in rows[0]["box"])
    inner = frames[0][y0 + 40, x0 + 20 : x1 - 20].astype(int)
    assert (np.abs(inner - 50) < 12).all()
    assert (np.abs(frames[0][y0 + 40, x0 - 2 : x0 + 4].astype(int) - 50).max(axis=1) > 40).any()
    assert "a.avi · face 1" in (out / "plot.svg").read_text(encoding="utf-8")
    # clips: the frames come from a second reading
    assert said(finding["tiny_clip"], path, "--window", "4", "--draw", out / "clip")[0] == 0
    assert len(frames_of(out / "clip" / "a.mp4")[0]) == 12


def test_a_resumed_job_plots_all_its_rows(folds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [movie(tmp_path / name, 4) for name in ("a.avi", "b.avi")]
    command = (folds["tiny"], *paths, "--out", tmp_path / "rows.csv", "--plot", tmp_path / "plot.svg")
    answers = Model.answers

    def cut(*arguments, **keywords):
        for count, answer in enumerate(answers(*arguments, **keywords)):
            if count == 6:  # after the four rows of the first video and its mark
                raise KeyboardInterrupt
            yield answer

    with monkeypatch.context() as patch:
        patch.setattr(Model, "answers", cut)
        assert said(*command)[0] != 0
    assert not (tmp_path / "plot.svg").exists()
    assert said(*command)[0] == 0
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert ">a.avi<" in text
    assert ">b.avi<" in text


@pytest.mark.parametrize(
    ("network", "source", "options", "words"),
    [
        ("tiny", "photo.png", ("--plot", "p.png"), "--plot draws probabilities over time: give videos"),
        ("tiny_clip", "a.avi", ("--plot", "p.png"), "--window if the network takes clips"),
        ("tiny", "a.avi", ("--plot", "p.jpg"), "p.jpg: a plot is a file .png, .pdf or .svg"),
        ("tiny_clip", "a.avi", ("--camera", "0", "--window", "4", "--draw", "out"), "record a video and give that"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_any_work(folds, tmp_path: Path, network, source, options, words):
    Image.fromarray(GREY).save(tmp_path / "photo.png")
    (tmp_path / "a.avi").touch()
    status, rows, errors = said(folds[network], tmp_path / source, *options)
    assert (status, rows) == (1, [])
    assert words in errors[0]


def test_onset_and_apex_are_found_where_they_are_not_given(folds, tmp_path: Path):
    root = tmp_path / "clips"
    root.mkdir()
    rows: pd.DataFrame = write_clips(root)
    clip = root / rows["path"].iloc[0]
    status, (found,), _ = said(folds["tiny_pair"], clip)
    assert (status, found["onset"]) == (0, 1)
    assert found["note"].startswith("the first frame, 1, is assumed to be the onset; the apex was found at frame")
    assert 1 < found["apex"] < 8
    _, (given,), _ = said(folds["tiny_pair"], clip, "--onset", "1", "--apex", found["apex"])
    assert given["probabilities"] == found["probabilities"]
    assert given["note"] is None
    assert found["apex"] == find_apex("difference", 1, 8, clip)  # which sees the same pixels, but for JPEG
    video = movie(tmp_path / "a.avi", 20)
    assert "lasts 0.8 s" in said(folds["tiny_pair"], video)[1][0]["note"]
