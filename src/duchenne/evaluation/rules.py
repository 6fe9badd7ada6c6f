"""What the rule that picks the reported epoch is worth, from the test logits kept in one training run.

``models/<run>/fold_<k>/rules.parquet`` (:class:`duchenne.training.rules.Rules`) has the test logits of the last epoch,
of the best one in validation and of the best one on the test part. All functions here compute from files and run no
network. The honest rule is validation where there is a validation part, otherwise the last epoch.

**What the difference is.** Each fold chooses its own epoch; then the predictions of all folds are pooled, as always.
With one fold, the epoch chosen on the test part is at least as good in the monitored metric as any other epoch, so the
difference cannot be negative; over pooled folds it can, for the metric of the whole is not the mean of the folds'.

**What its interval is.** A paired bootstrap by subject between epochs that are fixed: it says how much the difference
depends on who is in the test part. It does not repeat the choice in each resample, for which the logits of all epochs
would be needed, and does not cover other seeds. The value is the advantage that the printed number gets; it is no
estimate of an advantage on new faces, of which there is none to expect.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from duchenne.errors import UserError
from duchenne.evaluation.statistics import (
    in_resamples,
    independent,
    interval,
    interval_of_difference,
    tables_of,
    units_of,
)  # fmt: skip
from duchenne.metrics import METRICS
from duchenne.sealed import check_listed, read_table
from duchenne.workspace import Network

FILE = "rules.parquet"
"""Table of kept logits in the folder of a trained fold."""

RULES = ("last", "train", "val", "test")
"""All rules, in the order in which they are shown."""

TOLERANCE = {"fp32": 0.01, "bf16": 0.1}
"""Largest distance of two predictions of the same weights, as a share of the logits' norm, by precision (chosen by us).

