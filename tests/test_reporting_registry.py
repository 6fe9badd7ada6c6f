"""The registry of figures: the contract of every figure."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from figure_tools import documented_figures
from reporting_tools import run_of

from duchenne.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from duchenne.evaluation.robustness import CLEAN, MEASURED
from duchenne.evaluation.statistics import evaluate
from duchenne.protocol import Protocol
from duchenne.reporting.across import Together
from duchenne.reporting.factors import Factor
from duchenne.reporting.feature_map import FeatureMap, Panel
from duchenne.reporting.gap import Finding, Gap, Interval
from duchenne.reporting.registry import (
    ACROSS_FIGURES,
    RUN_FIGURES,
    Drawn,
    Entry,
    RunFigure,
    across_figure,
    draw_run,
    run_figure,
)
from duchenne.reporting.runs import Run
from duchenne.reporting.transfer import Transfers
from duchenne.training.settings import Model, Recipe, Variant

CLASSES = ["happiness", "surprise", "anger"]
with documented_figures() as documented:
    OF_ONE, OF_SEVERAL = dict(RUN_FIGURES), dict(ACROSS_FIGURES)
"""Every registered figure, and those of docs/extending.md."""


def run(name: str, seed: int, **options: object) -> Run:
    """A finished run that knows all that a figure may show, drawn at random but for its test samples."""
    random, label = np.random.default_rng(seed), np.repeat([0, 1, 1, 2], 10)
    probabilities = random.dirichlet([1, 1, 1], 40)
    frame = pd.DataFrame({"sample": [f"s{i}" for i in range(40)], "fold": np.repeat([1, 2], 20), "label": label})
    frame["subject"] = [f"p{i % 8}" for i in range(40)]
    frame["predicted"], frame["confidence"] = probabilities.argmax(axis=1), probabilities.max(axis=1)
    frame = frame.assign(**{f"p_{name}": probabilities[:, i] for i, name in enumerate(CLASSES)})
    history = pd.DataFrame({"epoch": [1, 2, 3] * 2, "fold": np.repeat([1, 2], 3), "seconds": random.random(6)})
    for column in ("train_loss", "train_war", "val_loss", "val_war", "val_uar"):
        history[column] = random.random(6)
    bins = pd.DataFrame({"middle": [0.0, 1.0], "war": random.random(2), "low": 0.1, "high": 0.9})
    config = Variant(
        dataset="d",
        protocol=Protocol(kind="official"),
        model=Model(architecture="poster_v2", options=options),
        recipe=Recipe(epochs=3, batch_size=1, lr=1),
    )
    return run_of(
        name,
        config,
        classes=CLASSES,
        metrics=evaluate(frame, CLASSES, 100) | {"selection": "val"},
        predictions=frame,
        every_prediction=frame,
        history=history,
        cards={fold: {"selection": {"epoch": int(random.integers(1, 4))}} for fold in (1, 2)},
        parts=frame.assign(part=random.choice(["train", "val", "test"], 40)),
        sizes={"params": 10.0 * seed, "macs": 1.5 * seed},
        robustness=damage(random),
        factors=[Factor("yaw", True, bins), Factor("light", False, bins)],
        feature_map=FeatureMap("Features", "A note.", [Panel("", random.normal(size=(40, 2)), label)], frame),
    )


def damage(random: np.random.Generator) -> pd.DataFrame:
    """A table of curves under damage."""
    places = [(CLEAN, 0), *((kind, strength) for kind in CORRUPTIONS for strength in STRENGTHS)]
    table = pd.DataFrame(places, columns=["corruption", "severity"]).assign(n=40)
    for metric in MEASURED:
        table[metric] = random.random(len(table))
        table[f"{metric}_low"], table[f"{metric}_high"] = table[metric] - 0.1, table[metric] + 0.1
    return table


def project(seed: int) -> Together:
    """Two runs that differ in the depth of their networks, the first of them also on another dataset."""
    together = Together([run("shallow", seed), run("deep", seed + 1, vit_depth=4)], 100)
    measured = {"war": 0.1 * seed, "war_low": 0.0, "war_high": 0.5, "uar": 0.1 * seed, "uar_low": 0.0, "uar_high": 0.5}
    own = {"network": "shallow", "dataset": "d", "own": True, "n": 40, "known_classes": 3} | measured
    together.transfers = Transfers([own, own | {"dataset": "other", "own": False}], [])
    change = Finding(
        "weights", "init_from scratch", "measured", {"uar": Interval(0.01 * seed, -0.02, 0.04)}, "deep", True
    )
    bound = Finding("data", "missing", "bounded", {"uar": Interval(float("nan"), -0.1, 0.2)})
    values = {"uar": Interval(0.1 * seed, 0.0, 0.5)}
    together.gaps = {
        "shallow": Gap("shallow", "A table", ["uar"], values, {"uar": 0.9}, values, values, values, [change, bound])
    }
    return together


def check(figure: Entry, one: Drawn, again: Drawn, other: Drawn) -> None:
    """What holds for every figure, drawn twice from the same and once from other data."""
    assert ElementTree.fromstring(one.svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert again == one
    assert other.svg != one.svg
    assert other.alt != one.alt or figure.name == "tsne"  # of which only the number of points is said
    for text in (one.title, one.caption, one.alt):
        assert text.strip()
        assert not re.search(r"\bnan\b|\bNone\b|[{}]", text)
    assert not one.title.endswith(".")
    assert one.caption.endswith((".", ")"))
    assert figure.question[0].isupper()
    assert re.search(r"\d", one.alt)
    assert figure.draw.__doc__ or figure.name in documented


@pytest.mark.parametrize("name", OF_ONE)
def test_every_figure_of_one_run_shows_the_run_and_says_it_in_words(name: str):
    figure = OF_ONE[name]
    assert figure.applies(run("r", 1))
    check(figure, *(figure.drawn(run("r", seed)) for seed in (1, 1, 2)))
    assert figure.section in ("results", "factors")


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_every_figure_of_several_runs_shows_them_and_says_it_in_words(name: str):
    figure = OF_SEVERAL[name]
    one, again, other = (figure.sources(project(seed)) for seed in (1, 1, 3))
    assert one.keys() == again.keys() == other.keys()
    ((key, _),) = one.items()
    assert all(isinstance(part, str) for part in key)
    check(figure, *(figure.drawn(found[key], key) for found in (one, again, other)))
    assert figure.section != "pairs" or key == ("shallow", "deep")
    if name == "difference":
        assert figure.drawn(one[key], key).alt.startswith("Confusion matrix of deep minus that of shallow.")


def test_the_map_alone_has_points_to_point_at():
    drawn, left_out = draw_run(run("r", 1))
    assert {one.name: len(one.points) for one in drawn if one.points} == {"tsne": 40}
    assert left_out == []


def test_captions_say_where_folds_are_drawn_together():
    several, one = run("r", 1), run("r", 1)
    one.cards = {1: several.cards[1]}
    for figure, words in {
        "curves": "Thin: one fold each; thick: their mean. Dotted: the reported epochs",
        "confidences": "a bar at the median, all folds together.",
        "balance": "Classes in each part, all folds together.",
    }.items():
        assert words in OF_ONE[figure].caption(several)
        assert words not in OF_ONE[figure].caption(one)


def test_a_figure_that_does_not_apply_is_left_out_and_may_say_why():
    two = run("r", 1)
    two.classes = CLASSES[:2]
    two.predictions = two.predictions[two.predictions["label"] < 2].assign(
        predicted=0, p_happiness=0.75, p_surprise=0.25
    )
    two.parts = two.parts[two.parts["label"] < 2]
    two.metrics = evaluate(two.predictions, two.classes, 100)
    two.feature_map = FeatureMap("Features", "No map: too few.", [], two.predictions.iloc[:0])
    two.factors = [Factor("light", False, pd.DataFrame())]
    drawn, left_out = draw_run(two)
    assert RUN_FIGURES.keys() - {one.name for one in drawn} == {"radar", "tsne", "factors"}
    assert left_out == ["No map: too few."]


@pytest.mark.parametrize(
    ("name", "question", "message"),
    [
        ("confusion", "Why?", "there is already a figure 'confusion'"),
        ("Loud name", "Why?", "'Loud name': a name may only have lower-case letters, digits and underscores"),
        ("plain", "No question.", "'plain': its question must end with a question mark"),
    ],
)
def test_a_wrong_entry_is_refused(name: str, question: str, message: str):
    before = dict(RUN_FIGURES)
    with pytest.raises(ValueError, match=message):
        run_figure(name, "Title", question=question, caption="Text.", alt=str)(lambda figure, run: None)
    assert before == RUN_FIGURES


def test_names_of_figures_of_one_and_of_several_runs_are_apart():
    try:
        across_figure("confusion", "Title", question="Why?", caption="Text.", alt=str)(lambda figure, runs: None)
        assert "confusion" in ACROSS_FIGURES
    finally:
        ACROSS_FIGURES.pop("confusion", None)


def test_an_error_names_the_figure_and_the_run(monkeypatch: pytest.MonkeyPatch):
    broken = RunFigure("broken", "Broken", "Is it?", "It is.", alt=lambda run: "", draw=lambda figure, run: 1 / 0)
    monkeypatch.setitem(RUN_FIGURES, "broken", broken)
    with pytest.raises(ZeroDivisionError) as error:
        draw_run(run("a", 1))
    assert error.value.__notes__ == ["while drawing the figure 'broken' of a"]
