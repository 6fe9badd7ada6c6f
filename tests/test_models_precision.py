"""Parts of networks that stay in float32 when the rest runs in bfloat16 (emulated if a CPU lacks it)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
import training_networks  # noqa: F401  (registers the tiny networks)
from network_tools import QUICK
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from duchenne.landmark_net.network import WithAuxiliaryHead
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.models.contract import create, register_networks
from duchenne.models.displacement import normalise, self_supervised_loss
from duchenne.models.landmark_guided import attention_weights
from duchenne.models.lifting import CHOICES, LiftingOptions, WaveletLifting
from duchenne.models.precision import classify_in_float32, in_float32
from duchenne.networks import networks
from duchenne.training.device import multiplies_bf16

register_networks()

pytestmark = pytest.mark.usefixtures("one_thread")
NATIVE = multiplies_bf16(torch.device("cpu"))

TRUNKS = {
    **dict.fromkeys(("poster_t", "poster_s", "poster_l", "poster_v2"), ("landmark_maps", "ir_back.forward")),
    "poster_image_only": ("ir_back.forward",),
    **dict.fromkeys(("ifdd_3dvit", "ifdd_2dcnn"), ("backbone.backbone.maps",)),
    "mvit_clip": ("backbone.forward",),
    "mobilenetv2_clip": ("backbone.maps",),
    "frl_dgt": (),
}
"""The costly parts, which keep their random weights and run once for each batch and precision."""


def bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def faces(size: tuple[int, ...], count: int) -> Tensor:
    """Random pictures, ``count`` of a ``size``; frames of a clip, and onset and apex, differ a little.

    Pictures and clips are noisy: of smooth ones the first maps of a network with random weights hardly vary, and a
    BatchNorm with their statistics then amplifies rounding as no trained network does.
    """
    draw = torch.Generator().manual_seed(0)
    channels = 1 if size[0] == 2 else size[0]

    def smooth() -> Tensor:
        coarse = torch.rand(count, channels, 14, 14, generator=draw)
        return F.interpolate(coarse, size[-2:], mode="bilinear")

    if len(size) == 4:
        first, step = smooth(), smooth() - 0.5
        clip = torch.stack([first + 0.02 * frame * step for frame in range(size[1])], dim=2)
        return clip + 0.5 * torch.randn(clip.shape, generator=draw)
    if size[0] == 2:
        onset = smooth()
        return torch.cat((onset, onset + 0.02 * (smooth() - 0.5)), dim=1)
    picture = 4 * smooth() - 2
    return picture + torch.randn(picture.shape, generator=draw)


def run_once(network: nn.Module, path: str) -> None:
    """Let a method of a network give again what it gave for a batch of this size in this precision.

    Where bfloat16 is emulated, which takes a minute for a trunk, its float32 output is rounded instead.
    """
    owner, _, name = path.rpartition(".")
    module = network.get_submodule(owner)
    method: Callable[[Tensor], Tensor | tuple | list] = getattr(module, name)
    kept = {}

    def again(x: Tensor) -> Tensor | tuple | list:
        autocast = torch.is_autocast_enabled("cpu")
        key = len(x), autocast
        if key not in kept:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast and NATIVE):
                output = method(x if NATIVE else x.float())
            kept[key] = output if NATIVE or not autocast else tree_map(Tensor.bfloat16, output)
        return kept[key]

    setattr(module, name, again)


def train_a_little(network: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Statistics of BatchNorms from the samples, then a few steps of all but the trunk."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, here of one
    with torch.no_grad():
        if norms:
            network.train()(x)
        for path in TRUNKS.get(network.default_cfg["architecture"], ()):
            run_once(network, path)
        network.eval()(x)  # the trunk is seen in evaluation mode only
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4)
    network.train()
    for _ in range(3):
        output = network(x)
        logits, losses = output if isinstance(output, tuple) else (output, {})
        optimizer.zero_grad()
        (F.cross_entropy(logits, labels) + sum(losses.values())).backward()
        optimizer.step()
    network.eval()


EMULATED = {"ifdd_3dvit", "mvit_clip"}
"""Networks that take half a minute where bfloat16 is emulated; others share their layers."""


# poster_s and poster_l are poster_t with more blocks
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive if name in EMULATED and not NATIVE else ())
        for name in sorted(networks().keys() - {"poster_s", "poster_l"})
    ],
)
def test_a_trained_network_says_the_same_in_bf16(name: str):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3, **QUICK[name])
    x = faces(network.default_cfg["input_size"], 2)
    train_a_little(network, x, torch.tensor([0, 2]))
    with torch.no_grad():
        wanted = network(x)
        with bf16():
            batch, alone = network(x), network(x[:1])
    assert batch.dtype == alone.dtype == torch.float32
    assert not torch.equal(batch, wanted)  # the rest does run in bfloat16
    torch.testing.assert_close(batch.softmax(1), wanted.softmax(1), rtol=0, atol=0.01)
    torch.testing.assert_close(alone.softmax(1), wanted[:1].softmax(1), rtol=0, atol=0.01)


@pytest.mark.parametrize("name", networks())
def test_classes_do_not_tie_that_bf16_could_not_tell_apart(name: str):
    """Logits 10, 10.01 and 9.99: multiples of 1/16 are all that bfloat16 has there, so that all three would be 10."""
    with torch.device("meta"):
        layer = timm.create_model(name, num_classes=3, **QUICK[name])
        layer = layer.get_submodule(layer.default_cfg["classifier"])
    check_the_third_class_wins(layer.to_empty(device="cpu"))


def check_the_third_class_wins(layer: nn.Module) -> None:
    features = torch.zeros(1, layer.in_features)
    features[0, 0] = 1
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, 0] = torch.tensor([10, 9.99, 10.01])
        layer.bias.zero_()
        assert layer.weight[:, 0].bfloat16().tolist() == [10, 10, 10]
        with bf16():
            logits = layer(features.bfloat16())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, torch.tensor([[10, 9.99, 10.01]]))
    assert logits.argmax() == 2


@pytest.mark.parametrize("name", ["tiny", "test_resnet", "deit_tiny_distilled_patch16_224"])
def test_the_classifier_of_any_network_of_timm_stays_in_float32(name: str):
    network = create(name, {}, 3)
    plain = timm.create_model(name, num_classes=3)
    assert network.state_dict().keys() == plain.state_dict().keys()
    names = network.default_cfg["classifier"]
    for layer in (names,) if isinstance(names, str) else names:
        check_the_third_class_wins(network.get_submodule(layer))
        copied = copy.deepcopy(network)  # as for the average of the weights
        with torch.no_grad():
            copied.get_submodule(layer).weight.fill_(1)
        check_the_third_class_wins(network.get_submodule(layer))


def test_a_classifier_that_is_not_linear_stays_in_float32():
    network = nn.Sequential(nn.Conv2d(2, 3, 1))
    network.default_cfg = {"classifier": "0"}
    assert classify_in_float32(network) is network
    with bf16():
        assert network(torch.ones(1, 2, 1, 1)).dtype == torch.float32
    without = nn.Conv2d(2, 3, 1)
    without.default_cfg = {"classifier": None}
    with bf16():
        assert classify_in_float32(without)(torch.ones(1, 2, 1, 1)).dtype == torch.bfloat16


def test_a_displacement_is_the_same_in_bf16():
    torch.manual_seed(0)
    network = timm.create_model("frl_dgt").eval()
    pair = faces((2, 224, 224), 1)
    displacement = network.displacement(pair)
    loss = self_supervised_loss(pair, displacement, 0.03)
    with bf16():
        assert torch.equal(network.displacement(pair), displacement)
        assert torch.equal(normalise(network.displacement(pair)), normalise(displacement))
        assert torch.equal(self_supervised_loss(pair, displacement, 0.03), loss)
        assert network.fuse(pair, displacement)[1]["full_face"].sum(1).allclose(torch.ones(1), atol=1e-6)


@pytest.mark.parametrize("split", CHOICES["split"])
def test_frames_are_read_at_the_same_places_in_bf16(split: str):
    torch.manual_seed(0)
    options = LiftingOptions(split=split, issm="paper", compression=1)
    lifting = WaveletLifting(16, 8, 8, 0.0, options).eval()
    for parameter in lifting.parameters():
        nn.init.normal_(parameter, std=0.3)  # so that the places depend on the clip
    clip = torch.randn(2, 8, 16, 7, 7)
    matrices = lifting.adapt_split(clip)
    halves = lifting.halves(clip, matrices)
    lifted = lifting.lift(*halves)
    with bf16():
        assert all(map(torch.equal, lifting.adapt_split(clip), matrices))
        assert all(map(torch.equal, lifting.halves(clip, matrices), halves))
        assert all(map(torch.equal, lifting.lift(*halves), lifted))


def test_attention_that_is_shown_adds_up_to_one_in_bf16():
    torch.manual_seed(0)
    query, key_value = torch.randn(1, 49, 16), torch.randn(1, 49, 32)
    with bf16():
        weights = attention_weights(query, key_value, heads=2)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 49), rtol=0, atol=1e-5)
    assert torch.equal(weights, attention_weights(query, key_value, heads=2))


def test_landmarks_are_placed_in_float32():
    torch.manual_seed(0)
    network = WithAuxiliaryHead(MobileFaceNet()).eval()
    with bf16(), torch.no_grad():
        for points in (*network(torch.randn(1, 3, 112, 112)), network.network(torch.randn(1, 3, 112, 112))):
            assert points.dtype == torch.float32
            assert not torch.equal(points, points.bfloat16().float())


def test_float32_is_left_where_autocast_ends():
    seen = []

    @in_float32
    def product(x: Tensor, both: tuple[Tensor, Tensor], *, scale: Tensor) -> Tensor:
        seen.append({value.dtype for value in (x, *both, scale)})
        return x @ both[0] @ both[1] * scale

    low = torch.ones(2, 2, dtype=torch.bfloat16)
    with bf16():
        assert product(low, (low, low), scale=low).dtype == torch.float32
        assert (low @ low).dtype == torch.bfloat16  # what follows is cast again
    assert product(low, (low, low), scale=low).dtype == torch.bfloat16  # a converted network stays as it is
    assert product(low.double(), (low.double(),) * 2, scale=low.double()).dtype == torch.float64
    assert seen == [{torch.float32}, {torch.bfloat16}, {torch.float64}]
