"""What a gap is asked about: the run, its target, its block, and what can be found of a part of the difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from duchenne.config import Catalog
from duchenne.errors import UserError
from duchenne.evaluation.statistics import evaluate
from duchenne.papers.library import Tree
from duchenne.reporting.runs import Run
from duchenne.training.settings import Variant

FREE = ("selection", "calibration", "recipe.eval_batch_size")
"""Fields in which two compared runs may differ: both are measured under one rule, and the others change no class."""

SHOWN = 4
"""Fields named of a counterpart."""


@dataclass(frozen=True)
class Target:
    """What a run is compared with: a printed value, any value, or another run.

    Attributes:
        label: source of the values.
        values: metric -> value, shares for metrics in per cent.
        name: variant of the library whose printed values they are; empty for others.
        block: :func:`resolved` block of that variant, or :func:`block_of` that run; empty if there is none.
        selection: rule that picked its epoch; None: not known.
        over_folds: metrics whose value is the mean over folds.
        run: the other run; None for values.
    """

    label: str
    values: Mapping[str, float]
    name: str = ""
    block: Mapping[str, Any] = field(default_factory=dict)
    selection: str | None = None
    over_folds: frozenset[str] = frozenset()
    run: Run | None = None


@dataclass(frozen=True)
class Contrast:
    """A part that can be measured: ``new`` instead of ``old`` predictions.

    Attributes:
        instead: what would be otherwise.
        counterpart: run that shows it; empty if the run itself does.
        counted: whether the target has it so, so that the change explains a part of the difference.
        note: what must be known to read it.
        fields: fields in which the counterpart differs.
    """

    part: str
    instead: str
    old: pd.DataFrame
    new: pd.DataFrame
    counterpart: str = ""
    counted: bool = False
    note: str = ""
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Bound:
    """A part of which only the lowest and the highest possible change is known, by metric."""

    part: str
    instead: str
    changes: Mapping[str, tuple[float, float]]
    note: str = ""


@dataclass(frozen=True)
class Absent:
    """A part that is not measured, and what would measure it.

    Attributes:
        why: what is missing.
        how: what to do.
        blocks: blocks to add to ``params.yaml``.
        seeds: seeds to give to the run's own block; empty: none.
        counterpart: a run that would show it; empty if there is none.
        towards: whether the target has it so.
    """

    part: str
    why: str
    how: str = ""
    blocks: Tree = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    counterpart: str = ""
    towards: bool = False


Found = Contrast | Bound | Absent


@dataclass(eq=False)
class Question:
    """A run and all that it is compared with.

    Attributes:
        run: the run, finished.
        runs: all runs of ``params.yaml`` by name.
        target: what it is compared with; None: nothing.
        metrics: what is measured, the most important first.
    """

    run: Run
    catalog: Catalog
    runs: Mapping[str, Run]
    target: Target | None
    metrics: list[str]

    @cached_property
    def block(self) -> dict[str, Any]:
        """Block of the run."""
        return block_of(self.run, self.catalog)

    @cached_property
    def blocks(self) -> dict[str, dict[str, Any]]:
        """Block of every run of ``params.yaml``; those that are not finished are taken to have the run's precision."""
        return {name: block_of(other, self.catalog, self.block["precision"]) for name, other in self.runs.items()}

    @property
    def wanted(self) -> Mapping[str, Any]:
        """The resolved block of the target; empty if it has none."""
        return self.target.block if self.target else {}

    def value(self, predictions: pd.DataFrame, metric: str) -> float:
        """Return a metric of predictions, as the target has it: pooled or as the mean over folds."""
        whole = evaluate(predictions, self.run.classes, bootstrap=1, metrics=(metric,))
        mean = self.target and metric in self.target.over_folds
        return float(whole.get(f"{metric}_fold_mean" if mean else metric, np.nan))

    def as_target(self, theirs: Mapping[str, Any], fields: set[str]) -> bool:
        """Whether the target has the values of ``theirs`` in these fields and the run in none of them.

        Random weights are not as a target that starts from published ones, although both start from no other run.
        """
        random = "init_from" in fields and any(
            value is not None and theirs.get(key) is None
            for key, value in self.wanted.items()
            if key.startswith("model.pretrained.")
        )
        return (
            bool(self.wanted)
            and not random
            and all(
                _plain(key, self.wanted.get(key)) == _plain(key, theirs.get(key)) != _plain(key, self.block.get(key))
                for key in fields
            )
        )


