"""Parts of the difference between a run and a printed value: :data:`PARTS`, how each is measured and what would.

A part is measured within a run, or between two runs of ``params.yaml`` whose resolved blocks differ in the fields of
this part alone. To add a part, write an entry of :data:`PARTS`; nothing else lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from duchenne.config import Catalog, whole_library
from duchenne.datasets.audit import expectation
from duchenne.datasets.index import read_index
from duchenne.datasets.settings import Dataset
from duchenne.errors import UserError
from duchenne.evaluation.statistics import evaluate
from duchenne.faces.settings import Faces
from duchenne.metrics import METRICS
from duchenne.networks import facts_of
from duchenne.papers.checkpoints import checkpoint_of
from duchenne.papers.library import SECTIONS, Block, Tree, merge
from duchenne.reporting.runs import Run
from duchenne.reporting.wording import change, chosen_by
from duchenne.splits import remaining
from duchenne.training.settings import Variant

FREE = ("selection", "calibration", "recipe.eval_batch_size")
"""Fields in which two compared runs may differ: both are measured under one rule, and the others change no class."""

RECIPE = ("recipe.*", "model.options.*", "monitor")
WEIGHTS = ("model.pretrained.*", "init_from")
DATA = ("data.root", "data.limit", "data.bad_rows", "data.manifest", "data.layout", "data.rendered.*")
DUPLICATES = ("protocol.near_duplicates", "protocol.hash_distance")

SAME_PICTURE = 24
"""Bits by which the hashes of two versions of one picture differ at most (:mod:`duchenne.faces.hashing`)."""

SHOWN = 4
"""Fields named of a counterpart."""


@dataclass(frozen=True)
class Target:
    """What a run is compared with: a printed value, any value, or another run.

    Attributes:
        label: source of the values.
        values: metric -> value, shares for metrics in per cent.
        name: variant of the library whose printed values they are; empty for others.
        block: :func:`resolved` block of that variant or run; empty if there is none.
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
    """

    part: str
    instead: str
    old: pd.DataFrame
    new: pd.DataFrame
    counterpart: str = ""
    counted: bool = False
    note: str = ""


@dataclass(frozen=True)
class Bound:
    """A part of which only the lowest and the highest possible change is known, by metric."""

    part: str
    instead: str
    changes: Mapping[str, tuple[float, float]]
    note: str = ""


@dataclass(frozen=True)
class Absent:
    """A part that is not measured: why, what to do, and the blocks of ``params.yaml`` that would measure it."""

    part: str
    why: str
    how: str = ""
    blocks: Tree = field(default_factory=dict)


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
        """The resolved block of the run."""
        return resolved(self.run.config, self.catalog)

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
        """Whether the target has the values of ``theirs`` in these fields and the run in none of them."""
        return bool(self.wanted) and all(
            _plain(key, self.wanted.get(key)) == _plain(key, theirs.get(key)) != _plain(key, self.block.get(key))
            for key in fields
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
    if name in catalog.rendered:
        data["rendered"] = catalog.rendered[name].model_dump(mode="json")
        del data["root"]
    return dict(_flat(block | {"data": data}))


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


def counterparts(question: Question, part: Part) -> Iterator[tuple[Run, dict[str, Any], set[str]]]:
    """Yield runs that differ in the fields of a part alone, with their resolved blocks and these fields.

    Their seeds may differ as long as they share one, which is then compared.
    """
    for other in question.runs.values():
        theirs = resolved(other.config, question.catalog)
        fields = differing(question.block, theirs)
        if "seeds" not in part.fields and _shared_seeds(question.run, other):
            fields -= {"seed", "seeds"}
        if other.name != question.run.name and part.fits(fields):
            yield other, theirs, fields


def _shared_seeds(run: Run, other: Run) -> set[int]:
    return {*run.config.every_seed} & {*other.config.every_seed}


def between_runs(question: Question, part: Part) -> Iterator[Found]:
    """Compare the run with every counterpart."""
    target = question.target.name if question.target else ""
    for other, theirs, fields in counterparts(question, part):
        if part.alike and target not in ("", other.config.reproduces, other.name):
            continue
        if found := _compared(question, part, other, theirs, fields):
            yield found


def _compared(question: Question, part: Part, other: Run, theirs: dict[str, Any], fields: set[str]) -> Found | None:
    """Compare the run with one counterpart, or say why that is not possible; None: it shows other pictures."""
    run = question.run

    def absent(why: str, how: str = "") -> Absent:
        return Absent(part.name, f"{other.name} {why}", how)

    if other.status != "run":
        return absent("is in params.yaml and not finished", f"`dvc repro evaluate@{other.name}`")
    try:
        known = other.classes, other.metrics, other.rules
    except UserError as error:
        return absent(f"cannot be read: {error}", f"`dvc repro evaluate@{other.name}`")
    if known[0] != run.classes:
        return absent(f"has other classes ({', '.join(other.classes)})", f"`dvc repro evaluate@{other.name}`")
    precisions = precision_of(run), precision_of(other)
    if (precisions[0] == precisions[1]) != (fields != {"precision"}):
        wanted = "another" if fields == {"precision"} else "the same"
        return absent(
            f"was trained in {precisions[1]}, {run.name} in {precisions[0]}",
            f"set {wanted} `precision` in variants.{other.name} and run `dvc repro evaluate@{other.name}`",
        )
    rule = _common_rule(question, other)
    if rule is None:
        return absent(
            "picked its epoch by another rule, and predictions of other epochs were not kept",
            f"set `test_each_epoch: true` in both and run `dvc repro evaluate@{other.name}`",
        )
    old, new = _under(run, rule), _under(other, rule)
    seeds = _shared_seeds(run, other)
    of_some = "seeds" not in part.fields and run.config.every_seed != other.config.every_seed
    if of_some:
        old, new = (_of_seeds(frame, seeds) for frame in (old, new))
    if part.loose and not (set(old["sample"]) & set(new["sample"]) and _same_pictures(run, other)):
        return None
    found = _on_the_same(old, new, part.loose)
    if isinstance(found, UserError):
        return absent(str(found), f"run both again: `dvc repro evaluate@{run.name} evaluate@{other.name}`")
    notes = [found, f"of seed {', '.join(map(str, sorted(seeds)))}, which both have" if of_some else ""]
    if rule != run.config.selection:
        notes.append(f"both at the epoch picked by {chosen_by(rule, run.config.monitor)}")
    instead, counted = in_words(theirs, fields), question.as_target(theirs, fields)
    if fields == {"precision"}:
        instead = f"trained in {precisions[1]}"
        counted = bool(question.wanted) and precisions[1] == _precision_of_target(question)
    return Contrast(part.name, instead, old, new, other.name, counted, "; ".join(filter(None, notes)))


def _of_seeds(frame: pd.DataFrame, seeds: set[int]) -> pd.DataFrame:
    """Return the predictions of some seeds; older results name no seed and have one."""
    return frame[frame["seed"].isin(seeds)].reset_index(drop=True) if "seed" in frame else frame


def _precision_of_target(question: Question) -> str:
    """Papers are taken to have trained in float32, PyTorch's default; none says otherwise (assumed)."""
    return precision_of(question.target.run) if question.target.run else "fp32"


