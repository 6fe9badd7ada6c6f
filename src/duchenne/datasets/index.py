"""The index: one validated row per sample, with the same columns for every dataset."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from duchenne.datasets import problems as problem_table
from duchenne.datasets.listing import Findings
from duchenne.files import file_digest, replacing
from duchenne.sealed import DamagedError, check_table, damaged, write_table

SCHEMA = pa.schema(
    [
        ("sample", pa.string()),  # unique
        ("kind", pa.string()),  # image, video or frames
        ("path", pa.string()),  # relative to the dataset's root, forward slashes
        ("label", pa.int64()),  # position in the classes
        ("emotion", pa.string()),
        ("subject", pa.string()),
        ("source", pa.string()),  # clip or video that the sample was cut from
        ("split", pa.string()),  # train, val or test, as the dataset's owners say
        ("folds", pa.list_(pa.int64())),  # 1-based folds whose test part has the sample, as the owners say
        ("onset", pa.int64()),  # frame numbers as in the file names; in a video, counted from 0
        ("apex", pa.int64()),
        ("offset", pa.int64()),
        ("first", pa.int64()),  # first and last frame of the sample, in the same numbers; missing: all of its file
        ("last", pa.int64()),
        ("n_frames", pa.int64()),  # existing frames from first to last; missing for a whole video
        ("fps", pa.float64()),
        ("aus", pa.string()),  # FACS text as annotated
        ("factors", pa.string()),  # JSON object of everything else
        ("box", pa.list_(pa.float64())),  # face box x0, y0, x1, y1, px
        ("votes", pa.list_(pa.float64())),  # number of annotators for each class
    ]
)
"""Columns of the index; values of all but the first five may be missing in any row."""


@dataclass
class Index:
    """The samples of a dataset.

    Attributes:
        rows: the columns of :data:`SCHEMA`, sorted by sample.
        problems: row, column, path, problem and file of rows left out as wrong (``bad_rows: skip``).
        classes: emotion names; ``label`` is the position.
        dataset: name of the dataset.
        left_out: reason for leaving samples out on purpose -> number of samples.
        findings: the distribution that was read, and its oddities; ``extra`` is not written.
        unit: unit of a problem's row (``row`` or ``line``), for messages; not written.
    """

    rows: pd.DataFrame
    problems: pd.DataFrame
    classes: list[str]
    dataset: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    unit: str = "row"


def as_schema(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of :data:`SCHEMA` in order, with nullable integers; absent columns are empty."""
    table = rows.reindex(columns=SCHEMA.names).astype(object)
    return _to_pandas(pa.Table.from_pandas(table.where(table.notna(), None), SCHEMA, preserve_index=False))


def write_index(index: Index, path: Path) -> None:
    """Write the rows as Parquet with classes and dataset in its metadata, and the problems as CSV beside it."""
    table = pa.Table.from_pandas(index.rows, SCHEMA, preserve_index=False)
    notes = {
        "classes": json.dumps(index.classes),
        "dataset": index.dataset,
        "left_out": json.dumps(index.left_out, ensure_ascii=False),
        "findings": json.dumps(asdict(replace(index.findings, extra=[])), ensure_ascii=False),
    }
    with replacing(problems_file(path)) as part:
        index.problems.to_csv(part, index=False)
    notes["problems"] = file_digest(problems_file(path))
    write_table(path, table.replace_schema_metadata(notes))


def read_index(path: Path) -> Index:
    """Read what :func:`write_index` wrote.

    Raises:
        DamagedError: One of the two files is damaged, or that of another dataset.
        OSError: One of them cannot be read.
    """
    again = f"delete it, then `dvc checkout`, `dvc pull` or `dvc repro index@{path.stem}` brings it back"
    listed = problems_file(path)
    check_table(path, again)
    try:
        table = pq.read_table(path, schema=None)
        notes = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        if notes.get("problems", known := file_digest(listed)) != known:
            raise damaged(listed, again, f"or it is not of {path.name}")
        problems = pd.read_csv(listed, keep_default_na=False, na_values={"row": [""]})
        return Index(
            _to_pandas(table),
            problem_table.typed(problems),
            json.loads(notes["classes"]),
            notes["dataset"],
            json.loads(notes["left_out"]),
            _findings(notes["findings"]),
        )
    except (FileNotFoundError, DamagedError):
        raise
    except Exception as error:  # of a file without a seal, as older versions wrote it; Arrow raises many kinds
        raise damaged(path, again, error) from None


def summarise(index: Index) -> dict[str, object]:
    """Return counts to check before training, as values for JSON."""
    rows = index.rows
    per_class = rows["emotion"].value_counts()
    per_subject = rows["subject"].value_counts()
    folds = rows["folds"].dropna().explode()
    return {
        "dataset": index.dataset,
        "samples": len(rows),
        "kinds": _counts(rows["kind"]),
        "classes": {name: int(per_class.get(name, 0)) for name in index.classes},
        "parts": {part: _counts(group["emotion"], index.classes) for part, group in rows.groupby("split")},
        "folds": {str(fold): n for fold, n in sorted(folds.value_counts().items())},
        "subjects": len(per_subject),
        "samples a subject": (
            {key: float(getattr(per_subject, key)()) for key in ("min", "median", "max")} if len(per_subject) else {}
        ),
        "without subject": int(rows["subject"].isna().sum()),
        "left out": index.left_out,
        "problems": problem_table.count(index.problems),
    }


def empty_classes(index: Index) -> list[str]:
    """Return the declared classes without a sample."""
    return [name for name in index.classes if name not in set(index.rows["emotion"])]


def _counts(values: pd.Series, order: list[str] | None = None) -> dict[str, int]:
    counts = values.value_counts()
    return {str(key): int(counts.get(key, 0)) for key in (order or sorted(counts.index))}


def _findings(text: str) -> Findings:
    findings = Findings(**json.loads(text))
    return replace(findings, notes=[tuple(note) for note in findings.notes])  # JSON has only lists


def problems_file(path: Path) -> Path:
    """Return the list of problems beside an index."""
    return path.with_suffix(".problems.csv")


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(ignore_metadata=True, types_mapper={pa.int64(): pd.Int64Dtype()}.get)
