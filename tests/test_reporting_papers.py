"""The printed numbers: they are in the papers' texts, agree with each other, and belong to variants."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from duchenne.config import whole_library
from duchenne.errors import UserError
from duchenne.papers.printed import Paper, Table, cells, papers, printed
from duchenne.training.settings import Variant

TABLES = [(paper, table) for paper in papers() for table in paper.tables]


@pytest.fixture(scope="module")
def variants() -> dict[str, Variant]:
    return whole_library().variants


def numbers(text: str) -> list[str]:
    """The digits of every number: the scanned text has lost some decimal points, and has commas for others."""
    return [re.sub(r"\D", "", token) for token in re.findall(r"\d[\d.,]*", text)]


def stand_in(line: list[str], values: list[str]) -> bool:
    """Whether the values stand in the line, digit for digit and in this order, with anything between them."""
    rest = iter(line)
    return all(value in rest for value in values)


@pytest.mark.parametrize("paper", [paper for paper in papers() if paper.text], ids=lambda paper: paper.paper)
def test_every_row_stands_in_one_line_of_the_paper(paper: Paper, shared: Path):
    lines = [numbers(line) for line in (shared / "papers" / paper.text).read_text().splitlines()]
    strangers = [
        (table.table, row.method, values)
        for table in paper.tables
        for row in table.rows
        for values in [numbers(" ".join(row.printed))]
        if not any(stand_in(line, values) for line in lines)
    ]
    assert strangers == []


@pytest.mark.parametrize("variant", sorted(cells()))
def test_tables_agree_but_for_the_known_differences(variant: str):
    known = {
        ("poster_rafdb", "uar"): {0.8603, 0.8604},
    }
    values = defaultdict(set)
    for cell in cells()[variant]:
        values[cell.column.metric].add(round(cell.value, 6))
    for metric, found in values.items():
        assert found == known.get((variant, metric), {round(printed(variant)[metric].value, 6)}), metric


def test_mean_accuracies_are_the_means_of_their_classes():
    """Finds a misread digit in the rows of our networks; one is wrong in the paper itself."""
    off = {}
    for _, table in TABLES:
        recalls = [i for i, column in enumerate(table.columns) if (column.metric or "").startswith("recall_")]
        uar = [i for i, column in enumerate(table.columns) if column.metric == "uar"]
        for row in (row for row in table.rows if recalls and row.run):
            mean = np.nanmean([row.values[i] for i in recalls])
            if abs(mean - row.values[uar[0]]) > 0.0101:
                off[table.about, row.method] = (round(mean, 2), row.values[uar[0]])
    assert off == {("Class-wise accuracy", "AffectNet (7 cls), POSTER++"): (67.49, 67.45)}


DFEW_PART = [489, 379, 534, 435, 294, 29, 181]
"""Clips of a test part of DFEW, happy to fear."""


def recall_rows(paper_name: str) -> list[tuple[list[float], dict[str, float]]]:
    """Printed recalls of each row of ours, and all its printed values by metric."""
    found = []
    for paper, table in TABLES:
        for row in table.rows:
            values = {c.metric: value for c, value in zip(table.columns, row.values, strict=True) if c.metric}
            recalls = [value for metric, value in values.items() if metric.startswith("recall_")]
            if paper.paper == paper_name and row.run and recalls:
                found.append((recalls, values))
    return found


def test_the_emotions_of_dfew_are_rounded_counts_of_five_folds_averaged():
    """What the note of IFDD's Table 5 says: whole clips of one test part, whose means are those of five folds."""
    rows = recall_rows("IFDD")
    assert len(rows) == 14  # four in Table 5, eight in Table 11, two in Table 14
    counts = [[round(value * n / 100) for value, n in zip(row, DFEW_PART, strict=True)] for row, _ in rows]
    for (row, values), clips in zip(rows, counts, strict=True):
        assert [round(100 * count / n, 2) for count, n in zip(clips, DFEW_PART, strict=True)] == row
        assert 100 * np.mean(np.divide(clips, DFEW_PART)) == pytest.approx(values["uar"], abs=0.006)
        assert 100 * sum(clips) / sum(DFEW_PART) == pytest.approx(values["war"], abs=0.02)
    clips = next(c for (_, values), c in zip(rows, counts, strict=True) if values["war"] == 70.01)
    assert round(100 * sum(clips) / sum(DFEW_PART), 2) == 70.01  # the folds average to 70.02
    assert round(100 * float(np.mean(np.divide(clips, DFEW_PART))), 2) == 56.72  # and to 56.73