def _common_rule(question: Question, other: Run) -> str | None:
    """Return the rule under which both runs can be compared: the reported one, the target's, or any other."""
    run, target = question.run, question.target
    wanted = [run.config.selection, target.selection if target else None, other.config.selection, *run.rules]
    known = [rule for rule in wanted if rule and _under(run, rule) is not None and _under(other, rule) is not None]
    return known[0] if known else None


def _under(run: Run, rule: str) -> pd.DataFrame | None:
    return run.every_prediction if rule == run.config.selection else run.rules.get(rule)


def _on_the_same(old: pd.DataFrame, new: pd.DataFrame, loose: bool) -> str | UserError:
    """Return a remark on the samples of two runs, or the error that they cannot be compared."""
    a, b = (frame.drop_duplicates("sample").set_index("sample")["label"] for frame in (old, new))
    both = a.index.intersection(b.index)
    if not loose and len(both) < max(len(a), len(b)):
        return UserError(f"was tested on other samples: {len(both):,} of {len(a):,} are in both")
    if 2 * len(both) < min(len(a), len(b)):
        return UserError(f"shares only {len(both):,} of {len(a):,} test samples")
    other = int((a[both] != b[both]).sum())
    if other and not loose:
        return UserError(f"has another label of {other:,} test samples")
    remarks = []
    if len(both) < max(len(a), len(b)):
        remarks.append(f"on {len(b):,} test samples instead of {len(a):,}, {len(both):,} in both")
    if other:
        remarks.append(f"{other:,} of them with another label")
    return "; ".join(remarks)


