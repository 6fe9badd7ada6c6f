"""Detectors and landmarks: their contract, and their results on rendered and real faces."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from faces_tools import moved, picture, render
from pydantic import ValidationError

from duchenne.errors import UserError
from duchenne.faces.align import apply, similarity, template, template_box, warp
from duchenne.faces.detect import DETECTORS, choose, detector
from duchenne.faces.find import Face, find_face
from duchenne.faces.landmarks import LANDMARKERS, landmarker
from duchenne.faces.points import key_points
from duchenne.faces.settings import Faces
from duchenne.media.images import read_image

FACES = Faces()
MODELS = {"yunet": "DUCHENNE_YUNET"}
"""Detectors that need a file of their own, and the environment variable with its path."""


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("rendered")
    return render(folder).assign(file=lambda t: [folder / "set" / path for path in t["path"]])


@pytest.fixture(params=sorted(DETECTORS))
def config(request, monkeypatch) -> Faces:
    needed = MODELS.get(request.param)
    if needed and needed not in os.environ:
        pytest.skip(f"{needed} is not set to the path of a model file")
    return Faces(detector=request.param, detector_model=os.environ.get(needed) if needed else None)


class TestEveryDetector:
    def test_finds_the_face_where_it_is(self, config, truth):
        for row in truth.itertuples():
            image = picture(row.file)
            boxes, scores = detector(config)(image)
            assert boxes.shape == (len(scores), 4)
            x0, y0, x1, y1 = boxes[choose(boxes, image.shape)]
            inside = np.array(row.key_points).reshape(5, 2)
            assert ((inside > [x0, y0]) & (inside < [x1, y1])).all()

    def test_empty_pictures_hold_no_face(self, config):
        for value in (0, 128, 255):
            boxes, scores = detector(config)(np.full((240, 320, 3), value, np.uint8))
            assert boxes.shape == (0, 4)
            assert scores.shape == (0,)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (1, 5000), (5000, 1), (40, 40)])
    def test_takes_any_shape(self, config, shape):
        boxes, _ = detector(config)(np.zeros((*shape, 3), np.uint8))
        assert boxes.shape[1] == 4

    def test_boxes_are_in_pixels_of_the_picture_whatever_its_size(self, config, truth):
        image = picture(truth["file"].iloc[0])
        large = np.repeat(np.repeat(image, 8, axis=0), 8, axis=1)
        (box, *_), _ = detector(config)(image)
        (eightfold, *_), _ = detector(config)(large)
        np.testing.assert_allclose(eightfold / 8, box, atol=0.12 * (box[2] - box[0]))

    def test_gives_the_same_twice_and_to_many_threads(self, config, truth):
        images = [picture(file) for file in truth["file"]] * 3
        alone = [detector(config)(image)[0].tolist() for image in images]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda image: detector(config)(image)[0].tolist(), images))
        assert alone == together


def test_faces_of_48_pixels_are_found(truth):
    small = [warp(picture(file), np.array([[48 / 224, 0, 0], [0, 48 / 224, 0]]), 48) for file in truth["file"]]
    assert sum(find_face(image, FACES) is not None for image in small) >= len(small) - 1


def test_the_largest_central_face_is_chosen():
    corner, middle, speck = [0, 0, 60, 60], [80, 80, 130, 130], [190, 190, 200, 200]
    shape = (200, 200, 3)
    assert choose(np.array([corner, middle, speck], float), shape) == 1  # though the corner's has 44 % more area
    assert choose(np.array([speck, middle, corner], float), shape) == 1
    assert choose(np.array([[0, 0, 100, 100], middle], float), shape) == 0  # four times as large


def test_of_several_faces_the_expected_one_is_found(truth):
    first, second = (picture(file) for file in truth["file"].iloc[:2])
    half = second[::2, ::2]
    scene = np.full((224, 448, 3), 120, np.uint8)
    scene[:, 120:344] = first
    scene[:112, :112] = half
    boxes, _ = detector(FACES)(scene)
    assert len(boxes) >= 1
    face = find_face(scene, FACES)
    assert face.count == len(boxes)
    middle = (face.box[:2] + face.box[2:]) / 2
    assert 120 < middle[0] < 344


def test_a_clip_stays_with_its_face(truth):
    """With the last face known, a larger one elsewhere does not draw the clip away."""
    small, large = (picture(file) for file in truth["file"].iloc[:2])
    scene = np.full((448, 900, 3), 120, np.uint8)
    scene[224:, :224] = small
    alone = find_face(scene, FACES)
    scene[:, 452:] = np.repeat(np.repeat(large, 2, axis=0), 2, axis=1)
    assert find_face(scene, FACES).box[0] > 400
    assert find_face(scene, FACES, last=alone).box[2] < 300


def test_a_face_that_left_is_looked_for_everywhere(truth):
    image = picture(truth["file"].iloc[0])
    scene = np.full((300, 900, 3), 120, np.uint8)
    scene[:224, :224] = image
    gone = find_face(scene, FACES)
    moved_on = np.roll(scene, 600, axis=1)
    face = find_face(moved_on, FACES, last=gone)
    np.testing.assert_allclose(face.box - [600, 0, 600, 0], gone.box, atol=12)


def test_points_are_followed_through_a_clip(truth):
    """From the last frame's points, moved a little or much, the points are those of a search from the box."""
    image = picture(truth["file"].iloc[0])
    still = find_face(image, FACES)
    eyes = np.linalg.norm(np.subtract(*key_points(still.points)[:2]))
    for shift in (0.05, 0.3):
        start = still.points + shift * eyes * np.array([1, -1])
        followed = landmarker(FACES)(image, still.box, start)
        assert np.linalg.norm(followed - still.points, axis=1).mean() < 0.03 * eyes
    face = still
    for k in range(1, 6):
        frame = moved(image, 3.0 * k, -2.0 * k, turn=2.0 * k)
        face = find_face(frame, FACES, last=face)
        alone = find_face(frame, FACES)
        assert face.count is None
        assert np.linalg.norm(face.points - alone.points, axis=1).mean() < 0.03 * eyes


