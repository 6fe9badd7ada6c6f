"""Tables of docs/results.md, docs/hard.md and docs/gap.md from the results files in docs/results.

    python benchmarks/results.py                    # write every table of the pages again
    python benchmarks/results.py --record demo      # first take the measured columns of docs/results/demo.csv from
                                                    # results/<run>/metrics.json and models/<run>

A table stands between the lines ``<!-- NAME.csv -->`` and ``<!-- end -->``. A column of a metric holds it as
metrics.json does; with columns ``<metric>_low`` and ``<metric>_high`` it is shown with its interval. ``gain`` is a
difference of two metrics. Other columns are shown as they are.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pandas as pd

from duchenne.metrics import METRICS

ROOT = Path(__file__).parents[1]
PAGES = tuple(ROOT / "docs" / f"{name}.md" for name in ("results", "hard", "gap"))
FOLDER = ROOT / "docs" / "results"
LABELS = {name: f"{one.label}, %" if one.percent else one.label for name, one in METRICS.items()}
LABELS["gain"] = "gain in UAR, points"
TABLE = re.compile(r"(<!-- (?P<file>[\w-]+\.csv) -->\n).*?(<!-- end -->)", re.DOTALL)


def cell(row: pd.Series, column: str) -> str:
    """Format a value of the table; metrics in per cent, with their interval if there is one."""
    if column not in LABELS:
        return row[column]
    low, high = (row.get(f"{column}_{end}", "") for end in ("low", "high"))
    value, low, high = (_percent(column, given) for given in (row[column], low, high))
    return f"{value} ({low} to {high})" if low else value


def _percent(column: str, given: str) -> str:
    if given and (column not in METRICS or METRICS[column].percent):
        return f"{float(given) * 100:.1f}"
    return given


def markdown(path: Path) -> str:
    """Convert a CSV file to a Markdown table; columns of numbers are right-aligned."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    columns = [name for name in table if not re.fullmatch(r".*_(low|high)", name)]
    cells = [[cell(row, name) for name in columns] for _, row in table.iterrows()]
    right = [all(re.match(r"[-+\d. ]*( \(|$)", row[place]) for row in cells) for place in range(len(columns))]
    heads = [LABELS.get(name, name) for name in columns]
    rules = ["---:" if numbers else "---" for numbers in right]
    return "".join(f"| {' | '.join(row)} |\n" for row in (heads, rules, *cells))


def page(text: str) -> str:
    """Return a page with every table written again.

    Raises:
        FileNotFoundError: the page names a file that docs/results lacks.
    """
    return TABLE.sub(lambda match: match[1] + markdown(FOLDER / match["file"]) + match[3], text)


def record(name: str, root: Path = ROOT) -> None:
    """Write the metrics of finished runs into a table whose first column names them.

    Raises:
        FileNotFoundError: a run has no results/<run>/metrics.json.
    """
    path = FOLDER / f"{name}.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for row, run in enumerate(table.iloc[:, 0]):
        metrics = json.loads((root / "results" / run / "metrics.json").read_text(encoding="utf-8"))
        for column in set(table) & set(metrics):
            value = metrics[column]
            table.loc[row, column] = f"{value:.4f}" if isinstance(value, float) else str(value)
    table.to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--record", action="append", default=[], metavar="NAME", help="table to take from results/")
    for chosen in parser.parse_args().record:
        record(chosen)
    for path in PAGES:
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