def _same_pictures(run: Run, other: Run) -> bool:
    """Whether test samples of the same name show the same face, where both datasets align alike."""
    if run.config.dataset == other.config.dataset or run.faces.meta != other.faces.meta:
        return True
    ours, theirs = run.faces.hashes(), other.faces.hashes()
    both = [sample for sample in run.predictions["sample"].unique() if sample in ours and sample in theirs]
    bits = [(int(ours[sample], 16) ^ int(theirs[sample], 16)).bit_count() for sample in both]
    return float(np.median(bits)) <= SAME_PICTURE


# What a run shows alone


def _rules(question: Question, part: Part) -> Iterator[Found]:
    run = question.run
    if len(run.rules) < 2:
        yield Absent(
            part.name,
            "predictions of the epochs that other rules would pick were not kept",
            f"set `test_each_epoch: true` in variants.{run.name}; `dvc repro` trains it again",
        )
    for rule, frame in run.rules.items():
        if rule != run.config.selection:
            optimistic = " (optimistic)" if rule == "test" else ""
            counted = bool(question.target) and rule == question.target.selection
            instead = f"{chosen_by(rule, run.config.monitor)}{optimistic}"
            if (frame["epoch"] == run.rules[run.config.selection]["epoch"]).all():
                instead, frame, counted = f"{instead}: the same epoch", run.every_prediction, False
            yield Contrast(part.name, instead, run.every_prediction, frame, counted=counted)


def _seeds(question: Question, part: Part) -> Iterator[Found]:
    """The best of the seeds against their mean, with their spread."""
    run = question.run
    frames = [_with_seed(run.every_prediction, run)]
    for other, theirs, fields in counterparts(question, part):
        found = _compared(question, part, other, theirs, fields)
        if isinstance(found, Contrast) and found.old is not run.every_prediction:
            how = f"`dvc repro evaluate@{other.name}`"
            found = Absent(part.name, f"{other.name} picked its epoch by another rule", how)
        if isinstance(found, Contrast):
            frames.append(_with_seed(found.new, other))
        elif found:
            yield found
    every = pd.concat(frames, ignore_index=True).drop_duplicates(["seed", "fold", "sample"])
    seeds = {int(seed): rows for seed, rows in every.groupby("seed")}
    if len(seeds) < 2:
        return
    values = {name: [question.value(rows, name) for rows in seeds.values()] for name in question.metrics}
    best = list(seeds)[int(np.nanargmax(values[question.metrics[0]]))]
    spread = ", ".join(
        f"{METRICS[name].label} {change(float(np.std(found, ddof=1)), name)[1:]}" for name, found in values.items()
    )
    yield Contrast(
        part.name,
        f"the best of {len(seeds)} seeds instead of their mean",
        every,
        seeds[best],
        note=f"seed {best}; standard deviation over the seeds {', '.join(map(str, seeds))}: {spread}",
    )


def _duplicates(question: Question, part: Part) -> Iterator[Found]:
    run, protocol = question.run, question.run.config.protocol
    whole = run.every_prediction
    if not run.metrics.get("near_duplicates"):
        found = {"stop": "there are none", "ignore": "there are none", "drop": "copies were dropped from training"}
        yield Contrast(part.name, found[protocol.near_duplicates], whole, whole)
        return
    files = run.workspace.duplicates(run.name), run.workspace.split(run.name)
    if missing := [path for path in files if not path.exists()]:
        yield Absent(part.name, f"{missing[0]} is missing", f"`dvc repro split@{run.name}`")
        return
    duplicates, split = map(pd.read_parquet, files)
    copies = remaining(duplicates, split)
    copied = pd.MultiIndex.from_frame(copies.loc[copies["part"] == "test", ["fold", "sample"]])
    without = whole[~pd.MultiIndex.from_frame(whole[["fold", "sample"]]).isin(copied)]
    number = whole["sample"].nunique() - without["sample"].nunique()
    if without.empty:
        yield Absent(part.name, "every test sample has a near-duplicate in training or validation")
        return
    yield Contrast(
        part.name, f"without test samples that have a copy in training or validation ({number:,})", whole, without
    )


