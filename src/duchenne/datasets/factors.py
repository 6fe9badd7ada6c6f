"""Table of additional sample attributes (``factors`` in params.yaml), joined to any layout by sample."""

from __future__ import annotations

import json
import posixpath

import pandas as pd

from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import gather, read_csv
from duchenne.errors import nearest

HINTS = 10
"""Maximum number of unknown samples for which the nearest known name is suggested, which is slow."""


def join(listing: Listing, config: Dataset) -> None:
    """Add the columns of the table to the factors of the samples that it names; samples may be missing from it.

    Unknown samples and samples named twice become problems of the listing.

    Raises:
        UnreadableError: The table is missing or empty, has no column ``sample`` or no other column, or a column has the
            name of a factor of the layout.
    """
    path = config.root / config.factors
    if not path.is_file():
        hint = nearest(path.name, (item.name for item in path.parent.glob("*") if item.is_file()))
        raise UnreadableError(path, f"there is no such table of factors{hint}", "factors")
    read = read_csv(path)
    table = read.rows
    names = [name for name in table.columns if name and name != "sample"]
    if "sample" not in table or not names:
        there = ", ".join(filter(None, table.columns)) or "none"
        raise UnreadableError(path, f"needs a column sample and one for each factor (there are: {there})", "factors")
    if twice := sorted({name for name in table.columns if list(table.columns).count(name) > 1 and name}):
        raise UnreadableError(path, f"the header names {', '.join(map(repr, twice))} more than once", "factors")

    samples = listing.rows.get("sample", listing.rows["path"].str.replace("\\", "/").map(posixpath.normpath))
    samples, named = samples.str.strip(), table["sample"].str.strip()
    listing.problems += [(*problem[:4], str(path)) for problem in read.problems]
    for i, (line, sample) in enumerate(named[~named.isin(samples)].items()):
        hint = nearest(sample, samples.dropna()) if i < HINTS else ""
        listing.problems.append((line, "sample", sample, f"the dataset has no such sample{hint}", str(path)))
    for line, sample in named[named.duplicated()].items():
        listing.problems.append((line, "sample", sample, "a line above has the same sample", str(path)))

    cells = table[names].apply(lambda column: column.str.strip())
    more = gather(cells[~named.duplicated()].set_axis(named[~named.duplicated()]))
    known = listing.rows["factors"] if "factors" in listing.rows else pd.Series(None, listing.rows.index, "object")
    known = [json.loads(text) if isinstance(text, str) else {} for text in known]
    if taken := sorted({name for factors in known for name in factors} & set(names)):
        raise UnreadableError(
            path, f"{', '.join(map(repr, taken))}: the layout has a factor of this name: rename the column", "factors"
        )
    added = [json.loads(text) if isinstance(text, str) else {} for text in samples.map(more)]
    texts = [
        json.dumps(one | two, ensure_ascii=False) if one or two else None for one, two in zip(known, added, strict=True)
    ]
    listing.rows["factors"] = pd.Series(texts, listing.rows.index, "str")
