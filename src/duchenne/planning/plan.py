"""Plan of variants: what they would cost from scratch, on any number of GPUs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from duchenne.config import Catalog
from duchenne.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from duchenne.faces.settings import Faces
from duchenne.networks import facts_of
from duchenne.planning import costs
from duchenne.planning.costs import FaceBytes, Size, Speed
from duchenne.planning.estimate import NONE, RANKS, Basis, Estimate, about, duration, exactly, largest
from duchenne.planning.schedule import enough, makespan
from duchenne.planning.work import Fold, Samples, Work, samples_of, work_of
from duchenne.training.clips import window
from duchenne.training.rules import tested_each_epoch
from duchenne.training.settings import Variant
from duchenne.workspace import Workspace

USUAL = (1, 8, 64)
"""Numbers of GPUs that are compared."""

FACES, SPLIT, TRAINING, EVALUATION, REPORT, COPIES = (
    "alignment and landmarks", "split and leak check", "training", "evaluation", "maps and report", "DVC's copies",
)  # fmt: skip
PARTS = (FACES, SPLIT, TRAINING, EVALUATION, REPORT, COPIES)


def add_up(estimates: Sequence[Estimate]) -> Estimate:
    """Return the sum of estimates."""
    return reduce(Estimate.plus, estimates, NONE)


@dataclass(frozen=True)
class DatasetPlan:
    """Work on a dataset.

    Attributes:
        faces: aligned faces of all samples; None: the number of samples is not known.
        core_seconds: alignment and landmarks on one core.
        stored: bytes of the face store, without DVC's copy.
        to_render: whether its pictures are not there and will be rendered.
    """

    samples: Samples
    faces: Estimate | None
    core_seconds: Estimate
    each: FaceBytes
    stored: Estimate
    to_render: bool


@dataclass(frozen=True)
class FoldPlan:
    """Time of a fold, s: of the device alone, of loading on its cores, of writing its state, and of all together."""

    device: Estimate
    loading: Estimate
    saving: Estimate
    whole: Estimate


@dataclass(frozen=True)
class VariantPlan:
    """Work of a variant.

    Attributes:
        epochs: at most, with those without labels.
        stops_early: whether training may end before.
        needed: whether it is not asked for, but another variant starts from it.
        generation: number of runs that must be trained before.
        seeds: number of seeds with which each fold is trained.
        folds: those of every seed; empty if their number is not known.
        tested: seconds of a device for the predictions of all folds, also under damage if ``report.robustness``.
    """

    name: str
    dataset: str
    architecture: str
    needed: bool
    work: Work
    epochs: int
    stops_early: bool
    size: Size
    speed: Speed
    on_cpu: bool
    generation: int
    seeds: int
    folds: tuple[FoldPlan, ...]
    tested: Estimate
    memory: float | None
    batch: int
    passes: int
    cores: float

    @property
    def device_seconds(self) -> Estimate:
        """Seconds of a device that trains and validates all folds and never waits."""
        return add_up([fold.device for fold in self.folds])

    @property
    def cores_needed(self) -> float:
        """Cores that load as fast as the device computes; 0 where loading is not a matter of its own."""
        if self.on_cpu:
            return 0.0
        return max((self.cores * fold.loading.value / fold.device.value for fold in self.folds), default=0.0)

    @property
    def weights(self) -> float:
        """Bytes of the weights of all folds, in all copies."""
        return costs.COPIES * len(self.folds) * self.size.params * 4


@dataclass(frozen=True)
class Plan:
    """What variants cost.

    Attributes:
        cores: processor cores beside each GPU.
        spread: whether faces are aligned on the cores of all machines (``compute.engine`` dask or ray).
        free: bytes that are free on the disk of the project.
    """

    datasets: tuple[DatasetPlan, ...]
    variants: tuple[VariantPlan, ...]
    cores: float
    spread: bool
    free: int

    @property
    def device(self) -> str:
        """What trains: a GPU; or this machine, where its processor was measured."""
        return "machine" if all(variant.on_cpu for variant in self.variants) else "GPU"

    def parts(self, gpus: int) -> dict[str, Estimate]:
        """Return the seconds of each of :data:`PARTS` on so many GPUs."""
        return {
            FACES: add_up([data.core_seconds for data in self.datasets]).times(1 / self.aligning_cores(gpus)),
            SPLIT: exactly(sum(_compared(variant.work) for variant in self.variants) * costs.PAIR_OF_HASHES),
            TRAINING: self._training(gpus),
            EVALUATION: add_up([_evaluation(variant) for variant in self.variants]),
            REPORT: exactly(sum(_report(variant) for variant in self.variants)),
            COPIES: Estimate(*(self._copied / bound for bound in reversed(costs.HASHED))),
        }

    def seconds(self, gpus: int) -> Estimate:
        """Return the seconds of all parts, one after the other."""
        return add_up(list(self.parts(gpus).values()))

    def aligning_cores(self, gpus: int) -> float:
        """Return the cores that align faces: of one machine, or of all."""
        return self.cores * (gpus if self.spread else min(gpus, costs.GPUS_OF_A_HOST))

    def _training(self, gpus: int) -> Estimate:
        """Makespan of the folds, for each bound; what starts from other runs waits for all of them."""
        generations = sorted({variant.generation for variant in self.variants})
        folds = [[f.whole for v in self.variants if v.generation == g for f in v.folds] for g in generations]
        return Estimate(*(sum(makespan([fold[bound] for fold in own], gpus) for own in folds) for bound in range(3)))

    @property
    def _copied(self) -> float:
        return self.disk()["faces"].value / 2 + self.disk()["weights"].value / costs.COPIES

    def disk(self, at_once: int = 1) -> dict[str, Estimate]:
        """Return the bytes of each kind of file, without the raw datasets.

        Args:
            at_once: folds that train at the same time, each with a state of its own.
        """
        largest_state = max((variant.size.params * 4 for variant in self.variants), default=0)
        return {
            "faces": add_up([data.stored.times(2) for data in self.datasets]),
            "weights": exactly(sum(variant.weights for variant in self.variants)),
            "state of running folds": exactly(costs.STATE * largest_state * at_once),
            "results": exactly(2 * costs.RESULT * sum(variant.work.tested for variant in self.variants)),
        }

    def total_disk(self, at_once: int = 1) -> Estimate:
        """Return the bytes of all files."""
        return add_up(list(self.disk(at_once).values()))

    def unknown(self) -> list[str]:
        """List what is not counted, and why."""
        found = [f"{variant.name}: {variant.work.source}" for variant in self.variants if not variant.folds]
        found += [f"{d.samples.dataset}: rendering, whose speed was not measured" for d in self.datasets if d.to_render]
        return list(dict.fromkeys(found))

    def mixed(self) -> str:
        """Say which speeds are of this processor and which of a GPU, if there are both; empty otherwise."""
        own = [variant.name for variant in self.variants if variant.on_cpu]
        if not own or len(own) == len(self.variants):
            return ""
        others = [variant.name for variant in self.variants if not variant.on_cpu]
        return (
            f"{', '.join(own)} measured on this processor, {', '.join(others)} derived for a GPU, so their sum is of "
            "no machine: --measure measures all here, --rate derives all"
        )

    def why(self, gpus: Sequence[int] = USUAL) -> list[str]:
        """Say what each of so many GPUs brings, and what limits the time; a sentence each."""
        folds = [fold.whole.value for variant in self.variants for fold in variant.folds]
        if not folds:
            return []
        found = []
        generations = [
            [fold.whole.value for variant in self.variants if variant.generation == number for fold in variant.folds]
            for number in {variant.generation for variant in self.variants}
        ]
        useful, longest = max(map(enough, generations)), sum(max(own, default=0.0) for own in generations)
        if len(folds) == 1:
            found.append(
                f"One fold trains on one {self.device}, so further ones gain nothing; one network on several is not "
                "counted, because its scaling was not measured."
            )
        else:
            more = f"More than {useful}" if useful > 1 else "Further"
            found.append(
                f"{more} {self.device}s do not shorten training: its {len(folds)} folds then take "
                f"{duration(exactly(longest))}, each waiting only for those that it starts from."
            )
            rounds = [f"{math.ceil(len(folds) / count)} on {count}" for count in gpus if 1 < count < len(folds)]
            if rounds:
                found.append(f"Rounds of folds: {', '.join(rounds)}.")
        most = max(USUAL[-1], useful)
        parts, whole = self.parts(most), self.seconds(most)
        serial = whole.value - parts[TRAINING].value
        name = max((part for part in PARTS if part != TRAINING), key=lambda part: parts[part].value)
        share = about(100 * serial / whole.value)
        found.append(
            f"What is not training takes {duration(exactly(serial))} on {most} {self.device}s, {share} % of all; most "
            f"of it is {name}."
        )
        for variant in self.variants:
            if variant.cores_needed > self.cores:
                found.append(
                    f"{variant.name}: the GPU waits for its {about(self.cores)} cores, which load its samples; about "
                    f"{about(math.ceil(variant.cores_needed))} would keep it busy."
                )
        return found


def _compared(work: Work) -> float:
    """Pairs of face hashes that the split compares: all of a dataset, and those across the parts of each fold."""
    if not work.folds:
        return 0
    first = work.folds[0]
    total = first.train + first.val + first.test
    across = sum(f.test * f.val + f.test * f.train + f.val * f.train for f in work.folds)
    return total * total / 2 + across


def _evaluation(variant: VariantPlan) -> Estimate:
    tested = variant.work.tested * variant.seeds
    return variant.tested.plus(exactly(costs.STAGES["evaluate"] + (costs.evaluated(tested)[0] if tested else 0.0)))


def _report(variant: VariantPlan) -> float:
    return costs.STAGES["explain"] + costs.STAGES["complexity and report"] + costs.T_SNE * variant.work.tested


def make_plan(
    catalog: Catalog,
    workspace: Workspace,
    names: Sequence[str],
    cores: float,
    rate: float | None = None,
    measure: Callable[[Variant, int], Speed] | None = None,
    at_once: int = 1,
    measured_on_cpu: bool = False,
    size_of: Callable[[Variant, int], Size] = costs.size_of,
) -> Plan:
    """Plan variants and those that they start from; shared datasets count once.

    The speed of a network is that of ``measure`` if given, else of a history in this project, else derived from its
    operations.

    Args:
        cores: processor cores beside each GPU.
        rate: operations a second, instead of the assumed ones; histories then do not count.
        measure: measures the speed of a variant with so many classes.
        at_once: folds that train at once on a device of this machine.
        measured_on_cpu: whether the devices of this machine, where speeds are measured, are its processor.
        size_of: counts a variant's network.

    Raises:
        UserError: A network is not known, or a protocol cannot be applied to its index.
    """
    order = _with_starts(catalog, names)
    times = 1 + len(CORRUPTIONS) * len(STRENGTHS) * catalog.report.robustness
    plans = []
    frames: dict[str, Samples] = {}
    for name in order:
        config = catalog.variants[name]
        if config.dataset not in frames:
            frames[config.dataset] = samples_of(catalog, workspace, config.dataset)
        classes = len(catalog.datasets[config.dataset].classes)
        size = size_of(config, classes)
        if measure:
            speed = measure(config, classes)
        else:
            known = None if rate else costs.recorded(catalog, workspace, name, at_once)
            speed = known or costs.derived(config, size, rate)
        on_cpu = measured_on_cpu and speed.basis == "measured here"
        work = work_of(catalog, workspace, name)
        plans.append(
            _variant_plan(
                name, config, name in names, work, size, speed, on_cpu, cores, frames[config.dataset], order, times
            )
        )
    datasets = tuple(
        _dataset_plan(
            workspace,
            samples,
            catalog.datasets[name].faces,
            name in catalog.rendered and not workspace.raw(name).exists(),
        )
        for name, samples in frames.items()
    )
    spread = catalog.compute.engine != "local"
    return Plan(datasets, tuple(plans), cores, spread, shutil.disk_usage(_existing(workspace.root)).free)


def _existing(path: Path) -> Path:
    path = path.resolve()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _with_starts(catalog: Catalog, names: Sequence[str]) -> dict[str, int]:
    """Variants with those that they start from -> number of runs before them, in that order."""
    found: dict[str, int] = {}

    def visit(name: str) -> int:
        if name not in found:
            start = catalog.variants[name].init_from
            found[name] = visit(start) + 1 if start in catalog.variants else 0
        return found[name]

    for name in names:
        visit(name)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _variant_plan(
    name: str,
    config: Variant,
    asked: bool,
    work: Work,
    size: Size,
    speed: Speed,
    on_cpu: bool,
    cores: float,
    samples: Samples,
    generations: dict[str, int],
    times: int,
) -> VariantPlan:
    recipe = config.recipe
    sample = speed.rate.inverse()
    forward = sample.times(1 / (3 * costs.passes(recipe)))  # a pass backward takes as long as two forward
    loading = costs.loaded(config).inverse().times(1 / (1 if on_cpu else cores))
    views = 1.0
    if facts_of(config.model.architecture).takes == "clip" and recipe.clip.test == "windows":
        views = max(1.0, samples.frames.value // window(recipe.clip))

    state = 4 * size.params * costs.STATE * (recipe.epochs + recipe.pretrain_epochs)
    saving = Estimate(*(state / bound for bound in reversed(costs.WRITTEN)))

    def fold(own: Fold) -> FoldPlan:
        held = own.val + (own.test if tested_each_epoch(config, own.test * views, own.train) else 0)
        steps = own.train * (recipe.epochs + recipe.pretrain_epochs / costs.passes(recipe))
        device = sample.times(steps).plus(forward.times(held * views * recipe.epochs))
        read = own.train * (recipe.epochs + recipe.pretrain_epochs) + held * views * recipe.epochs
        load = NONE if speed.whole else loading.times(read)
        return FoldPlan(device, load, saving, (device.plus(load) if on_cpu else largest(device, load)).plus(saving))

    seeds = len(config.every_seed)
    tested = largest(forward, loading).times(work.tested * views * (seeds + times - 1))  # damage: the first seed alone
    return VariantPlan(
        name=name,
        dataset=config.dataset,
        architecture=config.model.architecture,
        needed=not asked,
        work=work,
        epochs=recipe.epochs + recipe.pretrain_epochs,
        stops_early=recipe.early_stop_above is not None,
        size=size,
        speed=speed,
        on_cpu=on_cpu,
        generation=generations[name],
        seeds=seeds,
        folds=tuple(map(fold, work.folds)) * seeds,
        tested=tested,
        memory=costs.fold_memory(config),
        batch=recipe.batch_size,
        passes=costs.passes(recipe),
        cores=cores,
    )


def _dataset_plan(workspace: Workspace, samples: Samples, config: Faces, to_render: bool) -> DatasetPlan:
    kind = "image" if samples.frames == exactly(1) else "frame"
    faces = None if samples.count is None else samples.frames.times(samples.count)
    held = (
        faces.value
        if faces and samples.frames_basis == "counted" and workspace.index(samples.dataset).exists()
        else None
    )
    each = costs.face_bytes(workspace, samples.dataset, config, held)
    seconds = costs.FACES[kind].inverse()
    counted = faces or NONE
    return DatasetPlan(
        samples,
        faces,
        Estimate(*(a * b for a, b in zip(seconds, counted, strict=True))),
        each,
        counted.times(each.each),
        to_render,
    )


def basis_of_part(plan: Plan, part: str) -> Basis:
    """Return the least sure basis of the numbers behind a part."""
    if part == TRAINING:
        found: list[Basis] = [variant.speed.basis for variant in plan.variants]
    elif part == FACES:
        found = ["measured elsewhere", *(data.samples.frames_basis for data in plan.datasets)]
    elif part == COPIES:
        found = ["assumed"]
    else:
        found = ["measured elsewhere"]
    return max(found, key=RANKS.index)


def as_json(plan: Plan, gpus: Sequence[int]) -> dict[str, Any]:
    """Return a plan as values for JSON: seconds and bytes, each as low, value and high."""
    return {
        "cores per GPU": plan.cores,
        "variants": [_variant_json(variant) for variant in plan.variants],
        "datasets": [_dataset_json(data) for data in plan.datasets],
        "seconds": {
            str(count): {"total": plan.seconds(count)._asdict()} | costs.as_json(plan.parts(count)) for count in gpus
        },
        "bytes": {"total": plan.total_disk()._asdict()} | costs.as_json(plan.disk()) | {"free": plan.free},
        "bases": {part: basis_of_part(plan, part) for part in PARTS},
        "why": plan.why(gpus),
        "not counted": plan.unknown(),
    }


def _variant_json(variant: VariantPlan) -> dict[str, Any]:
    return {
        "variant": variant.name,
        "dataset": variant.dataset,
        "needed by others": variant.needed,
        "folds": len(variant.folds),
        "training samples": variant.work.trained,
        "tested samples": variant.work.tested,
        "source of the samples": variant.work.source,
        "epochs": variant.epochs,
        "may stop early": variant.stops_early,
        "passes": variant.passes,
        "macs": variant.size.macs,
        "parameters": variant.size.params,
        "samples a second": variant.speed.rate._asdict(),
        "basis": variant.speed.basis,
        "source of the speed": variant.speed.source,
        "device seconds": variant.device_seconds._asdict(),
        "cores needed": variant.cores_needed,
        "bytes of memory": variant.memory,
        "bytes of weights": variant.weights,
    }


def _dataset_json(data: DatasetPlan) -> dict[str, Any]:
    return {
        "dataset": data.samples.dataset,
        "samples": data.samples.count,
        "source": data.samples.source,
        "frames of a sample": data.samples.frames._asdict(),
        "basis of the frames": data.samples.frames_basis,
        "core seconds": data.core_seconds._asdict(),
        "bytes of a face": data.each.each,
        "basis of a face": data.each.basis,
        "bytes": data.stored._asdict(),
    }
