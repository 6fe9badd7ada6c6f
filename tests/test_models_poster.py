"""POSTER as a module: its forms, trained parts, the effect of each ablation, and support by tools."""

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
from timm.layers import DropPath
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from duchenne.errors import UserError
from duchenne.export import export
from duchenne.models.landmark_guided import attend, attention_weights
from duchenne.models.poster import Block, CrossAttention

DEPTHS = {"poster_t": 4, "poster_s": 6, "poster_l": 8}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return lively("poster_t", depth=2).eval()


@pytest.mark.parametrize(
    ("name", "total", "trainable", "used"),
    [
        ("poster_t", 52_229_135, 51_221_887, 39_284_991),
        ("poster_s", 62_039_767, 61_032_519, 49_095_623),
        ("poster_l", 71_850_399, 70_843_151, 58_906_255),
    ],
)
def test_parameter_counts_are_the_measured_ones_of_the_official_code(name, total, trainable, used) -> None:
    assert counts(on_meta(name)) == (total, trainable, used)


@pytest.mark.parametrize(
    ("name", "total"), [("poster_t", 52_107_935), ("poster_s", 61_857_967), ("poster_l", 71_607_999)]
)
def test_affectnet_form_lacks_the_token_convolutions_alone(name: str, total: int) -> None:
    model, parent = on_meta(name, token_conv=False), on_meta(name)
    assert counts(model)[0] == total
    gone = parent.state_dict().keys() - model.state_dict().keys()
    assert len(gone) == DEPTHS[name] * 3 * 2
    assert all(".conv." in entry and entry.startswith("pyramid_fuse.blocks.") for entry in gone)


def test_image_only_has_the_printed_size_within_a_hundredth() -> None:
    model = on_meta("poster_image_only")
    total, trainable, _ = counts(model)
    assert total == trainable == 51_036_787
    assert abs(total / 50.8e6 - 1) < 0.01
    assert not hasattr(model, "face_landback")


def test_norm_epsilons_and_drop_path_rates() -> None:
    """An output cannot tell 1e-5 from 1e-6 in the norms of tokens."""
    for name, depth in DEPTHS.items():
        model = on_meta(name)
        for place, module in model.named_modules():
            if isinstance(module, nn.LayerNorm):
                assert module.eps == 1e-6, place
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert (module.eps, module.momentum) == (1e-5, 0.1), place
        rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
        assert rates == pytest.approx([0.1 * i / (depth - 1) for i in range(depth) for _ in range(3)])


def test_biases_without_effect_are_there() -> None:
    for name, module in on_meta("poster_t").pyramid_fuse.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.ConvTranspose1d)):
            assert module.bias is not None, name


def test_initial_values_are_pytorchs_with_tokens_of_zeros() -> None:
    model = build("poster_t", depth=1)
    assert not model.pyramid_fuse.pos_embed.any()
    assert not model.pyramid_fuse.cls_token.any()
    weight = model.pyramid_fuse.blocks[0].block_l.mlp1.fc1.weight  # uniform in +- 1 / sqrt(512)
    assert weight.abs().max() <= 512**-0.5
    assert weight.std().item() == pytest.approx((512 * 3) ** -0.5, rel=0.01)


