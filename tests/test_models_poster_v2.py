"""POSTER++ as a module: trained, frozen and reusable parts, and support by tools."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from export_tools import check_exports, fold_of
from poster_tools import (
    LABELS,
    build,
    check_batch,
    check_bfloat16,
    check_fusion_trains,
    check_gradients,
    counts,
    images,
    lively,
    maps,
    on_meta,
)
from torch import Tensor, nn

from duchenne.errors import UserError
from duchenne.export import export
from duchenne.models.backbones.ir50 import IR50
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.models.contract import require


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return lively("poster_v2").eval()


def test_registered_with_its_input(model: nn.Module) -> None:
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"] == (3, 224, 224)
    assert config["mean"] == (0.485, 0.456, 0.406)
    assert config["std"] == (0.229, 0.224, 0.225)
    assert config["crop_pct"] == 1.0
    assert model.get_submodule(model.default_cfg["classifier"]) is model.VIT.head.linear
    require("poster_v2")


def test_a_misspelt_network_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"'postr_v2' \(did you mean 'poster_v2'"):
        require("postr_v2")


@pytest.mark.parametrize(
    ("classes", "total", "trainable", "used"),
    [(7, 58_316_594, 57_309_346, 43_753_941), (8, 58_317_363, 57_310_115, 43_754_710)],
)
def test_parameter_counts_are_the_measured_ones_of_the_official_code(classes, total, trainable, used) -> None:
    assert counts(on_meta("poster_v2", num_classes=classes)) == (total, trainable, used)


def test_parameter_counts_of_the_backbones() -> None:
    assert sum(p.numel() for p in IR50(split_stages=True).parameters()) == 30_459_584
    assert sum(p.numel() for p in MobileFaceNet().parameters()) == 1_007_248


def test_norm_epsilons(model: nn.Module) -> None:
    """An output cannot tell 1e-5 from 1e-6 in the window and feed-forward norms."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.LayerNorm, nn.modules.batchnorm._BatchNorm)):
            assert module.eps == (1e-6 if name.startswith("VIT.") else 1e-5), name
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.momentum == 0.1


def test_drop_path_rates_are_the_first_three_of_five_even_steps() -> None:
    rates = [module.drop_prob for module in on_meta("poster_v2").modules() if isinstance(module, timm.layers.DropPath)]
    assert rates == [0.0, 0.125, 0.25]


def test_gradient_reaches_every_trainable_parameter_but_the_ballast() -> None:
    model = build("poster_v2", drop_path_rate=0.0).train()
    F.cross_entropy(model(images()), LABELS).backward()
    check_gradients(model)


# option and value -> entries that the parent lacks, and that it alone has, each by a part of their names
ABLATIONS = {
    ("vit_depth", 4): (("VIT.blocks.2.", "VIT.blocks.3."), ()),
    ("vit_depth", 0): (
        (),
        ("cls_token", "pos_embed", "VIT.blocks.", "patch_embed", "CON1", "IRLinear1", "IRLinear2", "eca_block"),
    ),
    ("multi_scale", False): (
        (),
        ("embed_q.", "embed_k.", *(f"{part}{i}." for part in ("conv", "window", "attn", "ffn") for i in (1, 2))),
    ),
    ("fusion", "vanilla"): ((), ("relative_position_bias_table", "relative_position_index")),
    ("fusion", "none"): ((), ("window", "attn1", "attn2", "attn3", "ffn")),
}
TOKENS = {("multi_scale", False): 49, ("fusion", "none"): 6 * 49}


@pytest.mark.parametrize(("option", "value"), ABLATIONS)
def test_ablation_trains_and_changes_what_it_claims(model: nn.Module, option: str, value: object) -> None:
    ablated = build("poster_v2", drop_path_rate=0.0, **{option: value})
    check_fusion_trains(ablated)

    entries, parent = ablated.state_dict(), model.state_dict()
    for names, parts in zip((entries.keys() - parent, parent.keys() - entries), ABLATIONS[option, value], strict=True):
        assert all(any(part in name for part in parts) for name in names)
        assert all(any(part in name for name in names) for part in parts)
    resized = {name for name in entries.keys() & parent if entries[name].shape != parent[name].shape}
    count = TOKENS.get((option, value), 147)
    if count == 147:
        assert not resized
    else:  # what is sized by the number of tokens, of which all but one come from maps
        assert resized == {"VIT.pos_embed", *(f"VIT.blocks.{i}.conv.{w}" for i in (0, 1) for w in ("weight", "bias"))}
        assert entries["VIT.pos_embed"].shape == (1, 1 + count, 768)

    ablated.load_state_dict({name: parent[name] for name in (entries.keys() & parent) - resized}, strict=False)
    with torch.no_grad():
        assert (ablated.fuse(*maps()) - model.fuse(*maps())).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "felt"), [({}, {1, 2, 3}), ({"multi_scale": False}, {3}), ({"fusion": "none"}, {1, 2, 3})]
)
def test_which_scales_are_read(options: dict, felt: set[int]) -> None:
    model = lively("poster_v2", **options).eval()
    (image_maps, landmark_maps), (other_images, other_landmarks) = maps(0), maps(1)
    with torch.no_grad():
        before = model.fuse(image_maps, landmark_maps)
        for scale in (1, 2, 3):
            for replaced in (
                model.fuse((*image_maps[: scale - 1], other_images[scale - 1], *image_maps[scale:]), landmark_maps),
                model.fuse(
                    image_maps, (*landmark_maps[: scale - 1], other_landmarks[scale - 1], *landmark_maps[scale:])
                ),
            ):
                assert torch.equal(replaced, before) == (scale not in felt)


