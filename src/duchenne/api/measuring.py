"""Evaluation and comparison of any predictions, with the metrics and tests of the evaluate stage."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from duchenne.errors import UserError, nearest
from duchenne.evaluation.comparing import Comparison
from duchenne.evaluation.comparing import compare as compare_tables
from duchenne.evaluation.statistics import evaluate as evaluate_table
from duchenne.workspace import Workspace

Results: TypeAlias = "str | Path | pd.DataFrame"
"""A run's name, its ``predictions.parquet`` or the folder of it, or such a table."""


def evaluate(
    y_true: ArrayLike,
    y_pred: ArrayLike | None = None,
    proba: ArrayLike | pd.DataFrame | None = None,
    groups: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
) -> dict[str, float | int | str]:
    """Compute every metric of :data:`duchenne.metrics.METRICS` with a 95 % interval, as the evaluate stage does.

    >>> truth = ["anger", "anger", "fear", "fear", "fear"]
    >>> found = evaluate(truth, ["anger", "fear", "fear", "fear", "fear"], groups=["a", "a", "b", "b", "c"])
    >>> found["war"], found["uar"], round(found["uf1"], 3), found["subjects"], "ece" in found
    (0.8, 0.75, 0.762, 3, False)

    Args:
        y_true: labels (N,): ``classes``, or positions in them where these are names.
        y_pred: predicted labels (N,); default: the most probable class of ``proba``.
        proba: probabilities (N, C), rows sum to 1, columns in the order of ``classes``; or a DataFrame with the names
            of the classes as columns. Without it the metrics that need confidence or probabilities are left out.
        groups: the subject of each sample (N,); one that is missing counts as a subject of its own. Intervals are a
            bootstrap over subjects, without ``groups`` over samples.
        classes: names in class order; default: the columns of ``proba``, or the labels that occur, sorted.
        bootstrap: number of resamples.
        seed: seed of the resampling.

    Returns:
        ``<metric>``, ``<metric>_low`` and ``<metric>_high``, and the same of ``recall_<class>``, as shares (``nll`` in
        nats); ``majority``, ``n``, ``classes``, ``subjects``, ``resampled`` and ``absent``; all as in ``metrics.json``
        (:func:`duchenne.evaluation.statistics.evaluate`). A class without samples is not part of a mean.

    Raises:
        UserError: Lengths differ, a label is not one of the classes, or probabilities are not shares that sum to 1.
    """
    _require_resamples(bootstrap)
    truth = _column(y_true, "y_true")
    if not len(truth):
        raise UserError("y_true is empty: there is nothing to evaluate")
    if y_pred is None and proba is None:
        raise UserError("give the predictions: y_pred, proba or both")
    given = {"y_true": truth}
    if y_pred is not None:
        given["y_pred"] = _column(y_pred, "y_pred")
    table = None if proba is None else _probabilities(proba, classes)
    lengths = {name: len(values) for name, values in given.items()}
    lengths |= {} if table is None else {"proba": len(table)}
    subject = None if groups is None else _column(groups, "groups", missing=True)
    lengths |= {} if subject is None else {"groups": len(subject)}
    if len(set(lengths.values())) > 1:
        raise UserError(f"lengths differ: {', '.join(f'{name} {length}' for name, length in lengths.items())}")

    if classes is None and table is not None and isinstance(proba, pd.DataFrame):
        classes = list(table.columns)
    elif classes is None and table is not None:
        if any(isinstance(value, str) for value in truth):
            raise UserError("classes is missing: give the names in the order of the columns of proba")
        classes = [str(number) for number in range(table.shape[1])]
    names, positions = _positions(given, classes)
    samples = pd.Series(range(len(truth)), dtype=object)
    frame = pd.DataFrame({"sample": samples, "fold": 1, "subject": subject, "label": positions["y_true"]})
    if table is not None:
        frame["predicted"] = positions.get("y_pred", table.to_numpy().argmax(axis=1))
        frame["confidence"] = table.to_numpy()[np.arange(len(frame)), frame["predicted"]]
        frame = frame.join(table.set_axis([f"p_{name}" for name in names], axis=1))
    else:
        frame["predicted"] = positions["y_pred"]
    found = evaluate_table(frame, names, bootstrap, seed)
    del found["folds"]  # not known here
    return found


