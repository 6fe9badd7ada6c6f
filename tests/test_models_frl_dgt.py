"""FRL-DGT: sizes by hand, the displacement's equations, trained parts, every ablation, and support by tools."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from export_tools import fold_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import duchenne.models.frl_dgt as module
from duchenne.errors import UserError
from duchenne.export import export
from duchenne.faces import regions
from duchenne.models import displacement
from duchenne.models.displacement import DisplacementGenerator, normalise, self_supervised_loss, warp

BARE = {"displacement": "none"}
"""The fusion does not see where its third and fourth channel come from: without a DGM its options are quicker."""
OPTIONS = {
    "default": {},
    "no_dgm": BARE,
    "farneback": {"displacement": "farneback"},
    "dis": {"displacement": "dis"},
    "no_joint": {"joint": False},
    "no_local": BARE | {"local_fusion": False},
    "no_global": BARE | {"global_fusion": False},
    "no_full_face": BARE | {"full_face": False},
    "full_face_alone": BARE | {"local_fusion": False, "global_fusion": False},
    "mean_fusion": BARE | {"fusion": "mean"},
    "surprise": BARE | {"regions": "surprise"},
}


def build(**options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("frl_dgt", num_classes=3, **({"drop_rate": 0.0} | options))


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """Smooth random values in [0, 1] of shape (..., H, W)."""
    coarse = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed)).flatten(0, -4)
    coarse = F.interpolate(coarse[..., ::8, ::8], shape[-2:], mode="bicubic", align_corners=True)
    return coarse.clamp(0, 1).view(shape)


def pairs(model: nn.Module, count: int = 2, seed: int = 0) -> Tensor:
    x = smooth(count, 2, 224, 224, seed=seed)
    return torch.cat((x, 6 * smooth(count, 2, 224, 224, seed=seed + 1) - 3), dim=1) if model.flow else x


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build().eval()


# ------------------------------------------------------------------------------------------------ displacement module


def test_parameters_of_the_dgm_are_those_of_table_1() -> None:
    convolutions = [
        (3 * 3 * 2 + 1) * 32,
        (4 * 4 * 32 + 1) * 64,
        (3 * 3 * 64 + 1) * 64,
        (4 * 4 * 64 + 1) * 128,
        (3 * 3 * 128 + 1) * 128,
        (3 * 3 * 128 + 1) * 128,
        (1 * 1 * 128 + 1) * 64,
        (3 * 3 * 128 + 1) * 64,
        (3 * 3 * 64 + 1) * 64,
        (3 * 3 * 64 + 1) * 2,
    ]
    norms = [2 * width for width in (32, 64, 64, 128, 128, 128, 64, 64, 64)]
    assert (sum(convolutions), sum(norms)) == (616_866, 1_472)
    assert sum(p.numel() for p in DisplacementGenerator(8.0).parameters()) == 618_338


def test_maps_of_the_dgm_are_those_of_table_1() -> None:
    dgm, shapes = DisplacementGenerator(8.0).eval(), {}
    for name, child in dgm.named_children():
        child.register_forward_hook(lambda _, x, y, name=name: shapes.update({name: (x[0].shape[1], *y.shape[1:])}))
    with torch.no_grad():
        assert dgm(torch.rand(1, 2, 224, 224)).shape == (1, 2, 224, 224)
    assert shapes == {
        "conv1": (2, 32, 224, 224),
        "conv2": (32, 64, 112, 112),
        "conv3": (64, 64, 112, 112),
        "conv4": (64, 128, 56, 56),
        "conv5": (128, 128, 56, 56),
        "conv6": (128, 128, 56, 56),
        "conv7": (128, 64, 112, 112),
        "conv8": (128, 64, 112, 112),
        "conv9": (64, 64, 112, 112),
        "conv10": (64, 2, 224, 224),
    }


def test_features_are_dropped_before_the_head_in_training_alone() -> None:
    model, features = build(drop_rate=1.0), torch.rand(2, 512)
    bias = model.head.bias.expand(2, -1)
    assert torch.equal(model.train().forward_head(features), bias)
    assert not torch.equal(model.eval().forward_head(features), bias)


def test_the_displacement_is_bounded_by_its_option_and_starts_near_zero() -> None:
    dgm = DisplacementGenerator(5.0).eval()
    x = torch.rand(1, 2, 32, 32)
    with torch.no_grad():
        assert dgm(x).abs().max() < 0.2
        dgm.conv10.bias.copy_(torch.tensor([50.0, -50.0]))
        torch.testing.assert_close(dgm(x).mean((0, 2, 3)), torch.tensor([5.0, -5.0]))


def test_normalisation_by_hand() -> None:
    field = torch.zeros(3, 2, 4, 4)
    field[0, 0, 0, :3] = torch.tensor([-6.0, 1.0, 5.0])
    field[0, 1, 2, :3] = torch.tensor([4.0, -3.0, 2.0])  # the five largest: 6, 5, 4, 3, 2
    field[1, 0, 0, 0] = 2e-4  # their mean, 0.4e-4, is below the least divisor of 1e-4
    expected = torch.stack((field[0] / 4, field[1] / 1e-4, field[2]))
    torch.testing.assert_close(normalise(field), expected)


@settings(max_examples=25)
@given(st.floats(0.01, 1000), st.integers(0, 1000))
def test_normalisation_takes_the_scale_of_each_sample_away(scale: float, seed: int) -> None:
    field = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(seed))
    factors = torch.tensor([scale, 1.0])[:, None, None, None]
    torch.testing.assert_close(normalise(factors * field), normalise(field), rtol=1e-4, atol=1e-5)


def test_warp_moves_by_whole_and_half_pixels() -> None:
    image = torch.arange(30.0).view(1, 1, 5, 6)
    shift = torch.tensor([2.0, 1.0])[None, :, None, None].expand(1, 2, 5, 6)  # right and down
    moved, inside = warp(image, shift)
    torch.testing.assert_close(moved[..., 1:, 2:], image[..., :-1, :-2])
    assert inside[0, 0, 1:, 2:].all()
    assert not inside[0, 0, 0].any()
    assert not inside[0, 0, :, :2].any()
    half, _ = warp(image, shift / torch.tensor([4.0, 1e9])[None, :, None, None])
    torch.testing.assert_close(half[..., 1:], (image[..., 1:] + image[..., :-1]) / 2)


def test_the_loss_is_lowest_at_the_true_displacement() -> None:
    wide = smooth(1, 1, 96, 96, seed=3)
    true = torch.tensor([2.0, -1.0])[None, :, None, None]  # right and up
    onset, apex = wide[..., 16:80, 16:80], wide[..., 17:81, 14:78]
    pair = torch.cat((onset, apex), dim=1)

    def loss(displacement: Tensor, smoothness: float = 0.03) -> float:
        return self_supervised_loss(pair, displacement.expand(1, 2, 64, 64), smoothness).item()

    best = loss(true)
    assert best < 0.1 * loss(0 * true)
    for step in torch.cartesian_prod(torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([-0.5, 0.0, 0.5])):
        assert not step.any() or loss(true + step[None, :, None, None]) > 1.5 * best
    rough = true + 0.2 * torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    assert loss(rough) > loss(rough, smoothness=0.0) > best


def test_smoothness_costs_less_where_the_apex_has_an_edge() -> None:
    pair = torch.zeros(1, 2, 32, 32)
    pair[..., 16:] = 1
    costs = []
    for column in (8, 16):  # motion begins there: away from the edge, and at it
        field = torch.zeros(1, 2, 32, 32)
        field[:, 1, :, column:] = 1  # along the edge, so that the picture stays as it is
        costs.append(self_supervised_loss(pair, field, 1.0) - self_supervised_loss(pair, field, 0.0))
    # one step of 1 px in each of 32 rows, over 2 components of 32 x 31 pairs of neighbours
    torch.testing.assert_close(costs[0], torch.tensor(1 / 62))
    assert costs[1] < 0.5 * costs[0]


def test_the_loss_of_a_batch_is_the_mean_of_its_pairs() -> None:
    """Whatever the batch, and however many pixels of a pair come from inside the frame."""
    generator = torch.Generator().manual_seed(4)
    pair = torch.rand(4, 2, 32, 32, generator=generator)
    field = torch.tensor([0.0, 4.0, 12.0, 40.0])[:, None, None, None] + torch.rand(4, 2, 32, 32, generator=generator)
    alone = [self_supervised_loss(one, by, 0.03) for one, by in zip(pair.split(1), field.split(1), strict=True)]
    for count in (1, 2, 4):
        torch.testing.assert_close(
            self_supervised_loss(pair[:count], field[:count], 0.03), torch.stack(alone[:count]).mean()
        )


def test_the_dgm_learns_a_shift_that_nobody_labelled() -> None:
    torch.manual_seed(0)
    wide = smooth(4, 1, 48, 48, seed=2)
    pair = torch.cat((wide[..., 8:40, 8:40], wide[..., 8:40, 6:38]), dim=1)  # two px to the right
    dgm = DisplacementGenerator(8.0)
    optimizer = torch.optim.AdamW(dgm.parameters(), 1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        self_supervised_loss(pair, dgm(pair), 0.03).backward()
        optimizer.step()
    found = dgm(pair)[..., 8:-8, 8:-8].mean((0, 2, 3))
    torch.testing.assert_close(found, torch.tensor([2.0, 0.0]), rtol=0, atol=0.5)


# ------------------------------------------------------------------------------------------------------------- regions


def test_the_regions_are_those_of_the_landmark_stage() -> None:
    assert {name: len(centres) for name, centres in module.AU_CENTERS.items()} == regions.REGIONS
    assert list(module.AU_CENTERS) == list(regions.REGIONS)
    assert regions.BOX == module.BOX
    assert set(module.AU_CENTERS) >= {name for names in module.REGION_SETS.values() for name in names}
    numbers = {name: number for number, name in enumerate(module.AU_CENTERS, 1)}
    sets = {name: [numbers[region] for region in names] for name, names in module.REGION_SETS.items()}
    assert sets == {"all": [1, 2, 3, 4, 5, 6], "positive": [1, 3, 5], "surprise": [1, 2, 5, 6]}


def test_boxes_are_cut_about_the_centres_in_patches() -> None:
    model = build(displacement="none")
    centres = torch.full((9, 2), 100.0)
    centres[0] = torch.tensor([60.4, 80.6])
    centres[8] = torch.tensor([112.0, 220.0])  # its box would leave the face
    model.set_au_centers(centres)
    pixels = model.box_pixels()
    assert pixels.shape == (9, 36, 64)
    face = torch.arange(224 * 224).view(224, 224)
    for box, (left, top) in ((0, (36, 57)), (8, (88, 176))):
        for patch in (0, 7, 35):
            x, y = left + 8 * (patch % 6), top + 8 * (patch // 6)
            assert torch.equal(pixels[box, patch], face[y : y + 8, x : x + 8].flatten())


def test_centres_are_saved_with_the_weights_and_checked() -> None:
    model = build(displacement="none")
    model.set_au_centers(torch.full((9, 2), 90.0))
    other = build(displacement="none")
    other.load_state_dict(model.state_dict())
    assert (other.au_centers == 90).all()
    for wrong in (torch.zeros(6, 2), torch.full((9, 2), 300.0), torch.full((9, 2), float("nan"))):
        with pytest.raises(UserError, match=r"must be \(9, 2\) within 0 to 224 px"):
            model.set_au_centers(wrong)


# ------------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize("name", OPTIONS)
def test_every_ablation_takes_a_step_in_which_everything_learns(name: str) -> None:
    model = build(**OPTIONS[name]).train()
    x = pairs(model)
    assert x.shape[1:] == timm.data.resolve_model_data_config(model)["input_size"]
    output = model(x)
    learns_both = name == "default"
    assert isinstance(output, tuple) == learns_both
    logits, losses = output if learns_both else (output, {})
    assert losses.keys() == ({"displacement"} if learns_both else set())
    (F.cross_entropy(logits, torch.tensor([0, 2])) + sum(losses.values())).backward()
    for parameter_name, parameter in model.named_parameters():
        if name == "no_joint" and parameter_name.startswith("dgm."):
            assert parameter.grad is None, parameter_name
        else:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
            assert parameter.grad.any(), parameter_name


def test_the_classification_reaches_the_dgm_only_in_joint_training() -> None:
    model = build(displacement_weight=0.0).train()
    logits, losses = model(pairs(model))
    (F.cross_entropy(logits, torch.tensor([0, 2])) + losses["displacement"]).backward()
    assert all(parameter.grad.any() for parameter in model.dgm.parameters())


def test_a_frozen_dgm_learns_in_its_pre_training_alone() -> None:
    model = build(joint=False).train()
    x = pairs(model)

    def statistics() -> Tensor:
        return torch.cat([buffer.flatten().float() for buffer in model.dgm.buffers()])

    before = statistics()
    model.pretraining_loss(x[..., 96:160, 96:160]).backward()
    assert not torch.equal(statistics(), before)
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {"dgm"}
    after = statistics()
    with torch.no_grad():
        model(x)
    assert torch.equal(statistics(), after)


def test_a_frozen_dgm_sees_each_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displacement, "REMEMBERED", 3)
    model = build(joint=False).train()
    nn.init.normal_(model.dgm.conv10.weight, std=0.1)
    seen: list[int] = []
    model.dgm.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    x = pairs(model, 4)[..., 96:160, 96:160]

    def displacements(*chosen: int) -> int:
        """How many pairs the DGM computed for those chosen; each has its own displacement."""
        seen.clear()
        found, count = model.displacement(x[list(chosen)]), len(seen)
        assert seen == [1] * count
        assert torch.equal(found, torch.cat([model.dgm(x[i : i + 1]) for i in chosen]))
        return count

    with torch.no_grad():
        assert displacements(0, 1, 1, 2) == 3
        assert displacements(0, 2) == 0
        assert displacements(3) == 1  # 1 is forgotten: the one not used for the longest time
        assert displacements(2, 3, 0) == 0
        assert displacements(1) == 1
        model.load_state_dict({name: value * 1.01 for name, value in model.state_dict().items()})
        assert displacements(0) == 1
        model.dgm.load_state_dict(model.dgm.state_dict())  # as packaged weights are loaded
        assert displacements(0) == 1
        model.pretraining_loss(x[:1])
        assert displacements(0) == 1
        seen.clear()
        model.eval().displacement(x)
        assert seen == [4]


def test_without_a_dgm_there_is_no_pre_training() -> None:
    model = build(displacement="none")
    with pytest.raises(UserError, match=r"recipe\.pretrain_epochs to 0"):
        model.pretraining_loss(pairs(model))


def test_flow_enters_by_its_direction_and_not_by_its_scale() -> None:
    model = build(displacement="dis").eval()
    x = pairs(model)
    scale = torch.tensor([1, 1, 3, 3])[:, None, None]
    turn = torch.tensor([1, 1, -1, 1])[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(model(scale * x), model(x), rtol=0, atol=1e-5)
        assert (model(turn * x) - model(x)).abs().max() > 1e-3


def test_logits_are_the_head_of_the_features_and_alone_as_in_a_batch(model: nn.Module) -> None:
    x = pairs(model, 3)
    with torch.no_grad():
        features, logits = model.forward_features(x), model(x)
        assert features.shape == (3, model.num_features) == (3, 512)
        assert torch.equal(model.forward_head(features), logits)
        alone = torch.cat([model(one) for one in x.split(1)])
    assert logits.std(0).max() > 1e-3
    torch.testing.assert_close(alone, logits, rtol=0, atol=1e-5)


def test_explanations_are_shares_of_the_attention_in_their_places(model: nn.Module) -> None:
    x = pairs(model)
    maps = model.explain(x)
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "displacement": (2, 2, 224, 224),
        "local": (2, 224, 224),
        "global": (2, 224, 224),
        "full_face": (2, 224, 224),
    }
    outside = torch.ones(224 * 224, dtype=torch.bool)
    outside[model.box_pixels().flatten()] = False
    assert not maps["local"].flatten(1)[:, outside].any()
    weights = model.fuse(x, model.displacement(x))[1]["full_face"]
    torch.testing.assert_close(maps["full_face"].mean((1, 2)), torch.ones(2))
    torch.testing.assert_close(maps["full_face"][:, 20, 40] / 196, weights[:, 14 + 2])  # second row, third column


def test_where_boxes_overlap_their_weights_are_averaged(monkeypatch) -> None:
    model = build(displacement="none", full_face=False, regions="positive").eval()  # two eyes, two cheeks, the mouth
    centres = model.au_centers.clone()
    centres[model.boxes] = torch.tensor([[50.0, 50], [74, 50], [150, 50], [150, 150], [50, 150]])
    model.set_au_centers(centres)
    local = torch.full((1, 5, 36), 1 / 36)
    local[0, 0] = torch.arange(36) / 630  # patch 5 is the last of the first row: x from 66, y from 26 px
    weights = {"local": local, "global": torch.tensor([[0.4, 0.2, 0.2, 0.1, 0.1]])}
    monkeypatch.setattr(model, "fuse", lambda x, displacement: (x, weights))
    maps = model.explain(torch.zeros(1, 2, 224, 224))
    alone, both, other, nowhere = (30, 30), (30, 70), (30, 90), (110, 110)  # down, across; px
    first = 36 * 5 / 630  # what the first box has at the second place; the second box has 1 everywhere
    for place, expected in {alone: 0, both: (first + 1) / 2, other: 1, nowhere: 0}.items():
        assert maps["local"][0][place].item() == pytest.approx(expected, abs=1e-6)
    for place, expected in {alone: 0, both: (2 * first + 1) / 2, other: 1, nowhere: 0}.items():  # 5 boxes: 0.4 is twice
        assert maps["global"][0][place].item() == pytest.approx(expected, abs=1e-6)
    assert maps["global"][0, 150, 150].item() == pytest.approx(0.5)
    assert maps["global"].max() <= max(2 * 36 * 35 / 630, 1) + 1e-6  # never more than the largest patch has


def test_explanations_of_a_network_without_parts() -> None:
    model = build(displacement="none", fusion="mean", full_face=False).eval()
    maps = model.explain(pairs(model))
    assert maps.keys() == {"local", "global"}
    shares = model.fuse(pairs(model), None)[1]["global"]
    torch.testing.assert_close(shares, torch.full((2, 9), 1 / 9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"displacement": "raft"}, "displacement is 'raft': give one of dgm, none, farneback, dis"),
        ({"fusion": "max"}, "fusion is 'max': give one of learned, mean"),
        ({"regions": "negative"}, "regions is 'negative': give one of all, positive, surprise"),
        ({"local_fusion": False, "global_fusion": False, "full_face": False}, "all off: leave one on"),
    ],
)
def test_an_option_that_cannot_be_is_one_error(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**options)


def test_bfloat16_autocast_gives_finite_losses_and_gradients() -> None:
    model = build().train()
    with torch.autocast("cpu", torch.bfloat16):
        logits, losses = model(pairs(model, 1))
        loss = F.cross_entropy(logits, torch.tensor([2])) + losses["displacement"]
    loss.backward()
    assert losses["displacement"].dtype == torch.float32
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("displacement", ["dgm", pytest.param("dis", marks=pytest.mark.exhaustive)])
def test_onnx_gives_the_same_logits(displacement: str, tmp_path: Path) -> None:
    options = {"displacement": displacement}
    fold = fold_of(build(**options), "frl_dgt", tmp_path, options)
    export(fold, "onnx", tmp_path / "frl_dgt.onnx", half=True, preprocess=displacement == "dgm")
    assert (tmp_path / "frl_dgt.onnx").stat().st_size < 0.6 * (fold / "weights.safetensors").stat().st_size
