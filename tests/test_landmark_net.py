"""The landmark network: its loss, its samples, and a training run that survives an interruption."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from math import log
from pathlib import Path

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save_file

from duchenne import stages
from duchenne.config import Catalog
from duchenne.engines import Local
from duchenne.errors import UserError
from duchenne.faces.align import apply, template
from duchenne.faces.landmarks import landmarker
from duchenne.faces.mobilefacenet import EYE_DISTANCE, INNER, MEAN, MIRROR, SIZE, STD, inner_share, nearer
from duchenne.faces.mobilefacenet_onnx import onnx_model
from duchenne.faces.points import key_points
from duchenne.faces.settings import Faces
from duchenne.landmark_net import train
from duchenne.landmark_net.network import WithAuxiliaryHead, near_crop, start_at_the_mean, wing_loss
from duchenne.landmark_net.samples import Renders, bending, warped
from duchenne.landmark_net.settings import LandmarkNet
from duchenne.landmark_net.train import train_landmark_net
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.synth.generate import generate
from duchenne.synth.head import load_head
from duchenne.synth.landmarks import anchors
from duchenne.synth.paint import Look
from duchenne.synth.settings import Synth
from duchenne.training.settings import Compute
from duchenne.workspace import Workspace

CONFIG = LandmarkNet(dataset="renders", epochs=2, batch_size=8, lr=2e-3, bend=0.1, map_weight=1.0)
COMPUTE = Compute(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("renders")
    config = Synth(kind="image", classes=("happiness", "neutral"), subjects=10, size=96, stray_units=0.2, occlusion=0.5)
    generate(config, folder / "set", folder / "work", engine=Local(1))
    return folder / "set"


def test_wing_loss_equals_its_equation():
    def loss(error: float) -> float:
        return float(wing_loss(torch.tensor([error], dtype=torch.float64)))

    assert loss(0.0) == 0.0
    assert loss(-3.0) == pytest.approx(10 * log(1 + 3 / 2))
    assert loss(20.0) == pytest.approx(20 - (10 - 10 * log(6)))
    assert loss(10 - 1e-9) == pytest.approx(loss(10 + 1e-9))


def test_a_mirrored_head_has_its_points_under_the_mirrored_names():
    points = anchors(Look()).on(load_head().template)
    np.testing.assert_array_equal(points[MIRROR] * [-1, 1, 1], points)


def test_held_out_faces_are_aligned_and_training_faces_differ_by_epoch(renders: Path):
    held_out, training = Renders(renders, "test"), Renders(renders, "train", seed=1)
    crop, points, row = held_out[0, 0]
    assert row == 0
    assert crop.shape == (3, SIZE, SIZE)
    away = key_points(points.numpy()) - template(SIZE, EYE_DISTANCE)
    assert np.linalg.norm(away, axis=1).max() < 0.25 * EYE_DISTANCE * SIZE
    assert not set(held_out.paths) & set(training.paths)
    first, again = training[0, 0], training[0, 0]
    torch.testing.assert_close(first[0], again[0], rtol=0, atol=0)
    assert not torch.equal(training[0, 1][1], first[1])


@pytest.mark.parametrize("seed", range(5))
def test_points_stay_on_what_they_mark_when_a_face_is_bent(seed: int):
    points = np.stack(np.meshgrid(np.linspace(30, 160, 17), np.linspace(30, 160, 4)), axis=-1).reshape(68, 2).round()
    image = np.full((200, 190, 3), 40, np.uint8)
    for x, y in points.astype(int):
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    changed, moved = warped(image, points, bending((200, 190), 60.0, 4 / 60, np.random.default_rng(seed)))
    shifts = moved - points
    assert 2 < shifts.std() < 8
    assert np.linalg.norm(shifts[0] - shifts[1]) > 0.1  # not as one
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    for x, y in moved:
        weight = np.clip(changed[..., 0] - 40.0, 0, None) * (np.hypot(columns - x, rows - y) < 3.5)
        seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        np.testing.assert_allclose(seen, (x, y), atol=0.5)


def test_nothing_is_bent_by_nothing(renders: Path):
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    points = np.random.default_rng(1).uniform(5, 45, (68, 2))
    changed, moved = warped(image, points, bending((50, 60), 20.0, 0.0, np.random.default_rng(2)))
    np.testing.assert_array_equal(changed, image)
    np.testing.assert_allclose(moved, points)
    straight, curved = Renders(renders, "test")[0, 0], Renders(renders, "test", bend=0.1)[0, 0]
    assert (straight[1] - curved[1]).abs().max() > 0.5
    torch.testing.assert_close(curved[1], Renders(renders, "test", bend=0.1)[0, 0][1], rtol=0, atol=0)


@given(arrays(float, (68, 2), elements=st.floats(-20, 130)))
def test_the_nearer_crop_is_filled_by_all_but_the_jaw(points: np.ndarray):
    assume(np.ptp(points[17:], axis=0).max() > 1)
    inner = apply(nearer(points), points)[17:]
    assert np.ptp(inner, axis=0).max() == pytest.approx(INNER * SIZE)
    np.testing.assert_allclose((inner.min(axis=0) + inner.max(axis=0)) / 2, (SIZE - 1) / 2, atol=1e-6)


def test_points_far_outside_of_a_crop_are_not_asked_for():
    points = torch.tensor([[0.0, 0.0], [-11.0, 50.0], [-12.0, 50.0], [50.0, SIZE + 11.0], [50.0, SIZE + 12.0]])
    assert near_crop(points).tolist() == [True, True, False, True, False]


def test_crops_to_learn_from_are_aligned_far_off_and_near(renders: Path):
    faces = Renders(renders, "train", seed=1)
    points = [faces[i % len(faces), 0][1] for i in range(60)]
    points += [faces[i, epoch][1] for epoch in range(1, 4) for i in range(len(faces))]
    points = torch.stack(points)
    eyes = (points[:, 42:48].mean(1) - points[:, 36:42].mean(1)).norm(dim=1) / (EYE_DISTANCE * SIZE)
    assert 0.15 < (eyes > 1.3).float().mean() < 0.6
    assert (eyes < 0.85).any()


def test_only_weights_that_were_trained_on_nearer_crops_take_them(renders: Path, tmp_path: Path):
    network = MobileFaceNet()
    start_at_the_mean(network, Renders(renders, "train").points)
    weights = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    found = {}
    for name, metadata in {"near": {"inner": "0.8"}, "plain": None}.items():
        path = tmp_path / f"{name}.safetensors"
        save_file(weights, path, metadata)
        config = Faces(landmarks="mobilefacenet", landmark_model=path)
        found[name] = landmarker(config)(image, np.array([100.0, 50.0, 250.0, 200.0]))
    assert np.abs(found["near"][17:] - found["plain"][17:]).max() > 1
    assert inner_share(tmp_path / "near.safetensors") == 0.8
    assert inner_share(tmp_path / "plain.safetensors") is None
    assert inner_share(tmp_path / "mobilefacenet_model_best.pth.tar") is None


@pytest.fixture
def trained_network() -> MobileFaceNet:
    """Random weights, with statistics and slopes that differ from channel to channel."""
    torch.manual_seed(0)
    network = MobileFaceNet().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
        elif isinstance(module, torch.nn.PReLU):
            torch.nn.init.uniform_(module.weight, -0.3, 0.5)
    return network


def test_opencv_computes_what_pytorch_computes(trained_network: MobileFaceNet):
    crop = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    with torch.inference_mode():
        normalised = ((crop / 255 - MEAN) / STD).astype(np.float32)
        expected = trained_network(torch.from_numpy(normalised).permute(2, 0, 1)[None])[0].numpy()
    state = {name: value.numpy() for name, value in trained_network.state_dict().items()}
    model = onnx_model(state, MEAN, STD)
    onnx.checker.check_model(onnx.load_from_string(model))
    network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    network.setInput(cv2.dnn.blobFromImage(crop, mean=255 * MEAN.astype(float)))
    assert expected.std() > 0.1
    np.testing.assert_allclose(network.forward().ravel(), expected, atol=1e-4)


def test_landmarks_are_the_same_for_any_number_of_threads():
    images = np.random.default_rng(0).integers(0, 256, (8, 120, 120, 3), np.uint8)
    find, box = landmarker(Faces()), np.array([20.0, 20.0, 90.0, 90.0])
    alone = np.stack([find(image, box) for image in images])
    with ThreadPoolExecutor(4) as pool:
        together = np.stack(list(pool.map(lambda image: find(image, box), images)))
    np.testing.assert_array_equal(alone, together)
    before = cv2.getNumThreads()
    cv2.setNumThreads(3 - min(before, 2))
    np.testing.assert_array_equal(find(images[0], box), alone[0])
    cv2.setNumThreads(before)


def test_training_starts_around_the_mean_face(renders: Path):
    faces = Renders(renders, "train")
    network = MobileFaceNet()
    start_at_the_mean(network, faces.points)
    found = network.output_layer.bn.eval()(torch.zeros(1, 136)).detach().unflatten(1, (68, 2))[0] * SIZE
    true = torch.stack([faces[i, 0][1] for i in range(len(faces))]).mean(0)
    torch.testing.assert_close(found, true, atol=0.01, rtol=0)


def test_what_a_face_is_answered_in_training_does_not_hang_on_its_batch():
    head = WithAuxiliaryHead(MobileFaceNet()).train().network.output_layer
    maps = torch.randn(4, 512, 7, 7) + 3
    torch.testing.assert_close(head(maps), torch.cat([head(one[None]) for one in maps]))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 9), (13, 6)])
def test_a_map_with_one_peak_is_read_as_the_middle_of_that_cell(row: int, column: int):
    network = WithAuxiliaryHead(MobileFaceNet()).eval()
    maps = torch.zeros(1, 128, 14, 14)
    maps[..., row, column] = 1.0
    network.network.forward_features = lambda x: (None, maps, torch.zeros(1, 512, 7, 7))
    torch.nn.init.constant_(network.read.weight, 1.0)
    _, read = network(torch.zeros(1, 3, SIZE, SIZE))
    cell = SIZE / 14
    expected = torch.tensor([column, row]) * cell + (cell - 1) / 2
    torch.testing.assert_close(read[0] * SIZE, expected.expand(68, 2))


def test_the_stage_starts_from_the_weights_of_another_network(renders: Path, tmp_path: Path):
    torch.manual_seed(7)
    before = {name: value.half() for name, value in MobileFaceNet().state_dict().items() if value.is_floating_point()}
    workspace = Workspace(tmp_path)
    given = workspace.model("given") / train.WEIGHTS
    given.parent.mkdir(parents=True)
    save_file(before, given)
    workspace.raw("renders").parent.mkdir(parents=True)
    workspace.raw("renders").symlink_to(renders)
    step = CONFIG.model_copy(update={"epochs": 1, "lr": 1e-12, "init_from": "given"})
    nets = {name: net.model_dump() for name, net in {"given": CONFIG, "on": step}.items()}
    blocks = {"rendered": {"renders": {"kind": "image", "subjects": 2}}, "datasets": {}, "variants": {}}
    whole = Catalog.model_validate(blocks | {"landmark_nets": nets, "compute": COMPUTE.model_dump()})
    stages.run("landmark_net", whole, workspace, "on")
    learnt = load_file(workspace.model("on") / train.WEIGHTS)
    for name in dict(MobileFaceNet().named_parameters()):
        torch.testing.assert_close(learnt[name], before[name], rtol=0, atol=0)
    card = json.loads((workspace.model("on") / "card.json").read_text())
    assert card["config"]["start_sha256"] == sha256(given.read_bytes()).hexdigest()


def test_missing_start_weights_are_named(renders: Path, tmp_path: Path):
    config, absent = CONFIG.model_copy(update={"init_from": "first"}), tmp_path / "absent.safetensors"
    with pytest.raises(UserError, match=r"absent\.safetensors does not exist: train first first"):
        train_landmark_net(config, renders, tmp_path / "on", tmp_path / "work", COMPUTE, absent)


@pytest.mark.slow
def test_an_interruption_changes_nothing(renders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train_landmark_net(CONFIG, renders, tmp_path / "whole", tmp_path / "work1", COMPUTE)
    times = ["seconds", "images_per_second", "ended"]
    history = pd.read_csv(tmp_path / "whole" / "history.csv").drop(columns=times)
    assert history["lr"].iloc[0] > history["lr"].iloc[-1] > 0

    measures = iter([train.held_out_error, train.held_out_error, None])
    with monkeypatch.context() as patch:
        patch.setattr(train, "held_out_error", lambda *args: next(measures)(*args))
        with pytest.raises(TypeError):  # the second epoch ends in an error
            train_landmark_net(CONFIG, renders, tmp_path / "twice", tmp_path / "work2", COMPUTE)
    assert not (tmp_path / "twice").exists()
    assert torch.load(tmp_path / "work2" / "state.pt", weights_only=True)["epoch"] == 1
    train_landmark_net(CONFIG, renders, tmp_path / "twice", tmp_path / "work2", COMPUTE)
    whole, twice = (load_file(tmp_path / name / "mobilefacenet68.safetensors") for name in ("whole", "twice"))
    torch.testing.assert_close(whole, twice, rtol=0, atol=0)
    pd.testing.assert_frame_equal(history, pd.read_csv(tmp_path / "twice" / "history.csv").drop(columns=times))

    record = tmp_path / "work2" / "done" / "finished.json"
    with monkeypatch.context() as patch:
        patch.setattr(train, "held_out_error", None)
        train_landmark_net(CONFIG, renders, tmp_path / "again", tmp_path / "work2", COMPUTE)  # finished: copied
        record.write_text(json.dumps(json.loads(record.read_text()) | {"code": "before an edit"}))
        with pytest.raises(TypeError):
            train_landmark_net(CONFIG, renders, tmp_path / "again", tmp_path / "work2", COMPUTE)
    again = load_file(tmp_path / "again" / "mobilefacenet68.safetensors")
    torch.testing.assert_close(whole, again, rtol=0, atol=0)

    assert json.loads((tmp_path / "whole" / "card.json").read_text())["licence"] == "CC0-1.0"
    assert (tmp_path / "whole" / "mobilefacenet68.safetensors").stat().st_size < 2.5e6
    assert inner_share(tmp_path / "whole" / "mobilefacenet68.safetensors") == INNER
    config = Faces(landmarks="mobilefacenet", landmark_model=tmp_path / "whole" / "mobilefacenet68.safetensors")
    image = np.zeros((300, 400, 3), np.uint8)
    points = landmarker(config)(image, np.array([100.0, 50.0, 250.0, 200.0]))
    assert points.shape == (68, 2)
    assert np.isfinite(points).all()