def test_without_a_transformer_the_scales_are_summed() -> None:
    model = build("poster_v2", vit_depth=0).eval()
    x = torch.randn(1, 147, 768)
    swapped = torch.cat((x[:, 98:], x[:, 49:98], x[:, :49]), dim=1)
    with torch.no_grad():
        expected = model.VIT.norm((x[:, :49] + x[:, 49:98] + x[:, 98:]).mean(1))
        torch.testing.assert_close(model.VIT(x), model.VIT.se_block(expected))
        torch.testing.assert_close(model.VIT(swapped), model.VIT(x))


def test_an_impossible_option_is_named() -> None:
    with pytest.raises(UserError, match="fusion: 'windows' is not one of window, vanilla, none"):
        on_meta("poster_v2", fusion="windows")


def test_explanation_is_the_attention_to_image_cells(model: nn.Module) -> None:
    seen: list[Tensor] = []
    handle = model.attn2.register_forward_pre_hook(lambda layer, args: seen.append(layer.weights(*args)))
    with torch.no_grad():
        model(images())
    handle.remove()
    shown = model.explain(images())
    assert {name: tuple(share.shape) for name, share in shown.items()} == {
        "scale1": (2, 28, 28),
        "scale2": (2, 14, 14),
        "scale3": (2, 7, 7),
    }
    for share in shown.values():
        torch.testing.assert_close(share.sum((1, 2)), torch.ones(2))
    torch.testing.assert_close(shown["scale2"][:, 5, 3], seen[0][..., 5 * 14 + 3].mean((1, 2)))


def test_a_sample_alone_gives_what_it_gives_in_a_batch(model: nn.Module) -> None:
    check_batch(model)


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
    model = lively("poster_v2", drop_path_rate=0.0)
    gradients, logits = [], []
    for full in (False, True):
        model.VIT.full_last_block = full
        model.zero_grad()
        output = model.forward_head(model.fuse(*maps()))
        F.cross_entropy(output, LABELS).backward()
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
    model = build("poster_v2").train()
    before = landmark_buffers(model)
    model(images())
    assert changed(before, landmark_buffers(model))
    with pytest.raises(ValueError, match="landmark_bn_frozen=True"):
        model(images(), model.landmark_maps(images()))


def test_frozen_landmark_statistics_stay_and_maps_can_be_reused() -> None:
    model = build("poster_v2", landmark_bn_frozen=True, drop_path_rate=0.0).train()
    assert model.training
    assert model.ir_back.training
    before = landmark_buffers(model)
    maps = model.landmark_maps(images())
    assert not any(level.requires_grad for level in maps)
    assert torch.equal(model(images(), maps), model(images()))
    assert not changed(before, landmark_buffers(model))
    assert not model.eval().train().face_landback.training


def test_bfloat16_autocast_gives_finite_logits_and_gradients() -> None:
    """The backbones read small images, which take all their layers: bfloat16 is slow where it is emulated."""
    model = build("poster_v2", drop_path_rate=0.0, vit_depth=1).train()
    check_bfloat16(model, lambda: model.forward_head(model.fuse(*maps())))
    x = images()[:, :, :32, :32]
    check_bfloat16(model.ir_back, lambda: model.ir_back(x)[2].mean((2, 3)))
    with torch.autocast("cpu", torch.bfloat16):
        assert all(level.isfinite().all() for level in model.face_landback.forward_features(x))


def test_the_exported_graph_gives_the_same_logits_for_another_batch_size(model: nn.Module) -> None:
    check_exports(model, images(2), images(3))


@pytest.mark.exhaustive
def test_onnx_gives_the_same_logits(model: nn.Module, tmp_path: Path) -> None:
    fold = fold_of(model, "poster_v2", tmp_path)
    export(fold, "onnx", tmp_path / "poster_v2.onnx", half=True, preprocess=True)
