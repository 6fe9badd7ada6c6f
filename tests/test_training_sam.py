"""SAM against the arithmetic of its definition."""

import pytest
import torch
from torch import nn

from duchenne.training.sam import ascended


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
