"""POSTER++ as a module: what is trained, what is frozen, what may be reused, and that tools can take it."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import duchenne.models
from duchenne.errors import UserError
from duchenne.models.backbones.ir50 import IR50
from duchenne.models.backbones.mobilefacenet import MobileFaceNet


def build(**options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("poster_v2", num_classes=7, **options)


def lively(**options) -> nn.Module:
    """With weights under which every part is felt in the logits; fresh ones hide attention behind factors of 1e-5."""
    model = build(**options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            elif "gamma" in name:
                parameter.fill_(1)
    return model


def images(count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(seed))


def is_ballast(model: nn.Module, name: str) -> bool:
    return name.startswith(tuple(f"{module}." for module in model.ballast))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return lively().eval()


def test_registered_with_its_input(model: nn.Module) -> None:
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"] == (3, 224, 224)
    assert config["mean"] == (0.485, 0.456, 0.406)
    assert config["std"] == (0.229, 0.224, 0.225)
    assert config["crop_pct"] == 1.0
    assert model.get_submodule(model.default_cfg["classifier"]) is model.VIT.head.linear
    duchenne.models.require("poster_v2")


def test_a_misspelt_network_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"'postr_v2' \(did you mean 'poster_v2'"):
        duchenne.models.require("postr_v2")


@pytest.mark.parametrize(
    ("network", "total", "trainable", "used"),
    [
        (lambda: build(), 58_316_594, 57_309_346, 43_753_941),
        (lambda: timm.create_model("poster_v2", num_classes=8), 58_317_363, 57_310_115, 43_754_710),
    ],
)
def test_parameter_counts_are_the_measured_ones_of_the_official_code(network, total, trainable, used) -> None:
    model = network()
    parameters = dict(model.named_parameters())
    assert sum(p.numel() for p in parameters.values()) == total
    assert sum(p.numel() for p in parameters.values() if p.requires_grad) == trainable
    assert sum(p.numel() for name, p in parameters.items() if not is_ballast(model, name)) == used


def test_parameter_counts_of_the_backbones() -> None:
    assert sum(p.numel() for p in IR50().parameters()) == 30_459_584
    assert sum(p.numel() for p in MobileFaceNet().parameters()) == 1_007_248


def test_norm_epsilons(model: nn.Module) -> None:
    """An output cannot tell 1e-5 from 1e-6 in the window and feed-forward norms."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.LayerNorm, nn.modules.batchnorm._BatchNorm)):
            assert module.eps == (1e-6 if name.startswith("VIT.") else 1e-5), name
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.momentum == 0.1


def test_drop_path_rates_are_the_first_three_of_five_even_steps() -> None:
    rates = [module.drop_prob for module in build().modules() if isinstance(module, timm.layers.DropPath)]
    assert rates == [0.0, 0.125, 0.25]


def test_gradient_reaches_every_trainable_parameter_but_the_ballast() -> None:
    model = build(drop_path_rate=0.0).train()
    F.cross_entropy(model(images()), torch.tensor([0, 3])).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("face_landback") or is_ballast(model, name):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_a_sample_alone_gives_what_it_gives_in_a_batch(model: nn.Module) -> None:
    with torch.no_grad():
        together = model(images(3))
        alone = torch.cat([model(image) for image in images(3).split(1)])
    assert together.std() > 0.1
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_logits_are_the_head_of_the_features(model: nn.Module) -> None:
    with torch.no_grad():
        features = model.forward_features(images())
        assert features.shape == (2, 768)
        assert torch.equal(model(images()), model.forward_head(features))
        maps = model.landmark_maps(images())
        assert [tuple(level.shape) for level in maps] == [(2, 64, 28, 28), (2, 128, 14, 14), (2, 512, 7, 7)]
        assert torch.equal(model.forward_features(images(), maps), features)


def test_only_every_second_pixel_is_read(model: nn.Module) -> None:
    disturbed = images()
    disturbed[:, :, 1::2] += 100
    disturbed[:, :, :, 1::2] += 100
    with torch.no_grad():
        assert torch.equal(model(disturbed), model(images()))


def test_the_last_block_on_one_row_has_the_gradients_of_the_full_one() -> None:
    gradients, logits = [], []
    for full in (False, True):
        model = lively(full_last_block=full, drop_path_rate=0.0).train()
        output = model(images())
        F.cross_entropy(output, torch.tensor([0, 3])).backward()
        logits.append(output.detach())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*logits, rtol=0, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, full in gradients[1].items():
        assert (gradients[0][name] - full).abs().max() <= 1e-3 * full.abs().max() + 1e-7, name


def landmark_buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.face_landback.named_buffers()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return any(not torch.equal(before[name], after[name]) for name in before)


def test_landmark_statistics_move_in_training_as_in_the_official_code() -> None:
    model = build().train()
    before = landmark_buffers(model)
    model(images())
    assert changed(before, landmark_buffers(model))
    with pytest.raises(ValueError, match="landmark_bn_frozen=True"):
        model(images(), model.landmark_maps(images()))


def test_frozen_landmark_statistics_stay_and_maps_can_be_reused() -> None:
    model = build(landmark_bn_frozen=True, drop_path_rate=0.0).train()
    assert model.training
    assert model.ir_back.training
    before = landmark_buffers(model)
    maps = model.landmark_maps(images())
    assert not any(level.requires_grad for level in maps)
    assert torch.equal(model(images(), maps), model(images()))
    assert not changed(before, landmark_buffers(model))
    assert not model.eval().train().face_landback.training


def test_bfloat16_autocast_gives_finite_logits_and_gradients() -> None:
    model = build(drop_path_rate=0.0).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(images()), torch.tensor([0, 3]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.slow
def test_exported_graph_gives_the_same_logits_for_another_batch_size(model: nn.Module) -> None:
    program = torch.export.export(model, (images(2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images(3)), model(images(3)), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_onnx_runtime_gives_the_same_logits(model: nn.Module, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "poster_v2.onnx"
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(model, (images(2),), path, dynamo=True, dynamic_shapes=shapes, input_names=["images"])
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images(3).numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(images(3)), rtol=0, atol=1e-4)
