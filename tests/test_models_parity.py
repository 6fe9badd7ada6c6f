"""The networks against recorded outputs of the official code, under weights made by rule from their names."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

import duchenne.models
from duchenne.models.backbones.ir50 import IR50, split_body
from duchenne.models.backbones.mobilefacenet import MobileFaceNet

PREFIXES = ("", "rv4.")  # rv4: every running variance times four, so that every part of the network is felt


@pytest.fixture(scope="module")
def parity(shared: Path) -> Path:
    return shared / "parity"


@pytest.fixture(scope="module")
def rule(parity: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_weights", parity / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def keys(parity: Path, name: str) -> dict[str, list]:
    return json.loads((parity / f"{name}.keys.json").read_text())


def layout(model: nn.Module) -> dict[str, list]:
    return {name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in model.state_dict().items()}


def load(model: nn.Module, rule: ModuleType, parity: Path, name: str, prefix: str) -> None:
    """Fill by the rule, through the loader that official files take; integer buffers stay as constructed."""
    state = {
        entry: torch.from_numpy(values) * (4 if prefix and entry.endswith("running_var") else 1)
        for entry, values in rule.fill(parity / f"{name}.keys.json").items()
    }
    report = duchenne.models.load_official(model, state, skip=["*relative_position_index"])
    assert not report.unused
    assert all(own.endswith(("num_batches_tracked", "relative_position_index")) for own in report.missing)
    model.eval()


def mean_std(x: Tensor) -> Tensor:
    """Per channel over everything else: of a map (B, C, H, W) or of tokens (B, N, C)."""
    channel_first = x.transpose(0, 1) if x.ndim == 4 else x.permute(2, 0, 1)
    flat = channel_first.flatten(1)
    return torch.stack((flat.mean(1), flat.std(1, correction=0)))


REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "chan_mean_std": mean_std,
    "first8ch": lambda x: x[:, :8],
    "first49tok8": lambda x: x[:, :49, :8],
    "first8": lambda x: x[..., :8],
}
LANDMARK_STAGES = ("conv1", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5", "conv_6_sep")
IMAGE_STAGES = {"ir.stem": "input_layer", "ir.stage1": "body1", "ir.stage2": "body2", "ir.stage3": "body3"}


def outputs_of(places: dict[str, str], root: str = "") -> dict[str, tuple[str, Callable]]:
    return {name: (root + path, lambda args, output: output) for name, path in places.items()}


# name of a recorded value -> module, and how it is read from the module's arguments and output
LANDMARK = outputs_of({f"lm.{stage}": stage for stage in LANDMARK_STAGES})
IMAGE = outputs_of(IMAGE_STAGES)
POSTER_V2 = {
    **outputs_of({f"lm.{stage}": stage for stage in LANDMARK_STAGES}, "face_landback."),
    **outputs_of(IMAGE_STAGES, "ir_back."),
    **outputs_of({"lm.last_face_conv": "last_face_conv", "vit.norm": "VIT.norm", "features": "VIT.se_block"}),
    **outputs_of({f"vit.block{i}": f"VIT.blocks.{i}" for i in range(2)}),
    "vit.tokens_in": ("VIT", lambda args, output: args[0]),
    "pooled": ("VIT.norm", lambda args, output: output[:, 0]),
}
for level in (1, 2, 3):
    POSTER_V2 |= outputs_of(
        {
            f"ir.conv{level}": f"conv{level}",
            f"level{level}.window_norm": f"window{level}",
            f"level{level}.attn": f"attn{level}",
            f"level{level}.ffn": f"ffn{level}",
        }
    )
    POSTER_V2[f"level{level}.query"] = (f"attn{level}", lambda args, output: args[1])


def record(model: nn.Module, places: dict[str, tuple[str, Callable]], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}

    def keep(name: str, read: Callable) -> Callable:
        return lambda module, args, output: seen.__setitem__(name, read(args, output).clone())

    handles = [
        model.get_submodule(path).register_forward_hook(keep(name, read)) for name, (path, read) in places.items()
    ]
    with torch.no_grad():
        output = model(x)
    for handle in handles:
        handle.remove()
    return output, seen


def check_intermediates(seen: dict[str, Tensor], expected: dict[str, np.ndarray], late: float) -> None:
    """Every recorded value within 1e-5 of its array's maximum; ``late`` for what follows the first attention."""
    for name, values in expected.items():
        place, _, reduction = name.rpartition(".")
        ours = REDUCE[reduction](seen[place]) if reduction in REDUCE else seen[name]
        is_late = name.startswith(("vit.", "pooled", "features")) or name.split(".")[-2] in ("attn", "ffn")
        tolerance = (late if is_late else 1e-5) * np.abs(values).max()
        assert np.abs(ours.numpy() - values).max() <= tolerance, name


