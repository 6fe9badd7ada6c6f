"""`duchenne export`: files give what the network gives, and their cards say how to feed them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import training_networks
from export_tools import fold_of
from scipy.special import softmax
from torch import Tensor

from duchenne import export as module
from duchenne.errors import UserError
from duchenne.export import export
from duchenne.files import file_digest, read_json
from duchenne.models.contract import create
from duchenne.prediction.model import Model

FRAMES = {"tiny": 1, "tiny_clip": 4, "tiny_pair": 2}


def fold(architecture: str, folder: Path, size: int | None = None) -> Path:
    torch.manual_seed(0)
    network = create(architecture, {}, 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return fold_of(network, architecture, folder, size=size)


def faces(folder: Path, architecture: str, size: int) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) of a clip of aligned faces, RGB, which also are in files of the folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (FRAMES[architecture], 6, 6, 3), dtype=np.uint8)
    frames = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC) for frame in coarse]
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return np.stack(frames)


def run(path: Path, inputs: np.ndarray) -> list[np.ndarray]:
    """Logits and probabilities of an exported file."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(["logits", "probabilities"], {"inputs": inputs})
    with path.open("rb") as file:
        return [output.numpy() for output in torch.export.load(file).module()(torch.from_numpy(inputs))]


@pytest.mark.parametrize(
    ("architecture", "name", "half", "size"),
    [
        ("tiny", "whole.onnx", True, 96),
        ("tiny", "whole.pt2", False, 64),
        ("tiny_clip", "whole.onnx", False, 64),
        ("tiny_clip", "whole.pt2", True, 80),
        ("tiny_pair", "whole.onnx", False, 112),
        ("tiny_pair", "whole.pt2", False, 300),
    ],
)
def test_faces_in_give_what_prediction_gives(architecture: str, name: str, half: bool, size: int, tmp_path: Path):
    trained, clip = fold(architecture, tmp_path / "fold_1", size), faces(tmp_path / "clip", architecture, size)
    out = tmp_path / name
    card = export(trained, "onnx" if out.suffix == ".onnx" else "torch", out, half, preprocess=True)

    inputs = clip if architecture == "tiny" else clip[None]
    assert card["input"]["shape"] == ["batch", *inputs.shape[1:]]
    logits, probabilities = run(out, np.repeat(inputs, 3, axis=0))
    assert probabilities == pytest.approx(softmax(logits, axis=1), abs=1e-6)
    source = tmp_path / "clip"
    given, options = (source / "0.png" if architecture == "tiny" else source), {}
    if architecture == "tiny_pair":
        options = {"onset": 0, "apex": 1}
    rows = Model(trained).predict(given, **options)
    wanted = rows.filter(regex="^p_").iloc[-1].tolist()
    for found in probabilities:
        assert found == pytest.approx(wanted, abs=0.01 if half or architecture == "tiny_pair" else 1e-3)


@pytest.mark.parametrize("name", ["plain.onnx", "plain.pt2"])
def test_a_file_and_its_card_say_how_to_feed_it(name: str, tmp_path: Path):
    trained, out = fold("tiny", tmp_path / "fold_1"), tmp_path / name
    export(trained, "onnx" if out.suffix == ".onnx" else "torch", out)
    card = read_json(tmp_path / f"{name}.json")
    assert card["sha256"] == file_digest(out)
    assert card["classes"] == ["class_0", "class_1", "class_2"]
    assert card["alignment"] == read_json(trained / "card.json")["alignment"]
    assert card["input"] == {
        "name": "inputs",
        "shape": ["batch", 3, 64, 64],
        "axes": ["batch", "colour", "height", "width"],
        "dtype": "float32",
        "values": "(pixel / 255 - mean) / std",
        "colours": "RGB",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "normalised_by_the_graph": False,
    }
    assert 0 <= card["verification"]["difference_of_logits"] <= card["verification"]["tolerance"]
    x = np.random.default_rng(0).normal(size=(5, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = module.load_trained(trained)[0](torch.from_numpy(x)).numpy()
    assert run(out, x)[0] == pytest.approx(expected, abs=1e-4)
    if out.suffix == ".onnx":
        inside = {item.key: json.loads(item.value) for item in onnx.load(out).metadata_props}
        assert card["opset"] == inside["opset"]
    else:
        extra = {"card.json": ""}
        with out.open("rb") as file:
            torch.export.load(file, extra_files=extra)
        inside = json.loads(extra["card.json"])
    assert inside["classes"] == card["classes"]
    assert inside["input"] == card["input"]
    assert inside["source"] == card["source"]
    assert card["source"]["weights_sha256"] == file_digest(trained / "weights.safetensors")


def test_half_stores_float16(tmp_path: Path):
    out = tmp_path / "half.pt2"
    export(fold("tiny_clip", tmp_path / "fold_1"), "torch", out, half=True)
    with out.open("rb") as file:
        stored = torch.export.load(file).state_dict
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert len(stored) == 4


def test_a_file_that_differs_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(module.TOLERANCE, True, 1e-9)
    trained = fold("tiny", tmp_path / "fold_1")
    with pytest.raises(UserError, match=r"the exported tiny differs from the network: .*leave out --half"):
        export(trained, "torch", tmp_path / "x.pt2", half=True)
    assert [path.name for path in tmp_path.iterdir()] == ["fold_1"]


def test_a_network_that_cannot_be_exported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def branching(self: training_networks.Tiny, x: Tensor) -> Tensor:
        return self.head.weight[0] * (1.0 if x.sum() > 0 else 2.0)

    trained = fold("tiny", tmp_path / "fold_1")
    monkeypatch.setattr(training_networks.Tiny, "forward_features", branching)
    with pytest.raises(UserError, match=r"fold_1: tiny cannot be exported: .*data-dependent"):
        export(trained, "torch", tmp_path / "x.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["fold_1"]


def test_flow_cannot_be_prepared_by_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training_networks.TinyPair, "flow", "dis")
    with pytest.raises(UserError, match=r"tiny_pair takes optical flow \(dis\).* leave out --preprocess"):
        export(fold("tiny_pair", tmp_path / "fold_1"), "torch", tmp_path / "x.pt2", preprocess=True)


def test_the_name_must_fit_the_format(tmp_path: Path):
    with pytest.raises(UserError, match=r"x\.pt: a file of format torch must be named \*\.pt2"):
        export(tmp_path, "torch", tmp_path / "x.pt")


def test_a_file_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path):
    (tmp_path / "x.pt2").mkdir()
    for name, reason in (("x.pt2", "is a folder: give the name of a file"), ("\udcff.pt2", "is not UTF-8 text")):
        with pytest.raises(UserError, match=reason):
            export(fold("tiny", tmp_path / "fold_1"), "torch", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold_1", "x.pt2"]
