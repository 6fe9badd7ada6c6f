"""Printed values of the papers by variant, from the ``papers`` of the library files beside this module.

Every table of results and ablations is included, with the rows of other methods as context. Rows and digits are as
printed; ``nan`` is a cell that the paper leaves empty or that is not readable in the copy of the text. ``unit`` says
whether accuracies are per cent (the default) or shares; metrics that papers do not print in per cent, such as kappa,
have no unit. Parameters are in millions, operations ("FLOPs") in billions (1e9).
``over_folds: mean`` says that accuracies are means of the folds' values. A column's ``metric`` is its name in our
results; a column without one is context. ``data`` is the part of a variant's name for the column: a row with
``run: poster_t_{data}`` has values of two or more variants. If two tables differ on one value, the first is used and
the other table's ``note`` says so. Per-class accuracies are recalls. ``counting`` says how the columns of size were
counted (evaluation/complexity.py), and a ``reconstruction`` is a network that the paper does not describe completely
and whose code is not public.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator
from ruamel.yaml import YAML

from duchenne.blocks import Strict
from duchenne.errors import UserError, nearest
from duchenne.metrics import METRICS, metric_of
from duchenne.papers.library import FILES, defined_in
from duchenne.training.settings import Variant

SIZES = ("params", "flops", "params_blocks", "flops_blocks")
"""Sizes of the network and of its transformer blocks: millions of parameters, billions (1e9) of operations."""


def _known(name: str) -> str:
    """Refuse a metric that no file of results has."""
    pattern = rf"({'|'.join(METRICS)})(_fold_\d+|_casme2|_samm|_smic)?|recall_[a-z]+|{'|'.join(SIZES)}"
    if not re.fullmatch(pattern, name):
        raise ValueError(
            f"{name!r} is not one of {', '.join(METRICS)} (of one fold: war_fold_1; of one set: war_samm), "
            f"recall_<class>, {', '.join(SIZES)}"
        )
    return name


Metric = Annotated[str, AfterValidator(_known)]
Value = Annotated[str, Field(pattern=r"^(\d+(\.\d+)?|nan)$")]
"""A value with its digits as printed; ``nan``: not printed, or unreadable."""


class Counting(Strict):
    """Convention by which a printed size was counted."""

    count: Literal["total", "thop", "twice ptflops"] = Field(
        description="all parameters; result of the profiler thop; two operations per MAC of the profiler ptflops"
    )
    digits: Literal["rounded", "truncated"]


class Column(Strict):
    name: str
    metric: Metric | None = Field(None, description="its name in our results; null: context")
    data: str = Field("", description="part of a variant's name for this column")


class Row(Strict):
    method: str
    run: str = Field("", description="variant, with {data} if the columns have it; empty: context")
    printed: list[Value] = Field(description="one value per column")

    @property
    def values(self) -> list[float]:
        """The printed values as numbers; NaN: not printed, or unreadable."""
        return [float(value) for value in self.printed]


class Table(Strict):
    table: str = Field(pattern=r"^[A-Za-z0-9 ]+$")
    about: str
    note: str = ""
    unit: Literal["per cent", "share"] = "per cent"
    over_folds: Literal["pooled", "mean"] = Field("pooled", description="how metrics of several folds are combined")
    counting: dict[Literal["params", "flops", "params_blocks", "flops_blocks"], Counting] = Field({})
    columns: list[Column] = Field(min_length=1)
    rows: list[Row] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for row in self.rows:
            if len(row.printed) != len(self.columns):
                raise ValueError(f"row {row.method!r} has {len(row.printed)} values for {len(self.columns)} columns")
            if ("{data}" in row.run) != any(row.run and column.data for column in self.columns):
                raise ValueError(f"row {row.method!r}: columns with data and a run with {{data}} go together")
        for column in self.columns:
            if column.metric in SIZES and column.metric not in self.counting:
                raise ValueError(f"column {column.name!r} needs counting.{column.metric}")
        return self

    def scale(self, column: Column) -> int:
        """Return the factor that converts a metric of ours to the unit of this column."""
        metric = metric_of(column.metric or "")
        if self.unit == "share" or column.metric in SIZES:
            return 1
        return metric.scale if metric else 100


class Paper(Strict):
    paper: str
    slug: str = Field(pattern=r"^[a-z0-9_]+$", description="its name in file names")
    title: str
    link: str
    text: str = Field("", description="file of its text, against which the values are checked")
    selection: Literal["last", "val", "test", "train"] | None = Field(
        None, description="rule that picked the epoch of its values, by its official code; null: neither says it"
    )
    tables: list[Table]


class Cell(NamedTuple):
    """One printed value: a share for accuracies and F1, millions or billions (1e9) for sizes."""

    paper: Paper
    table: Table
    row: Row
    column: Column
    value: float


@cache
def papers() -> list[Paper]:
    """Return all papers, in the order of the library's files."""
    return [paper for file in FILES for paper in _printed_in(file)]


