"""Values printed in the papers for a dataset, including other methods, for figures."""

from __future__ import annotations

from typing import NamedTuple

from duchenne.papers.library import library
from duchenne.papers.printed import SIZES, Column, Row, Table, papers


class Method(NamedTuple):
    """A row of a paper's table, limited to one dataset.

    ``values``: metric -> shares for accuracies, millions or billions (1e9) for sizes; what is not printed is left out.
    ``row.run`` is empty for a method that no variant reproduces.
    """

    source: str
    """such as ``POSTER++, Table 6``"""
    row: Row
    values: dict[str, float]


def printed_methods(dataset: str) -> list[Method]:
    """List every row that a paper prints for a dataset, in the order of the library files.

    A column belongs to the dataset of the variant that the row is of; for the row of another method, to that of the
    variants in the same column where all of them share one. Sizes belong to a row whatever its dataset.
    """
    found = []
    for paper in papers():
        for table in paper.tables:
            for row in table.rows:
                values = {
                    column.metric: value / table.scale(column)
                    for column, value in zip(table.columns, row.values, strict=True)
                    if column.metric and value == value and _belongs(table, row, column, dataset)
                }
                if values.keys() - set(SIZES):
                    found.append(Method(f"{paper.paper}, {table.table}", row, values))
    return found


def _belongs(table: Table, row: Row, column: Column, dataset: str) -> bool:
    if column.metric in SIZES:
        return True
    names = {one.run.format(data=column.data) for one in ([row] if row.run else table.rows) if one.run}
    return {library()["variants"][name]["dataset"] for name in names} == {dataset}
