"""Results in words."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from reporting_tools import run_of

from duchenne.files import write_json
from duchenne.protocol import Protocol
from duchenne.reporting.runs import Run
from duchenne.reporting.tables import SELECTED
from duchenne.reporting.wording import change, percent, points, selection, start, verdict
from duchenne.training.settings import Model, Recipe, Variant
from duchenne.workspace import Workspace

NARROW = "\N{NARROW NO-BREAK SPACE}"


def run(protocol: Protocol | None = None, **metrics: float) -> Run:
    """A run on 240 faces of 20 people in three classes with these metrics."""
    measured = {"n": 240, "subjects": 20, "folds": 1, "classes": 3, "war": 0.7125, "uar": 0.7, "majority": 1 / 3}
    measured |= {"war_low": 0.642, "war_high": 0.78, "recall_anger": 0.7, "recall_fear": 0.7, "recall_sadness": 0.7}
    config = Variant(
        dataset="d",
        protocol=protocol or Protocol(kind="official"),
        model=Model(architecture="poster_v2"),
        recipe=Recipe(epochs=1, batch_size=1, lr=1),
    )
    rows = pd.DataFrame({"kind": ["image"] * 240})
    return run_of("r", config, classes=["anger", "fear", "sadness"], metrics=measured | metrics, rows=rows)


def test_a_change_of_nothing_has_no_minus():
    assert (change(-1e-17, "war"), change(-0.00004, "war")) == ("+0.00", "+0.00")
    assert (change(-0.0123, "war"), change(0.02, "uar"), change(-0.1, "nll")[0]) == ("−1.23", "+2.00", "−")


def test_the_whole_sentence():
    assert verdict(run()).replace(NARROW, " ") == (
        "On 240 faces of 20 people never seen in training, POSTER++ classifies 71.2 % correctly "
        "(95 % interval 64.2–78.0 %). Always guessing the most common class gives 33.3 %; averaged over the 3 classes "
        "70.0 % are correct, where guessing gives 33.3 %. That is better than guessing."
    )


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"war_low": 0.3, "war_high": 0.5}, "does not show that anything was learned"),
        ({"war_low": 0.1, "war_high": 0.2}, "worse than guessing the most common class"),
        ({"folds": 5}, "240 faces of 20 people, each tested by a network that never saw the person, POSTER++"),
        ({"subjects": 0}, "On 240 faces not used in training, POSTER++"),
        ({"subjects": 0, "folds": 5}, "240 faces, each tested by a network not trained on it, POSTER++"),
    ],
)
def test_what_differs(metrics: dict[str, float], words: str):
    assert words in verdict(run(**metrics))


@pytest.mark.parametrize(
    ("pretrained", "words"),
    [
        ({}, "packaged weights of mobilefacenet, trained on rendered people; all other weights were random."),
        ({"mobilefacenet": None}, "random weights."),
        ({"mobilefacenet": None, "ir50": "a.pth"}, "published weights of ir50; all other weights were random."),
        (
            {"ir50": "a.pth"},
            "packaged weights of mobilefacenet, trained on rendered people and published weights of ir50; all other "
            "weights were random.",
        ),
        ({"mobilefacenet": None, "checkpoint": "a.pth"}, "published weights of checkpoint."),
    ],
)
def test_what_training_started_from(pretrained: dict[str, str | None], words: str):
    begun = run()
    model = Model(architecture="poster_v2", pretrained=pretrained)
    begun.config = begun.config.model_copy(update={"model": model})
    assert start(begun) == f"Training started from {words}"
    begun.config = begun.config.model_copy(update={"init_from": "other"})
    assert start(begun) == "Training started from the weights of other."


def test_another_network_gives_the_parts_that_both_have(tmp_path: Path):
    begun = run()
    begun.workspace = Workspace(tmp_path)
    begun.config = begun.config.model_copy(update={"model": Model(architecture="poster_v2"), "init_from": "other"})
    write_json(begun.workspace.fold("other", 1) / "card.json", {"architecture": "poster_t"})
    assert start(begun) == "Training started from the parts of other (POSTER-T) that POSTER++ has too."
    model = Model(architecture="poster_v2", pretrained={"vit": "vit.bin"})
    begun.config = begun.config.model_copy(update={"model": model})
    assert start(begun).endswith(" has too; those that it lacks came from published weights of vit.")


@pytest.mark.parametrize(
    ("rule", "monitor", "words"),
    [
        ("last", "uar", "last epoch"),
        ("val", "war", "best validation WAR"),
        ("test", "war", "best test WAR"),
        ("train", "loss", "lowest training loss"),
    ],
)
def test_which_epoch_is_reported(rule: str, monitor: str, words: str):
    finished = run()
    finished.config = Variant(**finished.config.model_dump() | {"selection": rule, "monitor": monitor})
    assert selection(finished) == words
    assert rule in SELECTED


def test_numbers():
    assert percent(0.71249) == f"71.2{NARROW}%"
    assert percent(1, 0) == f"100{NARROW}%"
    assert (points(0.0125), points(-0.1159), points(0)) == ("+1.25", "−11.59", "+0.00")
