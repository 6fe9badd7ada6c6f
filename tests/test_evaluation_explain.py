"""Explanations of a network: choice of samples, maps, and frames."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import training_networks  # noqa: F401  (registers the tiny networks)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from training_tools import COMPUTE, SMALL, variant, write_store

from duchenne.errors import UserError
from duchenne.evaluation.explain import View, agreement, all_maps, grad_cam, most_confident, readings, views
from duchenne.faces.store import FaceStore
from duchenne.models.contract import Contract, create, register_networks
from duchenne.networks import Facts
from duchenne.training.settings import Clip

register_networks()


def test_the_most_confident_answers_of_each_class():
    rows = [  # sample, label, predicted, confidence
        ("a", 1, 1, 0.6), ("b", 1, 1, 0.9), ("c", 1, 0, 0.5), ("d", 1, 2, 0.8),
        ("f", 0, 0, 0.7), ("e", 0, 0, 0.7), ("g", 2, 1, 0.4),
    ]  # fmt: skip
    shown = most_confident(pd.DataFrame(rows, columns=["sample", "label", "predicted", "confidence"]))
    assert shown["sample"].tolist() == ["e", "b", "d", "g"]
    assert shown["right"].tolist() == [True, True, False, False]


class Quadrant(Contract, nn.Module):
    """Its first class is the mean of the upper right quarter, its second that of the lower left one."""

    facts = Facts("Quadrant", layer="square")

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.ones_(self.maps.weight)
        self.square = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.square(self.maps(x * x.new_tensor([[0, 1], [0.5, 0]]).repeat_interleave(4, 0).repeat_interleave(4, 1)))
        return torch.stack([x[:, 0, :4, 4:].mean((1, 2)), x[:, 1, 4:, :4].mean((1, 2))], dim=1)


def test_grad_cam_lights_the_quarter_that_decides():
    cam = grad_cam(Quadrant(), torch.ones(1, 1, 8, 8))[0]
    assert cam.shape == (8, 8)
    # channel 0 has the gradient 1 / 16 in 16 of 64 cells, so the weight 1 / 64; the map is 1 above and 0.5 below
    torch.testing.assert_close(cam[:4, 4:], torch.full((4, 4), 1 / 64))
    torch.testing.assert_close(cam[4:, :4], torch.full((4, 4), 0.5 / 64))
    assert cam[:4, :4].abs().sum() == cam[4:, 4:].abs().sum() == 0


class Chain(Contract, nn.Sequential):
    facts = Facts("Chain", layer="0")


def test_grad_cam_shows_no_negative_evidence_and_treats_frames_apart():
    network = Chain(nn.Identity(), nn.Flatten(), nn.Linear(2 * 3 * 4 * 4, 2, bias=False))
    with torch.no_grad():
        network[2].weight.zero_()
        network[2].weight[0] = torch.tensor([1.0, -1.0]).repeat_interleave(48)
    x = torch.ones(1, 2, 3, 4, 4)
    x[:, 1] = 0.5
    cam = grad_cam(network, x)  # gradients 1 in the first frame, -1 in the second
    assert cam.shape == (1, 2, 4, 4)
    torch.testing.assert_close(cam[0, 0], torch.full((4, 4), 3.0))
    assert cam[0, 1].abs().sum() == 0


class Halves(Contract, nn.Sequential):
    """A network of clips, of whose frames every two become one."""

    facts = Facts("Halves", takes="clip", layer="0")

    def cam_maps(self, output: torch.Tensor) -> torch.Tensor:
        return output.movedim(1, 2)


def test_frames_of_grad_cam_are_the_middles_of_those_they_stand_for():
    network = Halves(nn.AvgPool3d((2, 1, 1)), nn.Flatten(), nn.Linear(3 * 3 * 2 * 2, 2))
    maps = all_maps(network, torch.rand(2, 3, 6, 2, 2))
    assert maps["attention_clip"].shape == (2, 3, 2, 2)
    assert maps["frames_clip"].tolist() == [[0.5, 2.5, 4.5]] * 2


def test_looking_leaves_no_trace():
    torch.manual_seed(0)
    network = timm.create_model("ifdd_2dcnn", num_classes=3).eval()
    x = torch.rand(1, 3, 16, 224, 224)
    with torch.no_grad():
        before = network(x)
    all_maps(network, x)
    assert all(parameter.grad is None for parameter in network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(network(x), before, rtol=0, atol=0)


def test_a_network_that_names_no_layer_shows_nothing():
    network = create("tiny", {}, 3)
    assert all_maps(network, torch.rand(1, 3, 64, 64)) == {}


@pytest.mark.parametrize(
    ("takes", "named", "given", "said"),
    [
        (
            "image",
            ["attention"],
            ["places"],
            "returns places, and maps in register_network stands for attention:",
        ),
        ("image", [], ["a", "b"], "explain returns a, b, and maps in register_network stands for none:"),
        ("clip", ["attention_a"], ["attention_a"], "stands for attention_a, frames_a:"),
        ("clip", ["attention_a"], ["attention_a", "frames_b"], "explain returns attention_a, frames_b, and"),
        ("image", ["a", "b"], ["a"], None),  # an option may leave a map out
        ("clip", ["attention_a", "attention_b"], ["frames_a", "attention_a"], None),
    ],
)
def test_maps_have_the_names_of_the_facts(takes: str, named: list[str], given: list[str], said: str | None):
    network = Quadrant()
    network.facts = Facts("Mine", takes=takes, maps=dict.fromkeys(named, "words"))
    network.explain = lambda x: dict.fromkeys(given, x)
    if said is None:
        assert all_maps(network, torch.zeros(1)).keys() == set(given)
    else:
        with pytest.raises(UserError, match=f"Mine: .*{said}"):
            all_maps(network, torch.zeros(1))


def test_maps_are_those_of_the_precision_on_the_card(tmp_path):
    samples = write_store(tmp_path / "store", 2)
    torch.manual_seed(0)
    network = create("test_resnet", SMALL, 3).eval()
    card = {"architecture": "test_resnet", "variant": variant().model_dump(mode="json")}
    cards = (card, card | {"precision": "fp32"}, card | {"precision": "bf16"})
    store = FaceStore(tmp_path / "store")
    without, full, half = (
        [view.maps["grad_cam"] for view in views(network, c, store, samples, COMPUTE)] for c in cards
    )
    np.testing.assert_array_equal(without, full)
    assert half[0].dtype == np.float32
    assert not np.array_equal(half, full)
    np.testing.assert_allclose(half, full, atol=0.1 * np.max(full))


def test_views_come_in_the_order_of_the_samples(tmp_path):
    samples = write_store(tmp_path / "store", 5)
    network = create("test_resnet", SMALL, 3).eval()
    card = {"architecture": "test_resnet", "variant": variant(eval_batch_size=2).model_dump(mode="json")}
    samples = samples.iloc[::-1]
    shown = list(views(network, card, FaceStore(tmp_path / "store"), samples, COMPUTE))
    assert [view.sample.sample for view in shown] == samples["sample"].tolist()
    for view in shown:
        assert view.maps["grad_cam"].ndim == 2
        alone = all_maps(network, torch.from_numpy(view.x)[None])["grad_cam"][0]
        np.testing.assert_allclose(view.maps["grad_cam"], alone.numpy(), atol=1e-5)


def view_of(sample: str, onset: int | None, offset: int | None, frames: list[float], emotion: str = "anger") -> View:
    row = SimpleNamespace(sample=sample, fold=2, emotion=emotion, onset=onset, offset=offset)
    maps = np.arange(4.0)[:, None, None] * np.ones((4, 7, 7))
    return View(row, 0, np.zeros(0), {"attention_dynamic": maps, "frames_dynamic": np.array(frames)})


def test_readings_say_which_frame_of_the_clip_was_read(tmp_path):
    write_store(tmp_path / "store", 1, lengths=[40])
    store = FaceStore(tmp_path / "store")
    clip = Clip(frames=16, stride=2)
    read = readings(view_of("s000", 5, 21, [0.5, 4.5, 5.5, 14.5]), store, clip)
    # frame i of the window is frame 2 i + 1 of the clip
    assert [r.frame for r in read] == [2, 10, 12, 30]
    assert [r.inside for r in read] == [0, 1, 1, 0]
    assert [r.attention for r in read] == [0, 1, 2, 3]
    numbers = store.frame_numbers("s000")
    assert all(abs(numbers[r.position] - r.frame) <= 1 for r in read)


@pytest.mark.parametrize(("onset", "offset", "emotion"), [(None, 9, "anger"), (3, None, "anger"), (3, 9, "neutral")])
def test_without_a_known_expression_nothing_is_inside(tmp_path, onset, offset, emotion):
    write_store(tmp_path / "store", 1, lengths=[16])
    read = readings(view_of("s000", onset, offset, [0, 1, 2, 3], emotion), FaceStore(tmp_path / "store"), Clip())
    assert np.isnan([r.inside for r in read]).all()


def table(*clips: tuple[list[float], list[float]]) -> pd.DataFrame:
    rows = [
        {"sample": f"s{i}", "fold": 1, "half": half, "attention": a, "inside": t}
        for i, (attention, inside) in enumerate(clips)
        for half, part in (("static", slice(0, 2)), ("dynamic", slice(2, 4)))
        for a, t in zip(attention[part], inside[part], strict=True)
    ]
    return pd.DataFrame(rows)


def test_agreement_by_hand():
    found = agreement(table(([1, 1, 1, 3], [1, 0, 0, 1]), ([5, 5, 9, 3], [0, 0, 1, 0]), ([1, 2, 3, 4], [1, 1, 1, 1])))
    assert found["clips"] == 2  # the third is inside all the time
    # dynamic: scaled to 0.5, 1.5 and 1.5, 0.5; the higher one is inside each time
    assert found["attention_dynamic"] == pytest.approx(1)
    assert found["inside_dynamic"] == 0.5
    assert found["inside_static"] == 0.25
    assert "attention_static" not in found  # it does not vary
    # dynamic less 0.5 is -+0.5; inside less its mean +0.5 -0.5 -0.5 +0.5 and -0.25 -0.25 +0.75 -0.25
    assert found["split"] == pytest.approx(0.5 / np.sqrt(2 * (1 + 0.75)))


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=4, max_size=12), st.integers(1, 50))
def test_the_attention_of_a_clip_has_no_unit(frames, factor):
    attention, inside = (np.array(column, float) for column in zip(*frames, strict=True))
    base = pd.DataFrame({"sample": "s", "fold": 1, "half": "clip", "attention": attention, "inside": inside})
    found, scaled = agreement(base), agreement(base.assign(attention=factor * attention))
    assert found.keys() == scaled.keys()
    assert all(found[name] == pytest.approx(scaled[name], abs=1e-9) for name in found)
    assert all(-1 - 1e-9 <= value <= 1 + 1e-9 for name, value in found.items() if name.startswith("attention"))
