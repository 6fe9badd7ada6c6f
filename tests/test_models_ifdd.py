"""IFDD and its baselines: parity with the official code, trained parts, loaded weights, and support by tools."""

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
import torch.nn.functional as F
import torchvision
from export_tools import check_exports, fold_of
from torch import Tensor, nn
from torchvision.models.video.mvit import MSBlockConfig, MultiscaleBlock

import duchenne.models.ifdd
from duchenne.errors import UserError
from duchenne.export import export
from duchenne.models.backbones import mobilenet_clip, mvit
from duchenne.models.backbones.clip_stem import ClipStem
from duchenne.models.contract import require
from duchenne.models.official import load_official, load_pretrained

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORKS = ("ifdd_3dvit", "ifdd_2dcnn", "mvit_clip", "mobilenetv2_clip")


def exhaustive(name: str):
    return pytest.param(name, marks=pytest.mark.exhaustive)


def build(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **options)


def clips(count: int, frames: int = 16) -> Tensor:
    return torch.rand(count, 3, frames, 224, 224, generator=torch.Generator().manual_seed(0))


def is_ballast(model: nn.Module, name: str) -> bool:
    return name.startswith(getattr(model, "ballast", ()))


# ------------------------------------------------------------------------------------------------------------- parity

BLOCKS, LIFTING = "backbone.backbone.blocks.", "backbone.WaveLifts."
STAGES = {"stage1": 0, "stage2": 2, "stage3": 7}


def output_of(module: str) -> tuple[str, Callable]:
    return module, lambda args, output: output


def input_of(module: str) -> tuple[str, Callable]:
    return module, lambda args, output: args[0]


# name of a recorded value -> module, and how it is read from the module's arguments and output
PLACES = {
    "stem": output_of("embed"),
    **{f"block{i}": (f"{BLOCKS}{i}", lambda args, output: output[0]) for i in range(10)},
    **{stage: (f"{BLOCKS}{i}", lambda args, output: output[0]) for stage, i in STAGES.items()},
    "stage4": output_of("backbone.backbone.norm"),
    "pyramid_stage3": output_of("backbone.PANLayer.0"),
    "X": output_of("backbone.CatConv"),
    "X_S": input_of(LIFTING + "xa_norm"),
    "X_D": input_of(LIFTING + "xd_norm"),
    "X_S_norm": output_of(LIFTING + "xa_norm"),
    "X_D_norm": output_of(LIFTING + "xd_norm"),
    "Y_S": input_of(LIFTING + "kv_a"),
    "Y_D": input_of(LIFTING + "out_norm1"),
    "refine_attn": input_of(LIFTING + "out_norm2"),
    "refine_mlp": output_of(LIFTING + "mlp"),
    "embedding": (LIFTING + "project_compress", lambda args, output: output.squeeze(2)),
}
CHANNEL_FIRST = ("stem", "pyramid_stage3", "X")


