"""Losses compared with values computed by hand."""

import math

import pandas as pd
import pytest
import torch

from duchenne.training.errors import TrainingError
from duchenne.training.inputs import vote_shares
from duchenne.training.losses import create_loss
from duchenne.training.settings import Recipe

LOGITS = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
LABELS = torch.tensor([0, 2])


def loss(**fields) -> float:
    return create_loss(Recipe(epochs=1, batch_size=2, lr=1, **fields))(LOGITS, LABELS).item()


def test_cross_entropy_is_the_mean_over_the_batch():
    assert loss() == pytest.approx(-(math.log(0.5) + math.log(0.7)) / 2)


def test_smoothing_gives_every_class_its_share():
    # smoothing 0.3 of 3 classes: 0.8 on the true class, 0.1 on each other
    first = -(0.8 * math.log(0.5) + 0.1 * math.log(0.25) + 0.1 * math.log(0.25))
    second = -(0.8 * math.log(0.7) + 0.1 * math.log(0.1) + 0.1 * math.log(0.2))
    assert loss(label_smoothing=0.3) == pytest.approx((first + second) / 2)


def test_posters_loss_is_2_6_of_the_true_class_and_0_4_of_all():
    first = -2.6 * math.log(0.5) - 0.4 * (math.log(0.5) + 2 * math.log(0.25)) / 3
    second = -2.6 * math.log(0.7) - 0.4 * (math.log(0.1) + math.log(0.2) + math.log(0.7)) / 3
    assert loss(loss="ce_plus_2ls") == pytest.approx((first + second) / 2)


def test_shares_of_a_mixed_batch_are_smoothed_as_its_labels_would_be():
    criterion = create_loss(Recipe(epochs=1, batch_size=2, lr=1, label_smoothing=0.1))
    shares = 0.3 * torch.eye(3)[LABELS] + 0.7 * torch.eye(3)[LABELS.flip(0)]
    expected = 0.3 * criterion(LOGITS, LABELS) + 0.7 * criterion(LOGITS, LABELS.flip(0))
    torch.testing.assert_close(criterion(LOGITS, shares), expected)


@pytest.mark.parametrize("fields", [{}, {"label_smoothing": 0.1}, {"loss": "ce_plus_2ls"}], ids=str)
def test_the_same_samples_in_a_larger_batch_have_the_same_loss(fields: dict):
    criterion = create_loss(Recipe(epochs=1, batch_size=2, lr=1, **fields))
    once, eight_times = (criterion(LOGITS.repeat(times, 1), LABELS.repeat(times)) for times in (1, 8))
    torch.testing.assert_close(eight_times, once)


def test_votes_are_compared_with_as_shares():
    # 6 and 4 of 10 votes, and 5 of 5: -(0.6 log 0.5 + 0.4 log 0.25) and -log 0.2; with smoothing 0.3 the shares are
    # 0.7 q + 0.1
    shares = vote_shares(pd.DataFrame({"sample": ["a", "b"], "votes": [[6, 4, 0], [0.0, 5.0, 0.0]]}))
    torch.testing.assert_close(shares, torch.tensor([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0]]))

    def loss(**fields) -> float:
        return create_loss(Recipe(epochs=1, batch_size=2, lr=1, **fields))(LOGITS, shares).item()

    first, second = -(0.6 * math.log(0.5) + 0.4 * math.log(0.25)), -math.log(0.2)
    assert loss() == pytest.approx((first + second) / 2)
    first = -(0.52 * math.log(0.5) + 0.38 * math.log(0.25) + 0.1 * math.log(0.25))
    second = -(0.1 * math.log(0.1) + 0.8 * math.log(0.2) + 0.1 * math.log(0.7))
    assert loss(label_smoothing=0.3) == pytest.approx((first + second) / 2)
    poster = 2.6 * -(0.6 * math.log(0.5) + 0.4 * math.log(0.25)) - 0.4 * (math.log(0.5) + 2 * math.log(0.25)) / 3
    poster += -2.6 * math.log(0.2) - 0.4 * (math.log(0.1) + math.log(0.2) + math.log(0.7)) / 3
    assert loss(loss="ce_plus_2ls") == pytest.approx(poster / 2)


def test_soft_targets_without_votes_are_refused():
    rows = pd.DataFrame({"sample": ["a", "b", "c"], "votes": [[1, 2], None, None]})
    with pytest.raises(TrainingError, match="2 of 3 training samples have no votes, the first is 'b'"):
        vote_shares(rows)
    with pytest.raises(TrainingError, match="3 of 3 training samples have no votes"):
        vote_shares(rows[["sample"]])


def test_a_smoothing_that_would_not_be_used_is_refused():
    with pytest.raises(ValueError, match="loss ce_plus_2ls includes smoothing"):
        Recipe(epochs=1, batch_size=2, lr=1, loss="ce_plus_2ls", label_smoothing=0.1)