@cache
def _printed_in(file: str) -> list[Paper]:
    yaml = YAML(typ="base", pure=True)  # every value is text: 92.30 stays 92.30
    tree = yaml.load(files(__package__).joinpath(f"{file}.yaml").read_text("utf-8"))
    return [Paper.model_validate(item) for item in tree.get("papers", [])]


@cache
def cells() -> dict[str, list[Cell]]:
    """Return variant -> every value printed for it, in the order of :func:`papers`."""
    found: dict[str, list[Cell]] = {}
    for paper in papers():
        for table in paper.tables:
            for row in filter(lambda row: row.run, table.rows):
                for column, text, value in zip(table.columns, row.printed, row.values, strict=True):
                    if column.metric is None or text == "nan":
                        continue
                    cell = Cell(paper, table, row, column, value / table.scale(column))
                    found.setdefault(row.run.format(data=column.data), []).append(cell)
    return found


def reproducing(paper: str, table: str | None = None) -> list[str]:
    """List the variants of a paper, or those with values in one of its tables.

    Args:
        paper: name of a library file, such as ``poster_v2``.
        table: number or name of a table, such as ``8`` or ``composite``.

    Raises:
        UserError: There is no such paper or table.
    """
    own = dict.fromkeys(defined_in(paper))
    tables = {each.table: each for item in _printed_in(paper) for each in item.tables}
    if table is None:
        wanted = list(tables.values())
    else:
        found = tables.get(table) or tables.get(f"Table {table}")
        if found is None:
            raise UserError(f"{paper} has no table {table!r}{nearest(table, tables)}: it has {', '.join(tables)}")
        wanted, own = [found], {}
    named = (
        row.run.format(data=column.data)
        for each in wanted
        for row in each.rows
        for column in each.columns
        if row.run and column.metric
    )
    return list(own | dict.fromkeys(named))


def printed(variant: str) -> dict[str, Cell]:
    """Return metric -> printed value of ``variant``; if tables differ, the first of :func:`papers`.

    Raises:
        UserError: No paper prints a value for a variant of this name.
    """
    if variant not in cells():
        raise UserError(f"no paper prints a value for {variant!r}{nearest(variant, cells())}")
    return {cell.column.metric: cell for cell in reversed(cells()[variant])}


def printed_for(name: str, config: Variant) -> dict[str, Cell]:
    """Return metric -> printed value of a variant of ``params.yaml``; empty if no printed value belongs to it.

    Raises:
        UserError: ``config.reproduces`` names a variant without printed values.
    """
    if config.reproduces is not None:
        return printed(config.reproduces)
    return printed(name) if name in cells() else {}


def printed_metrics() -> list[str]:
    """List the metrics that papers print for any variant, in the order of the registry."""
    known = {cell.column.metric for found in cells().values() for cell in found}
    return [name for name in METRICS if name in known]


def sources(found: dict[str, Cell]) -> str:
    """Return the sources of values, such as ``POSTER++, Table 3, Table 4``."""
    places = dict.fromkeys(place for cell in found.values() for place in (cell.paper.paper, cell.table.table))
    return ", ".join(places)