@pytest.mark.parametrize("box", [(600, 600, 700, 700), (-300, -300, -200, -200)])
def test_frames_of_a_folder_may_differ_in_size(truth, box):
    """The last face may have been where this frame has nothing."""
    image = picture(truth["file"].iloc[0])
    last = Face(np.zeros((68, 2)), np.array(box, float), 1.0)
    np.testing.assert_array_equal(find_face(image, FACES, last=last).box, find_face(image, FACES).box)


def test_given_boxes_need_no_detector(truth):
    row = truth.iloc[0]
    image = picture(row["file"])
    face = find_face(image, Faces(mode="boxes"), np.array(row["box"]))
    assert np.isnan(face.score)
    np.testing.assert_array_equal(face.box, row["box"])
    detected = find_face(image, FACES)
    eyes = np.linalg.norm(np.subtract(*key_points(detected.points)[:2]))
    assert np.linalg.norm(key_points(face.points) - key_points(detected.points), axis=1).max() < 0.15 * eyes


def test_another_network_is_no_detector(tmp_path):
    onnx = pytest.importorskip("onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 320, 320]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", [x], [y])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "other.onnx")
    with pytest.raises(UserError, match=r"other\.onnx is not a YuNet ONNX file: "):
        detector(Faces(detector="yunet", detector_model=tmp_path / "other.onnx"))


def test_missing_and_wrong_model_files_are_named(tmp_path):
    wrong = tmp_path / "wrong.dat"
    wrong.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"nowhere\.onnx does not exist"):
        detector(Faces(detector="yunet", detector_model=tmp_path / "nowhere.onnx"))
    with pytest.raises(UserError, match=r"wrong\.dat is not a YuNet"):
        detector(Faces(detector="yunet", detector_model=wrong))
    with pytest.raises(UserError, match=r"nowhere\.dat does not exist"):
        landmarker(Faces(landmark_model=tmp_path / "nowhere.dat"))
    with pytest.raises(UserError, match=r"wrong\.dat is not a dlib shape predictor"):
        landmarker(Faces(landmarks="dlib68", landmark_model=wrong))
    with pytest.raises(ValidationError, match="yunet needs detector_model"):
        Faces(detector="yunet")
    with pytest.raises(ValidationError, match="mode detect needs a detector: set it to dlib or yunet"):
        Faces(detector="none")


@pytest.mark.parametrize("name", sorted(LANDMARKERS))
def test_landmarks_are_near_the_truth_of_rendered_faces(name, truth):
    config = Faces(landmarks=name)
    errors = []
    for row in truth.itertuples():
        image = picture(row.file)
        points = landmarker(config)(image, find_face(image, config).box)
        assert points.shape == (68, 2)
        true = np.array(row.landmarks).reshape(68, 2)
        eyes = np.linalg.norm(true[36:42].mean(axis=0) - true[42:48].mean(axis=0))
        inner = np.linalg.norm(points - true, axis=1)[17:]
        errors.append(inner.mean() / eyes)
    assert np.mean(errors) < 0.09


def test_landmarks_of_the_aligned_face_are_those_of_the_photo_moved_along(truth):
    """On average: each face has its own noise of some per cent of the eyes' distance."""
    target, differences = template(224, 0.34), []
    for file in truth["file"]:
        image = moved(picture(file), 3.5, -2.0, turn=8)
        face = find_face(image, FACES)
        matrix = similarity(key_points(face.points), target)
        aligned = warp(image, matrix, 224)
        again = landmarker(FACES)(aligned, template_box(224, 0.34))
        differences.append(again - apply(matrix, face.points))
    assert np.linalg.norm(differences, axis=-1).mean() < 0.06 * 0.34 * 224


class TestRealFaces:
    def test_every_london_portrait_is_found_and_accurate(self, shared):
        root = Path(shared) / "data" / "london"
        points = pd.read_csv(root / "landmarks189.csv").set_index(["path", "point"])[["x", "y"]]
        errors = []
        for path in points.index.levels[0][::5]:
            image = read_image(root / path)
            face = find_face(image, FACES)
            assert face is not None, path
            true = points.loc[path].loc[[0, 1, 87, 93, 129]].to_numpy()
            found = np.vstack([key_points(face.points)[[0, 1, 3, 4]], face.points[8]])
            errors.append(np.linalg.norm(found - true, axis=1).mean() / np.linalg.norm(true[0] - true[1]))
        assert np.mean(errors) < 0.037

    def test_faces_that_fill_the_frame_are_found(self, shared):
        root = Path(shared) / "data" / "lfw-emotion"
        paths = pd.read_csv(root / "manifest.csv")["path"][::20]
        found = sum(find_face(read_image(root / path), FACES) is not None for path in paths)
        assert found >= len(paths) - 1
