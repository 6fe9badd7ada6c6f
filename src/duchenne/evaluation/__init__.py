"""Metrics with intervals, tests between runs, and maps of features."""

from duchenne.evaluation.embedding import Embedding, embed
from duchenne.evaluation.metrics import McNemar, calibration, evaluate, evaluate_parts, evaluate_without, mcnemar

__all__ = ["Embedding", "McNemar", "calibration", "embed", "evaluate", "evaluate_parts", "evaluate_without", "mcnemar"]
