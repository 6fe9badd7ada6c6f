"""The metrics: one registry, read by training, evaluation, comparison, the papers' tables and the page.

To add a metric, write a function of :class:`Resamples` here and decorate it with :func:`register`; see
``docs/extending.md``. Nothing else lists metrics.

A bootstrap draws units (subjects, or samples without a subject) with replacement. Confusion counts add up over units,
so a resample is a row of unit counts times a table of sums, and no sample is processed twice. A mean over samples is
one more sum. Only a metric of ranks, such as AUC, needs the weight of every sample in every resample.

This module needs neither torch nor the configuration: ``params.yaml`` is checked against it.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np

BINS = 15
"""Confidence bins of equal width, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"."""

BLOCK = 4_000_000
"""Maximum number of values in a block of resamples: 32 MB."""

CACHED = 2**18
"""Maximum number of values in one step of a metric of ranks: 2 MB."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of N samples in C classes.

    Attributes:
        labels: actual classes, integers (N,) from 0.
        predicted: predicted classes, in the same form.
        confidence: probability of the predicted class, (N,), 0 to 1; None if not known.
        units: (N,) integers from 0; samples of one unit are drawn together.
        classes: number of classes C.
        probabilities: probabilities of all classes, (N, C), rows sum to 1; None if not known.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray | None
    units: np.ndarray
    classes: int
    probabilities: np.ndarray | None = None

    @cached_property
    def counts(self) -> np.ndarray:
        """Confusion counts of each unit, (units, C * C): actual class times C plus predicted class."""
        return self.sums(np.ones(len(self.labels)), self.labels * self.classes + self.predicted, self.classes**2)

    @cached_property
    def surplus(self) -> np.ndarray:
        """Number of correct predictions minus the sum of confidences, by unit and confidence bin, (units, BINS).

        Without confidences it has no bins, (units, 0).
        """
        if self.confidence is None:
            return np.zeros((self.units.max() + 1, 0))
        right = self.labels == self.predicted
        return self.sums(right - self.confidence, confidence_bin(self.confidence), BINS)

    def sums(self, values: np.ndarray, column: np.ndarray | int = 0, width: int = 1) -> np.ndarray:
        """Sums of ``values`` (N,) by unit and by ``column`` (N,) from 0 to ``width`` - 1: (units, width)."""
        height = self.units.max() + 1
        flat = np.bincount(self.units * width + column, weights=values, minlength=height * width)
        return flat.reshape(height, width)

    def whole(self) -> Resamples:
        """Return one copy with every sample once."""
        table = np.hstack([self.counts, self.surplus])
        return Resamples(self, np.ones((1, len(table))), table.sum(axis=0, keepdims=True))

    def drawn(self, times: np.ndarray) -> Resamples:
        """Return R resamples, given how often each contains each unit, (R, units)."""
        return Resamples(self, times, times @ np.hstack([self.counts, self.surplus]))


class Resamples:
    """R weighted copies of the predictions of N samples in C classes; a metric is a function of them with R values.

    Evaluation uses one copy with every sample once, and the resamples of the bootstrap. All attributes except those of
    the samples have the copies as their first axis.

    Attributes:
        labels, predicted, confidence, probabilities, classes: as in :class:`Predictions`.
        confusion: counts of actual by predicted class, (R, C, C).
        surplus: number of correct predictions minus the sum of confidences, by confidence bin, (R, BINS).
    """

    def __init__(self, predictions: Predictions, times: np.ndarray, sums: np.ndarray) -> None:
        self._predictions, self._times = predictions, times
        self.labels, self.predicted = predictions.labels, predictions.predicted
        self.confidence, self.probabilities = predictions.confidence, predictions.probabilities
        self.classes = predictions.classes
        self.confusion = sums[:, : self.classes**2].reshape(-1, self.classes, self.classes)
        self.surplus = sums[:, self.classes**2 :]

    def __len__(self) -> int:
        return len(self._times)

    @property
    def actual(self) -> np.ndarray:
        """Samples of each class, (R, C)."""
        return self.confusion.sum(axis=2)

    @property
    def guessed(self) -> np.ndarray:
        """Predictions of each class, (R, C)."""
        return self.confusion.sum(axis=1)

    @property
    def hits(self) -> np.ndarray:
        """Correctly classified samples of each class, (R, C)."""
        return np.einsum("rcc->rc", self.confusion)

    @property
    def total(self) -> np.ndarray:
        """Samples, (R,)."""
        return self.actual.sum(axis=1)

    @property
    def recall(self) -> np.ndarray:
        """Recall of each class, (R, C); NaN for a class without samples."""
        return ratio(self.hits, self.actual)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Average a value per sample, (N,), in each copy: (R,)."""
        return (self._times @ self._predictions.sums(values))[:, 0] / self.total

    def weights(self) -> Iterator[np.ndarray]:
        """Yield how often each sample is in each copy, (N, r), with as many copies at a time as fit in the cache."""
        step = max(1, CACHED // len(self.labels))
        for start in range(0, len(self), step):
            yield np.ascontiguousarray(self._times[start : start + step].T)[self._predictions.units]


Function = Callable[[Resamples], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A metric: its meaning, computation and presentation.

    Attributes:
        name: key in ``metrics.json``, in the history (``val_<name>``) and of ``monitor``; lower case, no underscore.
        label: name on the page and in tables, such as ``UF1``.
        help: one sentence for the glossary, in lower case and with a full stop.
        function: :class:`Resamples` -> (R,); NaN where the value is not defined, which is then left out.
        needs: ``predicted``: label and predicted class, which all predictions have; ``confidence``: also the
            probability of the predicted class; ``probabilities``: also those of all classes. Where predictions lack
            them, the metric is left out.
        low, high: range; infinite if it has no end.
        better: which values are better.
        percent: whether papers print it in per cent.
        mean_over: units over which the metric is a mean of shares, if it is one; ``recalls``: over classes, of their
            recalls. If no resample differs from the value, the interval is then the exact binomial one
            (:func:`duchenne.evaluation.statistics.interval`); for other metrics it is the value itself.
        guessing: number of samples of each class, (C,) -> the value of always predicting the most common class.
    """

    name: str
    label: str
    help: str
    function: Function
    needs: Literal["predicted", "confidence", "probabilities"] = "predicted"
    low: float = 0.0
    high: float = 1.0
    better: Literal["higher", "lower"] = "higher"
    percent: bool = True
    mean_over: Literal["samples", "classes", "recalls"] | None = None
    guessing: Callable[[np.ndarray], float] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*", self.name) or self.name in RESERVED:
            raise ValueError(
                f"metric {self.name!r}: a name has lower-case letters and digits alone and is none of "
                f"{', '.join(sorted(RESERVED))}"
            )
        if self.mean_over and not self.bounded:
            raise ValueError(f"metric {self.name!r}: a mean of shares needs a finite range")

    def __call__(self, resamples: Resamples) -> np.ndarray:
        """Its values, (R,).

        Raises:
            ValueError: the function returns another shape.
        """
        values = np.asarray(self.function(resamples))
        if values.shape != (len(resamples),):
            raise ValueError(
                f"metric {self.name!r}: its function returned the shape {values.shape} for {len(resamples)} resamples: "
                f"it must return one value each, ({len(resamples)},)"
            )
        return values

    @property
    def scale(self) -> int:
        """Factor by which a value is multiplied when shown: 100 for per cent."""
        return 100 if self.percent else 1

    @property
    def bounded(self) -> bool:
        """Whether the range is finite."""
        return bool(np.isfinite(self.high - self.low))

    def number(self, value: float, sign: str = "") -> str:
        """Format a value without its unit: two decimals in per cent, otherwise three.

        >>> METRICS["war"].number(0.71249), METRICS["kappa"].number(0.71249), METRICS["war"].number(0.0125, "+")
        ('71.25', '0.712', '+1.25')
        """
        return f"{self.scale * value:{sign}.{2 if self.percent else 3}f}"

    @property
    def definition(self) -> str:
        """Source of its function and of this module, without comments and other metrics.

        When it changes, epochs that were picked by the metric are picked again.
        """
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(self.function))).body[0]
        except (OSError, TypeError, SyntaxError):  # written in a notebook, a lambda, or not in Python
            code = getattr(self.function, "__code__", None)
            return repr(self.function) if code is None else f"{code.co_code.hex()} {code.co_names}"
        tree.decorator_list = []
        return _machinery() + ast.unparse(tree)


@cache
def _machinery() -> str:
    """Return the source of this module without its registered metrics."""
    tree = ast.parse(inspect.getsource(sys.modules[__name__]))
    tree.body = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.decorator_list)]
    return ast.unparse(tree)


METRICS: dict[str, Metric] = {}
"""Every metric by name, in the order in which they are shown; filled by :func:`register`."""

RESERVED = frozenset(
    {"loss", "recall", "n", "classes", "subjects", "folds", "seeds", "majority", "resampled", "absent"}
)
"""Other keys of the history and of ``metrics.json``."""


def register(name: str, label: str, help: str, **facts: Any) -> Callable[[Function], Function]:
    """Decorator that makes a function of :class:`Resamples` a metric.

    Args:
        name, label, help, facts: fields of :class:`Metric`.

    Raises:
        ValueError: There is already a metric of this name, or the fields are inconsistent.
    """

    def add(function: Function) -> Function:
        if name in METRICS:
            raise ValueError(f"there is already a metric {name!r}")
        METRICS[name] = Metric(name, label, help, function, **facts)
        return function

    return add


def confidence_bin(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, an integer from 0 to BINS - 1; 1.0 belongs to the last."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Return ``over / under``, NaN where both are 0."""
    with np.errstate(invalid="ignore"):
        return over / under


def over_classes(values: np.ndarray) -> np.ndarray:
    """Average over the classes (R, C) that have a value; NaN if none has."""
    return ratio(np.nansum(values, axis=1), (~np.isnan(values)).sum(axis=1))


@register(
    "war",
    "WAR",
    "weighted average recall, the share of test samples that are correctly classified; the same as accuracy.",
    mean_over="samples",
    guessing=lambda counts: counts.max() / counts.sum(),
)
def war(r: Resamples) -> np.ndarray:
    return r.hits.sum(axis=1) / r.total


@register(
    "uar",
    "UAR",
    "unweighted average recall, the mean over classes of the share correctly classified: a rare class counts as much "
    "as a common one. Also called mean class accuracy.",
    mean_over="recalls",
    guessing=lambda counts: 1 / np.count_nonzero(counts),
)
def uar(r: Resamples) -> np.ndarray:
    """A class without samples is left out."""
    return over_classes(r.recall)


@register(
    "uf1",
    "UF1",
    "unweighted F1, the mean over classes of the harmonic mean of precision and recall.",
    mean_over="classes",
)
def uf1(r: Resamples) -> np.ndarray:
    """A class without samples is left out, even if it was predicted (See et al. 2019, MEGC)."""
    return over_classes(np.where(r.actual > 0, ratio(2 * r.hits, r.actual + r.guessed), np.nan))


@register(
    "ece",
    "ECE",
    f"expected calibration error, how far confidence is from accuracy on average, in {BINS} bins of confidence; "
    "0 is perfect.",
    needs="confidence",
    better="lower",
)
def ece(r: Resamples) -> np.ndarray:
    return np.abs(r.surplus).sum(axis=1) / r.total


@register(
    "auc",
    "AUC",
    "area under the ROC curve, the mean over classes of how often a sample of the class gets a higher probability of "
    "it than a sample of another class; 0.5 is guessing, 1 is perfect.",
    needs="probabilities",
    percent=False,
    mean_over="classes",
    guessing=lambda counts: 0.5,
)
def auc(r: Resamples) -> np.ndarray:
    """Mean over classes of the area of each class against the rest (Fawcett 2006, section 9.2); a tie counts half.

    A class without samples, or without samples of other classes, is left out.
    """
    ranks = []
    for label, scores in enumerate(r.probabilities.T):
        order = np.argsort(scores, kind="stable")
        own, others = (order[of] for of in (r.labels[order] == label, r.labels[order] != label))
        ends = [np.searchsorted(scores[others], scores[own], side) for side in ("left", "right")]
        ranks.append((own, others, *ends))
    blocks = []
    for weights in r.weights():
        areas = np.empty((weights.shape[1], r.classes))
        for label, (own, others, first, last) in enumerate(ranks):
            below = np.zeros((len(others) + 1, weights.shape[1]))  # weight of the first 0, 1, ... of the others
            np.cumsum(weights[others], axis=0, out=below[1:])
            wins = np.einsum("nr,nr->r", weights[own], below[first] + below[last]) / 2
            areas[:, label] = ratio(wins, weights[own].sum(axis=0) * below[-1])
        blocks.append(over_classes(areas))
    return np.concatenate(blocks)


@register(
    "top2",
    "Top-2",
    "share of test samples whose class is among the two most probable ones; only with three or more classes.",
    needs="probabilities",
    mean_over="samples",
)
def top2(r: Resamples) -> np.ndarray:
    """Among equal probabilities the earlier class comes first, as in ``predicted``; NaN with fewer than 3 classes."""
    if r.classes < 3:
        return np.full(len(r), np.nan)
    best = np.argsort(-r.probabilities, axis=1, kind="stable")[:, :2]
    return r.mean((best == r.labels[:, None]).any(axis=1))


@register(
    "nll",
    "NLL",
    "negative log-likelihood, the mean of −ln of the probability of the actual class (cross-entropy); 0 is perfect, "
    "and confident mistakes cost most.",
    needs="probabilities",
    high=np.inf,
    better="lower",
    percent=False,
)
def nll(r: Resamples) -> np.ndarray:
    """A probability of 0 counts as the smallest step of a float64 beside 1, as in scikit-learn's ``log_loss``."""
    own = r.probabilities[np.arange(len(r.labels)), r.labels]
    return r.mean(-np.log(np.maximum(own, np.finfo(np.float64).eps)))


@register(
    "kappa",
    "Kappa",
    "Cohen’s kappa, the share correctly classified beyond what labels and predictions would share by chance; 0 is "
    "chance, 1 is perfect.",
    low=-1.0,
    percent=False,
    mean_over="samples",
    guessing=lambda counts: 0.0,
)
def kappa(r: Resamples) -> np.ndarray:
    """Agreement beyond chance (Cohen 1960); NaN where all labels and predictions are of one class."""
    chance = (r.actual * r.guessed).sum(axis=1) / r.total**2
    return ratio(r.hits.sum(axis=1) / r.total - chance, 1 - chance)


def metric_of(key: str) -> Metric | None:
    """Return the metric of a key of ``metrics.json``, such as ``war_fold_mean``; None for the recall of a class.

    >>> metric_of("war_fold_mean").label, metric_of("recall_anger")
    ('WAR', None)
    """
    return METRICS.get(key.partition("_")[0])


def chosen(predictions: Predictions, names: tuple[str, ...] | None = None) -> list[Metric]:
    """Return the metrics ``names`` (None: all) for which ``predictions`` have the data."""
    known = METRICS.values() if names is None else [METRICS[name] for name in names]
    return [metric for metric in known if metric.needs == "predicted" or getattr(predictions, metric.needs) is not None]


def measured(labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Compute every metric of N samples; NaN where one is not defined.

    Args:
        labels, predicted: integers (N,) from 0.
        probabilities: probabilities of the C classes, (N, C).
    """
    confidence = probabilities[np.arange(len(labels)), predicted]
    one = np.zeros(len(labels), np.int64)
    predictions = Predictions(labels, predicted, confidence, one, probabilities.shape[1], probabilities)
    whole = predictions.whole()
    return {metric.name: float(metric(whole)[0]) for metric in chosen(predictions)}
