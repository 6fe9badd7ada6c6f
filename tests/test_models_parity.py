"""The networks against recorded outputs of the official code, under weights made by rule from their names."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from duchenne.models.backbones.ir50 import IR50
from duchenne.models.backbones.ir50_names import split_body
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.models.official import load_official

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def parity(shared: Path) -> Path:
    return shared / "parity"


@pytest.fixture(scope="module")
def rule(parity: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_weights", parity / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def keys(parity: Path, name: str) -> dict[str, list]:
    return json.loads((parity / f"{name}.keys.json").read_text())


def layout(model: nn.Module) -> dict[str, list]:
    return {name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in model.state_dict().items()}


def weight_sets(model: nn.Module, rule: ModuleType, parity: Path, name: str) -> Iterator[tuple[bool, dict]]:
    """Fill ``model`` by the rule as it is, then with every running variance times four, so that every part of the
    network is felt; each time whether it is the second set, and what the official code gives under it.

    The filling goes through the loader that official files take; integer buffers stay as constructed.
    """
    state = {entry: torch.from_numpy(values) for entry, values in rule.fill(parity / f"{name}.keys.json").items()}
    report = load_official(model, state, skip=["*relative_position_index"])
    assert not report.unused
    assert all(own.endswith(("num_batches_tracked", "relative_position_index")) for own in report.missing)
    model.eval()
    with np.load(parity / f"{name}.expected.npz") as file:
        expected = {key: file[key] for key in file.files}
    yield False, {key: values for key, values in expected.items() if not key.startswith("rv4.")}
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_var"):
            buffer.mul_(4)
    yield True, {key.removeprefix("rv4."): values for key, values in expected.items() if key.startswith("rv4.")}


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
    "first3": lambda x: x[..., :3],
}
LANDMARK_STAGES = ("conv1", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5", "conv_6_sep")
IMAGE_STAGES = {"ir.stem": "input_layer", "ir.stage1": "body1", "ir.stage2": "body2", "ir.stage3": "body3"}
LAST_UNITS = {"ir.stem": "input_layer", "ir.stage1": "body.2", "ir.stage2": "body.6", "ir.stage3": "body.20"}


def outputs_of(places: dict[str, str], root: str = "") -> dict[str, tuple[str, Callable]]:
    return {name: (root + path, lambda args, output: output) for name, path in places.items()}


# name of a recorded value -> module, and how it is read from the module's arguments and output
LANDMARK = outputs_of({f"lm.{stage}": stage for stage in LANDMARK_STAGES})
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


def poster(depth: int) -> dict[str, tuple[str, Callable]]:
    """Places of POSTER."""
    places = {
        **outputs_of({f"lm.{stage}": stage for stage in LANDMARK_STAGES}, "face_landback."),
        **outputs_of(LAST_UNITS, "ir_back."),
        **outputs_of({"ir.tokens49x512": "ir_layer", "fuse.norm": "pyramid_fuse.norm", "features": "se_block"}),
        "ir.tokens49x1024": ("ir_layer", lambda args, output: args[0]),
        "block0.l.attn_img": ("pyramid_fuse.blocks.0.block_l.attn_img", lambda args, output: output),
        "block0.l.attn_lm": ("pyramid_fuse.blocks.0.block_l.attn_lm", lambda args, output: output),
        "block0.l.before_upsample": ("pyramid_fuse.blocks.0.block_l", lambda args, output: output),
        "pooled": ("pyramid_fuse.norm", lambda args, output: output[:, 0]),
    }
    for number, layer in enumerate("lms"):
        places[f"fuse.in_{layer}"] = ("pyramid_fuse.blocks.0", lambda args, output, i=number: args[0][i])
        for block in range(depth):
            place = f"pyramid_fuse.blocks.{block}"
            places[f"block{block}.{layer}"] = (place, lambda args, output, i=number: output[i])
    return places


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


def close(ours: Tensor, expected: np.ndarray, atol: float) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("classes", [7, 8])
def test_poster_v2_equals_the_official_network(parity: Path, rule: ModuleType, classes: int) -> None:
    name = f"poster_v2_{classes}cls"
    model = timm.create_model("poster_v2", num_classes=classes, full_last_block=True)
    assert layout(model) == keys(parity, name)
    images = torch.from_numpy(rule.images(0, 2, 3, 224, 224))
    for felt, expected in weight_sets(model, rule, parity, name):
        logits_expected = expected.pop("logits")
        logits, seen = record(model, POSTER_V2, images)
        close(logits, logits_expected, 2e-5 if felt else 1e-4)
        check_intermediates(seen, expected, late=1e-5 if felt else 5e-4)
    close(seen["features"], expected["features"], 2e-5)

    # the same without the unread rows of the last block, and in the other memory format
    model.VIT.full_last_block = False
    model.to(memory_format=torch.channels_last)
    features = model.forward_features(images.to(memory_format=torch.channels_last))
    close(features, expected["features"], 2e-5)
    close(model.forward_head(features), logits_expected, 2e-5)


@pytest.mark.parametrize(("name", "depth"), [("poster_t", 4), ("poster_s", 6), ("poster_l", 8)])
def test_poster_equals_the_official_network(parity: Path, rule: ModuleType, name: str, depth: int) -> None:
    model = timm.create_model(name, num_classes=7)
    assert layout(model) == keys(parity, name)
    images = torch.from_numpy(rule.images(0, 2, 3, 224, 224))
    for _, expected in weight_sets(model, rule, parity, name):
        logits_expected = expected.pop("logits")
        logits, seen = record(model, poster(depth), images)
        close(logits, logits_expected, 2e-5)
        check_intermediates(seen, expected, late=1e-5)
    close(seen["features"], expected["features"], 2e-5)

    # in the other memory format, from images whose colours are in the other order
    model.bgr = True
    model.to(memory_format=torch.channels_last)
    close(model(images.flip(1).to(memory_format=torch.channels_last)), logits_expected, 2e-5)


@pytest.mark.parametrize("split", [False, True])
def test_ir50_equals_the_official_network(parity: Path, rule: ModuleType, split: bool) -> None:
    model = IR50(split_stages=split)
    spell = split_body if split else str
    assert layout(model) == {spell(name): entry for name, entry in keys(parity, "ir50").items()}
    # the official code reduces its 224 px images by nearest-neighbour interpolation: every second pixel
    images = torch.from_numpy(rule.images(0, 2, 3, 224, 224))[:, :, ::2, ::2]
    for _, expected in weight_sets(model, rule, parity, "ir50"):
        tokens = expected.pop("tokens.first32")
        (_, _, third), seen = record(model, outputs_of(IMAGE_STAGES if split else LAST_UNITS), images)
        check_intermediates(seen, expected, late=0.0)
        # POSTER reads the map's memory as 49 tokens of 1024
        close(third.reshape(2, 49, 1024)[..., :32], tokens, 1e-5 * np.abs(tokens).max())


def test_mobilefacenet_equals_the_official_network(parity: Path, rule: ModuleType) -> None:
    model = MobileFaceNet()
    assert layout(model) == keys(parity, "mobilefacenet")
    for _, expected in weight_sets(model, rule, parity, "mobilefacenet"):
        points = expected.pop("output")
        output, seen = record(model, LANDMARK, torch.from_numpy(rule.images(0, 2, 3, 112, 112)))
        close(output, points, 1e-5 * np.abs(points).max())
        check_intermediates(seen, expected, late=0.0)
