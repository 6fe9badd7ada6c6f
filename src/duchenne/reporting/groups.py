"""Metrics by group of people as tables and words, for the page and ``duchenne groups``."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duchenne.errors import printable
from duchenne.evaluation.groups import OF_GROUPS
from duchenne.metrics import METRICS
from duchenne.reporting.runs import Run

MEASURES = {
    "mean_uf1": "mean of the groups’ UF1",
    "statistical_parity": "statistical parity",
    "equal_opportunity": "equal opportunity",
}
"""Measure of :func:`duchenne.evaluation.groups.measure_groups` -> its name."""

CARE = (
    "A group is what the dataset’s column says: an annotator’s judgement, a self-report, or a parameter of a renderer. "
    "A gap on one test set is no proof of discrimination, and its absence none of fairness: groups may also differ in "
    "light, pose, expressions and number."
)
"""What a reader must know before reading the numbers."""


def group_table(runs: list[Run]) -> pd.DataFrame:
    """Return a row per run, column and group: ``variant``, ``column`` and what ``groups.json`` has of the group."""
    rows = [
        {"variant": run.name, "column": column["column"], **group}
        for run in runs
        for column in run.groups["columns"]
        for group in column["groups"]
    ]
    return pd.DataFrame(rows, columns=None if rows else ["variant", "column", "group"])


def number(value: float | None, signed: bool = False) -> str:
    """Format a share in per cent with one decimal; ``–`` if there is none."""
    return "–" if value is None else f"{100 * value:{'+' if signed else ''}.1f}".replace("-", "−")


def span(entry: dict[str, Any], name: str = "") -> str:
    """Format a value in per cent with its interval: ``78.1 [68.8, 86.5]``.

    Args:
        entry: ``value`` or ``difference``, ``low`` and ``high``; or, with a name, ``<name>``, ``<name>_low`` ...
    """
    low, high = (entry[f"{name}_{end}" if name else end] for end in ("low", "high"))
    value = entry[name] if name else entry.get("value", entry.get("difference"))
    return f"{number(value)} [{number(low)}, {number(high)}]"


def by_chance(entry: dict[str, Any]) -> str:
    """Return what chance gives, as the end of a sentence; empty if that is not known."""
    return "" if entry.get("chance") is None else f", by chance {number(entry['chance'])}"


def p_value(p: float | None) -> str:
    """Format a p value with two digits; ``–`` if there is none."""
    return "–" if p is None else f"{p:.2g}"


def in_words(found: dict[str, Any]) -> str:
    """Describe how many comparisons were made, and what was corrected."""
    limits, pairs, tests = found["limits"], found["comparisons"], found["tests"]
    few = (
        f"Groups of fewer than {limits['samples']} samples, or {limits['subjects']} people where they are known, are "
        "not measured."
    )
    if not pairs:
        return few
    one = pairs == 1
    words = (
        f"{few} {pairs} pair{'' if one else 's'} of groups {'was' if one else 'were'} compared; the intervals are not "
        "corrected for that, and the two groups of a gap were picked because they are the extremes. "
    )
    if not tests:
        return words + "No gap was tested, because there are people in several groups of a column."
    return words + (
        "p of the UAR gap: the groups are permuted among people (samples, where people are not known), which accounts "
        f"for picking the extremes; in brackets corrected by Holm’s method for the {tests} column"
        f"{'' if tests == 1 else 's'} tested. By chance: the mean over these permutations, what groups of the same "
        "sizes without any meaning give."
    )


def show(name: str, found: dict[str, Any], console: Console) -> None:
    """Print the groups of a run."""
    if not found["columns"]:
        console.print(
            f"{escape(name)}: the dataset has no column of age, gender, ethnicity or skin tone with two groups or more "
            "in the test part (docs/datasets.md says how to add one)"
        )
        return
    for column in found["columns"]:
        unknown = f", {column['unknown']} samples unknown" if column["unknown"] else ""
        title = f"{name}: {printable(column['column'])}{unknown}. In per cent with 95 % intervals"
        table = Table(
            "group", "samples", "people", *(METRICS[metric].label for metric in OF_GROUPS), title=escape(title),
            title_justify="left",
        )  # fmt: skip
        for group in column["groups"]:
            values = ["too few"] * len(OF_GROUPS) if group["few"] else [span(group, metric) for metric in OF_GROUPS]
            table.add_row(escape(printable(group["group"])), str(group["n"]), str(group["subjects"] or "–"), *values)
        if "gaps" in column:
            table.add_section()
            gaps = column["gaps"]
            ends = (f"{gaps[m]['largest']} − {gaps[m]['smallest']}" for m in OF_GROUPS)
            table.add_row("largest − smallest", "", "", *(escape(printable(words)) for words in ends))
            table.add_row("gap", "", "", *(span(gaps[metric]) for metric in OF_GROUPS))
            table.add_row("by chance", "", "", *(number(gaps[metric]["chance"]) for metric in OF_GROUPS))
            table.add_row("p (Holm)", "", "", "", f"{p_value(column['p'])} ({p_value(column.get('p_holm'))})", "")
            for key, label in MEASURES.items():
                if key in column["measures"]:
                    entry = column["measures"][key]
                    table.add_row(label, "", "", span(entry), by_chance(entry).removeprefix(", "), "")
        console.print(table)
    console.print(f"{in_words(found)}\n{CARE}")