def compare(
    a: Results,
    b: Results,
    groups: ArrayLike | Mapping[Hashable, Hashable] | None = None,
    classes: Sequence[str] | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
    workspace: str | Path = ".",
) -> Comparison:
    """Compare two runs on the same samples: every metric's difference with its interval, and McNemar's test.

    >>> truth = ["anger", "fear", "anger", "fear"]
    >>> a = pd.DataFrame({"sample": list("wxyz"), "label": truth, "predicted": ["anger"] * 4})
    >>> found = compare(a, a.assign(predicted=truth), groups=["p", "p", "q", "q"])
    >>> found.metrics.loc["war", ["first", "second", "difference"]].tolist()
    [0.5, 1.0, 0.5]
    >>> found.mcnemar.only_second, found.mcnemar.p, found.disagreements.index.tolist()
    (2, 0.5, ['x', 'z'])

    Args:
        a, b: each a DataFrame with ``label`` and ``predicted`` (names or positions), ``sample`` (default: its index),
            and optionally ``subject``, ``confidence``, ``p_<class>`` and, where several networks predict each sample,
            ``seed``; the path of such a table (Parquet or CSV), or of a folder with ``predictions.parquet``; or the
            name of a finished run.
        groups: the subject of each row of ``a``, or sample -> subject; default: the column ``subject``. Without
            subjects the intervals are a bootstrap over samples.
        classes: names in class order; default: those of the columns ``p_<class>``, or the labels that occur, sorted.
        bootstrap: number of resamples.
        seed: seed of the resampling.
        workspace: the project's folder, for names of runs.

    Returns:
        Tables of differences, ``b`` minus ``a``: ``metrics``, ``per_class``, ``confusion``, ``disagreements``; and
        ``mcnemar``.

    Raises:
        UserError: A run is not there, a table lacks a column, or the two were not tested on the same samples with the
            same labels.
    """
    _require_resamples(bootstrap)
    frames = {name: _table(given, name, Path(workspace)) for name, given in (("a", a), ("b", b))}
    if classes is None:
        ordered = [
            [column.removeprefix("p_") for column in frame if column.startswith("p_")] for frame in frames.values()
        ]
        if ordered[0] and ordered[1] and ordered[0] != ordered[1]:
            raise UserError(f"a has the classes {', '.join(ordered[0])}, b has {', '.join(ordered[1])}")
        classes = ordered[0] or ordered[1] or None
    columns = {
        f"{column} of {name}": frame[column].to_numpy(object)
        for name, frame in frames.items()
        for column in ("label", "predicted")
    }
    names, positions = _positions(columns, classes)
    for name, frame in frames.items():
        frame["label"], frame["predicted"] = positions[f"label of {name}"], positions[f"predicted of {name}"]
        if (twice := frame.duplicated(["seed", "sample"] if "seed" in frame else ["sample"])).any():
            raise UserError(f"{name}: sample {frame['sample'][twice].iloc[0]!r} is predicted twice")
    if groups is not None:
        frames["a"]["subject"] = _groups(groups, frames["a"]["sample"])
    return compare_tables(frames["a"], frames["b"], names, bootstrap, seed)


def _require_resamples(bootstrap: int) -> None:
    if bootstrap < 1:
        raise UserError(f"bootstrap is {bootstrap}: give the number of resamples, 1 or more")


