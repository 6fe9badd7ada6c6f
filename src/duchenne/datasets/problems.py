"""What is wrong with a dataset, collected first and told at once."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from duchenne.errors import UserError

COLUMNS = ["row", "column", "path", "problem"]
_PLACES = 10  # places named for each kind of problem; the rest is counted


class IndexProblems(UserError):  # noqa: N818 (it carries many errors)
    """A dataset has rows, or a whole file, that cannot be used.

    Attributes:
        problems: every one of them: row (as a person counts: line of a CSV file, row of a Parquet file, missing for
            a folder), column, path, problem.
    """

    def __init__(self, dataset: str, source: str, problems: pd.DataFrame, unit: str = "row", advice: str = "") -> None:
        self.problems = problems
        head = f"dataset {dataset}: {len(problems)} problem{'s' * (len(problems) != 1)} in {source}{advice}"
        super().__init__("\n".join([head, *lines(problems, unit)]))


class UnreadableError(Exception):
    """A reader cannot make sense of the whole file or folder; becomes :class:`IndexProblems`."""

    def __init__(self, source: object, problem: str, column: str = "") -> None:
        super().__init__(problem)
        self.source, self.column = str(source), column


def frame(records: list[tuple[int | None, str, str, str]]) -> pd.DataFrame:
    """A table of problems from (row, column, path, problem)."""
    table = pd.DataFrame(records, columns=COLUMNS)
    return table.astype({"row": "Int64", "column": "str", "path": "str", "problem": "str"})


def lines(problems: pd.DataFrame, unit: str = "row") -> list[str]:
    """The problems as a person reads them: each kind once, with the first places where it is."""
    told = []
    for (column, problem), group in problems.groupby(["column", "problem"], sort=False):
        told.append(f"  {column}: {problem}" if column else f"  {problem}")
        places = [_place(unit, row, path) for row, path in zip(group["row"], group["path"], strict=True)]
        places = [place for place in places if place]
        told += [f"      {place}" for place in places[:_PLACES]]
        if len(places) > _PLACES:
            told.append(f"      ... and {len(places) - _PLACES} more")
    return told


def count(problems: pd.DataFrame) -> dict[str, int]:
    """How many problems each column has."""
    return dict(Counter(problems["column"]))


def _place(unit: str, row: object, path: str) -> str:
    if pd.isna(row):
        return path
    return f"{unit} {row}: {path}" if path else f"{unit} {row}"