def expected_of(parity: Path, name: str, prefix: str) -> dict[str, np.ndarray]:
    with np.load(parity / f"{name}.expected.npz") as file:
        return {key.removeprefix("rv4."): file[key] for key in file.files if key.startswith("rv4.") == bool(prefix)}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("classes", [7, 8])
def test_poster_v2_equals_the_official_network(parity: Path, rule: ModuleType, classes: int, prefix: str) -> None:
    name = f"poster_v2_{classes}cls"
    model = timm.create_model("poster_v2", num_classes=classes, full_last_block=True)
    assert layout(model) == keys(parity, name)
    load(model, rule, parity, name, prefix)
    images = torch.from_numpy(rule.images(0, 2, 3, 224, 224))
    expected = expected_of(parity, name, prefix)
    logits_expected, tolerance = expected.pop("logits"), 2e-5 if prefix else 1e-4

    logits, seen = record(model, POSTER_V2, images)
    np.testing.assert_allclose(logits.numpy(), logits_expected, rtol=0, atol=tolerance)
    check_intermediates(seen, expected, late=1e-5 if prefix else 5e-4)
    if prefix:
        np.testing.assert_allclose(seen["features"].numpy(), expected["features"], rtol=0, atol=2e-5)

    # the same without the unread rows of the last block, and in the other memory format
    model.VIT.full_last_block = False
    model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        features = model.forward_features(images.to(memory_format=torch.channels_last))
        np.testing.assert_allclose(model.forward_head(features).numpy(), logits_expected, rtol=0, atol=tolerance)
    if prefix:
        np.testing.assert_allclose(features.numpy(), expected["features"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_ir50_equals_the_official_network(parity: Path, rule: ModuleType, prefix: str) -> None:
    model = IR50()
    assert layout(model) == {split_body(name): entry for name, entry in keys(parity, "ir50").items()}
    load(model, rule, parity, "ir50", prefix)
    expected = expected_of(parity, "ir50", prefix)
    tokens = expected.pop("tokens.first32")

    # the official code reduces its 224 px images by nearest-neighbour interpolation: every second pixel
    images = torch.from_numpy(rule.images(0, 2, 3, 224, 224))[:, :, ::2, ::2]
    (_, _, third), seen = record(model, IMAGE, images)
    check_intermediates(seen, expected, late=0.0)
    # POSTER reads the map's memory as 49 tokens of 1024
    ours = third.reshape(2, 49, 1024)[..., :32].numpy()
    np.testing.assert_allclose(ours, tokens, rtol=0, atol=1e-5 * np.abs(tokens).max())


@pytest.mark.parametrize("prefix", PREFIXES)
def test_mobilefacenet_equals_the_official_network(parity: Path, rule: ModuleType, prefix: str) -> None:
    model = MobileFaceNet()
    assert layout(model) == keys(parity, "mobilefacenet")
    load(model, rule, parity, "mobilefacenet", prefix)
    expected = expected_of(parity, "mobilefacenet", prefix)
    points = expected.pop("output")

    output, seen = record(model, LANDMARK, torch.from_numpy(rule.images(0, 2, 3, 112, 112)))
    np.testing.assert_allclose(output.numpy(), points, rtol=0, atol=1e-5 * np.abs(points).max())
    check_intermediates(seen, expected, late=0.0)
