"""Published files: read safely, loaded completely or not at all."""

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
from safetensors.torch import save_file
from torch import Tensor, nn

from duchenne.models.backbones.ir50 import IR50, STAGES
from duchenne.models.backbones.ir50_names import split_body
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.models.contract import register_networks
from duchenne.models.official import OfficialWeightsError, load_official, load_pretrained, load_shared, read_official

register_networks()


def network(name: str, **options) -> nn.Module:
    """One of the registry with zeros for weights, which is faster than random ones."""
    with torch.device("meta"):
        model = timm.create_model(name, **options)
    model.to_empty(device="cpu")
    for entry in model.state_dict().values():
        entry.zero_()
    return model


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
@pytest.mark.parametrize("container", ["state_dict", "model_state_dict", "model", None])
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


@pytest.mark.parametrize("file_split", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_ir50_takes_either_spelling(split: bool, file_split: bool) -> None:
    by_stage = filled(IR50(split_stages=True))
    in_a_row = unsplit(by_stage)
    assert in_a_row.keys() == IR50(split_stages=False).state_dict().keys()
    model = IR50(split)
    report = load_official(model, by_stage if file_split else in_a_row)
    assert same(model, by_stage if split else in_a_row)
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
    state["conv1.bn.running_mean"] = torch.ones(64, dtype=torch.int8)  # of a quantised network
    with pytest.raises(OfficialWeightsError) as error:
        load_official(model, {"state_dict": state})
    message = str(error.value)
    assert "only in the file: conv9.weight" in message
    assert "only in the network: conv1.conv.weight" in message
    assert "conv1.bn.weight: (3,) in the file, (64,) in the network" in message
    assert "conv1.bn.running_mean: torch.int8 in the file, torch.float32 in the network" in message
    assert "conv1.bn.bias" not in message
    assert same(model, before)


def test_batch_counters_may_be_missing_and_are_reported() -> None:
    state = {name: entry for name, entry in filled(MobileFaceNet()).items() if "num_batches" not in name}
    report = load_official(MobileFaceNet(), state)
    assert len(report.missing) == 2 + 3 * 15 + 3  # two stems, 15 bottlenecks of three, the last map, the head's two
    assert all(name.endswith("num_batches_tracked") for name in report.missing)


def test_a_head_for_other_classes_only_on_request() -> None:
    state = filled(network("poster_v2", num_classes=8))
    model = network("poster_v2", num_classes=7)
    with pytest.raises(OfficialWeightsError, match=r"VIT\.head\.linear\.weight: \(8, 768\) in the file, \(7, 768\)"):
        load_official(model, parallel(state))
    report = load_official(model, parallel(state), skip=["VIT.head.*"])
    assert report.unused == report.missing == ("VIT.head.linear.weight", "VIT.head.linear.bias")
    assert not model.VIT.head.linear.weight.any()
    assert (model.VIT.norm.weight == 0.5).all()


def test_parts_of_poster_v2_from_their_files(tmp_path: Path) -> None:
    images, points = filled(IR50(split_stages=True), 0.25), filled(MobileFaceNet(), 0.75)
    torch.save(unsplit(images), tmp_path / "ir50.pth")
    torch.save({"state_dict": parallel(points)}, tmp_path / "mobilefacenet.pth.tar")
    model = network("poster_v2")
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


def test_parts_and_checkpoint_of_poster(tmp_path: Path) -> None:
    images = filled(IR50(split_stages=True), 0.25)
    torch.save(images, tmp_path / "ir50.pth")  # in POSTER++'s spelling
    model = network("poster_t", depth=1)
    load_pretrained(model, {"ir50": tmp_path / "ir50.pth"})
    assert same(model.ir_back, unsplit(images))
    whole = filled(model, 0.125)
    torch.save({"iter": 300, "model_state_dict": parallel(whole)}, tmp_path / "rafdb_best.pth")
    report = load_pretrained(model, {"checkpoint": tmp_path / "rafdb_best.pth"})["checkpoint"]
    assert same(model, whole)
    assert set(report.used) == set(whole)
    other_form = network("poster_t", depth=1, token_conv=False)
    with pytest.raises(OfficialWeightsError, match=r"only in the file: pyramid_fuse\.blocks\.0\.block_l\.conv\.weight"):
        load_pretrained(other_form, {"checkpoint": tmp_path / "rafdb_best.pth"})


def test_another_network_gives_the_parts_that_both_have() -> None:
    source = network("poster_t", depth=1)
    source.load_state_dict(filled(source, 0.25))
    model = network("poster_v2")
    head = model.VIT.head.linear.weight.clone()
    assert load_shared(model, source) == ["ir50", "mobilefacenet"]
    assert unsplit(model.ir_back.state_dict()).keys() == source.ir_back.state_dict().keys()
    assert same(model.ir_back, filled(model.ir_back, 0.25))
    assert torch.equal(model.VIT.head.linear.weight, head)
    assert load_shared(network("ifdd_2dcnn"), source) == []


def test_first_blocks_of_a_vision_transformer(tmp_path: Path) -> None:
    transformer = filled(network("vit_base_patch16_224", num_classes=3, depth=3))
    torch.save(transformer, tmp_path / "vit.pth")
    model = network("poster_v2")
    report = load_pretrained(model, {"vit": tmp_path / "vit.pth"})["vit"]
    assert {name.split(".")[0] for name in report.used} == {"cls_token", "blocks", "norm"}
    for name in report.used:
        assert torch.equal(model.VIT.state_dict()[name], transformer[name]), name
    assert len([name for name in report.used if name.startswith("blocks.1.")]) == 12
    assert not model.VIT.pos_embed.any()
    with pytest.raises(OfficialWeightsError, match=r"only in the network: blocks\.3\.norm1\.weight"):
        load_pretrained(network("poster_v2", vit_depth=4), {"vit": tmp_path / "vit.pth"})


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"state_dict": {"conv1": [1, 2]}}, whole)
    with pytest.raises(OfficialWeightsError, match=r"not tensors: conv1"):
        load_official(MobileFaceNet(), whole)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"<!DOCTYPE html><p>sign in to download", "is a web page: download the file itself"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "is a Git LFS pointer: run `git lfs pull` to get the file itself",
        ),
        (b"plain text", r"damaged \(.*\): download the file again"),
        ("half", r"damaged \(.*\): download the file again"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_that_names_it(tmp_path: Path, name: str, content, reason: str) -> None:
    path, network = tmp_path / name, MobileFaceNet()
    if content == "half":
        save = save_file if path.suffix == ".safetensors" else torch.save
        save(network.state_dict(), path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OfficialWeightsError, match=rf"w\.[a-z]+:? .*{reason}$") as caught:
        load_official(network, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_numbers_are_refused(tmp_path: Path, name: str, value: float) -> None:
    path, state = tmp_path / name, {"first": torch.ones(3), "count": torch.tensor(1), "second": torch.ones(2, 2)}
    save = save_file if path.suffix == ".safetensors" else torch.save
    save(state, path)
    assert read_official(path).keys() == state.keys()
    state["second"][1, 0] = value
    save(state, path)
    with pytest.raises(
        OfficialWeightsError, match=f"^{path}: second holds NaN or infinite numbers: download the file again$"
    ):
        read_official(path)


def test_a_folder_is_not_a_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(OfficialWeightsError, match=f"^{tmp_path} is a folder, not a file$"):
        load_official(MobileFaceNet(), tmp_path)
