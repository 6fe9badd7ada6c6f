"""SAM compared with its definition, computed by hand."""

import numpy as np
import pytest
import torch
import training_networks  # noqa: F401  (registers the networks)
from safetensors.torch import load_file
from torch import nn
from training_tools import CLASSES, COMPUTE, variant, write_store

from duchenne.faces.store import FaceStore
from duchenne.training.fold import train_fold
from duchenne.training.sam import ascended
from duchenne.training.trained import create


def test_two_parameters_by_hand():
    # f = x^2 / 2 + 4 y: gradient (3, 4) at x = 3, so |g| = 5 and, with rho 0.5, the step up is (0.3, 0.4)
    x, y = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.tensor(7.0))
    optimizer = torch.optim.SGD([x, y], lr=0.1)
    (x**2 / 2 + 4 * y).backward()
    with ascended([x, y], rho=0.5):
        assert x.item() == pytest.approx(3.3)
        assert y.item() == pytest.approx(7.4)
        assert x.grad is None
        (x**2 / 2 + 4 * y).backward()
    assert (x.item(), y.item()) == (3.0, 7.0)
    assert x.grad.item() == pytest.approx(3.3)  # the gradient of the ascended point
    optimizer.step()
    assert x.item() == pytest.approx(3.0 - 0.33)
    assert y.item() == pytest.approx(7.0 - 0.4)


def test_formula_in_float64_over_several_tensors():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    inputs, labels = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    before = [p.detach().clone() for p in network.parameters()]

    def loss():
        return nn.functional.cross_entropy(network(inputs), labels)

    gradients = torch.autograd.grad(loss(), list(network.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    expected = [w + 0.05 * g / (norm + 1e-12) for w, g in zip(before, gradients, strict=True)]

    loss().backward()
    with ascended(network.parameters(), rho=0.05):
        for p, w in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(p.data, w, rtol=0, atol=1e-15)
    for p, w in zip(network.parameters(), before, strict=True):
        assert torch.equal(p, w)


def test_weights_come_back_bit_for_bit_where_subtraction_would_not_bring_them():
    weight = nn.Parameter(torch.tensor([1e-8, 0.1, 12345.678]))
    before = weight.detach().clone()
    weight.grad = torch.tensor([1.0, 1e-3, 1e3])
    with ascended([weight], rho=100.0):
        climbed = weight.detach().clone()
    assert torch.equal(weight, before)
    assert not torch.equal(climbed - (climbed - before), before)


def test_parameters_without_gradient_are_left_alone():
    trained, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([trained, unused], lr=0.1, weight_decay=0.1)
    trained.sum().backward()
    with ascended([trained, unused], rho=0.05):
        assert torch.equal(unused, torch.ones(2))
        trained.sum().backward()
    optimizer.step()
    assert torch.equal(unused, torch.ones(2))  # no step, no weight decay
    assert unused not in optimizer.state


def test_weights_come_back_when_the_second_pass_fails():
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    with pytest.raises(ZeroDivisionError), ascended([weight], rho=0.05):
        1 / 0  # noqa: B018
    assert torch.equal(weight, torch.ones(3))


def test_one_norm_over_all_groups_each_with_its_own_rate():
    # f = 3 x + 4 y: |g| = 5 over both groups; with a norm of each, both would climb by rho
    x, y = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([{"params": [x], "lr": 0.1}, {"params": [y], "lr": 0.01}])
    (3 * x + 4 * y).backward()
    with ascended((p for group in optimizer.param_groups for p in group["params"]), rho=1.0):
        assert (x.item(), y.item()) == pytest.approx((1.6, 1.8))
        (3 * x + 4 * y).backward()
    optimizer.step()
    assert (x.item(), y.item()) == pytest.approx((0.7, 0.96))


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def test_posters_recipe_step_by_step_by_hand(tmp_path):
    """Adam under SAM, CE + 2 LS(0.2), a rate that falls by 0.98 an epoch: two epochs of one batch, in NumPy."""
    samples = write_store(tmp_path / "faces", 12)
    store = FaceStore(tmp_path / "faces")
    recipe = {"loss": "ce_plus_2ls", "schedule": "exponential", "gamma": 0.98, "batch_size": 12, "epochs": 2}
    config = variant(
        architecture="tiny", options={}, selection="last", lr=0.01, sam_rho=0.05, augment={"hflip": 0}, **recipe
    )
    torch.manual_seed(config.seed)
    start = create("tiny", {}, len(CLASSES))
    train_fold(config, CLASSES, 1, samples.assign(part="train"), store, tmp_path / "out", tmp_path / "work", COMPUTE)
    trained = load_file(tmp_path / "out" / "weights.safetensors")

    frames = np.stack([store.frame(sample) for sample in samples["sample"]]) / 255
    fields = frames.reshape(12, 4, 16, 4, 16, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(12, 48)
    x = np.c_[(fields - 0.5) / 0.25, np.ones(12)]
    target = 2.6 * np.eye(3)[samples["label"]] + 0.4 / 3

    def gradient(w: np.ndarray) -> np.ndarray:
        return (3 * softmax(x @ w.T) - target).T @ x / 12

    w = torch.cat([start.head.weight, start.head.bias[:, None]], 1).detach().double().numpy()
    first, second = np.zeros_like(w), np.zeros_like(w)
    for epoch in range(2):
        g = gradient(w)
        g = gradient(w + 0.05 * g / (np.sqrt((g**2).sum()) + 1e-12))
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        unbiased = first / (1 - 0.9 ** (epoch + 1)), second / (1 - 0.999 ** (epoch + 1))
        w -= 0.01 * 0.98**epoch * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    np.testing.assert_allclose(trained["head.weight"], w[:, :-1], atol=1e-6)
    np.testing.assert_allclose(trained["head.bias"], w[:, -1], atol=1e-6)
