"""Texts and data on several runs together."""

from __future__ import annotations

import re

from reporting_tools import run_of

from duchenne.protocol import Protocol
from duchenne.reporting import figures_across  # noqa: F401  (registers the figures)
from duchenne.reporting.across import Together, depths, recalls, sizes
from duchenne.reporting.printed import printed_methods
from duchenne.reporting.registry import ACROSS_FIGURES, Drawn
from duchenne.reporting.runs import Run
from duchenne.training.settings import Model, Recipe, Variant

NARROW = "\N{NARROW NO-BREAK SPACE}"


def run(name: str, war: float, architecture: str = "poster_v2", params: float | None = 10.0, **changes: object) -> Run:
    """A run with this result, its network of so many million parameters or not counted.

    ``changes`` are fields of the variant, ``options`` those of its network.
    """
    options = changes.pop("options", {})
    config = Variant(
        **{
            "dataset": "d",
            "protocol": Protocol(kind="official"),
            "model": Model(architecture=architecture, options=options),
            "recipe": Recipe(epochs=1, batch_size=1, lr=1),
            **changes,
        }
    )
    metrics = {"war": war, "war_low": war - 0.1, "war_high": war + 0.1}
    counts = {"params": params, "macs": 1.25} if params else {}
    return run_of(name, config, classes=["anger", "fear"], metrics=metrics, sizes=counts)


def drawn(name: str, *runs: Run) -> dict[tuple[str, ...], Drawn]:
    """A figure of several runs, as often as it is drawn."""
    figure = ACROSS_FIGURES[name]
    return {key: figure.drawn(source, key) for key, source in figure.sources(Together(list(runs))).items()}


def told(words: str) -> list[str]:
    """The values by depth in a figure's words."""
    return re.findall(r"\d+ blocks [\d.]+", words)


def test_depths_join_networks_and_options_of_a_family_in_order():
    runs = [
        run("t", 0.6, "poster_t"),
        run("l", 0.8, "poster_l"),
        run("two", 0.5, "poster_l", options={"depth": 2}, note="other words", reproduces="poster_rafdb"),
        run("alone", 0.9),
    ]
    (figure,) = drawn("depths", *runs).values()
    assert told(figure.alt) == ["2 blocks 50.0", "4 blocks 60.0", "8 blocks 80.0"]
    assert "8 blocks 80.0\N{NARROW NO-BREAK SPACE}%." in figure.alt  # nothing is printed for this run
    assert "POSTER on d, as t" in figure.alt
    assert "<svg" in figure.svg


def test_runs_that_differ_in_more_than_depth_are_no_curve():
    deeper = {"vit_depth": 4}
    for other in (
        {"options": deeper, "seed": 1},
        {"options": deeper, "dataset": "e"},
        {"options": deeper | {"drop_path_rate": 0.2}},
        {"options": {"vit_depth": 2}},
    ):
        assert not depths(Together([run("a", 0.5), run("b", 0.6, **other)]))
    assert not depths(Together([run("a", 0.5, "frl_dgt")]))


def test_small_sizes_keep_three_digits_in_words():
    (found,) = sizes(Together([run("a", 0.5), run("b", 0.6, params=0.002203)])).values()
    assert "b: 0.00220 M parameters, 1.25 G MACs" in ACROSS_FIGURES["sizes"].alt(found)


def test_sizes_are_drawn_where_networks_of_two_sizes_share_a_dataset():
    same = [run("d", 0.8, dataset="e"), run("e", 0.8, dataset="e")]
    found = sizes(Together([run("a", 0.5), run("b", 0.6, params=20.0), run("c", 0.7, params=None), *same]))
    assert list(found) == [("d",)]
    assert (
        ACROSS_FIGURES["sizes"].alt(found["d",])
        == "; ".join(
            f"{name}: {size} M parameters, 1.25 G MACs, WAR {war}{NARROW}%"
            for name, size, war in (("a", "10.0", "50.0"), ("b", "20.0", "60.0"))
        )
        + "."
    )


def test_printed_rows_belong_to_the_dataset_of_their_column():
    def war(dataset: str, method: str, source: str) -> list[float]:
        found = printed_methods(dataset)
        return [round(m.values["war"], 6) for m in found if (m.row.method, m.source) == (method, source)]

    assert war("raf_db", "DMUE", "POSTER++, Table 6") == [0.8942]
    assert war("affectnet_7", "DMUE", "POSTER++, Table 6") == [0.6311]
    assert war("raf_db", "POSTER++", "POSTER++, Table 6") == [0.9221]
    assert war("affectnet_8", "DMUE", "POSTER++, Table 6") == []
    assert war("dfew", "CDGT", "IFDD, Table 5") == [0.7007]
    assert war("mafw", "T-ESFL", "IFDD, Table 7") == [0.4818]
    # one table of three sets: each row belongs to that of its own variant
    rows = [m.row.method for m in printed_methods("affectnet_8") if m.source == "POSTER++, Table 4"]
    assert rows == ["AffectNet (8 cls), POSTER", "AffectNet (8 cls), POSTER++"]
    assert printed_methods("synth_demo") == []


def test_sizes_and_recalls_stand_beside_the_printed_ones():
    names = ["happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear"]
    scored = run("mine", 0.6, "ifdd_3dvit", dataset="dfew")
    scored.classes, scored.metrics = names, scored.metrics | {"uar": 0.5} | {f"recall_{n}": 0.5 for n in names}
    found = sizes(Together([run("m", 0.9, dataset="raf_db")]))["raf_db",]
    assert "POSTER++, as printed: 43.7 M parameters, WAR 92.21" in ACROSS_FIGURES["sizes"].alt(found)
    words = ACROSS_FIGURES["recalls"].alt(recalls(Together([scored]))["dfew",])
    assert f"mine: happiness 50.0{NARROW}%" in words
    assert re.findall(r"; ([^:;]+), as printed", words) == [
        "IFDD-3DViT", "MViT (Baseline)", "IFDD-2DCNN", "MobileNetV2 (Baseline)", "CDGT", "M3DFEL", "GCA+IAL", "STT",
    ]  # fmt: skip
    best = run("best", 0.5, "ifdd_3dvit", dataset="dfew")  # WAR is lower, UAR higher
    best.classes, best.metrics = names, scored.metrics | {"war": 0.5, "uar": 0.55}
    assert recalls(Together([scored, best]))["dfew",].runs.index.tolist() == ["best", "mine"]
    scored.config = run("x", 0.5, dataset="synth_video_demo").config
    assert recalls(Together([scored])) == {}
