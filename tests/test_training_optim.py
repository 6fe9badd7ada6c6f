"""Schedules compared with torch's own, and the optimiser table."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from duchenne.training.optim import OPTIMIZERS, SCHEDULES, create_optimizer, create_scheduler
from duchenne.training.settings import Recipe

EPOCHS, PER_EPOCH = 4, 5


def recipe(**fields) -> Recipe:
    return Recipe(**({"epochs": EPOCHS, "batch_size": 2, "lr": 0.2} | fields))


def rates(config: Recipe, per_epoch: int = PER_EPOCH) -> list[float]:
    """The learning rate of every step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    scheduler = create_scheduler(config, optimizer, per_epoch)
    found = []
    for _ in range(config.epochs * per_epoch):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


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


def warmup_cosine(optimizer) -> lr_scheduler.LRScheduler:
    warm = lr_scheduler.LinearLR(optimizer, 0.01, total_iters=2 * PER_EPOCH)
    rest = lr_scheduler.CosineAnnealingLR(optimizer, (EPOCHS - 2) * PER_EPOCH)
    return lr_scheduler.SequentialLR(optimizer, [warm, rest], [2 * PER_EPOCH])


@pytest.mark.parametrize(
    ("name", "make", "per_epoch"),
    [
        ("exponential", lambda o: lr_scheduler.ExponentialLR(o, 0.9), True),
        ("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * PER_EPOCH), False),
        ("one_cycle", lambda o: lr_scheduler.OneCycleLR(o, 0.2, EPOCHS * PER_EPOCH, cycle_momentum=False), False),
        ("constant", lambda o: lr_scheduler.ConstantLR(o, 1.0), True),
        ("warmup_cosine", warmup_cosine, False),
    ],
)
def test_schedules_are_those_of_torch(name, make, per_epoch):
    warmup = {"warmup_epochs": 2} if name == "warmup_cosine" else {}
    config = recipe(schedule=name, gamma=0.9, **warmup)
    assert rates(config) == pytest.approx(torch_rates(make, per_epoch), rel=1e-9)


@pytest.mark.parametrize("name", ["exponential", "cosine", "one_cycle", "constant"])
def test_schedules_work_for_a_single_step(name):
    (rate,) = rates(recipe(schedule=name, epochs=1), 1)
    assert 0 < rate <= 0.2


def test_ifdd_has_the_rates_of_its_official_code():
    config = recipe(schedule="ifdd", epochs=100, warmup_epochs=10, lr=5e-5)
    found = rates(config, 7)
    assert found[7 * 3 + 6] == found[7 * 3]  # set once an epoch
    found = found[::7]
    assert found[0] == pytest.approx(1e-6)
    assert found[1] - found[0] == pytest.approx(9.699e-6, rel=1e-4)
    assert found[9] == pytest.approx(8.83e-5, rel=1e-3)
    assert found[10] == pytest.approx(5e-5)
    assert found[55] == pytest.approx((5e-5 + 5e-7) / 2)  # half way from 10 to 100
    assert found[99] == pytest.approx(5e-7, rel=0.04)
    assert found[10:] == sorted(found[10:], reverse=True)


@pytest.mark.parametrize("name", ["exponential", "cosine", "one_cycle", "constant"])
def test_a_restored_schedule_has_the_rates_of_one_that_was_not_interrupted(name):
    config, parameter = recipe(schedule=name), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=config.lr)
    scheduler = create_scheduler(config, optimizer, PER_EPOCH)
    for _ in range(7):
        optimizer.step()
        scheduler.step()
    again = torch.optim.SGD([parameter], lr=config.lr)
    restored = create_scheduler(config, again, PER_EPOCH)
    again.load_state_dict(optimizer.state_dict())
    restored.load_state_dict(scheduler.state_dict())
    found = []
    for _ in range(7, EPOCHS * PER_EPOCH):
        found.append(again.param_groups[0]["lr"])
        again.step()
        restored.step()
    assert found == rates(config)[7:]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "ifdd"}, "needs warmup_epochs above 0"),
        ({"schedule": "warmup_cosine", "warmup_epochs": EPOCHS}, "needs warmup_epochs above 0 and below epochs"),
        ({"schedule": "cosine", "warmup_epochs": 1}, "schedule cosine has no warm-up"),
        ({"mix": {"switch": 0.5}}, "mixup and cutmix are both 0"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        recipe(**fields)


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


def test_optimisers_step_like_those_of_torch_and_sgd_has_momentum():
    steps = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": partial(torch.optim.SGD, momentum=0.9)}
    assert steps.keys() == OPTIMIZERS.keys()
    for name, make in steps.items():
        ours, theirs = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        both = [create_optimizer(recipe(optimizer=name), [ours]), make([theirs], lr=0.2, weight_decay=0)]
        for gradient in ([1.0, -2.0], [1.0, 0.0]):
            for parameter, optimizer in zip((ours, theirs), both, strict=True):
                parameter.grad = torch.tensor(gradient)
                optimizer.step()
        torch.testing.assert_close(ours, theirs)
    # 0.2 times 1, then 0.2 times (0.9 + 1); 0.2 times -2, then 0.2 times -1.8
    torch.testing.assert_close(ours.detach(), torch.tensor([1 - 0.2 - 0.38, 1 + 0.4 + 0.36]))
