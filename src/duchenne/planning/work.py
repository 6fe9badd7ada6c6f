"""Amount of work of a variant: its folds, samples and frames, from the files on disk or the owners' counts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pandas as pd

from duchenne.config import Catalog
from duchenne.datasets.audit import expectation
from duchenne.datasets.settings import Dataset
from duchenne.networks import facts_of
from duchenne.planning.estimate import Basis, Estimate, between, exactly
from duchenne.protocol import Protocol
from duchenne.sealed import read_table
from duchenne.splits import PARTS, make_splits
from duchenne.synth.settings import Synth
from duchenne.workspace import Workspace

MICRO_FRAMES = between(10, 100)
"""Frames of a micro-expression (assumed: a twentieth to half a second at 200 frames/s)."""
CLIP_FRAMES = between(16, 160)
"""Frames of a clip of unknown length (assumed: about half a second to five seconds at 30 frames/s)."""


@dataclass(frozen=True)
class Fold:
    """Samples of a fold by part."""

    number: int
    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Samples:
    """Samples of a dataset, and frames that its face store holds of each.

    Attributes:
        count: number of samples; None: not known.
        frames: frames of a sample.
        source: where both are from, for people.
    """

    dataset: str
    count: int | None
    basis: Basis
    source: str
    frames: Estimate
    frames_basis: Basis


@dataclass(frozen=True)
class Work:
    """Folds of a variant; empty if unknown.

    Attributes:
        source: where the numbers are from, or why they are not known and what to do.
    """

    folds: tuple[Fold, ...]
    source: str

    @property
    def trained(self) -> int:
        """Training samples of all folds together."""
        return sum(fold.train for fold in self.folds)

    @property
    def tested(self) -> int:
        return sum(fold.test for fold in self.folds)


def samples_of(catalog: Catalog, workspace: Workspace, name: str) -> Samples:
    """Count a dataset: from its index, else the rendered set's settings, else the owners' numbers."""
    dataset = catalog.datasets[name]
    if workspace.index(name).exists():
        rows = read_table(workspace.index(name), columns=["kind", "n_frames"])
        frames, basis = _frames(catalog, name, takes_of(catalog, name))
        if (rows["kind"] == "image").all():
            frames, basis = exactly(1), "counted"
        elif rows["n_frames"].notna().all():
            frames, basis = exactly(float(rows["n_frames"].mean())), "counted"
        return Samples(name, len(rows), "counted", f"the index of {name}", frames, basis)
    frames, basis = _frames(catalog, name, takes_of(catalog, name))
    if synth := catalog.rendered.get(name):
        count = synth.subjects * len(synth.classes) * synth.per_class
        return Samples(name, count, "counted", f"rendered.{name}", frames, basis)
    total = _expected_total(dataset)
    if total is None:
        return Samples(name, None, "assumed", _unknown(name), frames, basis)
    return Samples(
        name,
        min(total, dataset.limit or total),
        "counted",
        f"the owners' counts of {dataset.facts.title}",
        frames,
        basis,
    )


def takes_of(catalog: Catalog, dataset: str) -> str:
    """Return what the networks on a dataset take: image, clip or pair; of several the last of these."""
    kinds = {facts_of(v.model.architecture).takes for v in catalog.variants.values() if v.dataset == dataset}
    return next((kind for kind in ("pair", "clip") if kind in kinds), "image")


def _frames(catalog: Catalog, name: str, takes: str) -> tuple[Estimate, Basis]:
    """Return frames of a sample in the store, when no index says it."""
    dataset = catalog.datasets[name]
    if synth := catalog.rendered.get(name):
        return _rendered_frames(synth), "counted"
    forms = dataset.facts.frames
    first = dataset.media or next(iter(dataset.facts.media), "any")
    rule = forms.get(first) or forms.get("any")
    if rule and rule.least and rule.most:
        exact = rule.least == rule.most
        return (exactly(rule.least) if exact else between(rule.least, rule.most)), "counted" if exact else "assumed"
    if takes == "image":
        return exactly(1), "counted"
    return (MICRO_FRAMES if takes == "pair" else CLIP_FRAMES), "assumed"


def _rendered_frames(synth: Synth) -> Estimate:
    if synth.kind == "image":
        return exactly(1)
    low, high = (value * synth.rate for value in synth.seconds) if synth.kind == "video" else synth.frames
    return Estimate(low, (low + high) / 2, high)


def _expected_total(dataset: Dataset) -> int | None:
    expected = expectation(dataset)
    if expected.parts:
        return sum(sum(classes.values()) for classes in expected.parts.values())
    if expected.folds:
        return sum(expected.folds[1].values())
    return sum(expected.classes.values()) or None


def _unknown(dataset: str) -> str:
    return f"the number of samples is not known: `dvc repro index@{dataset}` counts them"


def work_of(catalog: Catalog, workspace: Workspace, name: str) -> Work:
    """Count the folds of a variant: from its split, else its dataset's index, else the owners' numbers.

    From the owners' numbers, and for rendered sets, parts that are drawn are shares of the whole, and folds of subjects
    are of equal size. ``val_share`` is taken from the training part.

    Raises:
        SplitError: The protocol cannot be applied to the index.
    """
    config = catalog.variants[name]
    if workspace.split(name).exists():
        return Work(_folds(read_table(workspace.split(name))), f"the split of {name}")
    if workspace.index(config.dataset).exists():
        rows = read_table(workspace.index(config.dataset))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the split stage says it
            return Work(_folds(make_splits(rows, config.protocol)), f"the index of {config.dataset}")
    samples = samples_of(catalog, workspace, config.dataset)
    if synth := catalog.rendered.get(config.dataset):
        return Work(_of_rendered(synth, samples.count or 0, config.protocol), samples.source)
    return _of_owners(catalog.datasets[config.dataset], config.dataset, samples, config.protocol)


def _folds(splits: pd.DataFrame) -> tuple[Fold, ...]:
    counts = splits.groupby(["fold", "part"]).size().unstack(fill_value=0).reindex(columns=list(PARTS), fill_value=0)
    return tuple(
        Fold(int(number), int(row["train"]), int(row["val"]), int(row["test"])) for number, row in counts.iterrows()
    )


def _with_val(number: int, train: float, test: float, protocol: Protocol) -> Fold:
    val = round(train * protocol.val_share)
    return Fold(number, round(train) - val, val, round(test))


def _equal(total: int, count: int, protocol: Protocol) -> tuple[Fold, ...]:
    """Return folds that test an equal share each."""
    return tuple(_with_val(k, total * (count - 1) / count, total / count, protocol) for k in range(1, count + 1))


def _of_rendered(synth: Synth, total: int, protocol: Protocol) -> tuple[Fold, ...]:
    if protocol.kind == "official":
        if synth.kind == "video":
            return _equal(total, synth.folds, protocol)
        return (_with_val(1, total * (1 - synth.test_share), total * synth.test_share, protocol),)
    return _drawn(total, synth.subjects, protocol) or ()


def _drawn(total: int, subjects: int | None, protocol: Protocol) -> tuple[Fold, ...] | None:
    """Return folds that the protocol draws; None: it needs the number of subjects."""
    if protocol.kind == "kfold":
        return _equal(total, protocol.folds, protocol)
    if protocol.kind == "loso":
        return _equal(total, subjects, protocol) if subjects else None
    return (_with_val(1, total * (1 - protocol.test_share), total * protocol.test_share, protocol),)


def _of_owners(dataset: Dataset, name: str, samples: Samples, protocol: Protocol) -> Work:
    expected, count = expectation(dataset), samples.count
    if count is None:
        return Work((), samples.source)
    share = count / (_expected_total(dataset) or count)  # below 1 under ``limit``
    if protocol.kind != "official":
        if protocol.kind == "loso" and expected.per_subject and share == 1:
            each = expected.per_subject.values()
            return Work(
                tuple(_with_val(k, count - own, own, protocol) for k, own in enumerate(each, 1)), samples.source
            )
        if drawn := _drawn(count, expected.subjects, protocol):
            return Work(drawn, samples.source)
        return Work((), f"the number of subjects is not known: `dvc repro index@{name}` counts them")
    if expected.folds:
        tests = {k: sum(fold.values()) - fold["train"] for k, fold in expected.folds.items()}
        folds = (_with_val(k, share * fold["train"], share * tests[k], protocol) for k, fold in expected.folds.items())
        return Work(tuple(folds), samples.source)
    if not expected.parts:
        return Work((), f"the official parts are not known: `dvc repro index@{name}` counts them")
    sums = {part: share * sum(classes.values()) for part, classes in expected.parts.items()}
    if "val" in sums:
        return Work((Fold(1, round(sums["train"]), round(sums["val"]), round(sums["test"])),), samples.source)
    return Work((_with_val(1, sums["train"], sums["test"], protocol),), samples.source)
