"""The papers' tables with our values in them: CSV for programs, LaTeX for a paper, lines of text for the page.

Rows, columns and digits stand as printed (``duchenne.papers``). Below a row that one of our variants reproduces stand
our value in as many digits, its 95 % interval and the difference of the two values as shown. Ours has a mark and the
table a footnote where the network is a reconstruction or a reading of the text (:mod:`duchenne.reporting.basis`), and
where the dataset was not as published (:func:`duchenne.datasets.audit.flaws`).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from duchenne.config import Catalog, whole_library
from duchenne.datasets.audit import known_flaws
from duchenne.evaluation.statistics import by_fold
from duchenne.files import replacing
from duchenne.papers.printed import SIZES, Column, Paper, Row, Table, papers
from duchenne.reporting.basis import MARKS, Basis, basis_of, footnotes
from duchenne.workspace import Workspace

SELECTED = {
    "last": "last epoch",
    "val": "best epoch in validation",
    "train": "epoch of the lowest training loss",
    "test": "best epoch on the test part (optimistic)",
}
"""Selection rule -> which epoch is reported."""

LATEX = {"−": "$-$", "–": "--", "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"\S{}"}
"""Characters of ours that not every LaTeX knows."""

SPECIAL = str.maketrans({character: f"\\{character}" for character in "_%&#$"})
"""Characters that mean something to LaTeX."""

ALTERED = "§"
"""What stands behind ours where the dataset was not as published."""

EMPTY = "–"
FACTS = {
    "Variant": "variant",
    "Status": "status",
    "Network": "basis",
    "Dataset": "dataset",
    "Selection": "selection",
    "Seed": "seed",
    "Folds": "folds",
    "Tested": "tested",
    "MLflow run": "mlflow_run",
}
"""What is said of a run: heading -> name in the CSV."""

CELLS = ("method", "column", "metric", "paper", "ours", "low", "high", "std", "difference", *FACTS.values())
"""Columns of the CSV."""

DIGITS = {100: 2, 1: 3}
"""Decimals of ours where the paper prints none, by :meth:`duchenne.papers.printed.Table.scale`."""


@dataclass(frozen=True)
class PaperTable:
    """One table of a paper, ready to show.

    ``frame`` is text: ``Method``, ``Value`` (paper, ours or a variant's name, 95 %, difference) and the paper's own
    columns. ``runs`` is text too, a row a variant behind ours: ``Variant``, ``Status`` (not run, running or run),
    ``Network`` (code, reading or reconstruction), ``Dataset`` (as published, or in what it is not), ``Selection``,
    ``Seed``, ``Folds``, ``Tested`` (samples) and ``MLflow run``. ``cells`` has a row for each printed value and run of
    ours, in the unit of the paper. ``source`` is the paper's title, ``link`` its address, ``note`` what must be known
    to read the table, ``footnotes`` what the marks behind ours stand for.
    """

    paper: str
    table: str
    title: str
    source: str
    link: str
    note: str
    footnotes: list[str]
    slug: str
    frame: pd.DataFrame
    runs: pd.DataFrame
    cells: pd.DataFrame


def write_tables(catalog: Catalog, workspace: Workspace, out: Path) -> list[PaperTable]:
    r"""Write ``<paper>_<table>.csv`` and ``.tex`` into ``out`` for every table of the papers; returns them in order.

    A ``.tex`` file is a ``tabular`` with the rules of the package booktabs, for ``\input`` into a ``table``.
    A variant that ``reproduces`` the values of another one (by other selection, seed or recipe) has lines of its own
    once its training has begun; finished runs that differ in nothing but the seed also have their mean.
    """
    run = cache(partial(_Run, catalog, workspace))
    twins: dict[str, list[_Run | _Mean]] = defaultdict(list)
    seeds: dict[tuple[str, str], list[_Run]] = defaultdict(list)
    for name, config in catalog.variants.items():
        if config.reproduces and run(name).status != "not run":
            twins[config.reproduces].append(run(name))
        if run(name).metrics:
            alike = json.dumps(config.decides() | {"seed": None}, sort_keys=True)
            seeds[config.reproduces or name, alike].append(run(name))
    for (reproduced, _), runs in seeds.items():
        if len(runs) > 1:
            twins[reproduced].append(_Mean(runs))
    tables = [_paper_table(paper, table, run, twins) for paper in papers() for table in paper.tables]
    for table in tables:
        with replacing(out / f"{table.slug}.csv") as part:
            table.cells.to_csv(part, index=False)
        with replacing(out / f"{table.slug}.tex") as part:
            part.write_text(latex(table), encoding="utf-8")
    return tables


def latex(table: PaperTable) -> str:
    """The table as a ``tabular`` that ends with its footnotes, its source and the runs behind it as comments above."""
    comments = [f"{table.title}. {table.source}, {table.link}", table.note]
    comments += [
        ", ".join(f"{key}: {value}" for key, value in run.items() if value) for run in table.runs.to_dict("records")
    ]
    style = table.frame.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    count = len(table.frame.columns)
    text = style.to_latex(hrules=True, column_format="ll" + "r" * (count - 2))
    notes = [
        rf"\multicolumn{{{count}}}{{@{{}}p{{\linewidth}}@{{}}}}{{\footnotesize {note.translate(SPECIAL)}}} \\"
        for note in table.footnotes
    ]
    text = text.replace(r"\end{tabular}", "\n".join([*notes, r"\end{tabular}"]))
    for character, command in LATEX.items():
        text = text.replace(character, command)
    return "".join(f"% {line}\n" for line in comments if line) + text


class _Value(NamedTuple):
    """A value of ours in the unit of its column; NaN where there is none."""

    ours: float = math.nan
    low: float = math.nan
    high: float = math.nan
    std: float = math.nan


class _Run:
    """What a variant has left on disk so far."""

    def __init__(self, catalog: Catalog, workspace: Workspace, name: str):
        self.name, self._workspace, self._config = name, workspace, catalog.variants.get(name)
        self._results = workspace.results(name)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json`` with every metric of each fold; empty before the run is finished."""
        metrics = _json(self._results / "metrics.json")
        if metrics.get("folds", 1) == 1:
            return metrics
        frame = pd.read_parquet(self._results / "predictions.parquet")
        classes = [column.removeprefix("p_") for column in frame if column.startswith("p_")]
        each = by_fold(frame, classes)
        return {f"{name}_fold_{fold}": value for name, folds in each.items() for fold, value in folds.items()} | metrics

    @cached_property
    def status(self) -> Literal["run", "running", "not run"]:
        if self.metrics:
            return "run"
        return "running" if any(self._workspace.work("train", self.name).glob("fold_*")) else "not run"

    @property
    def basis(self) -> Basis:
        """Of the block that runs, or else of the library's."""
        block = self._config or whole_library().variants.get(self.name)
        return basis_of(block.model) if block else "code"

    @property
    def optimistic(self) -> bool:
        """Whether there are results whose epoch was picked on the test part."""
        return self.metrics.get("selection") == "test"

    @cached_property
    def flaws(self) -> dict[str, list[str]]:
        """In what the dataset behind the results is not as published, by its name; empty where it is."""
        if self._config is None or not self.metrics:
            return {}
        path = self._workspace.audit(self._config.dataset)
        found = known_flaws(path) if path.exists() else ["it was not compared: run the index stage"]
        return {self._config.dataset: found} if found else {}

    @property
    def _dataset(self) -> str:
        flaws = [flaw for found in self.flaws.values() for flaw in found]
        return f"not as published: {'; '.join(flaws)}" if flaws else "as published"

    @cached_property
    def facts(self) -> dict[str, str]:
        """How the values came about; empty text for what is not known yet."""
        begun = self._config is not None and self.status != "not run"
        return {
            "Variant": self.name,
            "Status": self.status,
            "Network": self.basis,
            "Dataset": self._dataset if self.metrics else "",
            "Selection": SELECTED[self._config.selection] if begun else "",
            "Seed": str(self._config.seed) if begun else "",
            "Folds": str(self.metrics.get("folds", "")),
            "Tested": str(self.metrics.get("n", "")),
            "MLflow run": _json(self._workspace.work("track", f"{self.name}.json")).get("run", "") if begun else "",
        }

    def value(self, table: Table, column: Column) -> _Value:
        if column.metric in SIZES:
            return _Value(_json(self._results / "complexity.json").get(f"{column.metric}_so_counted", math.nan))

        def own(end: str) -> float:
            return table.scale(column) * self.metrics.get(f"{column.metric}{end}", math.nan)

        if table.over_folds == "mean" and f"{column.metric}_fold_mean" in self.metrics:
            return _Value(own("_fold_mean"), std=own("_fold_std"))
        return _Value(own(""), own("_low"), own("_high"))


class _Mean:
    """Finished runs that differ in nothing but their seed, as one."""

    status = "run"

    def __init__(self, runs: list[_Run]):
        self.name, self._runs = f"{runs[0].name}, mean of {len(runs)} seeds", runs
        self.optimistic, self.basis, self.flaws = runs[0].optimistic, runs[0].basis, runs[0].flaws

    @property
    def facts(self) -> dict[str, str]:
        """What the runs share once, what sets them apart in a row."""
        each = [run.facts for run in self._runs]
        return {key: ", ".join(filter(None, dict.fromkeys(facts[key] for facts in each))) for key in FACTS}

    def value(self, table: Table, column: Column) -> _Value:
        ours = [run.value(table, column).ours for run in self._runs]
        return _Value(float(np.mean(ours)), std=float(np.std(ours, ddof=1)))


def _paper_table(
    paper: Paper, table: Table, run: Callable[[str], _Run], twins: dict[str, list[_Run | _Mean]]
) -> PaperTable:
    lines: list[list[str]] = []
    cells: list[dict[str, Any]] = []
    behind: dict[str, dict[str, str]] = {}
    bases: set[Basis] = set()
    flaws: dict[str, list[str]] = {}
    for row in table.rows:
        lines.append([row.method, "paper", *(EMPTY if text == "nan" else text for text in row.printed)])
        runs: dict[str, dict[int, _Run | _Mean]] = defaultdict(dict)  # label -> position of a column -> whose value
        for i, (column, text, value) in enumerate(zip(table.columns, row.printed, row.values, strict=True)):
            theirs = {"method": row.method, "column": column.name, "metric": column.metric, "paper": text}
            name = row.run.format(data=column.data) if column.metric else ""
            found = {"ours": run(name)} | {twin.name: twin for twin in twins[name]} if name else {}
            for label, own in found.items():
                runs[label][i] = own
                behind[own.name] = own.facts
                bases.add(own.basis)
                flaws |= own.flaws if column.metric not in SIZES else {}
                ours = own.value(table, column)
                facts = {FACTS[key]: fact for key, fact in own.facts.items()}
                cells.append(theirs | ours._asdict() | {"difference": ours.ours - value} | facts)
            if not found:
                cells.append(theirs)
        for label, own in runs.items():
            lines += _lines(label, table, row, own)
    means = "Metrics of ours are means over the folds, ± is their standard deviation."
    return PaperTable(
        paper=paper.paper,
        table=table.table,
        title=f"{paper.paper}, {table.table}: {table.about}",
        source=paper.title,
        link=paper.link,
        note=" ".join(filter(None, [table.note, means if table.over_folds == "mean" else ""])),
        footnotes=footnotes(bases)
        + [f"{ALTERED} {name} is not as published: {'; '.join(found)}." for name, found in flaws.items()],
        slug=f"{paper.slug}_{table.table.lower().replace(' ', '_')}",
        frame=pd.DataFrame(lines, columns=["Method", "Value", *(column.name for column in table.columns)]),
        runs=pd.DataFrame(behind.values(), columns=FACTS),
        cells=pd.DataFrame(cells, columns=CELLS),
    )


def _lines(label: str, table: Table, row: Row, runs: dict[int, _Run | _Mean]) -> list[list[str]]:
    """Our values below a row of the paper, their intervals and differences; a line without anything is left out."""
    values, intervals, differences = ([""] * len(table.columns) for _ in range(3))
    for i, run in runs.items():
        column, printed = table.columns[i], row.printed[i]
        value = run.value(table, column)
        if math.isnan(value.ours):
            elsewhere = printed == "nan" and set(row.printed) != {"nan"}  # such as contempt on a set without it
            values[i] = EMPTY if elsewhere or run.status == "run" else run.status
            continue
        places = DIGITS[table.scale(column)] if printed == "nan" else len(printed.partition(".")[2])
        cut = column.metric in SIZES and table.counting[column.metric].digits == "truncated"
        values[i] = f"{math.floor(value.ours * 10**places) / 10**places if cut else value.ours:.{places}f}"
        if not math.isnan(value.low):
            intervals[i] = f"{value.low:.{places}f}–{value.high:.{places}f}"
        if not math.isnan(value.std):
            intervals[i] = f"± {value.std:.{places}f}"
        if printed != "nan":
            differences[i] = f"{float(values[i]) - float(printed):+.{places}f}".replace("-", "−")
    if any(run.optimistic for run in runs.values()):
        label += " (optimistic)"
    altered = any(run.flaws for i, run in runs.items() if table.columns[i].metric not in SIZES)
    marks = max(MARKS[run.basis] for run in runs.values()) + (ALTERED if altered else "")
    label = f"{label} {marks}".rstrip()
    named = {label: values, "95 %": intervals, "difference": differences}
    return [["", name, *texts] for name, texts in named.items() if any(texts)]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
