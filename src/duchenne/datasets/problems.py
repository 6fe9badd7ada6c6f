"""Problems of a dataset, collected and reported together."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from duchenne.errors import UserError, short

COLUMNS = ["row", "column", "path", "problem", "file"]
Problem = tuple[int | None, str, str, str] | tuple[int | None, str, str, str, str]
"""(row, column, path, problem), and the row's file if the dataset has several lists."""
_DETAIL = r"'[^']*'|\d+"  # details of a problem: the contents of a cell, or the number of a row
_PLACES = 10  # number of places named for each kind of problem; the rest is counted


class IndexProblems(UserError):  # noqa: N818 (it carries many errors)
    """Raised when a dataset has rows, or a whole file, that cannot be used.

    Attributes:
        problems: one row per problem: row (line of a CSV file, row of a Parquet file from 1, missing for a folder),
            column, path, problem, and the file of the row if the dataset has several lists.
    """

    def __init__(self, dataset: str, source: str, problems: pd.DataFrame, unit: str = "row", advice: str = "") -> None:
        self.problems = problems
        head = f"dataset {dataset}: {len(problems)} problem{'s' * (len(problems) != 1)} in {source}{advice}"
        super().__init__("\n".join([head, *lines(problems, unit)]))


class UnreadableError(Exception):
    """Raised when a reader cannot use a whole file or folder; becomes :class:`IndexProblems`."""

    def __init__(self, source: object, problem: str, column: str = "") -> None:
        super().__init__(problem)
        self.source, self.column = str(source), column


def frame(records: list[Problem]) -> pd.DataFrame:
    """Return a table of problems."""
    return typed(pd.DataFrame([(*record, "")[: len(COLUMNS)] for record in records], columns=COLUMNS))


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Set the column types of a table of problems."""
    return table.astype({"row": "Int64"} | dict.fromkeys(COLUMNS[1:], "str"))


def lines(problems: pd.DataFrame, unit: str = "row") -> list[str]:
    """Format problems for people: each kind once, with the first places where it occurs."""
    told = []
    kinds = problems["problem"].str.replace(_DETAIL, "...", regex=True)
    for (column, kind), alike in problems.groupby(["column", kinds], sort=False):
        if alike["problem"].nunique() > _PLACES:  # a paragraph for each would fill the screen
            examples = alike.drop_duplicates("problem")
            examples = examples.assign(path=examples["path"] + ": " + examples["problem"].str.partition("; ")[0])
            groups = [(f"{kind} ({len(alike)} times)", examples, len(alike))]
        else:
            groups = [(text, group, len(group)) for text, group in alike.groupby("problem", sort=False)]
        for text, group, n in groups:
            told.append(short(f"  {column}: {text}" if column else f"  {text}", 2000))
            places = [_place(unit, *where) for where in group[["row", "file", "path"]].head(_PLACES).to_numpy()]
            told += [f"      {short(place, 300)}" for place in places if place]
            if n > _PLACES:
                told.append(f"      ... and {n - _PLACES} more")
    return told


def count(problems: pd.DataFrame) -> dict[str, int]:
    """Count the problems of each column."""
    return dict(Counter(problems["column"]))


def _place(unit: str, row: object, file: str, path: str) -> str:
    if pd.isna(row):
        return path
    where = f"{unit} {row}" + (f" of {file}" if file else "")
    return f"{where}: {path}" if path else where
