"""Maps of a run's networks, as arrays and as pictures with their texts."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import training_networks  # noqa: F401  (registers the tiny networks)
from matplotlib import rc_context
from training_tools import CLASSES, COMPUTE, SMALL, variant, write_store

from duchenne.evaluation.explain import most_confident
from duchenne.evaluation.explain_run import RunToExplain, explain
from duchenne.evaluation.explained import Explained
from duchenne.faces.store import FaceStore
from duchenne.models.contract import create
from duchenne.reporting.colours import coloured
from duchenne.reporting.gallery import pictures_with_faces
from duchenne.reporting.maps.clips import clip_pictures
from duchenne.reporting.maps.drawing import STYLE
from duchenne.reporting.maps.images import image_pictures
from duchenne.reporting.maps.pairs import pair_pictures
from duchenne.reporting.maps.pictures import KINDS, draw_pictures


def finished(folder, architecture: str, lengths: list[int] | None = None, size: int = 224, **options) -> RunToExplain:
    """Six drawn samples in two folds, two of them misclassified, and a network of random weights."""
    samples = write_store(folder / "store", 6, size, lengths=lengths)
    samples = samples.assign(emotion="anger", onset=pd.NA, apex=pd.NA, offset=pd.NA)
    predicted = samples["label"].where(samples.index % 3 != 1, 0)
    samples = samples.assign(predicted=predicted, confidence=np.linspace(0.4, 0.9, 6), fold=[1, 1, 1, 2, 2, 2])
    torch.manual_seed(0)
    network = create(architecture, options, 3).eval()
    card = {"architecture": architecture, "variant": variant(eval_batch_size=2).model_dump(mode="json")}
    return RunToExplain(samples, CLASSES, FaceStore(folder / "store"), lambda fold: (network, card), COMPUTE)


def with_span(run: RunToExplain, **frames: int) -> RunToExplain:
    return replace(run, samples=run.samples.assign(**frames))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> RunToExplain:
    return finished(tmp_path_factory.mktemp("images"), "test_resnet", size=64, **SMALL)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> RunToExplain:
    run = finished(tmp_path_factory.mktemp("clips"), "ifdd_2dcnn", lengths=[32, 20, 16, 32, 16, 16])
    return with_span(run, onset=4, offset=9)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> RunToExplain:
    folder = tmp_path_factory.mktemp("pairs")
    run = with_span(finished(folder, "frl_dgt", lengths=[3] * 6), onset=1, apex=2, offset=3)
    (folder / "truth").mkdir()
    motion = np.full((224, 224, 2), np.nan)
    motion[50:150, 50:150] = 3, 4
    for sample in run.samples["sample"]:
        np.savez(folder / "truth" / f"{sample}.npz", displacement=motion.astype(np.float16))
    return replace(run, truth=folder / "truth")


@pytest.fixture(scope="module")
def explained(images, clips, pairs) -> dict[str, Explained]:
    """What is looked at in each run."""
    return {"images": explain(images), "clips": explain(clips), "pairs": explain(pairs)}


FILES = {
    "images": ["looks_right.png", "looks_wrong.png"],
    "clips": ["looks_right.png", "looks_wrong.png"],
    "pairs": ["motion_errors.png", "motion_right.png", "looks_right.png", "motion_wrong.png", "looks_wrong.png"],
}


@pytest.mark.parametrize("kind", FILES)
def test_every_picture_is_written_with_its_words(kind, explained, tmp_path):
    explained[kind].save(tmp_path)
    draw_pictures(tmp_path)
    words = json.loads((tmp_path / "maps.json").read_text())
    assert [entry["file"] for entry in words] == FILES[kind]
    assert {path.name for path in tmp_path.glob("*.png")} == set(FILES[kind])
    for entry in words:
        assert entry.keys() == {"file", "title", "caption", "alt", "faces"}
        assert all(entry.values())
        assert cv2.imread(str(tmp_path / entry["file"])).std() > 10
    assert bool(json.loads((tmp_path / "numbers.json").read_text())) == (kind != "images")
    assert (tmp_path / "numbers.csv").exists() == (kind != "images")


@pytest.mark.parametrize("kind", FILES)
def test_what_is_written_is_what_is_read(kind, explained, tmp_path):
    wanted = explained[kind]
    wanted.save(tmp_path)
    found = Explained.load(tmp_path)
    for name in ("takes", "maps", "own", "caption", "layer", "classes", "faces", "numbers"):
        assert getattr(found, name) == getattr(wanted, name), name
    assert list(found.maps) == list(wanted.maps)
    numbers = ["label", "predicted", "fold", "confidence", "right", "first", "last", "onset", "offset"]
    mine, theirs = (each.samples[numbers].astype("Float64") for each in (found, wanted))
    pd.testing.assert_frame_equal(mine, theirs)
    assert found.samples["sample"].tolist() == wanted.samples["sample"].tolist()
    if wanted.table is None:
        assert found.table is None
    else:
        pd.testing.assert_frame_equal(found.table, wanted.table.astype({"sample": str}), check_dtype=False, rtol=1e-12)
    for mine, theirs in zip(found.arrays, wanted.arrays, strict=True):
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            np.testing.assert_array_equal(values, theirs[name])


def test_the_shown_samples_are_the_most_confident_of_each_class(images, explained):
    samples = explained["images"].samples
    chosen = most_confident(images.samples)
    assert samples["sample"].tolist() == chosen["sample"].tolist()
    assert samples["right"].tolist() == chosen["right"].tolist()
    for row, arrays in zip(samples.itertuples(), explained["images"].arrays, strict=True):
        np.testing.assert_array_equal(arrays["face"], images.face(row.sample))
        assert arrays["grad_cam"].ndim == 2


def test_pictures_drawn_without_faces_say_so_and_replace_all_older_ones(images, tmp_path):
    (tmp_path / "looks_before.png").write_bytes(b"a face")
    explain(replace(images, show_faces=False)).save(tmp_path)
    draw_pictures(tmp_path)
    words = json.loads((tmp_path / "maps.json").read_text())
    assert [entry["faces"] for entry in words] == [False, False]
    assert {path.name for path in tmp_path.glob("*.png")} == {"looks_right.png", "looks_wrong.png"}
    assert pictures_with_faces(tmp_path) == set()


def test_clips_are_all_looked_at_where_the_expression_is_known(clips, explained):
    found = explained["clips"]
    assert set(found.table["sample"]) == set(clips.samples["sample"])
    assert found.table.groupby("sample")["window"].nunique().to_dict()["s000"] == 2  # 32 frames are two windows
    assert found.numbers["clips"] == 6
    assert 0 <= found.numbers["inside_dynamic"] <= 1
    unknown = explain(with_span(clips, onset=pd.NA, offset=pd.NA))
    assert unknown.numbers == {}
    assert set(unknown.table["sample"]) == set(most_confident(clips.samples)["sample"])


def test_the_window_with_the_most_attention_is_shown(clips, explained):
    found = explained["clips"]
    for row, arrays in zip(found.samples.itertuples(), found.arrays, strict=True):
        table = found.table[(found.table["sample"] == row.sample) & (found.table["fold"] == row.fold)]
        best = table.loc[table["attention"].idxmax(), "window"]
        assert arrays["rows"].tolist() == table.index[table["window"] == best].tolist()
        np.testing.assert_allclose(arrays["maps"].mean((1, 2)), found.table.loc[arrays["rows"], "attention"], rtol=1e-5)
        for position, face in zip(found.table.loc[arrays["rows"], "position"], arrays["faces"], strict=True):
            np.testing.assert_array_equal(face, clips.face(row.sample, position))


def drawn_maps(figure) -> list[tuple[str, float, float]]:
    """Title, least and largest value of each map over a face."""
    shown = [(axes.get_title(), image.get_array()) for axes in figure.axes for image in axes.images[1:]]
    return [(title, round(float(values.min()), 4), round(float(values.max()), 4)) for title, values in shown]


@pytest.mark.parametrize("halves", [("static", "dynamic"), ("clip", "clip")])
def test_every_frame_that_a_network_reads_is_shown_with_its_map(explained, halves):
    rows = []
    for window in (0, 1):  # the second is shown
        for i in range(8):
            known = {"sample": "s000", "fold": 1, "window": window, "half": halves[i % 2], "frame": 1.5 + i}
            rows.append(known | {"position": i, "attention": 1 + i + 8 * window, "inside": 0.0})
    table = pd.DataFrame(rows[::-1])
    at = np.flatnonzero(table["window"] == 1)
    attention = table["attention"].to_numpy()[at]
    found = replace(
        explained["clips"],
        maps={"dynamic": "dynamic half", "static": "static half", "clip": "clip"},
        samples=explained["clips"].samples[:1].assign(sample="s000", fold=1, right=True),
        arrays=[
            {
                "rows": at,
                "maps": attention[:, None, None] * np.ones((8, 7, 7)),
                "faces": np.stack([np.full((224, 224), 10 * i, np.uint8) for i in table["position"].to_numpy()[at]]),
            }
        ],
        table=table,
        numbers={},
    )
    (picture,) = clip_pictures(found)
    most = {"dynamic": 16, "static": 15, "clip": 16}
    order = [1, 3, 5, 7, 0, 2, 4, 6] if halves[0] == "static" else range(8)  # the dynamic half comes first
    expected = [(f"frame {1.5 + i}", round((9 + i) / most[halves[i % 2]], 4)) for i in order]
    assert drawn_maps(picture.figure) == [(title, value, value) for title, value in expected]
    backs = [axes.images[0].get_array() for axes in picture.figure.axes if axes.images]
    assert [int(back[0, 0]) // 10 for back in backs[:8]] == list(order)


def test_errors_are_means_over_all_pairs(explained):
    numbers, table = explained["pairs"].numbers, explained["pairs"].table
    assert len(table) == 6
    assert numbers.keys() == {"error_zero", "error_farneback", "error_dis", "error_dgm"}
    assert numbers["error_zero"] == pytest.approx(5, abs=1e-3)
    assert numbers["error_dgm"] == pytest.approx(table["dgm"].mean())
    shown = {
        float(label.get_text().split()[0])
        for picture in pair_pictures(explained["pairs"])
        for axes in picture.figure.axes
        if (label := axes.xaxis.label).get_text().endswith("px off")
    }
    wanted = table[table["sample"].isin(explained["pairs"].samples["sample"])]
    assert shown == {round(value, 2) for value in wanted[["dgm", "farneback", "dis"]].to_numpy().ravel()}


def test_without_the_truth_there_are_displacements_and_no_errors(pairs):
    found = explain(replace(pairs, truth=None))
    assert "motion_right.png" in [picture.file for picture in pair_pictures(found)]
    assert found.numbers == {}
    assert found.table is None


def test_landmarks_are_drawn_in_a_row_of_their_own(images, tmp_path):
    names = most_confident(images.samples)["sample"][:2]
    points = {name: np.stack([np.arange(68), 60 - np.arange(68) / 2], axis=1) + i for i, name in enumerate(names)}
    rows = [
        {"sample": name, "frame": frame, "points": list((own + 9 * frame).ravel())}
        for name, own in points.items()
        for frame in (0, 1)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "points.parquet")
    run = replace(images, landmarks=tmp_path / "points.parquet")
    for shown in (True, False):
        figures = [picture.figure for picture in image_pictures(explain(replace(run, show_faces=shown)))]
        labelled = [axes.get_ylabel() for figure in figures for axes in figure.axes]
        assert ("68 landmarks" in labelled) == shown
        drawn = [line.get_xydata() for figure in figures for axes in figure.axes for line in axes.lines]
        assert len(drawn) == (2 if shown else 0)
        if shown:  # a stored face of 64 px is shown at 224
            for own in drawn:
                assert any(np.allclose(own, first * 224 / 64) for first in points.values())


@pytest.mark.parametrize("kind", FILES)
def test_no_face_is_kept_or_shown_where_none_may_be(kind, explained, request):
    hidden = explain(replace(request.getfixturevalue(kind), truth=None, show_faces=False))
    assert not any(name in arrays for arrays in hidden.arrays for name in ("face", "faces", "points"))
    for found, shown in ((explained[kind], True), (hidden, False)):
        backs = [
            image.get_array()
            for picture in KINDS[found.takes](found)
            for axes in picture.figure.axes
            for image in axes.images
            if image.get_array().ndim == 2 and image.cmap.name == "gray"
        ]
        assert backs
        assert all((back == 255).all() for back in backs) != shown


def test_a_network_that_shows_nothing_has_no_picture(images, tmp_path):
    _, card = images.network(1)
    shy = create("tiny", {}, 3).eval()
    found = explain(replace(images, trained=lambda fold: (shy, card)))
    found.save(tmp_path)
    draw_pictures(tmp_path)
    assert json.loads((tmp_path / "maps.json").read_text()) == []


def drawn_by_hand(takes: str, face: str) -> Explained:
    """One sample of class 1 that was taken for class 2, with a map of its own, 2 to 3 shares, and a Grad-CAM."""
    row = {"sample": "a", "fold": 1, "label": 1, "predicted": 2, "confidence": 0.904, "right": False}
    faces = np.full((224, 224), 60, np.uint8)
    own = np.repeat([[2.0], [3.0]], 2, axis=1)
    arrays = {
        face: faces if face == "face" else np.stack([faces, faces]),
        "own": own / own.size if takes == "image" else own,
        "grad_cam": np.repeat([[4.0], [2.0]], 2, axis=1),
        **{f"field_{method}": np.full((224, 224, 2), 1.0) for method in ("dgm", "dis")},
    }
    maps = {"own": "my map", "grad_cam": "Grad-CAM"}
    samples = pd.DataFrame([row | {"onset": 1, "offset": 2, "first": 0, "last": 3}])
    return Explained(takes, maps, ["own"], "Mine.", "stem.2", CLASSES, True, samples, [arrays])


@pytest.mark.parametrize(("takes", "face"), [("image", "face"), ("pair", "faces")])
def test_own_maps_are_drawn_in_even_shares_and_grad_cam_by_its_largest(takes, face):
    picture = KINDS[takes](drawn_by_hand(takes, face))[-1]
    assert picture.file == "looks_wrong.png"
    axes = picture.figure.axes
    assert axes[0].get_title() == f"{CLASSES[1]}\npredicted {CLASSES[2]}\n90 %"
    shown = {panel.get_ylabel(): panel.images for panel in axes if len(panel.images) == 2}
    ranges = {label: (float(top.get_array().min()), float(top.get_array().max())) for label, (_, top) in shown.items()}
    assert ranges == {"my map": (2, 3), "Grad-CAM": (0.5, 1)}
    assert {label: top.get_clim() for label, (_, top) in shown.items()} == {"my map": (0, 3), "Grad-CAM": (0, 1)}
    assert all((back.get_array() == 60).all() for back, _ in shown.values())
    assert {panel.get_ylabel() for panel in axes} >= {"× even share", "of largest"}
    assert "Mine. Grad-CAM (Selvaraju et al. 2017)" in picture.caption
    assert "in the output of the layer stem.2," in picture.caption


@pytest.mark.parametrize("count", [1, 2, 7])
def test_words_beside_the_rows_are_whole(count):
    explained = drawn_by_hand("image", "face")
    arrays = [*explained.arrays] * count
    arrays[0] = arrays[0] | {"points": np.full((68, 2), 100.0)}
    samples = pd.concat([explained.samples] * count, ignore_index=True)
    with rc_context(STYLE):
        (picture,) = image_pictures(replace(explained, samples=samples, arrays=arrays))
        picture.figure.draw_without_rendering()
    labels = [axes.yaxis.label for axes in picture.figure.axes if axes.get_ylabel()]
    words = {label.get_text(): label.get_window_extent() for label in labels}
    assert "68 landmarks" in words
    padding, whole = 0.04 * picture.figure.dpi, picture.figure.bbox.x1  # inches that the layout keeps free
    assert all(place.x0 >= padding and place.x1 <= whole - padding for place in words.values())


def test_longer_is_darker_and_the_unknown_is_grey():
    lengths = np.linspace(0, 3, 7)
    angle = np.deg2rad(np.arange(0, 360, 15))
    field = np.stack(np.broadcast_arrays(lengths[:, None] * np.cos(angle), lengths[:, None] * np.sin(angle)), axis=2)
    lightness = cv2.cvtColor(coloured(field, 2.0).astype(np.float32), cv2.COLOR_RGB2LAB)[..., 0]
    assert (np.diff(lightness[:5], axis=0) < -5).all()
    np.testing.assert_allclose(lightness[4:], lightness[4:].mean(), atol=4)  # as dark in every direction, and no darker
    assert (coloured(np.full((1, 1, 2), np.nan), 1.0) == 0.87).all()
