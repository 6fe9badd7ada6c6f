"""How parts of a gap are measured: within a run, or between it and runs that differ in the fields of a part alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from duchenne.datasets.audit import expectation
from duchenne.datasets.index import read_index
from duchenne.errors import UserError
from duchenne.metrics import METRICS
from duchenne.papers.checkpoints import checkpoint_of
from duchenne.reporting.gap_question import Absent, Bound, Contrast, Found, Part, Question, differing, in_words
from duchenne.reporting.runs import Run
from duchenne.reporting.wording import change, chosen_by
from duchenne.sealed import read_table
from duchenne.splits import remaining

SAME_PICTURE = 24
"""Bits by which the hashes of two versions of one picture differ at most (:mod:`duchenne.faces.hashing`)."""


def counterparts(question: Question, part: Part) -> Iterator[tuple[Run, dict[str, Any], set[str]]]:
    """Yield runs that differ in the fields of a part alone, with their blocks and these fields.

    Their seeds may differ as long as they share one, which is then compared. One that was trained in another precision
    although its block has the same is yielded too, with the field ``precision``.
    """
    for name, other in question.runs.items():
        theirs = question.blocks[name]
        fields = differing(question.block, theirs)
        if "seeds" not in part.fields and _shared_seeds(question.run, other):
            fields -= {"seed", "seeds"}
        meant = fields - ({"precision"} if other.config.precision == question.run.config.precision else set())
        if other.name != question.run.name and (part.fits(fields) or part.fits(meant)):
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
        return Absent(part.name, f"{other.name} {why}", how, counterpart=other.name)

    if other.status != "run":
        return absent("is in params.yaml and not finished", f"`dvc repro evaluate@{other.name}`")
    try:
        known = other.classes, other.metrics, other.rules
    except UserError as error:
        return absent(f"cannot be read: {error}", f"`dvc repro evaluate@{other.name}`")
    if known[0] != run.classes:
        return absent(f"has other classes ({', '.join(other.classes)})", f"`dvc repro evaluate@{other.name}`")
    if not part.fits(fields):
        return absent(
            f"was trained in {theirs['precision']}, {run.name} in {question.block['precision']}",
            f"set the same `precision` in variants.{other.name} and run `dvc repro evaluate@{other.name}`",
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
    counted, note = question.as_target(theirs, fields), "; ".join(filter(None, notes))
    return Contrast(part.name, in_words(theirs, fields), old, new, other.name, counted, note, frozenset(fields))


def _of_seeds(frame: pd.DataFrame, seeds: set[int]) -> pd.DataFrame:
    """Return the predictions of some seeds; older results name no seed and have one."""
    return frame[frame["seed"].isin(seeds)].reset_index(drop=True) if "seed" in frame else frame


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


def rules(question: Question, part: Part) -> Iterator[Found]:
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


def seeds(question: Question, part: Part) -> Iterator[Found]:
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
    theirs = question.target.run.config.every_seed if question.target and question.target.run else run.config.every_seed
    if theirs != run.config.every_seed and {*theirs} <= seeds.keys():
        named = "seed " + ", ".join(map(str, theirs))
        yield Contrast(part.name, named, run.every_prediction, _of_seeds(every, {*theirs}), counted=True)
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


def duplicates(question: Question, part: Part) -> Iterator[Found]:
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
    duplicates, split = map(read_table, files)
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


def incomplete(question: Question, part: Part) -> Iterator[Found]:
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


def published(question: Question, part: Part) -> Iterator[Found]:
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


def same_precision(question: Question, part: Part) -> Iterator[Found]:
    if question.block["precision"] == "fp32":
        whole = question.run.every_prediction
        yield Contrast(part.name, "it was trained in float32", whole, whole)


def own_validation(question: Question, part: Part) -> Iterator[Found]:
    """Say that the share is not used where the dataset has a validation part of its own."""
    if validates_itself(question.run):
        whole = question.run.every_prediction
        yield Contrast(part.name, "the dataset has its own validation part", whole, whole)


def validates_itself(run: Run) -> bool:
    return run.config.protocol.kind == "official" and bool((run.rows["split"] == "val").any())


def _with_seed(frame: pd.DataFrame, run: Run) -> pd.DataFrame:
    return frame if "seed" in frame else frame.assign(seed=run.config.seed)