def record(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The values of ``PLACES`` and the logits, of the first clip of ``x`` alone."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, read: Callable) -> Callable:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
            value = read(args, output)
            seen[name] = value[: len(value) // len(x)].clone()  # maps of eight frames count as eight

        return hook

    handles = [
        model.get_submodule(path).register_forward_hook(keep(name, read)) for name, (path, read) in PLACES.items()
    ]
    with torch.no_grad():
        seen["logits"] = model(x)[:1]
    for handle in handles:
        handle.remove()
    return seen


def summaries(name: str, value: Tensor) -> dict[str, Tensor]:
    axes = tuple(axis for axis in range(value.ndim) if axis != (1 if name in CHANNEL_FIRST else value.ndim - 1))
    return {
        f"{name}.mean": value.mean(axes),
        f"{name}.std": value.std(),
        f"{name}.first8": value.flatten()[:8],
        f"{name}.shape": torch.tensor(value.shape),
    }


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [("ifdd_3dvit_7cls", {}, 2), ("ifdd_3dvit_evenodd_7cls", {"split": "even_odd"}, 1)],
)
def test_ifdd_3dvit_equals_the_official_network(shared: Path, name: str, options: dict, count: int) -> None:
    """The recorded clip alone, or as the first of two."""
    keys = shared / "parity" / f"{name}.keys.json"
    spec = importlib.util.spec_from_file_location("parity_weights", shared / "parity" / "weights.py")
    rule: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    model = build("ifdd_3dvit", **options).eval()
    layout = {entry: [list(t.shape), str(t.dtype).removeprefix("torch.")] for entry, t in model.state_dict().items()}
    assert layout == json.loads(keys.read_text())
    state = {entry: torch.from_numpy(values) for entry, values in rule.fill(keys).items()}
    assert not load_official(model, state, skip=["*.index_even", "*.index_odd"]).unused

    first = torch.from_numpy(rule.images(0, 1, 3, 16, 224, 224))
    seen = record(model, torch.cat((first, clips(count - 1))))
    with torch.no_grad():
        lifting, clip = model.backbone.WaveLifts, seen["X"][None]
        seen["lift_loss"] = lifting.options.lifting_weight * lifting.context_loss(clip, seen["Y_S"])
        pairs = clip.unflatten(1, (4, 2)).mean(2)
        seen["lift_map"] = (pairs.flatten(3).mean((1, 2)) - seen["Y_S"].unflatten(1, (4, 49)).mean((1, 3))).reshape(
            1, 7, 7
        )
        if not options:
            seen["I_S"], seen["I_D"] = lifting.adapt_split.indices(clip)
            seen["corr"] = duchenne.models.splitting.correlation(lifting.adapt_split.dim_project, clip)
    for place in PLACES:
        seen |= summaries(place, seen[place])

    with np.load(shared / "parity" / f"{name}.expected.npz") as expected:
        for entry in expected.files:
            if "f64" in entry:
                continue
            tolerance = 1e-9 if entry == "lift_loss" else 2e-4
            np.testing.assert_allclose(seen[entry], expected[entry], rtol=1e-4, atol=tolerance, err_msg=entry)
        np.testing.assert_allclose(seen["logits"], expected["logits_f64"], rtol=0, atol=3e-5)


@pytest.mark.parametrize(
    ("name", "options", "total"),
    [
        ("ifdd_3dvit", {}, 37_577_123),
        ("ifdd_3dvit", {"split": "even_odd"}, 37_571_147),
        ("ifdd_3dvit", {"ladm": "none"}, 25_716_900),
        ("ifdd_3dvit", {"frames": 32, "num_classes": 11}, 37_580_199),
        ("mvit_clip", {}, 23_498_887),
    ],
)
def test_parameter_counts_are_the_measured_ones_of_the_official_code(name: str, options: dict, total: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build(name, **options).parameters()) == total


def test_parameter_counts_of_the_reconstructions_are_within_one_per_cent_of_the_printed_ones() -> None:
    for name, printed in (("ifdd_2dcnn", 1.18e6), ("mobilenetv2_clip", 1.55e6)):
        assert sum(p.numel() for p in build(name).parameters()) == pytest.approx(printed, rel=0.0101)


def test_norm_epsilons_and_drop_path_rates() -> None:
    """No output can tell 1e-5 from 1e-6."""
    with torch.device("meta"):
        model = build("ifdd_3dvit")
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert module.eps == (1e-6 if name.startswith("backbone.backbone.") else 1e-5), name
    rates = [block.stochastic_depth.p for block in model.backbone.backbone.blocks]
    assert rates == pytest.approx([0.2 * i / 9 for i in range(10)])
    assert model.backbone.WaveLifts.drop_path.drop_prob == 0.2


# -------------------------------------------------------------------------------------------------------------- input


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("frames", [8, 16, 32])
def test_registered_with_its_input(name: str, frames: int) -> None:
    require(name)
    with torch.device("meta"):
        model = build(name, frames=frames, num_classes=11)
        features = model.eval().forward_features(torch.empty(2, 3, frames, 224, 224))
        assert features.shape == (2, model.num_features)
        assert model.forward_head(features).shape == (2, 11)
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"] == (3, frames, 224, 224)
    assert (config["mean"], config["std"]) == ((0.0,) * 3, (1.0,) * 3)
    assert model.facts.takes == "clip"
    assert model.get_submodule(model.default_cfg["classifier"]).out_features == 11


def test_a_clip_of_32_frames_is_halved_twice() -> None:
    torch.manual_seed(0)
    stem, x = ClipStem(4, 32), clips(1, 32)[..., :32, :32]
    halved = F.conv3d(x, stem.conv_proj.weight, stem.conv_proj.bias, (2, 4, 4), (1, 3, 3))
    torch.testing.assert_close(stem(x), (halved[:, :, 0::2] + halved[:, :, 1::2]) / 2)


def test_other_lengths_and_choices_are_refused() -> None:
    with pytest.raises(UserError, match="frames: 20 is not one of 8, 16, 32"):
        build("ifdd_2dcnn", frames=20)
    with pytest.raises(UserError, match="relation: 'mutual' is not one of"):
        build("ifdd_2dcnn", relation="mutual")


# ----------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name", [exhaustive(name) if name == "mvit_clip" else name for name in NETWORKS])
def test_gradient_reaches_every_parameter_but_the_ballast(name: str) -> None:
    options = {} if name == "mobilenetv2_clip" else {"drop_path_rate": 0.0}
    model = build(name, frames=8, **options).train()
    output = model(clips(1 if "vit" in name else 2, frames=8))
    logits, losses = output if isinstance(output, tuple) else (output, {})
    (F.cross_entropy(logits, torch.arange(len(logits))) + sum(losses.values())).backward()
    assert set(losses) == ({"lifting"} if name.startswith("ifdd") else set())
    for entry, parameter in model.named_parameters():
        if is_ballast(model, entry):
            assert parameter.grad is None or not parameter.grad.any(), entry
        else:
            assert parameter.grad is not None, entry
            assert parameter.grad.isfinite().all(), entry
            assert parameter.grad.any(), entry


@pytest.fixture(scope="module")
def light() -> nn.Module:
    return build("ifdd_2dcnn").eval()


def test_a_sample_alone_gives_what_it_gives_in_a_batch(light: nn.Module) -> None:
    x = clips(2)
    for model in (light, build("mobilenetv2_clip").eval()):
        with torch.no_grad():
            together = model(x)
            torch.testing.assert_close(torch.cat([model(clip[None]) for clip in x]), together, rtol=0, atol=1e-5)
        assert together.std() > 0


def test_logits_are_the_head_of_the_features(light: nn.Module) -> None:
    with torch.no_grad():
        assert torch.equal(light(clips(1)), light.forward_head(light.forward_features(clips(1))))


def test_bfloat16_autocast_gives_finite_losses_and_gradients() -> None:
    model = build("ifdd_2dcnn", frames=8).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits, losses = model(clips(1, frames=8))
        loss = F.cross_entropy(logits, torch.tensor([3])) + losses["lifting"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


# -------------------------------------------------------------------------------------------------------- explanation


def test_explanation_is_the_gradient_of_the_target(light: nn.Module) -> None:
    maps = light.explain(clips(1))
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "attention_static": (1, 4, 7, 7),
        "attention_dynamic": (1, 4, 7, 7),
        "frames_static": (1, 4),
        "frames_dynamic": (1, 4),
    }
    assert all((value >= 0).all() and not value.requires_grad for value in maps.values())
    assert all((maps[f"frames_{half}"] <= 15).all() for half in ("static", "dynamic"))
    assert maps["attention_dynamic"].any()
    assert all(parameter.grad is None for parameter in light.parameters())

    with torch.no_grad():
        predicted = light(clips(1)).argmax(1)
    assert torch.equal(light.explain(clips(1), predicted)["attention_dynamic"], maps["attention_dynamic"])
    other = light.explain(clips(1), (predicted + 1) % 7)
    assert not torch.allclose(other["attention_dynamic"], maps["attention_dynamic"])
    assert torch.equal(other["frames_dynamic"], maps["frames_dynamic"])


def test_frames_of_an_explanation_are_the_middles_of_what_the_stem_joined() -> None:
    maps = build("ifdd_2dcnn", split="even_odd").eval().explain(clips(1))  # each of eight joins two of sixteen frames
    assert maps["frames_static"].tolist() == [[0.5, 4.5, 8.5, 12.5]]
    assert maps["frames_dynamic"].tolist() == [[2.5, 6.5, 10.5, 14.5]]


# ---------------------------------------------------------------------------------------------------- published files


def test_weights_of_torchvision_fit_the_trunks(tmp_path: Path) -> None:
    kinetics = torchvision.models.video.mvit_v2_s().state_dict()
    torch.save(kinetics, tmp_path / "mvit.pth")
    files = dict.fromkeys(("mvit_v2_s", "mvit_v2_s_stem"), tmp_path / "mvit.pth")
    for model in (build("mvit_clip"), build("ifdd_3dvit")):
        reports = load_pretrained(model, files)
        assert not reports["mvit_v2_s"].missing
        assert torch.equal(model.embed.conv_proj.weight, kinetics["conv_proj.weight"])
        trunk = model.backbone if hasattr(model.backbone, "blocks") else model.backbone.backbone
        for block, source in ((0, 0), (7, 7), (8, 14), (9, 15)):
            assert torch.equal(trunk.blocks[block].mlp[0].weight, kinetics[f"blocks.{source}.mlp.0.weight"])

    imagenet = torchvision.models.mobilenet_v2().state_dict()
    trunk = mobilenet_clip.FrameMobileNet()
    assert not load_official(trunk, imagenet, only=trunk.torchvision_entries).missing
    assert torch.equal(trunk.features[12].conv[2].weight, imagenet["features.13.conv.2.weight"])


def test_last_blocks_of_mvit_become_the_last_of_ten() -> None:
    state = {f"blocks.{number}.norm1.weight": torch.tensor(number) for number in range(16)}
    kept = mvit.from_torchvision(state | {"head.1.bias": torch.tensor(0)})
    sources = [0, 1, 2, 3, 4, 5, 6, 7, 14, 15]
    assert kept == {f"blocks.{number}.norm1.weight": torch.tensor(source) for number, source in enumerate(sources)}


@pytest.mark.parametrize("number", [0, 1, 8])
def test_a_block_has_the_output_and_gradients_of_torchvisions(number: int) -> None:
    """Blocks with keys coarser than queries, with a coarser skip connection, and with queries coarser than keys."""
    torch.manual_seed(0)
    _, inputs, outputs, q, kv = mvit.BLOCKS[number]
    setting = MSBlockConfig(2, inputs, outputs, [3] * 3, [3] * 3, [1, q, q], [1, kv, kv])
    options = {"residual_pool": True, "residual_with_cls_embed": False, "rel_pos_embed": True, "proj_after_attn": True}
    theirs, ours = (block([2, 16, 16], setting, **options).double() for block in (MultiscaleBlock, mvit.Block))
    for name, parameter in theirs.named_parameters():
        if "rel_pos" in name:
            nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 1 + 2 * 16 * 16, inputs, dtype=torch.float64, requires_grad=True)
    (expected, size), (found, own_size) = theirs(x, (2, 16, 16)), ours(x, (2, 16, 16))
    assert own_size == size
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    gradients = [
        torch.autograd.grad((y * weight).sum(), (x, *block.parameters()))
        for block, y in ((theirs, expected), (ours, found))
    ]
    for name, one, other in zip(("x", *dict(theirs.named_parameters())), *gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


# -------------------------------------------------------------------------------------------------------------- tools


def test_the_exported_graph_gives_the_same_logits_for_another_batch_size(light: nn.Module) -> None:
    check_exports(light, clips(2), clips(1))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    export(fold_of(build(name), name, tmp_path), "onnx", tmp_path / "network.onnx", preprocess=True)


@pytest.mark.exhaustive
def test_bfloat16_autocast_of_the_large_network() -> None:
    model = build("ifdd_3dvit").eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model(clips(1)).isfinite().all()
