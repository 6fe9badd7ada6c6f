"""What a gap offers for parts that no run shows: copies of the run, each with one change, for ``params.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from duchenne.config import whole_library
from duchenne.datasets.settings import Dataset
from duchenne.faces.settings import Faces
from duchenne.networks import facts_of
from duchenne.papers.library import SECTIONS, Block
from duchenne.reporting.gap_measures import validates_itself
from duchenne.reporting.gap_question import Absent, Part, Question, differing, planned, resolved
from duchenne.training.settings import Variant


def towards_a_run(question: Question, part: Part) -> Iterator[Absent]:
    """Offer the run with the fields of a part as the run that it is compared with has them."""
    run, theirs = question.run, question.target.run if question.target else None
    fields = {key for key in differing(question.block, question.wanted) if part.fits({key})}
    if not theirs or not fields:
        return
    new, dataset, source = _taking(run.config, theirs.config, question.wanted, fields), None, ""
    if names := {key.split(".")[1] for key in fields if key.startswith("data.")}:
        own, other = (question.catalog.datasets[one.config.dataset] for one in (run, theirs))
        source = theirs.config.dataset if "rendered" in names else ""
        dataset = own.model_copy(update={name: getattr(other, name) for name in names - {"rendered"}})
    why = f"no run is as {theirs.name} in this part alone"
    start = question.catalog.variants.get(new.init_from)
    if any(key.startswith("protocol.") for key in fields) and start and start.dataset == new.dataset:
        yield Absent(part.name, f"{why}, and {new.init_from}, from which it starts, must have the same protocol")
    else:
        yield from _copy(question, part, f"{part.name}_as_{theirs.name}", why, new, dataset, source)


def _taking(config: Variant, theirs: Variant, block: Mapping[str, Any], fields: set[str]) -> Variant:
    """Return a block with some fields of another one, whose flat form is ``block``."""
    new: dict[str, Any] = {}
    for head, key in {(key.split(".")[0], key) for key in fields}:
        if head in ("model", "protocol"):
            name = key.split(".")[1]
            new[head] = new.get(head, getattr(config, head)).model_copy(
                update={name: getattr(getattr(theirs, head), name)}
            )
        elif head in ("seed", "seeds"):
            new |= {"seed": theirs.seed, "seeds": theirs.seeds}
        elif head != "data":
            new[head] = block[key] if head == "precision" else getattr(theirs, head)
    by_loss = "monitor" in fields and "train" in (theirs.selection, config.selection)  # which has its own monitor
    if by_loss or "protocol.val_share" in fields:
        new |= {"selection": theirs.selection, "monitor": theirs.monitor, "calibration": theirs.calibration}
    return config.model_copy(update=new)


def _copy(
    question: Question,
    part: Part,
    ending: str,
    why: str,
    config: Variant,
    dataset: Dataset | None = None,
    source: str = "",
) -> Iterator[Absent]:
    """Offer a run of another block, unless there is one.

    Args:
        dataset: what it is trained and tested on; None: that of the run. One of ``params.yaml`` with the same contents
            is used as it is, and a rendered one is rendered again.
        source: the rendered set whose people a rendered one has; empty: that of the run.
    """
    run, catalog, blocks = question.run, question.catalog, {section: {} for section in SECTIONS}
    if dataset:
        fresh, source = f"{run.config.dataset}_{ending}", source or run.config.dataset
        if dataset.facts.rendered:
            dataset = dataset.model_copy(update={"root": catalog.datasets[source].root.with_name(fresh)})
            catalog = catalog.model_copy(update={"rendered": catalog.rendered | {fresh: catalog.rendered[source]}})
            blocks["rendered"][fresh] = catalog.rendered[source].model_dump(mode="json", exclude_defaults=True)
        blocks["datasets"][fresh] = _written(dataset)
        catalog = catalog.model_copy(update={"datasets": catalog.datasets | {fresh: dataset}})
        config = config.model_copy(update={"dataset": fresh})
        for name in question.catalog.datasets:
            if not differing(resolved(config, catalog), resolved(same := _on(config, name), catalog)):
                config, blocks = same, {section: {} for section in SECTIONS}
                break
    theirs = resolved(config, catalog) | {"precision": planned(config, catalog, question.block["precision"])}
    for name, other in question.runs.items():
        shared = "seeds" not in part.fields and {*config.every_seed} & {*other.config.every_seed}
        free = {"seed", "seeds"} if shared else set()
        as_written = differing(resolved(config, catalog), resolved(other.config, question.catalog))
        if not as_written - free or not differing(theirs, question.blocks[name]) - free:
            return
    target = question.target.name if question.target else ""
    own = {"note": f"For duchenne gap {run.name}.", "reproduces": target or config.reproduces}
    written = config.model_copy(update=own).model_dump(mode="json", exclude_defaults=True)
    blocks["variants"][f"{run.name}_{ending}"] = written
    towards = question.as_target(theirs, differing(question.block, theirs))
    how = f"`duchenne gap {run.name} --add {part.name}`, then `dvc repro`"
    yield Absent(part.name, why, how, blocks, towards=towards)


def _on(config: Variant, dataset: str) -> Variant:
    return config.model_copy(update={"dataset": dataset})


def other_weights(question: Question, part: Part) -> Iterator[Absent]:
    """Offer the weights that the library has for the printed value, otherwise random ones."""
    offers = list(readings(question, part))
    yield from offers
    config = question.run.config
    usual = dict.fromkeys(facts_of(config.model.architecture).packaged, "packaged")
    if config.init_from != "scratch" or {*config.model.files} - {*usual}:
        model = config.model.model_copy(update={"pretrained": dict.fromkeys(config.model.pretrained) | usual})
        new = config.model_copy(update={"init_from": "scratch", "model": model})
        yield from _copy(question, part, "random_weights", "no run starts from random weights", new)
    elif not offers:
        yield Absent(
            part.name,
            "training started from random weights",
            "put published weights in place (docs/checkpoints.md) and name them in `model.pretrained` of a copy",
        )


def more_seeds(question: Question, part: Part) -> Iterator[Absent]:
    """Offer two more seeds of the run itself: its finished networks are kept."""
    run = question.run
    if len(run.config.every_seed) == 1:
        seeds = tuple(run.config.seed + more for more in range(3))
        how = f"`duchenne gap {run.name} --add {part.name}` gives it the seeds {', '.join(map(str, seeds))}"
        yield Absent(part.name, f"no run has other seeds than {seeds[0]}", f"{how}, then `dvc repro`", seeds=seeds)


def other_faces(question: Question, part: Part) -> Iterator[Absent]:
    config = question.run.config
    dataset = question.catalog.datasets[config.dataset]
    ours, changes = dataset.faces, {}
    wanted = {key.removeprefix("data.faces."): v for key, v in question.wanted.items() if key.startswith("data.faces.")}
    if wanted and Faces.model_validate(wanted) != ours:
        ending, faces = "their_faces", Faces.model_validate(wanted)
        why = "no run has its faces aligned as those of the paper's variant"
    elif ours.mode == "aligned":
        ending, faces = "detected", ours.model_copy(update={"mode": "detect", "detector": "dlib"})
        why = "no run has its faces detected and aligned here"
        changes = {"media": "original"} if "original" in dataset.facts.media else {}
    else:
        ending, faces = "as_given", ours.model_copy(update={"mode": "aligned", "detector": "none"})
        why = "no run takes the pictures as they are given, only resized"
    yield from _copy(question, part, ending, why, config, dataset.model_copy(update={"faces": faces} | changes))


def whole_dataset(question: Question, part: Part) -> Iterator[Absent]:
    config = question.run.config
    dataset = question.catalog.datasets[config.dataset]
    if dataset.limit:
        whole = dataset.model_copy(update={"limit": None})
        yield from _copy(question, part, "whole", "no run has all samples (limit)", config, whole)


def _written(dataset: Dataset) -> Block:
    """Return the block of a dataset without what its label set says."""
    block = dataset.model_dump(mode="json", exclude_defaults=True)
    plain = {key: value for key, value in block.items() if key not in ("classes", "labels", "ignore")}
    try:
        same = Dataset.model_validate(plain) == dataset
    except ValueError:
        return block
    return plain if same else block


def _with_protocol(question: Question, part: Part, ending: str, why: str, **changes: Any) -> Iterator[Absent]:
    """Offer a copy with another protocol; what it starts from must know the same people of the dataset."""
    config = question.run.config
    start = question.catalog.variants.get(config.init_from)
    if start and start.dataset == config.dataset:
        yield Absent(part.name, f"{why}, and {config.init_from}, from which it starts, must have the same protocol")
    else:
        yield from _copy(question, part, ending, why, config.model_copy(update=changes))


def other_duplicates(question: Question, part: Part) -> Iterator[Absent]:
    run = question.run
    protocol = run.config.protocol.model_copy(update={"near_duplicates": "ignore"})
    if run.config.protocol.near_duplicates == "drop" and len(run.parts) < run.metrics["folds"] * len(run.rows):
        why = "no run keeps the copies of test samples in training"
        yield from _with_protocol(question, part, "with_copies", why, protocol=protocol)


def without_validation(question: Question, part: Part) -> Iterator[Absent]:
    share, config = question.wanted.get("protocol.val_share"), question.run.config
    if share is not None and share != config.protocol.val_share and not validates_itself(question.run):
        changes: dict[str, Any] = {"protocol": config.protocol.model_copy(update={"val_share": share})}
        changes["selection"] = question.wanted["selection"]
        if not share:
            changes["calibration"] = "none"  # is fitted on the validation part
        why = f"no run has a validation part of {share:g} of the training samples, as the paper's variant"
        yield from _with_protocol(question, part, "their_validation", why, **changes)


def readings(question: Question, part: Part) -> Iterator[Absent]:
    """Offer what the library has in a part for the same printed value, on the rest of this run's block."""
    if not (question.target and question.target.name):
        return
    library, config = whole_library(), question.run.config
    for name, theirs in library.variants.items():
        if theirs.model.architecture != config.model.architecture or question.target.name not in (
            name,
            theirs.reproduces,
        ):
            continue
        block = resolved(theirs, library) | {"precision": question.wanted["precision"]}
        if name != question.target.name and not part.fits(differing(question.wanted, block)):
            continue
        fields = {key for key in differing(question.block, block) if part.fits({key})}
        new = _taking(config, theirs, block, fields)
        why = f"no run has the {part.name} of {name}{_needed(new)}"
        yield from _copy(question, part, f"as_{name}", why, new)


def _needed(config: Variant) -> str:
    """Say which files of weights are not there yet."""
    files = dict.fromkeys(str(path) for path in config.model.files.values() if not path.exists())
    return f"; it needs {' and '.join(files)} (docs/checkpoints.md)" if files else ""


def other_precision(question: Question, part: Part) -> Iterator[Absent]:
    if question.block["precision"] != "fp32":
        new = question.run.config.model_copy(update={"precision": "fp32"})
        yield from _copy(question, part, "fp32", "no run was trained in float32", new)