def test_registered_with_its_input(model: nn.Module) -> None:
    for name in (*DEPTHS, "poster_image_only"):
        network = on_meta(name)
        config = timm.data.resolve_model_data_config(network)
        assert (config["input_size"], config["mean"]) == ((3, 224, 224), (0.485, 0.456, 0.406))
        assert network.get_submodule(network.default_cfg["classifier"]) is network.head.linear


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": "bgrr"}, r"channels: 'bgrr' is not one of rgb, bgr \(did you mean 'bgr'"),
        ({"pyramid_layers": 5}, "pyramid_layers: 5 is not one of 1, 2, 3, 4"),
        ({"depth": 2, "swapped_blocks": 3}, "swapped_blocks: 3 is not one of None, 0, 1, 2"),
        ({"branches": "landmark"}, "branches: 'landmark' is not one of both, landmark_to_image, image_to_landmark"),
    ],
)
def test_an_impossible_option_is_named(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        on_meta("poster_l", **options)


def test_bgr_form_takes_rgb_images_and_sees_what_opencv_read(model: nn.Module) -> None:
    rgb = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    ours = build("poster_t", depth=2, channels="bgr").eval()
    ours.load_state_dict(model.state_dict())
    config, official = (timm.data.resolve_model_data_config(network) for network in (ours, model))
    with torch.no_grad():
        logits = ours(normalize(rgb, config["mean"], config["std"]))
        as_official = model(normalize(rgb.flip(1), official["mean"], official["std"]))
        torch.testing.assert_close(logits, as_official, rtol=0, atol=1e-6)
        assert (logits - model(normalize(rgb, official["mean"], official["std"]))).abs().max() > 1e-3


def test_gradient_reaches_every_trainable_parameter_but_the_ballast() -> None:
    model = build("poster_t", depth=2, drop_path_rate=0.0).train()
    F.cross_entropy(model(images()), LABELS).backward()
    check_gradients(model)


def test_gradient_reaches_the_whole_image_only_network() -> None:
    model = build("poster_image_only", depth=1, drop_path_rate=0.0).train()
    F.cross_entropy(model(images()), LABELS).backward()
    check_gradients(model)


# option and value -> entries that the parent lacks, and that it alone has, each by a part of their names
ABLATIONS = {
    ("token_conv", False): ((), (".conv.",)),
    ("pyramid_layers", 1): ((), ("block_m", "block_s", "sample_m", "sample_s")),
    ("pyramid_layers", 2): ((), ("block_s", "sample_s")),
    ("pyramid_layers", 4): (("block_xs", "sample_xs"), ()),
    ("swapped_blocks", 0): ((), ()),
    ("swapped_blocks", 1): ((), ()),
    ("branches", "landmark_to_image"): ((), ("attn_lm", "norm3", "mlp2", "norm4")),
    ("branches", "image_to_landmark"): ((), ("attn_img", "norm1", "mlp1", "norm2")),
}


@pytest.mark.parametrize(("option", "value"), ABLATIONS)
def test_ablation_trains_and_changes_what_it_claims(model: nn.Module, option: str, value: object) -> None:
    ablated = build("poster_t", depth=2, drop_path_rate=0.0, **{option: value})
    check_fusion_trains(ablated)

    entries, parent = ablated.pyramid_fuse.state_dict(), model.pyramid_fuse.state_dict()
    for names, parts in zip((entries.keys() - parent, parent.keys() - entries), ABLATIONS[option, value], strict=True):
        assert all(any(part in name for part in parts) for name in names)
        assert all(any(part in name for name in names) for part in parts)
    assert all(entries[name].shape == parent[name].shape for name in entries.keys() & parent)
    ablated.pyramid_fuse.load_state_dict(parent, strict=False)
    with torch.no_grad():
        x = ablated.ir_layer(torch.randn(1, 49, 1024)), torch.randn(1, 49, 512)
        assert (ablated.pyramid_fuse(*x) - model.pyramid_fuse(*x)).abs().max() > 1e-3


def test_widths_of_four_layers() -> None:
    fuse = on_meta("poster_t", depth=1, pyramid_layers=4).pyramid_fuse
    assert [getattr(fuse.blocks[0], f"block_{layer}").norm1.weight.shape[0] for layer in ("l", "m", "s", "xs")] == [
        512,
        256,
        128,
        64,
    ]
    assert fuse.downsample_xs.weight.shape == (100, 100, 8)


@pytest.mark.parametrize(
    ("swap", "updated", "seen"),
    [
        # rows whose output changes with the landmark rows of the input
        (True, (0, 1), {"image", "landmark"}),
        (False, (0, 1), {"landmark"}),
        (True, (0,), {"image", "landmark"}),
        (True, (1,), {"landmark"}),
    ],
)
def test_which_rows_a_block_lets_landmarks_reach(swap: bool, updated: tuple[int, ...], seen: set[str]) -> None:
    torch.manual_seed(0)
    block = Block(64, 2, updated, swap, token_conv=False, drop_path=0.0).eval()
    x, other = torch.randn(1, 100, 64), torch.randn(1, 100, 64)
    other[:, :50] = x[:, :50]
    with torch.no_grad():
        difference = (block(x) - block(other)).abs().amax((0, 2))
        passed = (block(x) == x).all(2)[0]
    reached = {name for name, rows in (("image", difference[:50]), ("landmark", difference[50:])) if rows.all()}
    assert reached == seen
    assert not difference[:50].any() or "image" in seen
    # a stream that is not updated passes as it is
    assert [bool(passed[:50].all()), bool(passed[50:].all())] == [0 not in updated, 1 not in updated]


def test_first_blocks_are_the_ones_that_swap() -> None:
    fuse = on_meta("poster_l", swapped_blocks=2).pyramid_fuse
    assert [block.block_m.swap for block in fuse.blocks] == [True] * 2 + [False] * 6


def test_attention_is_its_weights_times_the_values() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key_value = (torch.randn(shape, generator=generator) for shape in ((2, 5, 8), (2, 6, 16)))
    bias = torch.randn(4, 5, 6, generator=generator)
    weights = attention_weights(query, key_value, 4, bias)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    values = key_value[..., 8:].unflatten(2, (4, 2)).transpose(1, 2)
    by_hand = (weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attend(query, key_value, 4, bias), by_hand)
    with_gradient = attend(query, key_value, 4, bias.clone().requires_grad_())  # computed in another form
    torch.testing.assert_close(with_gradient, by_hand)


def test_explanation_is_the_attention_to_landmark_cells(model: nn.Module) -> None:
    seen: list[Tensor] = []
    layer: CrossAttention = model.pyramid_fuse.blocks[1].block_l.attn_lm
    handle = layer.register_forward_pre_hook(lambda layer, args: seen.append(layer.weights(*args)))
    with torch.no_grad():
        before = model(images())
    handle.remove()
    (weights,) = seen
    shown = model.explain(images())
    assert shown.keys() == {"images", "landmarks"}
    assert shown["landmarks"].shape == (2, 7, 7)
    # cell (row 2, column 3) is token 17, and the class token is in front
    torch.testing.assert_close(shown["landmarks"][:, 2, 3], weights[..., 1 + 17].mean((1, 2)))
    torch.testing.assert_close(shown["landmarks"].sum((1, 2)) + weights[..., 0].mean((1, 2)), torch.ones(2))
    assert not layer._forward_pre_hooks
    with torch.no_grad():
        assert torch.equal(model(images()), before)


def test_attention_to_the_image_weighs_the_channels_of_its_tokens(model: nn.Module, monkeypatch) -> None:
    layer: CrossAttention = model.pyramid_fuse.blocks[1].block_l.attn_img
    share = torch.zeros(2, 8, 50, 50)
    share[..., 0] = 0.4  # the class token, which has no place
    share[0, :, :, 1] = 0.6  # token 0: values 0 to 1023, that is channels 0 to 4 and 44 places of channel 5
    share[1, :, :, 1 + 48] = 0.6  # the last token: the last 44 places of channel 250 are left out
    monkeypatch.setattr(layer, "weights", lambda x, query: share)
    features = torch.zeros(2, 256, 14, 14)
    features[:, 0, 2, 3], features[:, 5, 3, 1] = -3.0, 1.0  # channel 5: place 43 is the last one of token 0
    features[:, 5, 3, 2], features[:, 255, 13, 13] = 7.0, 2.0
    monkeypatch.setattr(model.ir_back, "forward", lambda x: (features,))
    found = model.explain(images())["images"]
    assert found.shape == (2, 14, 14)
    assert found[0, 2, 3] == pytest.approx(0.75)  # 3 of 3 + 1, without sign
    assert found[0, 3, 1] == pytest.approx(0.25)
    assert found[1, 13, 13] == pytest.approx(1)


def test_a_branch_that_is_not_there_is_not_explained() -> None:
    kept = {"landmark_to_image": {"images"}, "image_to_landmark": {"landmarks"}}
    for branch, names in kept.items():
        assert on_meta("poster_t", branches=branch).attentions().keys() == names


def test_landmark_maps_can_be_reused_when_their_norms_stand_still() -> None:
    model = build("poster_t", depth=1, landmark_bn_frozen=True, drop_path_rate=0.0).train()
    assert model.ir_back.training
    assert not model.face_landback.training
    maps_ = model.landmark_maps(images())
    assert torch.equal(model(images(), maps_), model(images()))
    model.landmark_bn_frozen = False
    with pytest.raises(ValueError, match="landmark_bn_frozen=True"):
        model.train()(images(), maps_)


def test_image_tokens_are_consecutive_values_of_the_channel_major_map(model: nn.Module) -> None:
    image_maps, landmark_maps = maps()
    numbered = torch.arange(256.0 * 196).reshape(1, 256, 14, 14).to(memory_format=torch.channels_last)
    seen: list[Tensor] = []
    handle = model.ir_layer.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    with torch.no_grad():
        model.fuse((*image_maps[:2], numbered), tuple(level[:1] for level in landmark_maps))
    handle.remove()
    assert torch.equal(seen[0], torch.arange(49 * 1024.0).reshape(1, 49, 1024))


def test_a_sample_alone_gives_what_it_gives_in_a_batch(model: nn.Module) -> None:
    check_batch(model)


def test_bfloat16_autocast_gives_finite_logits_and_gradients() -> None:
    """Behind the backbones, which POSTER++ shares and whose test runs them in bfloat16."""
    model = build("poster_t", depth=2, drop_path_rate=0.0).train()
    check_bfloat16(model, lambda: model.forward_head(model.fuse(*maps())))


def test_the_exported_graph_gives_the_same_logits_for_another_batch_size() -> None:
    check_exports(lively("poster_t", depth=1).eval(), images(2), images(3))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["poster_t", "poster_image_only"])
def test_onnx_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    export(fold_of(lively(name, depth=1), name, tmp_path, {"depth": 1}), "onnx", tmp_path / "poster.onnx")
