"""The pictures of what networks look at, and their words."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from training_tools import CLASSES, COMPUTE, SMALL, variant, write_store

from duchenne.evaluation.explain import striking
from duchenne.faces.store import FaceStore
from duchenne.models.contract import create
from duchenne.reporting.gallery import pictures_with_faces
from duchenne.reporting.maps import Exhibit, write_maps
from duchenne.reporting.maps.clips import _draw, clip_maps
from duchenne.reporting.maps.displacement import coloured
from duchenne.reporting.maps.images import image_maps
from duchenne.reporting.maps.pairs import pair_maps


def finished(folder, architecture: str, lengths: list[int] | None = None, size: int = 224, **options) -> Exhibit:
    """Six drawn samples in two folds, two of them named wrong, and a network of random weights."""
    samples = write_store(folder / "store", 6, size, lengths=lengths)
    samples = samples.assign(emotion="anger", onset=pd.NA, apex=pd.NA, offset=pd.NA)
    predicted = samples["label"].where(samples.index % 3 != 1, 0)
    samples = samples.assign(predicted=predicted, confidence=np.linspace(0.4, 0.9, 6), fold=[1, 1, 1, 2, 2, 2])
    torch.manual_seed(0)
    network = create(architecture, options, 3).eval()
    card = {"architecture": architecture, "variant": variant(eval_batch_size=2).model_dump(mode="json")}
    return Exhibit(samples, CLASSES, FaceStore(folder / "store"), lambda fold: (network, card), COMPUTE)


def about(run: Exhibit) -> tuple:
    """Facts and card of a run's network."""
    network, card = run.network(1)
    return network.facts, card


def with_span(run: Exhibit, **frames: int) -> Exhibit:
    return replace(run, samples=run.samples.assign(**frames))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Exhibit:
    return finished(tmp_path_factory.mktemp("images"), "test_resnet", size=64, **SMALL)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Exhibit:
    run = finished(tmp_path_factory.mktemp("clips"), "ifdd_2dcnn", lengths=[32, 20, 16, 9, 16, 16])
    return with_span(run, onset=4, offset=9)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Exhibit:
    folder = tmp_path_factory.mktemp("pairs")
    run = with_span(finished(folder, "frl_dgt", lengths=[3] * 6), onset=1, apex=2, offset=3)
    (folder / "truth").mkdir()
    motion = np.full((224, 224, 2), np.nan)
    motion[50:150, 50:150] = 3, 4
    for sample in run.samples["sample"]:
        np.savez(folder / "truth" / f"{sample}.npz", displacement=motion.astype(np.float16))
    return replace(run, truth=folder / "truth")


def test_every_picture_is_written_with_its_words(images, clips, pairs, tmp_path):
    expected = {
        "images": (images, ["looks_right.png", "looks_wrong.png"]),
        "clips": (clips, ["looks_right.png", "looks_wrong.png"]),
        "pairs": (
            pairs,
            ["motion_errors.png", "motion_right.png", "looks_right.png", "motion_wrong.png", "looks_wrong.png"],
        ),
    }
    for name, (run, files) in expected.items():
        out = tmp_path / name
        write_maps(run, out)
        words = json.loads((out / "maps.json").read_text())
        assert [entry["file"] for entry in words] == files
        assert {path.name for path in out.glob("*.png")} == set(files)
        for entry in words:
            assert entry.keys() == {"file", "title", "caption", "alt", "faces"}
            assert all(entry.values())
            assert cv2.imread(str(out / entry["file"])).std() > 10
        assert bool(json.loads((out / "numbers.json").read_text())) == (name != "images")
        assert (out / "numbers.csv").exists() == (name != "images")


def test_pictures_drawn_without_faces_say_so_and_replace_all_older_ones(images, tmp_path):
    (tmp_path / "looks_before.png").write_bytes(b"a face")
    write_maps(replace(images, show_faces=False), tmp_path)
    words = json.loads((tmp_path / "maps.json").read_text())
    assert [entry["faces"] for entry in words] == [False, False]
    assert {path.name for path in tmp_path.glob("*.png")} == {"looks_right.png", "looks_wrong.png"}
    assert pictures_with_faces(tmp_path) == set()


def test_clips_are_all_looked_at_where_the_expression_is_known(clips):
    _, numbers, table = clip_maps(clips, *about(clips))
    assert set(table["sample"]) == set(clips.samples["sample"])
    assert table.groupby("sample")["window"].nunique().to_dict()["s000"] == 2  # 32 frames are two windows
    assert numbers["clips"] == 6
    assert 0 <= numbers["inside_dynamic"] <= 1
    unknown = with_span(clips, onset=pd.NA, offset=pd.NA)
    _, numbers, table = clip_maps(unknown, *about(clips))
    assert numbers == {}
    assert set(table["sample"]) == set(striking(clips.samples)["sample"])