Batches, devices and the order of sums differ; the logits of another epoch differ by much more early in training, and
late in it by little, which then matters as little.
"""


def read_kept(networks: Mapping[Network, Path]) -> dict[Network, pd.DataFrame]:
    """Return the table of kept logits of each network; empty if one has none, as those of older versions.

    Args:
        networks: folders of the trained networks.
    """
    files = {network: folder / FILE for network, folder in networks.items()}
    if not all(path.exists() for path in files.values()):
        return {}
    return {network: read_table(check_listed(path, path.with_name("card.json"))) for network, path in files.items()}


def check_kept(
    kept: pd.DataFrame, rule: str, samples: pd.Series, logits: np.ndarray, precision: str, path: Path
) -> None:
    """Check that the kept logits of the reported epoch are those of its weights.

    Args:
        kept: table of a fold.
        rule: the rule that chose the reported epoch.
        samples: names of the test samples.
        logits: logits by the weights, (N, classes).
        precision: precision of the network, as on its card.
        path: name of the file in the error.

    Raises:
        UserError: They are not, or not of the same samples.
    """
    own = kept[kept["rule"] == rule].set_index("sample").filter(like="logit_")
    again = f"delete {path} or train again"
    if set(own.index) != set(samples):
        raise UserError(f"{path} is not of the same test samples as the split: {again}")
    distance = np.linalg.norm(own.loc[samples].to_numpy() - logits) / np.linalg.norm(logits)
    if not distance <= TOLERANCE[precision]:
        raise UserError(
            f"{path}: the logits of the reported epoch differ from those of the weights by {distance:.0%} of their "
            f"size: {again}"
        )


def by_rule(
    predictions: pd.DataFrame, kept: Mapping[Network, pd.DataFrame], classes: list[str], reported: str
) -> dict[str, pd.DataFrame]:
    """Return the predictions under each rule, in the rows of ``predictions`` and with a column ``epoch``.

    Where a rule chooses the reported epoch of a fold, its predicted classes are those of ``predictions``. All
    probabilities are of the kept logits, before any calibration. A rule that is not defined in all folds is left out.

    Args:
        predictions: the reported ones, of :func:`duchenne.evaluation.evaluate`'s form; without a column ``seed`` they
            are those of the first.
        kept: table of kept logits of each network.
        classes: class names in order.
        reported: the rule of the reported predictions.

    Raises:
        UserError: A fold or a sample has no kept logits.
    """
    found = {}
    if "seed" not in predictions:
        predictions = predictions.assign(seed=min((seed for seed, _ in kept), default=0))
    for rule in RULES:
        tables = {network: table[table["rule"] == rule] for network, table in kept.items()}
        if not tables or any(table.empty for table in tables.values()):
            continue
        epochs = {network: int(table["epoch"].iloc[0]) for network, table in tables.items()}
        same = [network for network, epoch in epochs.items() if epoch == _epoch(kept[network], reported)]
        pooled = pd.concat([table.assign(seed=seed, fold=fold) for (seed, fold), table in tables.items()])
        pooled = pooled.set_index(["seed", "fold", "sample"])[[f"logit_{name}" for name in classes]]
        rows = pd.MultiIndex.from_frame(predictions[["seed", "fold", "sample"]])
        if not rows.isin(pooled.index).all():
            seed, fold, sample = rows[~rows.isin(pooled.index)][0]
            raise UserError(f"{FILE} of seed {seed}, fold {fold} lacks the sample {sample!r}: train again")
        networks = pd.MultiIndex.from_frame(predictions[["seed", "fold"]])
        logits = pooled.loc[rows].to_numpy(np.float64)
        shares = softmax(logits, axis=1)
        found[rule] = predictions.assign(
            epoch=networks.map(epochs),
            predicted=predictions["predicted"].where(networks.isin(same), logits.argmax(axis=1)),
            confidence=shares.max(axis=1),
            **{f"p_{name}": column for name, column in zip(classes, shares.T, strict=True)},
        )
    return found


def _epoch(kept: pd.DataFrame, rule: str) -> int | None:
    epochs = kept.loc[kept["rule"] == rule, "epoch"]
    return None if epochs.empty else int(epochs.iloc[0])


def honest_rule(rules: Mapping[str, object]) -> str:
    """Return the honest rule among ``rules``: ``val``, or without a validation part ``last``."""
    return "val" if "val" in rules else "last"


def measured_under(monitor: str) -> list[str]:
    """List the metrics that are measured under every rule: those of classes alone, and the monitored one.

    Metrics of probabilities are left out because a calibration is fitted for the reported epoch alone; a monitored one
    is of the probabilities before calibration.
    """
    return [name for name, metric in METRICS.items() if metric.needs == "predicted" or name == monitor]


def of_rules(key: str) -> bool:
    """Whether a key of ``metrics.json`` is one of :func:`measure_rules`."""
    return "_rule_" in key or "_minus_" in key


def measure_rules(
    frames: Mapping[str, pd.DataFrame], classes: list[str], monitor: str, bootstrap: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Measure the predictions of every rule, and the differences from the honest one, in the same resamples.

    Args:
        frames: result of :func:`by_rule`.
        classes, bootstrap, seed: as for :func:`duchenne.evaluation.evaluate`, whose resamples these are.
        monitor: the variant's ``monitor``.

    Returns:
        ``<metric>_rule_<rule>`` and, for all rules but the honest one, ``<metric>_<rule>_minus_<honest>``, each with
        its 95 % interval (``_low``, ``_high``); ``epoch_rule_<rule>``, the chosen epoch, over several networks their
        mean.
        Metrics are those of :func:`measured_under`, where they are defined. Empty without frames.
    """
    if not frames:
        return {}
    honest, first = honest_rule(frames), next(iter(frames.values()))
    units, _ = units_of(first)
    tables = {rule: tables_of(frame, classes, units) for rule, frame in frames.items()}
    names = measured_under(monitor)
    wanted = [METRICS[name] for name in names]
    point = {rule: table.whole(wanted, classes) for rule, table in tables.items()}
    drawn = in_resamples(list(tables.values()), wanted, classes, bootstrap, seed)
    spread = dict(zip(tables, drawn, strict=True))
    sizes = independent(tables[honest].counts, classes)

    found: dict[str, float] = {}
    for rule in frames:
        epochs = frames[rule].groupby(["seed", "fold"])["epoch"].first()
        found[f"epoch_rule_{rule}"] = int(epochs.iloc[0]) if len(epochs) == 1 else float(epochs.mean())
        for name in names:
            value, base = float(point[rule][name][0]), float(point[honest][name][0])
            if not np.isfinite([value, base]).all():
                continue
            low, high = interval(name, point[rule], spread[rule][name], sizes)
            key = f"{name}_rule_{rule}"
            found |= {key: value, f"{key}_low": low, f"{key}_high": high}
            if rule == honest:
                continue
            same = (frames[rule]["epoch"] == frames[honest]["epoch"]).all()
            drawn = spread[rule][name] - spread[honest][name]
            low, high = (0.0, 0.0) if same else interval_of_difference(name, value - base, drawn, sizes)
            key = f"{name}_{rule}_minus_{honest}"
            found |= {key: value - base, f"{key}_low": low, f"{key}_high": high}
    return found