def _incomplete(question: Question, part: Part) -> Iterator[Found]:
    """Bound what missing test samples can do, and say that missing training samples are not measured."""
    run = question.run
    expected = _expected(question)
    tested = (
        run.predictions.drop_duplicates(["fold", "sample"])["label"].map(dict(enumerate(run.classes))).value_counts()
    )
    missing = {name: n - int(tested.get(name, 0)) for name, n in expected.items() if n > tested.get(name, 0)}
    if missing:
        named = ", ".join(f"{name} {n:,}" for name, n in missing.items())
        total = sum(missing.values())
        yield Bound(
            part.name,
            f"with the missing test samples ({total:,}), all wrong to all right",
            _bounds(run, tested, missing),
            f"missing: {named}",
        )
    train = run.parts[run.parts["part"] != "test"]
    lost = int((~train.drop_duplicates("sample")["sample"].isin(run.faces.samples)).sum())
    flaws = [*run.flaws, *([f"without a face that was found: {lost:,} training samples"] if lost else [])]
    if flaws:
        how = f"complete it (`duchenne check {run.config.dataset}` says what is missing) as a dataset of another name"
        yield Absent(part.name, "; ".join(flaws), how)
    elif not missing:
        yield Contrast(part.name, "no sample is missing", run.every_prediction, run.every_prediction)


def _expected(question: Question) -> dict[str, int]:
    """Return the number of test samples of each class: as published where that is known, otherwise of the split."""
    run = question.run
    dataset = question.catalog.datasets[run.config.dataset]
    own = run.parts[run.parts["part"] == "test"]["label"].map(dict(enumerate(run.classes))).value_counts().to_dict()
    if run.config.protocol.kind != "official":
        return own
    index = read_index(run.workspace.index(run.config.dataset))
    known = expectation(dataset, index.findings.edition)
    published = dict(known.parts.get("test", {}))
    for of in known.folds.values():
        for name, n in of.items():
            if name in run.classes:
                published[name] = published.get(name, 0) + n
    return published or own


