"""What each figure of a run shows, in words: for readers who cannot see it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from duchenne.evaluation.statistics import LEVEL
from duchenne.metrics import METRICS
from duchenne.reporting.factors import Factor
from duchenne.reporting.figures import MEASURED_PARTS, positives, shown_curves
from duchenne.reporting.runs import Run
from duchenne.reporting.wording import interval, metric_label, percent


def described(run: Run, factors: list[Factor]) -> dict[str, str]:
    """Figure name -> the numbers in it, as sentences."""
    recalls = "; ".join(
        f"{name} {percent(run.metrics[f'recall_{name}'])}, interval {interval(run.metrics, f'recall_{name}')}"
        for name in run.present
    )
    return {
        "confusion": f"Confusion matrix of {run.name}. {_confusion(run)}",
        "recall": f"Recall of each class with {LEVEL} % intervals: {recalls}.",
        "radar": f"Star of recalls with {LEVEL} % intervals: {recalls}.",
        "curves": f"Training of {run.name}. {_curves(run.history, run.config.monitor)}",
        "reliability": f"Reliability of {run.name}: mean confidence {percent(run.predictions['confidence'].mean())}, "
        f"share right {percent(run.metrics['war'])}, calibration error {percent(run.metrics['ece'])}.",
        "densities": f"Confidence of {run.name}. {_confidence(run.predictions)}",
        "confidences": f"Median confidence of {run.name} in each class. {_confidences(run.predictions, run.present)}",
        "balance": f"Share of each class by part. {_balance(run.parts, run.classes)}",
        "factors": f"WAR of {run.name} against what is known of the samples. {_factors(factors)}",
    }


def _confusion(run: Run) -> str:
    counts = pd.crosstab(run.predictions["label"], run.predictions["predicted"], normalize="index")
    sentences = []
    for label, row in counts.iterrows():
        sentence = f"{run.classes[label]}: {percent(row.get(label, 0))} right"
        wrong = row.drop(label, errors="ignore")
        if wrong.max() > 0:
            sentence += f", most often taken for {run.classes[wrong.idxmax()]} ({percent(wrong.max())})"
        sentences.append(sentence)
    return "; ".join(sentences) + "."


def _curves(history: pd.DataFrame, monitor: str) -> str:
    means = history.groupby("epoch").mean(numeric_only=True)
    ends = []
    for metric in shown_curves(monitor):
        for part, (name, *_) in MEASURED_PARTS.items():
            values = means.get(f"{part}_{metric}", pd.Series(dtype=float)).dropna()
            if len(values):
                shares = metric in METRICS and METRICS[metric].percent
                first, last = (percent(v) if shares else f"{v:.3f}" for v in values.iloc[[0, -1]])
                ends.append(f"{name} {metric_label(metric)} from {first} to {last}")
    return f"In {len(means)} epochs: {', '.join(ends)}."


def _confidence(predictions: pd.DataFrame) -> str:
    right = np.where(predictions["label"] == predictions["predicted"], "right", "wrong")
    groups = predictions["confidence"].groupby(right)
    return " ".join(f"Median of {len(own):,} {name} answers: {percent(own.median())}." for name, own in groups)


def _confidences(predictions: pd.DataFrame, present: list[str]) -> str:
    sentences = []
    for name in present:
        values, own = predictions[f"p_{name}"], positives(predictions, name)
        others = f", of the other samples {percent(values[~own].median())}" if (~own).any() else ""
        sentences.append(f"{name}: of its own samples {percent(values[own].median())}{others}")
    return "; ".join(sentences) + "."


def _balance(parts: pd.DataFrame, classes: list[str]) -> str:
    sentences = []
    for part, own in parts.groupby("part"):
        shares = own["label"].value_counts(normalize=True)
        sentences.append(
            f"{part}: " + ", ".join(f"{classes[label]} {percent(shares[label])}" for label in shares.index)
        )
    return "; ".join(sentences) + "."


def _factors(factors: list[Factor]) -> str:
    return " ".join(
        f"{factor.name}: from {percent(factor.table['war'].min())} to {percent(factor.table['war'].max())}."
        for factor in factors
        if factor.numeric
    )
