"""Layout ``synth``: the rendered sets, whose ``truth.parquet`` has one row per sample."""

from __future__ import annotations

from duchenne.datasets.listing import COLUMNS, Listing, as_text
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.sealed import read_table

AGAIN = "`dvc repro --force synthesize` renders the set again"


def read_listing(config: Dataset) -> Listing:
    """List the rendered samples; ground truth such as points and poses stays in the renderer's tables."""
    path = config.root / "truth.parquet"
    if not path.is_file():
        raise UnreadableError(path, "has not been rendered yet: run `dvc repro`")
    truth = read_table(path, again=AGAIN).rename(columns={"emotion": "label"})
    if "box" in truth:
        truth[["x0", "y0", "x1", "y1"]] = truth["box"].tolist()
    rows = as_text(truth[[name for name in COLUMNS if name in truth]])
    return Listing(rows.assign(row=range(1, len(rows) + 1)), str(path), whole=True)
