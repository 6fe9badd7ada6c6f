"""Metrics with intervals, tests between runs, and maps of features."""

from duchenne.evaluation.embedding import Embedding, embed
from duchenne.evaluation.statistics import (
    McNemar,
    by_fold,
    calibration,
    evaluate,
    evaluate_parts,
    evaluate_without,
    mcnemar,
)

__all__ = [
    "Embedding",
    "McNemar",
    "by_fold",
    "calibration",
    "embed",
    "evaluate",
    "evaluate_parts",
    "evaluate_without",
    "mcnemar",
]