def _bounds(run: Run, tested: pd.Series, missing: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Bound WAR and UAR if all missing samples were wrong, and if all were right."""
    n, lost = int(tested.sum()), sum(missing.values())
    hits = run.metrics["war"] * n
    sizes = {name: (int(tested.get(name, 0)), missing.get(name, 0)) for name in run.classes}
    recalls = [
        [(run.metrics.get(f"recall_{name}", 0.0) * own + right * gone) / (own + gone) for right in (0, 1)]
        for name, (own, gone) in sizes.items()
        if own + gone
    ]
    low, high = np.mean(recalls, axis=0) - run.metrics["uar"]
    return {
        "war": (hits / (n + lost) - run.metrics["war"], (hits + lost) / (n + lost) - run.metrics["war"]),
        "uar": (float(low), float(high)),
    }


def _published(question: Question, part: Part) -> Iterator[Found]:
    """The owners' trained network, measured on the same test samples."""
    run = question.run
    theirs = Run(f"published/{run.name}", None, run.workspace, run.report)
    if not (theirs.results / "predictions.parquet").exists():
        known = checkpoint_of(question.target.name) if question.target else None
        if known and known.page:
            file = known.files[0] if known.files else "FILE"
            why = f"its owners publish a trained network ({known.page})"
            how = f"`duchenne import {file}`, then `duchenne evaluate --model models/NAME/fold_1 --variant {run.name}`"
            yield Absent(part.name, why, how)
        return
    found = _on_the_same(run.every_prediction, theirs.every_prediction, loose=False)
    if theirs.classes != run.classes or isinstance(found, UserError):
        why = found if isinstance(found, UserError) else "has other classes"
        yield Absent(part.name, f"{theirs.name} {why}", f"`duchenne evaluate --variant {run.name}` measures it again")
        return
    measured = theirs.record.get("command", "")
    note = "differs in all of its training; what is left to the target is data, faces and measuring"
    yield Contrast(
        part.name,
        "another trained network on the same faces",
        run.every_prediction,
        theirs.every_prediction,
        theirs.name,
        note="; ".join(filter(None, [note, measured])),
    )


def _same_precision(question: Question, part: Part) -> Iterator[Found]:
    if precision_of(question.run) == "fp32":
        yield Contrast(
            part.name, "it was trained in float32", question.run.every_prediction, question.run.every_prediction
        )


# What to add


def _copy(
    question: Question,
    part: Part,
    ending: str,
    why: str,
    changes: Block,
    also: Tree | None = None,
    config: Variant | None = None,
) -> Absent:
    """Offer a copy of the run's block, or of ``config``, with changes, and other blocks that it needs."""
    config, name = config or question.run.config, f"{question.run.name}_{ending}"
    target = question.target.name if question.target else ""
    block = config.model_dump(mode="json", exclude_defaults=True) | {"note": f"For duchenne gap {question.run.name}."}
    if target or config.reproduces:
        block["reproduces"] = target or config.reproduces
    blocks = {section: dict((also or {}).get(section, {})) for section in SECTIONS}
    blocks["variants"][name] = merge(block, changes)
    return Absent(part.name, why, f"`duchenne gap {question.run.name} --add {part.name}`, then `dvc repro`", blocks)


def _other_weights(question: Question, part: Part) -> Iterator[Absent]:
    """Offer the weights that the library has for the printed value, otherwise random ones."""
    offers = list(_readings(question, part))
    yield from offers
    model, start = question.run.config.model, question.run.config.init_from
    usual = dict.fromkeys(facts_of(model.architecture).packaged, "packaged")
    if start != "scratch" or {*model.files} - {*usual}:
        changes = {"init_from": "scratch", "model": {"pretrained": _replacing(model.pretrained, usual)}}
        yield _copy(question, part, "random_weights", "no run starts from random weights", changes)
    elif not offers:
        yield Absent(
            part.name,
            "training started from random weights",
            "put published weights in place (docs/checkpoints.md) and name them in `model.pretrained` of a copy",
        )


def _replacing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Block:
    """Return a change of ``pretrained`` after which it is ``new``."""
    return dict.fromkeys(old) | dict(new)


def _with_seed(frame: pd.DataFrame, run: Run) -> pd.DataFrame:
    return frame if "seed" in frame else frame.assign(seed=run.config.seed)


def _more_seeds(question: Question, part: Part) -> Iterator[Absent]:
    if len(question.run.config.every_seed) > 1:
        return
    first = question.run.config.seed
    more = [first + 1, first + 2]
    why = f"no run has other seeds than {first}"
    yield _copy(question, part, "more_seeds", why, {"seed": more[0], "seeds": more})


def _other_faces(question: Question, part: Part) -> Iterator[Absent]:
    dataset = question.catalog.datasets[question.run.config.dataset]
    ours = dataset.faces
    wanted = {key.removeprefix("data.faces."): v for key, v in question.wanted.items() if key.startswith("data.faces.")}
    if wanted and Faces.model_validate(wanted) != ours:
        ending, faces = "their_faces", Faces.model_validate(wanted)
        why = "no run has its faces aligned as those of the paper's variant"
    elif ours.mode == "aligned":
        ending, faces = "detected", ours.model_copy(update={"mode": "detect", "detector": "dlib"})
        why = "no run has its faces detected and aligned here"
        if "original" in dataset.facts.media:
            yield _on_another_dataset(question, part, ending, why, {"faces": faces, "media": "original"})
            return
    else:
        ending, faces = "as_given", ours.model_copy(update={"mode": "aligned", "detector": "none"})
        why = "no run takes the pictures as they are given, only resized"
    yield _on_another_dataset(question, part, ending, why, {"faces": faces})


def _whole_dataset(question: Question, part: Part) -> Iterator[Absent]:
    if question.catalog.datasets[question.run.config.dataset].limit:
        yield _on_another_dataset(question, part, "whole", "no run has all samples (limit)", {"limit": None})


def _on_another_dataset(question: Question, part: Part, ending: str, why: str, changes: Mapping[str, Any]) -> Absent:
    """Offer a copy of the run and of its dataset, with changes of the dataset; a rendered one is rendered again."""
    old = question.run.config.dataset
    name = f"{old}_{ending}"
    dataset = question.catalog.datasets[old].model_copy(update=dict(changes))
    also: Tree = {}
    if old in question.catalog.rendered:
        dataset = dataset.model_copy(update={"root": dataset.root.with_name(name)})
        also["rendered"] = {name: question.catalog.rendered[old].model_dump(mode="json", exclude_defaults=True)}
    also["datasets"] = {name: _written(dataset)}
    return _copy(question, part, ending, why, {"dataset": name}, also)


def _written(dataset: Dataset) -> Block:
    """Return the block of a dataset without what its label set says."""
    block = dataset.model_dump(mode="json", exclude_defaults=True)
    plain = {key: value for key, value in block.items() if key not in ("classes", "labels", "ignore")}
    try:
        same = Dataset.model_validate(plain) == dataset
    except ValueError:
        return block
    return plain if same else block


def _with_protocol(question: Question, part: Part, ending: str, why: str, changes: Block) -> Absent:
    """Offer a copy with another protocol; what it starts from must know the same people of the dataset."""
    config = question.run.config
    start = question.catalog.variants.get(config.init_from)
    if start and start.dataset == config.dataset:
        return Absent(part.name, f"{why}, and {config.init_from}, from which it starts, must have the same protocol")
    return _copy(question, part, ending, why, changes)


def _other_duplicates(question: Question, part: Part) -> Iterator[Absent]:
    run = question.run
    if run.config.protocol.near_duplicates == "drop" and len(run.parts) < run.metrics["folds"] * len(run.rows):
        why = "no run keeps the copies of test samples in training"
        yield _with_protocol(question, part, "with_copies", why, {"protocol": {"near_duplicates": "ignore"}})


def _without_validation(question: Question, part: Part) -> Iterator[Absent]:
    share = question.wanted.get("protocol.val_share")
    if share is not None and share != question.run.config.protocol.val_share:
        changes = {"protocol": {"val_share": share}, "selection": question.wanted["selection"]}
        why = f"no run has a validation part of {share:g} of the training samples, as the paper's variant"
        yield _with_protocol(question, part, "their_validation", why, changes)


def _readings(question: Question, part: Part) -> Iterator[Absent]:
    """Offer what the library has in a part for the same printed value, on the rest of this run's block."""
    if not (question.target and question.target.name):
        return
    library, config = whole_library(), question.run.config
    known = [resolved(variant, question.catalog) for variant in question.catalog.variants.values()]
    for name, theirs in library.variants.items():
        same = theirs.model.architecture == config.model.architecture
        if not same or question.target.name not in (name, theirs.reproduces):
            continue
        if name != question.target.name and not part.fits(differing(question.wanted, resolved(theirs, library))):
            continue
        new = config.model_copy(update=_fields_of(part, config, theirs))
        if not any(not differing(resolved(new, question.catalog), block) for block in known):
            why = f"no run has the {part.name} of {name}{_needed(new)}"
            yield _copy(question, part, f"as_{name}", why, {}, config=new)


def _fields_of(part: Part, config: Variant, theirs: Variant) -> dict[str, Any]:
    """Return the fields of a part in another variant's block, as changes of ``config``."""
    if part.fits({"init_from"}):
        pretrained = _replacing(config.model.pretrained, theirs.model.pretrained)
        return {"init_from": theirs.init_from, "model": config.model.model_copy(update={"pretrained": pretrained})}
    by_loss = "train" in (theirs.selection, config.selection)  # which goes with a monitor of its own
    return {
        "recipe": theirs.recipe,
        "model": config.model.model_copy(update={"options": theirs.model.options}),
        "monitor": theirs.monitor,
        "selection": theirs.selection if by_loss else config.selection,
    }


def _needed(config: Variant) -> str:
    """Say which files of weights are not there yet."""
    files = dict.fromkeys(str(path) for path in config.model.files.values() if not path.exists())
    return f"; it needs {' and '.join(files)} (docs/checkpoints.md)" if files else ""


def _other_precision(question: Question, part: Part) -> Iterator[Absent]:
    if precision_of(question.run) != "fp32":
        yield _copy(question, part, "fp32", "no run was trained in float32", {"precision": "fp32"})


PARTS = (
    Part("rule", "Rule that picks the epoch", (_rules,)),
    Part("weights", "Weights at the start", (between_runs,), _other_weights, WEIGHTS),
    Part("seeds", "Seed", (_seeds,), _more_seeds, ("seed", "seeds")),
    Part("alignment", "Alignment", (between_runs,), _other_faces, ("data.faces.*", "data.media"), loose=True),
    Part("data", "Missing or altered data", (_incomplete, between_runs), _whole_dataset, DATA, loose=True),
    Part("duplicates", "Near-duplicates", (_duplicates, between_runs), _other_duplicates, DUPLICATES),
    Part("validation", "Kept for validation", (between_runs,), _without_validation, ("protocol.val_share",)),
    Part("recipe", "Recipe and options", (between_runs,), _readings, RECIPE, alike=True),
    Part("precision", "Precision", (_same_precision, between_runs), _other_precision, ("precision",)),
    Part("network", "Published network", (_published,)),
)
"""All parts, in the order in which they are shown."""
