"""Published files: read safely, loaded whole or not at all."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from duchenne.models import OfficialWeightsError, load_official, load_pretrained
from duchenne.models.backbones.ir50 import IR50, STAGES, split_body
from duchenne.models.backbones.mobilefacenet import MobileFaceNet


def filled(model: nn.Module, value: float = 0.5) -> dict[str, Tensor]:
    """A state dict unlike the model's own: every float entry has one value."""
    return {
        name: torch.full_like(entry, value) if entry.is_floating_point() else entry.clone()
        for name, entry in model.state_dict().items()
    }


def same(model: nn.Module, state: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


def parallel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a DataParallel network names its entries."""
    return {f"module.{name}": entry for name, entry in state.items()}


def unsplit(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """IR50 entries under the names of POSTER and of ``ir50.pth``."""
    first = np.cumsum([0, *(units for units, _ in STAGES)])
    renamed = {}
    for name, entry in state.items():
        for stage in range(len(STAGES)):
            if name.startswith(head := f"body{stage + 1}."):
                unit, rest = name.removeprefix(head).split(".", 1)
                name = f"body.{first[stage] + int(unit)}.{rest}"
        renamed[name] = entry
    return renamed


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """Makes objects of a class that is gone when the file is read."""
    module = ModuleType("a_training_script")

    class RecorderMeter:
        def __init__(self) -> None:
            self.total_epoch = 2
            self.epoch_losses = np.zeros((2, 2), dtype=np.float32)

    RecorderMeter.__module__, RecorderMeter.__qualname__ = module.__name__, "RecorderMeter"
    module.RecorderMeter = RecorderMeter
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return RecorderMeter


@pytest.mark.parametrize("zip_format", [True, False])
@pytest.mark.parametrize("container", ["state_dict", "model_state_dict", None])
def test_every_published_container(tmp_path: Path, recorder, container: str | None, zip_format: bool) -> None:
    state = filled(MobileFaceNet())
    content = (
        parallel(state)
        if container is None
        else {
            "epoch": 3,
            container: parallel(state),
            "best_acc": torch.tensor(92.21),
            "best_loss": np.float64(0.3),
            "recorder": recorder(),
            "optimizer": {"state": {}, "param_groups": [{"lr": 3.5e-5}]},
        }
    )
    path = tmp_path / "published.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zip_format)
    del sys.modules["a_training_script"]

    model = MobileFaceNet()
    report = load_official(model, path)
    assert same(model, state)
    assert set(report.used) == set(state)
    assert report.unused == report.missing == ()
    assert "a_training_script" not in sys.modules


@pytest.mark.parametrize("zip_format", [True, False])
def test_a_file_cannot_run_anything(tmp_path: Path, zip_format: bool) -> None:
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    path = tmp_path / "published.pth"
    content = {"state_dict": filled(MobileFaceNet()), "recorder": Trap()}
    torch.save(content, path, _use_new_zipfile_serialization=zip_format)
    with contextlib.suppress(OfficialWeightsError):  # refusing the file is as good as skipping the object
        load_official(MobileFaceNet(), path)
    assert not (tmp_path / "sprung").exists()


def test_ir50_under_its_first_names() -> None:
    state = filled(IR50())
    first = unsplit(state)
    assert "body.20.res_layer.4.weight" in first
    assert "body.3.shortcut_layer.0.weight" in first
    model = IR50()
    report = load_official(model, first)
    assert same(model, state)
    assert report.unused == report.missing == ()


@pytest.mark.parametrize(
    ("first", "split"),
    [
        ("body.0.res_layer.1.weight", "body1.0.res_layer.1.weight"),
        ("body.2.res_layer.1.weight", "body1.2.res_layer.1.weight"),
        ("ir_back.body.3.shortcut_layer.0.weight", "ir_back.body2.0.shortcut_layer.0.weight"),
        ("body.20.res_layer.4.bias", "body3.13.res_layer.4.bias"),
        ("body.21.res_layer.4.bias", "body.21.res_layer.4.bias"),  # a fourth stage, which the loader then lists
        ("body2.0.res_layer.0.weight", "body2.0.res_layer.0.weight"),
        ("input_layer.0.weight", "input_layer.0.weight"),
    ],
)
def test_split_names(first: str, split: str) -> None:
    assert split_body(first) == split


def test_entries_that_do_not_fit_are_listed_and_nothing_is_loaded() -> None:
    model = MobileFaceNet()
    before = {name: entry.clone() for name, entry in model.state_dict().items()}
    state = filled(model)
    del state["conv1.conv.weight"]
    state["conv1.bn.weight"] = torch.ones(3)
    state["conv9.weight"] = torch.ones(1)
    with pytest.raises(OfficialWeightsError) as error:
        load_official(model, {"state_dict": state})
    message = str(error.value)
    assert "only in the file: conv9.weight" in message
    assert "only in the network: conv1.conv.weight" in message
    assert "conv1.bn.weight: (3,) in the file, (64,) in the network" in message
    assert "conv1.bn.bias" not in message
    assert same(model, before)


def test_batch_counters_may_be_missing_and_are_reported() -> None:
    state = {name: entry for name, entry in filled(MobileFaceNet()).items() if "num_batches" not in name}
    report = load_official(MobileFaceNet(), state)
    assert len(report.missing) == 2 + 3 * 15 + 3  # two stems, 15 bottlenecks of three, the last map, the head's two
    assert all(name.endswith("num_batches_tracked") for name in report.missing)


def test_a_head_for_other_classes_only_on_request() -> None:
    state = filled(timm.create_model("poster_v2", num_classes=8))
    model = timm.create_model("poster_v2", num_classes=7)
    head = model.VIT.head.linear.weight.clone()
    with pytest.raises(OfficialWeightsError, match=r"VIT\.head\.linear\.weight: \(8, 768\) in the file, \(7, 768\)"):
        load_official(model, parallel(state))
    report = load_official(model, parallel(state), skip=["VIT.head.*"])
    assert report.unused == report.missing == ("VIT.head.linear.weight", "VIT.head.linear.bias")
    assert torch.equal(model.VIT.head.linear.weight, head)
    assert (model.VIT.norm.weight == 0.5).all()


def test_parts_of_poster_v2_from_their_files(tmp_path: Path) -> None:
    images, points = filled(IR50(), 0.25), filled(MobileFaceNet(), 0.75)
    torch.save(unsplit(images), tmp_path / "ir50.pth")
    torch.save({"state_dict": parallel(points)}, tmp_path / "mobilefacenet.pth.tar")
    model = timm.create_model("poster_v2")
    reports = load_pretrained(
        model, {"ir50": tmp_path / "ir50.pth", "mobilefacenet": tmp_path / "mobilefacenet.pth.tar"}
    )
    assert same(model.ir_back, images)
    assert same(model.face_landback, points)
    assert len(reports["ir50"].used) == 304
    assert len(reports["mobilefacenet"].used) == 333
    whole = filled(model, 0.125)
    torch.save({"epoch": 199, "state_dict": parallel(whole)}, tmp_path / "raf-db.pth")
    load_pretrained(model, {"checkpoint": tmp_path / "raf-db.pth"})
    assert same(model, whole)
    with pytest.raises(OfficialWeightsError, match="PosterV2 has no part ir101; its parts: ir50, mobilefacenet"):
        load_pretrained(model, {"ir101": tmp_path / "ir50.pth"})
    with pytest.raises(OfficialWeightsError, match="only in the file"):
        load_pretrained(model, {"mobilefacenet": tmp_path / "ir50.pth"})


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    text = tmp_path / "page.pth"
    text.write_text("<html>sign in to download</html>")
    with pytest.raises(OfficialWeightsError, match=r"page\.pth: not a file of PyTorch weights"):
        load_official(MobileFaceNet(), text)
    whole = tmp_path / "whole.pth"
    torch.save({"state_dict": {"conv1": [1, 2]}}, whole)
    with pytest.raises(OfficialWeightsError, match=r"no tensors: conv1"):
        load_official(MobileFaceNet(), whole)
    with pytest.raises(FileNotFoundError):
        load_official(MobileFaceNet(), tmp_path / "absent.pth")
