"""Schedules against torch's own, and the optimiser table."""

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from duchenne.catalog import Recipe
from duchenne.training.optim import OPTIMIZERS, SCHEDULES, create_optimizer, learning_rate

EPOCHS, PER_EPOCH = 4, 5


def recipe(**fields) -> Recipe:
    return Recipe(**({"epochs": EPOCHS, "batch_size": 2, "lr": 0.2} | fields))


def torch_rates(make, per_epoch: bool) -> list[float]:
    """The learning rate of every step under a scheduler of torch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = make(optimizer)
    rates = []
    for step in range(1, EPOCHS * PER_EPOCH + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < EPOCHS * PER_EPOCH and (not per_epoch or step % PER_EPOCH == 0):
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "make", "per_epoch"),
    [
        ("exponential", lambda o: lr_scheduler.ExponentialLR(o, 0.9), True),
        ("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * PER_EPOCH), False),
        ("one_cycle", lambda o: lr_scheduler.OneCycleLR(o, 0.2, EPOCHS * PER_EPOCH, cycle_momentum=False), False),
        ("constant", lambda o: lr_scheduler.ConstantLR(o, 1.0), True),
    ],
)
def test_schedules_are_those_of_torch(name, make, per_epoch):
    ours = [learning_rate(recipe(schedule=name, gamma=0.9), step, PER_EPOCH) for step in range(EPOCHS * PER_EPOCH)]
    assert ours == pytest.approx(torch_rates(make, per_epoch), rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_work_for_a_single_step(name):
    assert 0 < learning_rate(recipe(schedule=name, epochs=1), 0, 1) <= 0.2


def test_tables_hold_what_a_recipe_may_name():
    fields = Recipe.model_fields
    assert set(OPTIMIZERS) == set(fields["optimizer"].annotation.__args__)
    assert set(SCHEDULES) == set(fields["schedule"].annotation.__args__)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_parameters_are_not_given_to_the_optimiser(name):
    free, frozen = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1), requires_grad=False)
    optimizer = create_optimizer(recipe(optimizer=name, weight_decay=0.1), [free, frozen])
    assert [p is free for group in optimizer.param_groups for p in group["params"]] == [True]
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