Measure = Callable[[Question, "Part"], Iterator[Found]]
Offer = Callable[[Question, "Part"], Iterator[Absent]]


@dataclass(frozen=True)
class Part:
    """A part of the difference.

    Attributes:
        name: its name for ``--add``.
        title: its name in tables.
        measures: functions that measure it, within the run or between it and its counterparts.
        offer: what to add where nothing is measured; None: nothing can be.
        fields: patterns of the fields of a resolved block in which a counterpart may differ, and in no others.
        loose: whether a counterpart may have been tested on other samples of the same dataset too.
        alike: whether a counterpart must have been trained for the same printed value.
    """

    name: str
    title: str
    measures: tuple[Measure, ...]
    offer: Offer | None = None
    fields: tuple[str, ...] = ()
    loose: bool = False
    alike: bool = False

    def fits(self, differing: set[str]) -> bool:
        """Whether two blocks that differ in these fields are counterparts."""
        return bool(differing) and all(any(fnmatchcase(key, one) for one in self.fields) for key in differing)


def resolved(variant: Variant, catalog: Catalog) -> dict[str, Any]:
    """Return all that decides a result as one flat map, such as ``recipe.lr`` and ``data.faces.mode``.

    The dataset counts by its block, not its name; a rendered one by what is rendered.
    """
    block = variant.decides()
    name = block.pop("dataset")
    data = catalog.datasets[name].model_dump(mode="json")
    if catalog.datasets[name].facts.rendered:
        data["rendered"] = catalog.rendered[name].model_dump(mode="json")
        del data["root"]
    return dict(_flat(block | {"data": data}))


def block_of(run: Run, catalog: Catalog, auto: str = "auto") -> dict[str, Any]:
    """Return the :func:`resolved` block of a run, with the precision in which it was trained.

    Args:
        auto: precision of a run that is not finished, where neither its block nor ``compute`` says it.
    """
    try:
        trained = precision_of(run) if run.status == "run" else ""
    except UserError:  # raised again where the run is compared
        trained = ""
    return resolved(run.config, catalog) | {"precision": trained or planned(run.config, catalog, auto)}


def planned(config: Variant, catalog: Catalog, auto: str) -> str:
    """Return the precision in which a variant would be trained; ``auto`` where nothing says it."""
    return next((one for one in (config.precision, catalog.compute.precision) if one != "auto"), auto)


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> set[str]:
    """Return the fields in which two resolved blocks differ, without :data:`FREE`."""
    return {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)} - set(FREE)


def _flat(block: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _plain(key: str, value: Any) -> Any:
    """Return a value to compare with that of the library: a published file may lie anywhere."""
    if key.startswith("model.pretrained."):
        return value if value in (None, "packaged") else "published"
    return value


def in_words(block: Mapping[str, Any], fields: set[str]) -> str:
    """Name values of a block, those of the dataset last, such as ``recipe.lr 0.001, init_from scratch``."""
    ordered = sorted(fields, key=lambda key: (key.startswith("data."), key))
    shown = [f"{key.removeprefix('data.')} {_value(block.get(key))}" for key in ordered]
    more = [f"{len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
    return ", ".join([*shown[:SHOWN], *more])


def _value(value: Any) -> str:
    """Format a value as YAML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or value is True or value is False
        else str(value)
    )


def precision_of(run: Run) -> str:
    """Return the precision of a run's networks, by their cards or else its record; several are joined by a slash."""
    stated = run.cards.values() or run.record.get("networks", {}).values()
    return "/".join(sorted({network.get("precision", "fp32") for network in stated}))
