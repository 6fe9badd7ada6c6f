"""The papers' tables with our values in them: CSV for programs, LaTeX for a paper, lines of text for the page.

Rows, columns and digits stand as printed (``duchenne.papers``), with the rule that picked the epoch where the paper's
code shows it. Below a row that one of our variants reproduces stand our value in as many digits, its 95 % interval and
the difference of the two values as shown; then the same of the same training run under the paper's rule and under the
honest one, where these are other than the reported one. Ours has a mark and the
table a footnote where the network is a reconstruction or a reading of the text (:mod:`duchenne.reporting.basis`), and
where the dataset was not as published (:func:`duchenne.datasets.audit.flaws`).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from duchenne.config import Catalog, whole_library
from duchenne.errors import printable
from duchenne.evaluation.rules import honest_rule
from duchenne.evaluation.statistics import by_fold
from duchenne.files import replacing
from duchenne.networks import Basis
from duchenne.papers.printed import SIZES, Column, Paper, Row, Table, papers
from duchenne.reporting.basis import MARKS, basis_of, footnotes
from duchenne.reporting.runs import Run, open_run
from duchenne.workspace import Workspace

SELECTED = {
    "last": "last epoch",
    "val": "best epoch in validation",
    "train": "epoch of the lowest training loss",
    "test": "best epoch on the test part (optimistic)",
}
"""Selection rule -> which epoch is reported."""

SHORT = {"last": "last epoch", "val": "best in validation", "train": "lowest training loss", "test": "best on test"}
"""Selection rule -> its name in a line of a table."""

NOT_KEPT = "not kept"
"""Status of a rule whose predictions were not kept."""

LATEX = str.maketrans(
    {character: f"\\{character}" for character in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "|": r"\textbar{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", '"': r"{\char34}"}
    | {character: f"{{{character}}}" for character in "[]*`"}
    | {"−": "$-$", "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"\S{}"}
)
"""Characters with a special meaning in LaTeX, and some that not every LaTeX has -> a command. At the start of a row
``[`` and ``*`` would be read as arguments of the line break above it."""

LIGATURES = re.compile(r"[-–](?=[-–])|'(?=')|,(?=,)")
"""A character that LaTeX would join with the next one."""

ALTERED_MARK = "§"
"""Mark after the name of our run if the dataset was not as published."""

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
    "Training run": "training_run",
}
"""Origin of a value: heading -> name in the CSV."""

CELL_COLUMNS = (
    "method",
    "column",
    "metric",
    "paper",
    "paper_selection",
    "ours",
    "low",
    "high",
    "std",
    "difference",
    *FACTS.values(),
)
"""Columns of :attr:`PaperTable.cells` and of the CSV."""

DECIMALS = {100: 2, 1: 3}
"""Decimals of ours where the paper prints none, by :meth:`duchenne.papers.printed.Table.scale`."""


@dataclass(frozen=True)
class PaperTable:
    """One table of a paper, ready to show.

    ``frame`` is text: ``Method``, ``Value`` (paper, ours or a variant's name, followed by the rule that picked the
    epoch where it is that of the paper's code or not that of the run; 95 %, standard deviation over folds or seeds,
    difference) and the paper's own columns.
    ``runs`` is text too, a row a variant behind ours: ``Variant``, ``Status`` (not run, running or run), ``Network``
    (code, reading or reconstruction), ``Dataset`` (as published, or in what it is not), ``Selection``, ``Seed``,
    ``Folds``, ``Tested`` (samples) and ``Training run`` (in MLflow the tag ``training``). ``cells`` has a row for each
    printed value and run of ours, in the unit of the paper. ``source`` is the paper's title, ``link`` its address,
    ``note`` what must be known to read the table, ``footnotes`` what the marks behind ours stand for.
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


def write_tables(
    catalog: Catalog, workspace: Workspace, out: Path, runs: Mapping[str, Run] = MappingProxyType({})
) -> list[PaperTable]:
    r"""Write ``<paper>_<table>.csv`` and ``.tex`` into ``out`` for every table of the papers; returns them in order.

    A ``.tex`` file is a ``tabular`` with the rules of the package booktabs, for ``\input`` into a ``table``.
    A variant that ``reproduces`` the values of another one (by other selection, seeds or recipe) has lines of its own
    once its training has begun.

    Args:
        runs: by name, those that were opened already; the others are read here.
    """

    @cache
    def ours(name: str) -> _Ours:
        return _of_run(runs.get(name) or open_run(workspace, catalog, name))

    twins: dict[str, list[_Ours]] = defaultdict(list)
    for name, config in catalog.variants.items():
        if config.reproduces and ours(name).status != "not run":
            twins[config.reproduces].append(ours(name))
    tables = [_paper_table(paper, table, ours, twins) for paper in papers() for table in paper.tables]
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
    if (table.runs["Status"] == "run").any():
        comments.append("Code, data, versions, hardware and command of each run: records.json of this report")
    text = _tabular(table.frame, "ll" + "r" * (len(table.frame.columns) - 2), table.footnotes)
    return "".join(f"% {_one_line(line)}\n" for line in comments if line) + text


def write_table(path: Path, cells: pd.DataFrame, shown: pd.DataFrame, head: str, note: str) -> None:
    """Write ``cells`` with its index as ``<path>.csv``, and ``shown``, in per cent with one decimal, as ``.tex``.

    Args:
        head: heading of the column of the index in the ``tabular``.
        note: what must be known to read it, a comment above the ``tabular``.
    """
    text = shown.map(lambda value: EMPTY if pd.isna(value) else f"{value:.1f}".replace("-", "−"))
    text = text.rename_axis(index=head, columns=None).reset_index()
    with replacing(path.with_name(f"{path.name}.csv")) as part:
        cells.to_csv(part)
    with replacing(path.with_name(f"{path.name}.tex")) as part:
        tabular = _tabular(text, "l" + "r" * len(shown.columns))
        part.write_text(f"% {_one_line(note)}\n{tabular}", encoding="utf-8")


def escaped(text: str) -> str:
    r"""Return a text for LaTeX, which shows it as it is, in one line.

    pdfLaTeX has Latin letters; texts in other scripts need XeLaTeX or LuaLaTeX.

    >>> print(escaped("raf_db\n100 %"), escaped("[512]"))
    raf\_db 100 \% {[}512{]}
    """
    return LIGATURES.sub(r"\g<0>{}", _one_line(text).translate(LATEX)).replace("–", "--")


def _one_line(text: str) -> str:
    """Return a text without line breaks, control characters, marks of direction and halves of characters."""
    return printable(" ".join(text.split()))


def _tabular(frame: pd.DataFrame, columns: str, notes: Sequence[str] = ()) -> str:
    """Return a frame of text as a ``tabular`` with booktabs' rules that ends with ``notes``."""
    style = frame.style.hide(axis="index").format(escaped).format_index(escaped, axis="columns")
    whole = rf"\multicolumn{{{len(columns)}}}{{@{{}}p{{\linewidth}}@{{}}}}"
    lines = [rf"{whole}{{\footnotesize {escaped(note)}}} \\" for note in notes]
    end = r"\end{tabular}"
    return style.to_latex(hrules=True, column_format=columns).replace(end, "\n".join([*lines, end]))


class _Value(NamedTuple):
    """A value of ours in the unit of its column; NaN where there is none."""

    ours: float = math.nan
    low: float = math.nan
    high: float = math.nan
    std: float = math.nan


@dataclass(frozen=True)
class _Ours:
    """Source of our values: a run.

    ``flaws``: in what the dataset is not as published, by its name. ``facts``: how the values came about, by the
    headings of :data:`FACTS`; empty text for what is not known yet. ``value``: what stands in a column of a table.
    ``selection``: the rule that picked the epoch. ``also``: the same training run under other rules.
    """

    name: str
    status: str
    basis: Basis
    optimistic: bool
    flaws: dict[str, list[str]]
    facts: dict[str, str]
    value: Callable[[Table, Column], _Value]
    selection: str = ""
    honest: str = ""
    also: Mapping[str, _Ours] = field(default_factory=dict)


def _of_run(run: Run) -> _Ours:
    finished, begun = run.status == "run", run.config is not None and run.status != "not run"
    block = run.config or whole_library().variants.get(run.name)  # of a variant that params.yaml lacks, the library's
    flaws = {run.config.dataset: run.flaws} if run.config and finished and run.flaws else {}
    metrics = run.metrics if finished else {}
    optimistic = finished and run.optimistic
    basis = basis_of(block.model) if block else "code"
    facts = {
        "Variant": run.name,
        "Status": run.status,
        "Network": basis,
        "Dataset": _altered(flaws) if finished else "",
        "Selection": SELECTED[run.config.selection] if begun else "",
        "Seed": ", ".join(map(str, run.config.every_seed)) if begun else "",
        "Folds": str(metrics.get("folds", "")),
        "Tested": str(metrics.get("n", "")),
        "Training run": run.training if begun else "",
    }
    own = _Ours(run.name, run.status, basis, optimistic, flaws, facts, partial(_value, run))
    if not finished or run.config is None:
        return own
    validated = run.config.protocol.val_share > 0
    known = run.rules or dict.fromkeys(["last", *(["val"] if validated else []), "test"])
    also = {
        rule: replace(
            own,
            status="run" if run.rules else NOT_KEPT,
            optimistic=rule == "test",
            facts=facts | {"Selection": SELECTED[rule]},
            value=partial(_value_under, run, rule),
            selection=rule,
        )
        for rule in known
        if rule != run.config.selection
    }
    return replace(own, selection=run.config.selection, honest=honest_rule(known), also=also)


def _altered(flaws: dict[str, list[str]]) -> str:
    lines = [line for found in flaws.values() for line in found]
    return f"not as published: {'; '.join(lines)}" if lines else "as published"


def _value(run: Run, table: Table, column: Column) -> _Value:
    if column.metric in SIZES:
        return _Value(run.sizes.get(f"{column.metric}_so_counted", math.nan))
    if run.status != "run":
        return _Value()
    metric, _, fold = column.metric.partition("_fold_")
    if fold.isdigit():
        number = int(fold)
        known = metric in run.fold_metrics and number in run.fold_metrics.index and run.metrics["folds"] > 1
        return _Value(table.scale(column) * run.fold_metrics.loc[number, metric] if known else math.nan)

    def own(end: str) -> float:
        return table.scale(column) * run.metrics.get(f"{column.metric}{end}", math.nan)

    if table.over_folds == "mean" and f"{column.metric}_fold_mean" in run.metrics:
        return _Value(own("_fold_mean"), std=own("_fold_std"))
    return _Value(own(""), own("_low"), own("_high"), own("_seed_std"))


def _value_under(run: Run, rule: str, table: Table, column: Column) -> _Value:
    """What :func:`_value` would be under another rule; intervals where ``metrics.json`` has them."""
    if column.metric in SIZES or rule not in run.rules:
        return _Value()
    metric, _, fold = column.metric.partition("_fold_")
    under, scale = run.under[rule], table.scale(column)
    if fold.isdigit():
        frame = run.rules[rule]
        each = by_fold(frame, run.classes) if run.metrics["folds"] > 1 else pd.DataFrame()
        known = metric in each and int(fold) in each.index
        return _Value(scale * each.loc[int(fold), metric] if known else math.nan)
    if table.over_folds == "mean" and f"{metric}_fold_mean" in under:
        return _Value(scale * under[f"{metric}_fold_mean"], std=scale * under[f"{metric}_fold_std"])
    return _Value(*(scale * under.get(f"{metric}{end}", math.nan) for end in ("", "_low", "_high", "_seed_std")))


def _paper_table(paper: Paper, table: Table, run: Callable[[str], _Ours], twins: dict[str, list[_Ours]]) -> PaperTable:
    lines: list[list[str]] = []
    cells: list[dict[str, Any]] = []
    behind: dict[str, dict[str, str]] = {}
    bases: set[Basis] = set()
    flaws: dict[str, list[str]] = {}
    for row in table.rows:
        whose = f"paper, {SHORT[paper.selection]}" if row.run and paper.selection else "paper"
        lines.append([row.method, whose, *(EMPTY if text == "nan" else text for text in row.printed)])
        runs: dict[str, dict[int, _Ours]] = defaultdict(dict)  # label -> position of a column -> whose value
        for i, (column, text, value) in enumerate(zip(table.columns, row.printed, row.values, strict=True)):
            theirs = {"method": row.method, "column": column.name, "metric": column.metric, "paper": text}
            theirs |= {"paper_selection": paper.selection if row.run else None}
            name = row.run.format(data=column.data) if column.metric else ""
            found = {"ours": run(name)} | {twin.name: twin for twin in twins[name]} if name else {}
            for own in found.values():
                behind[own.name] = own.facts
            for label, own in _with_rules(found, paper.selection, column).items():
                runs[label][i] = own
                bases.add(own.basis)
                flaws |= own.flaws if column.metric not in SIZES else {}
                ours = own.value(table, column)
                if own.status == NOT_KEPT:
                    continue
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
        + [f"{ALTERED_MARK} {name} is not as published: {'; '.join(found)}." for name, found in flaws.items()],
        slug=f"{paper.slug}_{table.table.lower().replace(' ', '_')}",
        frame=pd.DataFrame(lines, columns=["Method", "Value", *(column.name for column in table.columns)]),
        runs=pd.DataFrame(behind.values(), columns=FACTS),
        cells=pd.DataFrame(cells, columns=CELL_COLUMNS),
    )