def drawn_maps(figure) -> list[tuple[str, float, float]]:
    """Title, least and largest value of each map over a face."""
    shown = [(axes.get_title(), image.get_array()) for axes in figure.axes for image in axes.images[1:]]
    return [(title, round(float(values.min()), 4), round(float(values.max()), 4)) for title, values in shown]


@pytest.mark.parametrize("halves", [("static", "dynamic"), ("clip", "clip")])
def test_every_frame_that_a_network_reads_is_shown_with_its_map(clips, halves):
    shown = clips.samples[:1].assign(right=True)
    rows = []
    for window in (0, 1):  # the second holds the most attention
        for i in range(8):
            attention = 1 + i + 8 * window
            known = {"sample": "s000", "fold": 1, "window": window, "half": halves[i % 2], "frame": 1.5 + i}
            rows.append(
                known | {"position": i, "attention": attention, "inside": 0.0, "map": np.full((7, 7), attention)}
            )
    figure = _draw(
        clips, shown, pd.DataFrame(rows[::-1]), {"dynamic": "dynamic half", "static": "static half", "clip": "clip"}
    )
    most = {"dynamic": 16, "static": 15, "clip": 16}
    order = [1, 3, 5, 7, 0, 2, 4, 6] if halves[0] == "static" else range(8)  # the dynamic half comes first
    expected = [(f"frame {1.5 + i}", round((9 + i) / most[halves[i % 2]], 4)) for i in order]
    assert drawn_maps(figure) == [(title, value, value) for title, value in expected]
    backs = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    positions = [
        np.flatnonzero([np.array_equal(back, clips.face("s000", k)) for k in range(8)])[0] for back in backs[:8]
    ]
    assert positions == list(order)


def test_errors_are_means_over_all_pairs(pairs):
    _, numbers, table = pair_maps(pairs, *about(pairs))
    assert len(table) == 6
    assert numbers.keys() == {"error_zero", "error_farneback", "error_dis", "error_dgm"}
    assert numbers["error_zero"] == pytest.approx(5, abs=1e-3)
    assert numbers["error_dgm"] == pytest.approx(table["dgm"].mean())


def test_without_the_truth_there_are_displacements_and_no_errors(pairs):
    pictures, numbers, table = pair_maps(replace(pairs, truth=None), *about(pairs))
    assert "motion_right.png" in [picture.file for picture in pictures]
    assert numbers == {}
    assert table is None


def test_landmarks_are_drawn_in_a_row_of_their_own(images, tmp_path):
    names = striking(images.samples)["sample"][:2]
    points = {name: np.stack([np.arange(68), 60 - np.arange(68) / 2], axis=1) + i for i, name in enumerate(names)}
    rows = [
        {"sample": name, "frame": frame, "points": list((own + 9 * frame).ravel())}
        for name, own in points.items()
        for frame in (0, 1)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "points.parquet")
    run = replace(images, landmarks=tmp_path / "points.parquet")
    for shown in (True, False):
        figures = [picture.figure for picture in image_maps(replace(run, show_faces=shown), *about(run))[0]]
        labelled = [axes.get_ylabel() for figure in figures for axes in figure.axes]
        assert ("68 landmarks" in labelled) == shown
        drawn = [line.get_xydata() for figure in figures for axes in figure.axes for line in axes.lines]
        assert len(drawn) == (2 if shown else 0)
        if shown:  # a stored face of 64 px is shown at 224
            for own in drawn:
                assert any(np.allclose(own, first * 224 / 64) for first in points.values())


@pytest.mark.parametrize("kind", ["images", "clips", "pairs"])
def test_no_face_is_shown_where_none_may_be(kind, request):
    draw = {"images": image_maps, "clips": clip_maps, "pairs": pair_maps}[kind]
    run = replace(request.getfixturevalue(kind), truth=None)
    for shown in (True, False):
        pictures, _, _ = draw(replace(run, show_faces=shown), *about(run))
        backs = [
            image.get_array()
            for picture in pictures
            for axes in picture.figure.axes
            for image in axes.images
            if image.get_array().ndim == 2 and image.cmap.name == "gray"
        ]
        assert backs
        assert all((back == 255).all() for back in backs) != shown


def test_longer_is_darker_and_the_unknown_is_grey():
    lengths = np.linspace(0, 3, 7)
    angle = np.deg2rad(np.arange(0, 360, 15))
    field = np.stack(np.broadcast_arrays(lengths[:, None] * np.cos(angle), lengths[:, None] * np.sin(angle)), axis=2)
    lightness = cv2.cvtColor(coloured(field, 2.0).astype(np.float32), cv2.COLOR_RGB2LAB)[..., 0]
    assert (np.diff(lightness[:5], axis=0) < -5).all()
    np.testing.assert_allclose(lightness[4:], lightness[4:].mean(), atol=4)  # as dark in every direction, and no darker
    assert (coloured(np.full((1, 1, 2), np.nan), 1.0) == 0.87).all()