@pytest.mark.parametrize(("variant", "recall"), [("poster_affectnet_8", 0.5471), ("poster_v2_affectnet_8", 0.5952)])
def test_contempt_of_affectnet_has_499_test_images(variant: str, recall: float):
    assert printed(variant)["recall_contempt"].value == pytest.approx(recall)
    assert round(round(recall * 499) / 499, 4) == recall
    assert round(round(recall * 500) / 500, 4) != recall


def test_results_over_folds_are_the_means_of_the_folds():
    for variant in ("ifdd_2dcnn_dfew", "ifdd_3dvit_dfew", "ifdd_2dcnn_mafw", "ifdd_3dvit_mafw"):
        values = {metric: cell.value for metric, cell in printed(variant).items()}
        for name in ("uar", "war"):
            mean = sum(values[f"{name}_fold_{fold}"] for fold in range(1, 6)) / 5
            assert values[name] == pytest.approx(mean, abs=1.5e-4)  # 70.01 is printed for 70.022


def test_a_row_with_two_datasets_prints_for_two_variants():
    tiny = {metric: cell.value for metric, cell in printed("poster_t_rafdb").items()}
    assert tiny == {
        "params": 52.2, "flops": 13.6, "params_blocks": 19.7, "flops_blocks": 2.4, "war": pytest.approx(0.9136)
    }  # fmt: skip
    assert printed("poster_t_affectnet_7")["war"].value == pytest.approx(0.6686)  # POSTER++'s table has 66.87
    assert "params" not in printed("poster_t_affectnet_7")


def test_values_come_with_their_place():
    cell = printed("poster_v2_rafdb")["uar"]
    assert (cell.paper.paper, cell.table.table, cell.row.method, cell.column.name) == (
        "POSTER++", "Table 4", "RAF-DB, POSTER++", "mean Acc"
    )  # fmt: skip
    assert printed("frl_dgt_megc2019")["uf1"].value == 0.812


def test_an_unknown_variant_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'poster_v2_rafbd' \(did you mean 'poster_v2_rafdb'\?\)"):
        printed("poster_v2_rafbd")


def test_digits_stay_as_printed():
    """YAML would read 92.30 as a number and lose its last digit."""
    fold = next(table for paper, table in TABLES if (paper.paper, table.table) == ("IFDD", "Table 13"))
    assert "54.20" in fold.rows[2].printed
    assert 54.2 in fold.rows[2].values


def test_every_variant_of_a_row_is_in_the_library(variants: dict[str, Variant]):
    named = {
        row.run.format(data=column.data)
        for _, table in TABLES
        for row in table.rows
        for column in table.columns
        if row.run and column.metric
    }
    assert len(named) > 60
    assert named - set(variants) == set()


def test_every_variant_that_reproduces_names_one_that_is_printed(variants: dict[str, Variant]):
    for config in variants.values():
        assert config.reproduces is None or printed(config.reproduces)


def test_no_two_tables_have_one_name():
    names = Counter((paper.slug, table.table.lower()) for paper, table in TABLES)
    assert [name for name, times in names.items() if times > 1] == []


TABLE = {
    "table": "Table 1",
    "about": "a test",
    "columns": [{"name": "Acc", "metric": "war"}, {"name": "mAcc", "metric": "uar"}],
    "rows": [{"method": "ours", "run": "mine", "printed": ["90", "80"]}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"method": "ours", "printed": ["90"]}]}, "row 'ours' has 1 values for 2 columns"),
        ({"rows": [{"method": "ours", "run": "a_{data}", "printed": ["90", "80"]}]}, "go together"),
        ({"columns": [{"name": "Acc", "metric": "accuracy"}] * 2}, "'accuracy' is not one of war, uar, uf1, "),
        ({"columns": [{"name": "Size", "metric": "params"}] * 2}, "needs counting.params"),
        ({"unit": "percent"}, "'per cent' or 'share'"),
        ({"rows": [{"method": "ours", "printed": ["90", "–"]}]}, "String should match pattern"),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(change: dict, message: str):
    assert Table.model_validate(TABLE).rows[0].run == "mine"
    with pytest.raises(ValidationError, match=message):
        Table.model_validate({**TABLE, **change})