def _with_rules(found: Mapping[str, _Ours], selection: str | None, column: Column) -> dict[str, _Ours]:
    """Return runs by label, each followed by itself under the paper's rule and the honest one, if these are others."""
    every: dict[str, _Ours] = {}
    for label, own in found.items():
        every[label] = own
        for rule in dict.fromkeys((selection, own.honest)):
            if rule in own.also and column.metric not in SIZES:
                every[f"{label}, {SHORT[rule]}"] = own.also[rule]
    return every


def _lines(label: str, table: Table, row: Row, runs: dict[int, _Ours]) -> list[list[str]]:
    """Our values below a row of the paper, their intervals and differences; a line without anything is left out."""
    values, intervals, spreads, differences = ([""] * len(table.columns) for _ in range(4))
    for i, run in runs.items():
        column, printed = table.columns[i], row.printed[i]
        value = run.value(table, column)
        if math.isnan(value.ours):
            elsewhere = printed == "nan" and set(row.printed) != {"nan"}  # such as contempt on a set without it
            values[i] = EMPTY if elsewhere or run.status == "run" else run.status
            continue
        places = DECIMALS[table.scale(column)] if printed == "nan" else len(printed.partition(".")[2])
        cut = column.metric in SIZES and table.counting[column.metric].digits == "truncated"
        values[i] = f"{math.floor(value.ours * 10**places) / 10**places if cut else value.ours:.{places}f}"
        if not math.isnan(value.low):
            intervals[i] = f"{value.low:.{places}f}–{value.high:.{places}f}"
        if not math.isnan(value.std):
            spreads[i] = f"± {value.std:.{places}f}"
        if printed != "nan":
            differences[i] = f"{float(values[i]) - float(printed):+.{places}f}".replace("-", "−")
    if any(run.optimistic for run in runs.values()):
        label += " (optimistic)"
    altered = any(run.flaws for i, run in runs.items() if table.columns[i].metric not in SIZES)
    marks = max(MARKS[run.basis] for run in runs.values()) + (ALTERED_MARK if altered else "")
    label = f"{label} {marks}".rstrip()
    spread = "folds" if table.over_folds == "mean" else "seeds"
    named = {label: values, "95 %": intervals, spread: spreads, "difference": differences}
    return [["", name, *texts] for name, texts in named.items() if any(texts)]