def _column(values: ArrayLike, name: str, missing: bool = False) -> np.ndarray:
    """Return values as an array of objects (N,)."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise UserError(f"{name} has the shape {array.shape}: give one value a sample, (N,)")
    array = array.astype(object)
    if not missing and (empty := np.flatnonzero(pd.isna(array))).size:
        raise UserError(f"{name}: sample {empty[0]} has no value")
    return array


def _probabilities(proba: ArrayLike | pd.DataFrame, classes: Sequence[str] | None) -> pd.DataFrame:
    if isinstance(proba, pd.DataFrame):
        wanted = list(proba.columns) if classes is None else list(classes)
        if lacking := [name for name in wanted if name not in proba]:
            raise UserError(f"proba has no column {lacking[0]!r}{nearest(lacking[0], map(str, proba.columns))}")
        return proba[wanted].astype(float).reset_index(drop=True)
    array = np.asarray(proba, dtype=float)
    if array.ndim != 2:
        raise UserError(f"proba has the shape {array.shape}: give (N, C), the probability of every class")
    if classes is not None and array.shape[1] != len(classes):
        raise UserError(f"proba has {array.shape[1]} columns for {len(classes)} classes")
    return pd.DataFrame(array)


def _positions(
    columns: Mapping[str, np.ndarray], classes: Sequence[str] | None
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of the classes, and columns of labels as positions in them."""
    occurring = {value for column in columns.values() for value in column}
    if classes is None:
        if len({isinstance(value, str) for value in occurring}) > 1:
            raise UserError("labels are names and numbers: give names or numbers everywhere, or classes")
        ordered: list[Any] = sorted(occurring)
        names = [str(value) for value in ordered]
        place = {value: position for position, value in enumerate(ordered)}
    else:
        names = [str(name) for name in classes]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise UserError(f"classes names {twice[0]!r} twice")
        place = {name: position for position, name in enumerate(classes)}
        if all(isinstance(name, str) for name in classes):
            place = dict(enumerate(range(len(names)))) | place
    found = {}
    for column, given in columns.items():
        if unknown := [(row, value) for row, value in enumerate(given) if value not in place]:
            row, value = unknown[0]
            hint = nearest(value, names) if isinstance(value, str) else ""
            raise UserError(f"{column}: {value!r} of sample {row} is not one of the classes {', '.join(names)}{hint}")
        found[column] = np.array([place[value] for value in given], dtype=np.int64)
    return names, found


def _table(given: Results, which: str, root: Path) -> pd.DataFrame:
    """Read or copy a table of predictions."""
    if isinstance(given, pd.DataFrame):
        frame, what = given.copy(), which
    else:
        path = _file(given, root)
        frame, what = (pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)), f"{which}, {path}"
    if "sample" not in frame:
        frame.insert(0, "sample", frame.index)
    for column in ("label", "predicted"):
        if column not in frame:
            raise UserError(f"{what} has no column {column!r}{nearest(column, map(str, frame.columns))}")
        if (empty := frame[column].isna()).any():
            raise UserError(f"{what}: sample {frame['sample'][empty].iloc[0]!r} has no {column}")
    if frame.empty:
        raise UserError(f"{what} has no row")
    return frame.reset_index(drop=True).assign(subject=frame["subject"].to_numpy() if "subject" in frame else None)


def _file(given: str | Path, root: Path) -> Path:
    path = Path(given)
    if path.is_dir() and (path / "predictions.parquet").is_file():
        return path / "predictions.parquet"
    if path.is_file():
        return path
    results = Workspace(root).results("")
    if (run := results / str(given) / "predictions.parquet").is_file():
        return run
    known = [str(file.parent.relative_to(results)) for file in sorted(results.glob("**/predictions.parquet"))]
    hint = nearest(str(given), known) or f" (finished: {', '.join(known) or 'none'})"
    raise UserError(f"{str(given)!r} is neither a file nor a finished run in {results}{hint}")


def _groups(groups: ArrayLike | Mapping[Hashable, Hashable], samples: pd.Series) -> np.ndarray:
    if isinstance(groups, Mapping):
        if unknown := [sample for sample in samples if sample not in groups]:
            raise UserError(f"groups has no subject for sample {unknown[0]!r}")
        return np.array([groups[sample] for sample in samples], dtype=object)
    column = _column(groups, "groups", missing=True)
    if len(column) != len(samples):
        raise UserError(f"lengths differ: groups {len(column)}, a {len(samples)}")
    return column
