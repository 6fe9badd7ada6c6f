"""Figures: well-formed, the same every time, right numbers, and ready for a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from reporting_tools import run_of

from duchenne.metrics import BINS
from duchenne.reporting import figures, figures_across
from duchenne.reporting.across import MAX_STARS, Pair, Recalls, Sizes
from duchenne.reporting.colours import BLUE, ORANGE, PALETTE
from duchenne.reporting.factors import Factor
from duchenne.reporting.feature_map import FeatureMap, Panel
from duchenne.reporting.map_layout import places
from duchenne.reporting.registry import RUN_FIGURES
from duchenne.reporting.runs import Run
from duchenne.reporting.style import VARIABLES, inline, svg_text

CLASSES = ["happiness", "surprise", "anger"]
NARROW = "\N{NARROW NO-BREAK SPACE}"
MEASURED = pd.DataFrame({"middle": [0.0, 1.0], "war": [0.5, 0.7], "low": [0.4, 0.6], "high": [0.6, 0.8]})
SIZED = pd.DataFrame(
    {
        "war": [0.5, 0.7],
        "war_low": [0.4, 0.6],
        "war_high": [0.6, 0.8],
        "params": [10, 20],
        "macs": [1, 4],
        "depth": [2, 4],
        "printed": [0.6, np.nan],
    },
    index=["small", "large"],
)
STARS = pd.DataFrame([[0.9, 0.5, 0.2], [0.4, 0.6, 0.1]], index=["good", "bad"], columns=CLASSES)
DIFFERENCE = pd.DataFrame([[0.25, -0.25, 0], [0, 0, 0]], index=CLASSES[:2], columns=CLASSES)


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    random = np.random.default_rng(0)
    label = np.repeat([0, 1, 1, 2], 10)
    return pd.DataFrame(
        {
            "sample": [f"s{i}" for i in range(40)],
            "fold": 1,
            "subject": [f"p{i % 8}" for i in range(40)],
            "label": label,
            "predicted": np.where(random.random(40) < 0.7, label, 0),
            "confidence": random.uniform(0.4, 1, 40),
        }
        | dict(zip([f"p_{name}" for name in CLASSES], random.dirichlet([1, 1, 1], 40).T, strict=True))
    )


def drawn(draw: Callable[[Figure, object], None], source: object) -> Figure:
    """What a figure draws, as artists whose data can be read."""
    figure = Figure()
    draw(figure, source)
    return figure


def svg_of(draw: Callable[[Figure, object], None], source: object) -> str:
    return svg_text(draw, 4.4, source)


def answers(frame: pd.DataFrame, classes: list[str] = CLASSES) -> Run:
    """A run with these predictions."""
    return run_of(predictions=frame, classes=classes)


def trained(history: pd.DataFrame, selected: dict[int, int], monitor: str = "uar") -> Run:
    """A run with this history and these reported epochs."""
    cards = {fold: {"selection": {"epoch": epoch}} for fold, epoch in selected.items()}
    run = run_of(history=history, cards=cards, metrics={})
    run.config = run.config.model_copy(update={"monitor": monitor})
    return run


def mapped(panels: list[Panel]) -> Run:
    """A run whose features are mapped like this."""
    nothing = pd.DataFrame()
    return run_of(classes=CLASSES, feature_map=FeatureMap("Features", "A note.", panels, nothing))


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_cells_of_the_confusion_matrix_are_the_counts(predictions: pd.DataFrame):
    shown = texts(svg_of(figures.confusion, answers(predictions)))
    counts = pd.crosstab(predictions["label"], predictions["predicted"]).reindex(columns=range(3), fill_value=0)
    assert [int(text) for text in shown if text.isdigit()] == counts.to_numpy().ravel().tolist()
    assert "10 %" in shown or "100 %" in shown


def test_a_cell_of_the_confusion_matrix_has_the_colour_of_its_share_of_the_actual_class():
    frame = pd.DataFrame({"label": [0, 0, 0, 0, 1, 1], "predicted": [0, 0, 0, 2, 0, 1]})
    (axes,) = drawn(figures.confusion, answers(frame)).axes
    shares = np.asarray(axes.collections[0].get_array()).reshape(3, 3)
    assert shares.tolist() == [[0.75, 0, 0.25], [0.5, 0.5, 0], [0, 0, 0]]
    cells = defaultdict(list)
    for text in axes.texts:
        across, down = text.get_position()
        cells[int(across), int(down)].append(text.get_text())
    assert cells[2, 0] == ["1", "25 %"]  # column predicted, row actual
    assert cells[0, 1] == ["1", "50 %"]
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES
    assert axes.yaxis_inverted()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "actual")


RECALLS = {"happiness": (0.9, 0.8, 0.95), "surprise": (0.4, 0.25, 0.6), "anger": (0.2, 0.1, 0.5)}
MEASURES = {"uar": 0.5} | {
    f"recall_{name}{end}": value
    for name, values in RECALLS.items()
    for end, value in zip(("", "_low", "_high"), values, strict=True)
}


def test_recalls_are_points_with_their_intervals():
    (axes,) = drawn(figures.recalls, run_of(metrics=MEASURES, classes=CLASSES)).axes
    (points,) = axes.containers
    line, caps, (bars,) = points
    values, low, high = map(list, zip(*RECALLS.values(), strict=True))
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == (values, [0, 1, 2])
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [
        pytest.approx(ends) for ends in zip(low, high, strict=True)
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES
    across = {line.get_label(): line.get_xdata()[0] for line in axes.lines if line not in (points[0], *caps)}
    assert across == {"UAR, 50.0 %": 0.5, "guessing, 33.3 %": pytest.approx(1 / 3)}


def test_the_star_of_a_run_has_its_recalls_and_a_band_of_their_intervals():
    (axes,) = drawn(figures.radar, run_of(metrics=MEASURES, classes=CLASSES)).axes
    values, low, high = zip(*RECALLS.values(), strict=True)
    star, guessing = axes.lines
    assert star.get_ydata().tolist() == [*values, values[0]]
    assert star.get_xdata() == pytest.approx(np.deg2rad([0, 120, 240, 360]))
    assert set(guessing.get_ydata()) == {1 / 3}
    (band,) = axes.collections
    corners = {(round(np.rad2deg(angle)), radius) for angle, radius in band.get_paths()[0].vertices}
    assert corners >= {(120 * i, ends[i]) for ends in (low, high) for i in range(3)}
    assert {radius for _, radius in corners} == {*low, *high}
    assert [label.get_text() for label in axes.get_xticklabels()] == CLASSES


def test_bars_of_the_reliability_diagram_are_accuracies_and_marks_are_confidences():
    numbers = {0.35: (10, 1), 0.7: (40, 36)}  # confidence: samples, correct ones
    rows = [(0, int(i >= correct), share) for share, (n, correct) in numbers.items() for i in range(n)]
    run = answers(pd.DataFrame(rows, columns=["label", "predicted", "confidence"]))
    run.metrics = {"ece": 0.1}
    above, below = drawn(figures.reliability, run).axes
    middles = [(int(BINS * share) + 0.5) / BINS for share in numbers]
    for axes, heights in ((above, [0.1, 0.9]), (below, [10, 40])):
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(heights)
        assert [bar.get_x() + bar.get_width() / 2 for bar in axes.patches] == pytest.approx(middles)
    marks, diagonal = above.lines
    for data in (marks.get_xdata(), marks.get_ydata()):
        assert data.tolist() == pytest.approx([0.35, 0.7])
    assert (list(diagonal.get_xdata()), list(diagonal.get_ydata())) == ([0, 1], [0, 1])
    assert (above.containers[0].get_label(), marks.get_label()) == ("accuracy", "confidence")
    assert above.figure.legends[0].get_title().get_text() == "ECE 10.0 %"


def test_bars_of_the_balance_are_shares_of_their_part():
    labels = {"train": [0, 0, 0, 1, 1, 2, 2, 2], "val": [0, 2], "test": [1, 1, 1, 0]}
    frame = pd.DataFrame([(part, label) for part, own in labels.items() for label in own], columns=["part", "label"])
    (axes,) = drawn(figures.balance, run_of(parts=frame, classes=CLASSES)).axes
    shown = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert shown == {"train": [3 / 8, 2 / 8, 3 / 8], "val": [1 / 2, 0, 1 / 2], "test": [1 / 4, 3 / 4, 0]}
    for bars in axes.containers:
        assert [round(bar.get_y() + bar.get_height() / 2) for bar in bars] == [0, 1, 2]
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES


def test_words_of_the_balance_are_shares_of_their_part():
    frame = pd.DataFrame({"part": ["train"] * 5 + ["test"] * 5, "label": [0, 0, 0, 1, 2, 1, 1, 2, 2, 2]})
    words = RUN_FIGURES["balance"].alt(run_of(parts=frame, classes=CLASSES)).replace(NARROW, " ")
    assert "train: happiness 60.0 %, surprise 20.0 %, anger 20.0 %" in words
    assert "test: anger 60.0 %, surprise 40.0 %" in words


def test_factors_are_curves_of_war_with_their_intervals():
    other = MEASURED.assign(war=[0.1, 0.2], low=[0.0, 0.1], high=[0.3, 0.4])
    panels = drawn(
        figures.factors,
        run_of(
            factors=[Factor("yaw", True, MEASURED), Factor("light", False, other), Factor("blur", True, other)],
            metrics={"war": 0.6},
        ),
    ).axes
    for panel, name, table in zip(panels, ("yaw", "blur"), (MEASURED, other), strict=True):
        curve, whole = panel.lines
        assert panel.get_xlabel() == name
        assert curve.get_xdata().tolist() == table["middle"].tolist()
        assert curve.get_ydata().tolist() == table["war"].tolist()
        assert set(whole.get_ydata()) == {0.6}
        corners = set(map(tuple, panel.collections[0].get_paths()[0].vertices))
        assert corners == {(row.middle, end) for row in table.itertuples() for end in (row.low, row.high)}


def test_densities_are_drawn_over_the_confidences_of_right_and_wrong_answers():
    frame = pd.DataFrame({"label": [0, 0, 0, 1], "predicted": [0, 0, 0, 0], "confidence": [0.92, 0.93, 0.97, 0.41]})
    (axes,) = drawn(figures.densities, answers(frame)).axes
    assert [line.get_xdata()[0] for line in axes.lines] == [0.93, 0.41]
    for outline, start, high in zip(axes.patches, (0.9, 0.4), (40 / 3, 20), strict=True):
        corners = outline.get_xy()
        tallest = corners[corners[:, 1] == corners[:, 1].max()]
        assert tallest.min(axis=0) == pytest.approx([start, high])  # a bin of width 0.05 with two of three, one of one


@pytest.mark.parametrize("number", [2, 8, 15])
def test_the_confusion_matrix_takes_any_number_of_classes(number: int):
    frame = pd.DataFrame({"label": np.arange(number), "predicted": np.arange(number)})
    shown = texts(svg_of(figures.confusion, answers(frame, [f"class {i}" for i in range(number)])))
    assert shown.count("100 %") == number


def test_each_panel_of_the_curves_holds_one_quantity_of_all_parts():
    columns = [f"{part}_{metric}" for part in ("train", "val", "test") for metric in ("loss", "war", "uar")]
    values = {column: [0.1 * i, 0.1 * i + 0.05, 0.1 * i + 0.02, 0.1 * i + 0.03] for i, column in enumerate(columns)}
    history = pd.DataFrame({"epoch": [1, 2, 1, 2], "fold": [1, 1, 2, 2]} | values)
    figure = drawn(figures.curves, trained(history, {1: 2, 2: 2}))
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "WAR", "UAR"]
    for axes, metric in zip(figure.axes, ("loss", "war", "uar"), strict=True):
        thick = {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}
        assert thick.keys() == {"training", "validation", "test"}
        for label, part in {"training": "train", "validation": "val", "test": "test"}.items():
            one, two, three, four = values[f"{part}_{metric}"]
            np.testing.assert_allclose(thick[label], [(one + three) / 2, (two + four) / 2])
            thin = [line for line in axes.lines if line.get_linestyle() == figures.PART_CURVES[part][2]][:-1]
            assert [line.get_ydata().tolist() for line in thin] == [[one, two], [three, four]]  # a fold each
            assert {tuple(line.get_xdata()) for line in thin} == {(1, 2)}
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"] == [2]


def test_epochs_that_other_rules_would_report_are_marked_at_the_top():
    history = pd.DataFrame({"epoch": [1, 2, 3, 1, 2, 3], "fold": [1, 1, 1, 2, 2, 2], "val_uar": 0.5, "val_loss": 1.0})
    run = trained(history, {1: 2, 2: 2})
    epochs = {"last": [3, 3], "val": [2, 2], "test": [1, 3]}
    run.rules = {rule: pd.DataFrame({"fold": [1, 2], "epoch": both}) for rule, both in epochs.items()}
    top = drawn(figures.curves, run).axes[0]
    marks = {line.get_marker(): line.get_xdata().tolist() for line in top.lines if not line.get_clip_on()}
    assert marks == {"s": [3], "v": [1, 3]}
    said = RUN_FIGURES["curves"].caption(run)
    assert "At the top, epochs that other rules would report: square last epoch, triangle best test UAR." in said
    assert said.endswith("The test part had no share in the training or the choice of the epoch.")


@pytest.mark.parametrize(
    ("monitor", "labels"),
    [("uar", ["loss", "WAR", "UAR"]), ("loss", ["loss", "WAR", "UAR"]), ("kappa", ["loss", "WAR", "UAR", "Kappa"])],
)
def test_the_metric_that_picks_the_epoch_has_a_curve(monitor: str, labels: list[str]):
    columns = {f"val_{name}": [0.25, 0.5] for name in ("loss", "war", "uar", "kappa")}
    figure = drawn(figures.curves, trained(pd.DataFrame({"epoch": [1, 2], "fold": 1} | columns), {1: 1}, monitor))
    assert [axes.get_ylabel() for axes in figure.axes] == labels


def test_a_history_without_a_validation_part_shows_no_such_curve():
    history = pd.DataFrame({"epoch": [1], "fold": [1], "train_loss": [1.0], "train_war": [0.5], "val_loss": [np.nan]})
    shown = texts(svg_of(figures.curves, trained(history, {1: 1})))
    assert "training" in shown
    assert "validation" not in shown


def test_the_legend_of_densities_counts_correct_and_wrong(predictions: pd.DataFrame):
    correct = predictions["label"] == predictions["predicted"]
    shown = " ".join(texts(svg_of(figures.densities, answers(predictions))))
    for name, own in {"correct": predictions[correct], "wrong": predictions[~correct]}.items():
        assert f"{name}: {len(own)}, median {own['confidence'].median():.0%}".replace("%", " %") in shown


def test_confidences_of_a_run_without_mistakes_are_drawn(predictions: pd.DataFrame):
    run = answers(predictions.assign(predicted=predictions["label"]))
    assert "wrong" not in " ".join(texts(svg_of(figures.densities, run)))


def test_confidence_in_a_class_is_that_of_its_samples_and_of_the_others():
    frame = pd.DataFrame(
        {"label": [0, 0, 1, 1, 1], "p_anger": [0.9, 0.7, 0.2, 0.1, 0.4], "p_joy": [0.1, 0.3, 0.8, 0.9, 0.6]}
    )
    run = answers(frame, ["anger", "joy"])
    run.metrics = {"recall_anger": 1.0, "recall_joy": 1.0}
    (axes,) = drawn(figures.confidences, run).axes
    shown = [(points.get_offsets().T[0], points.get_offsets().T[1].tolist()) for points in axes.collections[::2]]
    assert [values for _, values in shown] == [[0.2, 0.1, 0.4], [0.9, 0.7], [0.1, 0.3], [0.8, 0.9, 0.6]]
    for (across, _), (low, high) in zip(shown, [(-1, 0), (0, 1), (0, 1), (1, 2)], strict=True):  # left are the others
        assert (across > low).all()
        assert (across < high).all()
    assert [line.get_ydata()[0] for line in axes.lines] == pytest.approx([0.2, 0.8, 0.2, 0.8])
    assert [line.get_label() for line in axes.lines[:2]] == ["other classes", "samples of the class"]


def test_a_density_of_shares_adds_up_to_one_and_does_not_sink_at_the_ends():
    for values in (np.random.default_rng(0).uniform(0, 1, 2000), np.array([0.999, 1.0, 0.9999, 0.98])):
        assert np.trapezoid(figures.kernel_density(values), figures.LEVELS) == pytest.approx(1, abs=0.02)
    flat = figures.kernel_density(np.random.default_rng(0).uniform(0, 1, 2000))
    assert flat == pytest.approx(np.ones(201), abs=0.15)
    assert figures.kernel_density(np.full(4, 0.3)) is None
    assert figures.kernel_density(np.array([0.3])) is None


def test_sizes_show_ours_with_intervals_and_the_printed_ones_by_number():
    printed = pd.DataFrame({"war": [0.91, 0.92], "params": [65.2, 43.7]}, index=["TransFER", "POSTER++"])
    figure = drawn(figures_across.sizes, Sizes("d", SIZED, printed))
    left, right = figure.axes
    for axes, column in ((left, "params"), (right, "macs")):
        shown = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines if len(line.get_xdata())]
        for size, war in zip(SIZED[column], SIZED["war"], strict=True):
            assert ([size], [war]) in shown
            assert ([size], [pytest.approx(war - 0.1)]) in shown
    marked = {line.get_marker(): (*line.get_xdata(), *line.get_ydata()) for line in left.lines}
    assert marked["$1$"] == (65.2, 0.91)
    assert marked["$2$"] == (43.7, 0.92)
    assert "$1$" not in {line.get_marker() for line in right.lines}
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["small", "large", "TransFER, printed", "POSTER++, printed"]
    assert left.get_xlim()[1] > 65.2


def test_depths_show_the_printed_value_beside_ours():
    (axes,) = drawn(figures_across.depths, {"one": SIZED}).axes
    (printed,) = [line for line in axes.lines if line.get_marker() == "d"]
    np.testing.assert_array_equal(printed.get_ydata(), [0.6, np.nan])
    curve = next(line for line in axes.lines if line.get_linestyle() == "-")
    assert (curve.get_xdata().tolist(), curve.get_ydata().tolist()) == ([2, 4], [0.5, 0.7])


def test_stars_of_several_runs_close_and_stand_at_their_class():
    figure = drawn(
        figures_across.recalls, Recalls("d", STARS, STARS.rename(index={"good": "best", "bad": "worst"}) / 2)
    )
    for axes, factor, names in zip(figure.axes, (1, 0.5), (["good", "bad"], ["best", "worst"]), strict=True):
        assert [line.get_label() for line in axes.lines] == names
        assert axes.lines[0].get_ydata() == pytest.approx(factor * np.array([0.9, 0.5, 0.2, 0.9]))
        assert axes.lines[0].get_xdata() == pytest.approx(np.deg2rad([0, 120, 240, 360]))
        assert [label.get_text() for label in axes.get_xticklabels()] == CLASSES
        assert axes.patches[0].get_xy()[:3, 1] == pytest.approx([0.9, 0.5, 0.2])  # ours, in both
    assert len(drawn(figures_across.recalls, Recalls("d", STARS, STARS.iloc[:0])).axes) == 1


def test_the_difference_of_confusions_is_in_points_with_signs():
    pair = Pair("one", "other", DIFFERENCE, pd.DataFrame())
    (axes,) = drawn(figures_across.confusion_difference, pair).axes
    assert [text.get_text() for text in axes.texts] == ["+25.0", "−25.0", "0", "0", "0", "0"]
    cells = axes.collections[0]
    assert np.asarray(cells.get_array()).ravel().tolist() == [0.25, -0.25, 0, 0, 0, 0]
    assert cells.get_clim() == (-0.25, 0.25)
    more, less = cells.get_cmap()([1.0, 0.0])
    assert (to_hex(more), to_hex(less)) == (BLUE, ORANGE)
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES[:2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "actual")


def test_each_star_of_a_panel_has_a_colour_of_its_own():
    assert len(PALETTE) >= MAX_STARS


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 5)])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_places_are_where_the_points_are_drawn(shape: tuple[float, float], number: int):
    random = np.random.default_rng(0)
    panels = [Panel(f"fold {i}", random.normal(size=(40, 2)) * shape, np.zeros(40, int)) for i in range(number)]
    document = ElementTree.fromstring(svg_of(figures.embedding, mapped(panels)))
    _, _, width, height = map(float, document.get("viewBox").split())
    uses = document.iterfind(".//{*}g[@clip-path]/{*}use")
    shown = np.array([[float(use.get("x")) / width, float(use.get("y")) / height] for use in uses])
    assert shown == pytest.approx(places(panels, CLASSES), abs=1e-5)
    assert (shown > 0).all()
    assert (shown < 1).all()


def test_maps_of_folds_do_not_overlap_and_keep_their_own_points():
    random = np.random.default_rng(0)
    panels = [Panel(f"fold {i}", random.normal(size=(20, 2)) + 9 * i, np.arange(20) % 3) for i in range(5)]
    figure = drawn(figures.embedding, mapped(panels))
    assert [axes.get_title() for axes in figure.axes] == [panel.title for panel in panels]
    boxes = [axes.get_position() for axes in figure.axes]
    shared = [Bbox.intersection(one, two) for i, one in enumerate(boxes) for two in boxes[:i]]
    assert all(box is None or box.width * box.height < 1e-9 for box in shared)
    for axes, panel in zip(figure.axes, panels, strict=True):
        for label, own in enumerate(axes.collections):
            assert own.get_label() == CLASSES[label]
            offsets, points = np.asarray(own.get_offsets()), panel.points[panel.labels == label]
            across, down = (offsets[1] - offsets[0]) / (points[1] - points[0])
            assert across == pytest.approx(down)  # moved and scaled the same in both directions
            assert offsets == pytest.approx(across * (points - points[0]) + offsets[0])
    assert len(figure.legends[0].get_texts()) == 3


def test_points_at_one_place_have_a_map():
    placed = places([Panel("", np.ones((5, 2)), np.zeros(5, int))], CLASSES)
    assert np.isfinite(placed).all()
    assert (placed == placed[0]).all()


def test_many_points_are_drawn_as_pixels():
    number = figures.VECTOR_POINTS + 1
    points = np.random.default_rng(0).normal(size=(number, 2))
    svg = svg_of(figures.embedding, mapped([Panel("", points, np.zeros(number, int))]))
    assert "data:image/png" in svg
    assert len(svg) < 1_000_000


def test_inline_figures_share_a_page(predictions: pd.DataFrame):
    svg = svg_of(figures.confusion, answers(predictions))
    one, two = (inline(svg, prefix, 'A <label> & "more"') for prefix in "ab")
    ids_one, ids_two = (set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two))
    assert ids_one
    assert not ids_one & ids_two
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', one)[0]) <= {*ids_one, ""}
    assert ElementTree.fromstring(one).get("aria-label") == 'A <label> & "more"'
    assert not any(colour in one for colour in VARIABLES)
    assert "<?xml" not in one
