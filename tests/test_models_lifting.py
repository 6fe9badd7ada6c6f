"""IFDD's lifting on clips of features: every option to split, update and predict follows its description."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from duchenne.errors import UserError
from duchenne.models.batch import part_of_batch
from duchenne.models.lifting import LiftingOptions, WaveletLifting
from duchenne.models.splitting import Pair, interpolation

CHANNELS, FRAMES = 32, 8


def lifting(seed: int = 0, **options) -> WaveletLifting:
    """Under weights that make every part felt, offsets of the indices included."""
    torch.manual_seed(seed)
    module = WaveletLifting(CHANNELS, FRAMES, heads=8, drop_path_rate=0.0, options=LiftingOptions(**options))
    with torch.no_grad():
        for name, parameter in module.adapt_split.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 1 if "offset" in name else parameter.shape[1] ** -0.5)
    return module.eval()


def clip(count: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(count, FRAMES, CHANNELS, 7, 7, generator=torch.Generator().manual_seed(seed))


def halves(module: WaveletLifting, x: Tensor) -> Pair:
    return module.halves(x, module.adapt_split(x))


def tokens(frames: Tensor) -> Tensor:
    return frames.flatten(3).transpose(2, 3).flatten(1, 2)


SPLITS = ("correlation_interp", "entire_interp", "entire_interp_code")
INDICES = [{"split": split, "issm": form} for split in SPLITS for form in ("code", "paper")]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("split", "even-odd", r"split: 'even-odd' is not one of .*did you mean 'even_odd'"),
        ("context_loss", "tc", "context_loss: 'tc' is not one of TC, THWC, none"),
        ("ladm", False, "ladm: False is not one of code, paper, none"),
    ],
)
def test_an_unknown_choice_is_refused(option: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LiftingOptions(**{option: value})


# ---------------------------------------------------------------------------------------------------------- splitting


def test_reading_as_the_code_is_its_mismatched_grid_sampling() -> None:
    x = clip(3)
    index = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) * 12 - 2
    rows = x.flatten(2).transpose(1, 2)[:, :, None]  # (B, values, 1, T): a picture one row high
    grid = torch.stack((2 * index / (FRAMES - 1) - 1, torch.zeros_like(index)), dim=2)[:, None]
    sampled = F.grid_sample(rows, grid, padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(interpolation(index, FRAMES, "code") @ x.flatten(2), sampled, rtol=0, atol=1e-5)


def test_reading_as_the_paper_at_hand_computed_indices() -> None:
    index = torch.tensor([[-1.0, 3.0, 4.25, 9.0]])
    expected = torch.zeros(1, 4, FRAMES)
    expected[0, 0, 0] = expected[0, 1, 3] = expected[0, 3, 7] = 1  # outside: the nearest; whole: the frame itself
    expected[0, 2, 4], expected[0, 2, 5] = 0.75, 0.25
    torch.testing.assert_close(interpolation(index, FRAMES, "paper"), expected)


@given(st.lists(st.floats(-20, 30, width=32), min_size=1, max_size=6), st.sampled_from(["code", "paper"]))
def test_reading_is_a_mean_of_at_most_two_neighbouring_frames(index: list[float], form: str) -> None:
    matrix = interpolation(torch.tensor([index]), FRAMES, form)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(2), torch.ones(1, len(index)))
    for row in matrix[0]:
        used = row.nonzero().flatten()
        assert len(used) <= 2
        assert used[-1] - used[0] <= 1


def test_even_odd_takes_the_frames_as_they_are() -> None:
    static, dynamic = halves(lifting(split="even_odd"), clip())
    assert torch.equal(static, tokens(clip()[:, 0::2]))
    assert torch.equal(dynamic, tokens(clip()[:, 1::2]))


@pytest.mark.parametrize("options", INDICES)
@pytest.mark.parametrize(
    ("init_index", "starts"), [("even_odd", ((0, 2, 4, 6), (1, 3, 5, 7))), ("midpoint", ((4,) * 4, (4,) * 4))]
)
def test_indices_leave_their_start_in_proportion_to_the_range(options: dict, init_index: str, starts: tuple) -> None:
    near, far = (
        lifting(**options, init_index=init_index, offset_range=limit).adapt_split.indices(clip(16))
        for limit in (1.0, 4.0)
    )
    for one, four, start in zip(near, far, map(torch.tensor, starts), strict=True):
        assert ((one - start).abs() < 1).all()
        assert (one.std(0) > 0).all()  # they follow the clip
        torch.testing.assert_close(four - start, 4 * (one - start), rtol=0, atol=1e-5)


def test_correlation_does_not_see_where_in_the_picture_something_happens() -> None:
    """The entire features do: that is what Table 2 compares."""
    x, order = clip(), torch.randperm(49, generator=torch.Generator().manual_seed(0))
    shuffled = x.flatten(3)[..., order].unflatten(3, (7, 7))
    for split, sees in (("correlation_interp", False), ("correlation_weight", False), ("entire_interp", True)):
        before, after = (lifting(split=split).adapt_split(y)[0] for y in (x, shuffled))
        assert torch.allclose(before, after, atol=1e-4) != sees, split


@pytest.mark.parametrize("form", ["code", "paper"])
def test_weights_mix_all_frames(form: str) -> None:
    for matrix in lifting(split="correlation_weight", issm=form).adapt_split(clip()):
        assert matrix.shape == (2, 4, FRAMES)
        assert (matrix > 0).all()
        torch.testing.assert_close(matrix.sum(2), torch.ones(2, 4))


def test_offsets_of_convolutions_by_hand() -> None:
    """The official class adaptIndexSplit_dimLearn, frame by frame."""
    module, x = lifting(split="entire_interp_code", offset_range=2.0).adapt_split, clip(1)
    narrow, _, down, _ = module.frame_project
    frames = []
    for frame in x[0]:
        reduced = F.gelu(torch.einsum("dc,chw->dhw", narrow.weight[:, :, 0, 0], frame) + narrow.bias[:, None, None])
        cells = F.gelu(F.conv2d(reduced[None], down.weight, down.bias, stride=2, padding=1))
        assert cells.shape == (1, CHANNELS // 8, 4, 4)
        frames.append(cells.flatten())
    nothing = torch.zeros_like(frames[0])
    padded = [nothing, *frames, nothing]
    taps, bias = module.time_convolution[0].weight[0], module.time_convolution[0].bias[0]
    numbers = torch.stack([F.gelu(sum(padded[t + k] @ taps[:, k] for k in range(3)) + bias) for t in range(FRAMES)])
    offsets = 2 * torch.tanh(module.offset_project.weight @ numbers)
    static, dynamic = module.indices(x)
    torch.testing.assert_close(static[0], torch.tensor([0.0, 2, 4, 6]) + offsets[:4], rtol=0, atol=1e-5)
    torch.testing.assert_close(dynamic[0], torch.tensor([1.0, 3, 5, 7]) + offsets[4:], rtol=0, atol=1e-5)


def test_weights_by_attention_by_hand() -> None:
    """The official class adaptIndexSplit_dotsim_weightedScore, query by query."""
    lift, x = lifting(split="correlation_weight_code"), clip(1)
    module = lift.adapt_split
    means = torch.stack([torch.cat((frame.mean((1, 2)), frame.amax((1, 2)))) for frame in x[0]])
    frames = [torch.zeros(CHANNELS), *module.frame_project(means)]
    keys = torch.stack([module.key(frame) for frame in frames[1:]])
    expected = torch.empty(2, 4, FRAMES)
    for i in range(4):  # a stride of 2 over frames 2 i - 1 to 2 i + 1
        query = sum(module.query.weight[:, :, k] @ frames[2 * i + k] for k in range(3)) + module.query.bias
        for half, own in enumerate(query.split(CHANNELS)):
            expected[half, i] = torch.softmax(keys @ own / CHANNELS, 0)
    matrices = module(x)
    torch.testing.assert_close(torch.cat(matrices), expected, rtol=0, atol=1e-5)

    patches = tokens(x)[0]
    query, key, value = (part.unflatten(1, (4, -1)) for part in module.qkv(patches).chunk(3, dim=1))
    weights = torch.softmax(torch.einsum("qhc,khc->hqk", query, key) / CHANNELS, 2)
    found = torch.einsum("hqk,khc->qhc", weights, value).flatten(1)
    read = module.mlp(module.norm(patches + module.attended(found))).unflatten(0, (FRAMES, 49))
    projects = (module.project_approx, module.project_detail)
    for half, matrix, project in zip(lift.halves(x, matrices), expected, projects, strict=True):
        by_hand = project(torch.einsum("it,tnc->inc", matrix, read)).flatten(0, 1)
        torch.testing.assert_close(half[0], by_hand, rtol=0, atol=1e-5)


def test_paper_tokens_know_the_number_of_their_frame() -> None:
    module = lifting(issm="paper").adapt_split.dim_project
    with torch.no_grad():
        module.bias.normal_()
    still = clip()[:, :1].expand(-1, FRAMES, -1, -1, -1)
    z = module(still.flatten(0, 1)).unflatten(0, (2, FRAMES))
    assert z.shape == (2, FRAMES, 128)
    assert (z[:, 1:] - z[:, :1]).abs().amax((0, 2)).min() > 0.1


# ------------------------------------------------------------------------------------------------------------ lifting


def silence(module: WaveletLifting, half: str) -> WaveletLifting:
    """Updater (a) or predictor (d) gives zeros."""
    for parameter in module.get_submodule(f"project_{half}").parameters():
        torch.nn.init.zeros_(parameter)
    return module


def normed(module: WaveletLifting, x: Tensor) -> Pair:
    static, dynamic = halves(module, x)
    return module.xa_norm(static), module.xd_norm(dynamic)


def test_without_updater_and_predictor_the_halves_pass() -> None:
    for form, expected in (("code", normed), ("paper", halves)):
        module = silence(silence(lifting(ladm=form), "a"), "d")
        for ours, half in zip(module.lift(*halves(module, clip())), expected(module, clip()), strict=True):
            assert torch.equal(ours, half)


def test_the_second_step_sees_what_the_first_one_made() -> None:
    for order, first, second in (("update_predict", 0, 1), ("predict_update", 1, 0)):
        module = lifting(order=order)
        full = module.lift(*halves(module, clip()))
        without = silence(module, "ad"[first]).lift(*halves(module, clip()))
        assert not torch.allclose(full[second], without[second], atol=1e-3), order
        assert torch.equal(without[first], normed(module, clip())[first])
        module = silence(lifting(order=order), "ad"[second])
        assert torch.equal(module.lift(*halves(module, clip()))[first], full[first])


@pytest.mark.parametrize("relation", ["self_transformer", "self_cnn"])
@pytest.mark.parametrize(("order", "second"), [("update_predict", 1), ("predict_update", 0)])
def test_the_second_step_of_a_half_alone_sees_it_as_split_in_the_text_alone(
    relation: str, order: str, second: int
) -> None:
    """P(X_S|X_S) in the paper, P(Y_S|Y_S) in its code: what the first step gives matters to the second, or not."""
    for name, sees in ((relation, False), (f"{relation}_code", True)):
        module = lifting(relation=name, order=order)
        full = module.lift(*halves(module, clip()))[second]
        first = module.get_submodule(("project_" if "transformer" in name else "cnn_") + "ad"[1 - second])
        for parameter in first.parameters():
            torch.nn.init.zeros_(parameter)
        assert torch.equal(module.lift(*halves(module, clip()))[second], full) != sees


def test_the_official_class_of_convolutions_by_hand() -> None:
    """WaveSF_CNN: raw halves, slow BatchNorm, and nothing between Y_D and its weighted sum."""
    module, x = lifting(relation="self_cnn_code", split="even_odd"), clip()
    norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm3d)]
    assert [(layer.eps, layer.momentum) for layer in norms] == [(1e-3, 1e-3)] * 4
    even, odd = (part.transpose(1, 2) for part in (x[:, 0::2], x[:, 1::2]))  # (B, C, T/2, 7, 7)
    static = even + module.cnn_a(odd)
    dynamic = odd - module.cnn_d(static)
    expected = dynamic.flatten(2) @ module.project_compress.weight[0]
    features, losses = module.train(False)(x)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert not losses
    names = {name.split(".")[0] for name, _ in module.named_parameters()}
    assert names == {"cnn_a", "cnn_d", "project_compress"}


@pytest.mark.parametrize("form", ["code", "paper"])
def test_only_the_mutual_relation_looks_at_the_half_it_changes(form: str) -> None:
    x, other = tokens(clip()[:, :4]), tokens(clip(seed=5)[:, :4])
    alone = ("self_transformer", "self_transformer_code", "self_cnn", "self_cnn_code")
    for relation, mutual in (("mutual_transformer", True), *((name, False) for name in alone)):
        module = lifting(relation=relation, ladm=form)
        for half in "ad":
            estimates = [module._estimate(half, x, target) for target in (x, other)]
            assert torch.allclose(*estimates, atol=1e-5) != mutual, relation


def test_values_are_added_to_the_attention_in_the_code_alone() -> None:
    """With equal tokens attention gives the value back, whatever the query."""
    source = torch.randn(1, 1, CHANNELS, generator=torch.Generator().manual_seed(2)).expand(-1, 196, -1)
    target = tokens(clip(1)[:, :4])
    for form, times in (("code", 2), ("paper", 1)):
        module = lifting(ladm=form)
        value = module.kv_d(source)[..., CHANNELS:]
        expected = module.project_a(times * value)
        torch.testing.assert_close(module._estimate("a", source, target), expected, rtol=1e-4, atol=1e-5)


def test_without_ladm_the_feature_is_a_weighted_sum_of_the_dynamic_half() -> None:
    module = lifting(ladm="none").train()
    features, losses = module(clip())
    _, dynamic = halves(module, clip())
    expected = torch.einsum("n,bnc->bc", module.project_compress.weight[0], dynamic) + module.project_compress.bias
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert not losses


# --------------------------------------------------------------------------------------------------------------- loss


def test_context_loss_of_hand_computed_differences() -> None:
    """X is 3 in the even and 5 in the odd frames, so 4 on average; sample 0 differs by 0.5, sample 1 by 3."""
    x = torch.full((2, FRAMES, CHANNELS, 7, 7), 3.0)
    x[:, 1::2] = 5
    static = torch.stack((torch.full((196, CHANNELS), 3.5), torch.full((196, CHANNELS), 7.0)))
    for choice in ("TC", "THWC"):
        loss = lifting(context_loss=choice).context_loss(x, static)
        torch.testing.assert_close(loss, torch.tensor(0.5 * 0.5**2 + (3 - 0.5)))


def test_context_loss_ignores_what_cancels_over_its_axes() -> None:
    x = torch.zeros(1, FRAMES, CHANNELS, 7, 7)
    static = torch.ones(1, 4, 49, CHANNELS)
    static[:, :, :, ::2] *= -1  # cancels over the channels of every cell
    assert lifting(context_loss="TC").context_loss(x, static.flatten(1, 2)) == 0
    assert lifting(context_loss="THWC").context_loss(x, static.flatten(1, 2)) == 0.5


def test_context_loss_of_areas_by_hand() -> None:
    """One cell differs by 1: of 49 cells by itself, or as a ninth of one of nine areas of 3 x 3 cells."""
    x, static = torch.zeros(1, FRAMES, CHANNELS, 7, 7), torch.zeros(1, 4, 49, CHANNELS)
    static[:, :, 0] = 1
    for relation, expected in (("self_transformer", 0.5 / 49), ("self_transformer_code", 0.5 / 81 / 9)):
        loss = lifting(relation=relation).context_loss(x, static.flatten(1, 2))
        assert loss.item() == pytest.approx(expected)


PAPER_LOSS = {"lifting_weight": 1.0, "lifting_reduction": "mean"}
CODE_LOSS = {"lifting_weight": 0.1, "lifting_reduction": "sum"}


@pytest.mark.parametrize("count", [1, 4, 16])
def test_weight_of_the_loss_beside_the_cross_entropy(count: int) -> None:
    """Every clip differs by 0.5, which is a loss of 0.125; seven equal logits have a cross-entropy of ln 7.

    Eq. 9 adds both over the clips, so that their ratio is that of one clip. In the code it grows with the batch.
    """
    x = torch.zeros(count, FRAMES, CHANNELS, 7, 7)
    static = torch.full((count, 196, CHANNELS), 0.5)
    entropy = F.cross_entropy(torch.zeros(count, 7), torch.arange(count) % 7)
    for options, weight in ((PAPER_LOSS, 1.0), (CODE_LOSS, 0.1 * count)):
        module = lifting(**options)
        ratio = module.options.lifting_weight * module.context_loss(x, static) / entropy
        assert ratio.item() == pytest.approx(weight * 0.125 / math.log(7))


def test_loss_is_given_in_training_alone_weighted_and_reduced() -> None:
    x = clip(1)
    for options, times in ((PAPER_LOSS, 1), (CODE_LOSS, 4)):
        module = lifting(**options)
        assert not module(x)[1]
        one, four = (module.train()(y)[1]["lifting"] for y in (x, x.expand(4, -1, -1, -1, -1)))
        assert one > 0
        torch.testing.assert_close(four, times * one)
    assert torch.equal(lifting().train()(x)[1]["lifting"], one)  # the default is the code
    heavy = lifting(lifting_weight=1.0).train()(x)[1]["lifting"]
    torch.testing.assert_close(heavy, 10 * one)
    assert not lifting(context_loss="none").train()(x)[1]


@pytest.mark.parametrize("options", [PAPER_LOSS, CODE_LOSS], ids=["paper", "code"])
def test_processes_that_share_a_batch_have_the_loss_of_all_of_it(options: dict) -> None:
    module, x, static = lifting(**options), clip(4), tokens(clip(4, seed=9)[:, :4])
    whole, shared = module.context_loss(x, static), 0
    for part in zip(x.split((3, 1)), static.split((3, 1)), strict=True):
        with part_of_batch(len(part[0]), 4):
            shared += (
                module.context_loss(*part) * len(part[0]) / 4
            )  # the mean over the samples, as the trainer takes it
    torch.testing.assert_close(shared, whole)


# ----------------------------------------------------------------------------------------------------------- training

ABLATIONS = [
    *INDICES,
    {"split": "even_odd"},
    {"split": "correlation_weight"},
    {"split": "correlation_weight_code"},
    {"split": "correlation_weight", "issm": "paper"},
    {"init_index": "midpoint", "offset_range": 4.0},
    {"issm": "paper", "compression": 1},
    {"ladm": "none"},
    {"ladm": "paper"},
    {"order": "predict_update"},
    {"relation": "self_transformer"},
    {"relation": "self_cnn"},
    {"relation": "self_transformer_code"},
    {"relation": "self_cnn_code", "split": "even_odd"},
    {"context_loss": "none"},
    {"context_loss": "THWC"},
]


@pytest.mark.parametrize("options", ABLATIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_every_ablation_trains_all_its_parameters(options: dict) -> None:
    module = lifting(**options).train()
    x = clip().requires_grad_()
    features, losses = module(x)
    (features.square().mean() + sum(losses.values())).backward()
    assert features.shape == (2, CHANNELS)
    assert x.grad.isfinite().all()
    assert x.grad.any()
    for name, parameter in module.named_parameters():
        if module.options.ladm == "none" and "approx" in name:  # the static half is not used
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
