"""Training and measuring of canaries: a variant's recipe and protocol with labels that hold nothing to learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from duchenne.canary.chance import Chance, chance, networks_needed
from duchenne.canary.labels import one_a_person, permuted
from duchenne.canary.planted import Leak, Planted, plant
from duchenne.config import Catalog
from duchenne.datasets.index import read_index
from duchenne.engines import Local, Task
from duchenne.engines.folds import plan
from duchenne.errors import UserError
from duchenne.evaluation.statistics import evaluate
from duchenne.faces.store import FaceStore
from duchenne.locks import alone
from duchenne.models.contract import create
from duchenne.sealed import read_table
from duchenne.splits import LeakError, check_leaks
from duchenne.stages.samples import with_faces
from duchenne.training.device import device_of
from duchenne.training.fold import train_fold
from duchenne.training.settings import Variant
from duchenne.training.trained import load_trained, predict
from duchenne.workspace import Workspace

APART = 10_000
"""Distance of the seeds of two folds. A variant has one for all, but networks with the same first weights favour the
same outputs, and what chance decides once would count as often as there are folds."""


class Settings(NamedTuple):
    """What a canary runs.

    Attributes:
        epochs: epochs instead of the recipe's.
        samples: training samples of each fold; None: all.
        folds: number of folds, the first ones; None: all.
        seed: seed of the first permutation and of its networks; each further one has the next.
        permutations: number of permutations; None: as many as the verdict needs.
        plant: leak to plant.
        anyway: whether to train although the check refuses the planted leak.
        control: whether to train with the true labels too.
    """

    epochs: int | None = None
    samples: int | None = None
    folds: int | None = None
    seed: int = 0
    permutations: int | None = None
    plant: Leak | None = None
    anyway: bool = False
    control: bool = False


class Measured(NamedTuple):
    """UAR over all networks of a run: value, 95 % interval by subject, chance, and the mean over all test epochs."""

    uar: float
    low: float
    high: float
    chance: Chance
    n: int
    subjects: int
    each: list[float]
    every_epoch: float | None


class Result(NamedTuple):
    """Result of a canary.

    Attributes:
        measured: None if the planted leak was refused.
        control: UAR with the true labels.
        refused: how the check refused the planted leak; empty: it did not.
        notes: what makes the canary weaker, or another one than the variant.
    """

    variant: str
    settings: Settings
    selection: str
    folds: int
    permutations: int
    measured: Measured | None
    control: Measured | None
    refused: str
    notes: list[str]

    @property
    def falls(self) -> bool | None:
        """Whether the UAR falls to guessing; None: nothing was trained."""
        return self.measured.chance.explains if self.measured else None

    @property
    def passed(self) -> bool:
        """Whether the canary is as it should be: at guessing; with a planted leak, refused or above guessing."""
        return bool(self.refused) or not self.falls if self.settings.plant else bool(self.falls)

    def as_json(self) -> dict[str, Any]:
        """Return it as values for JSON; shares between 0 and 1."""
        found: dict[str, Any] = {"variant": self.variant, "passed": self.passed, "falls to guessing": self.falls}
        found |= {"folds": self.folds, "permutations": self.permutations, "selection": self.selection}
        found |= {"settings": self.settings._asdict(), "refused": self.refused, "notes": self.notes}
        for name, one in (("canary", self.measured), ("true labels", self.control)):
            if one:
                values = one._asdict() | one.chance._asdict()
                del values["chance"]
                found[name] = values
        return found


def canary(catalog: Catalog, workspace: Workspace, variant: str, settings: Settings) -> Result:
    """Train a variant on labels without knowledge and measure it on the true labels of the test part.

    All is trained on this machine. Networks are kept below ``work/canary``, where an interrupted run resumes; the
    variant's own models, results and tracked runs are not touched.

    A run of another variant that this one starts from knows true labels, of the same people if it has the same
    dataset: after fine-tuning on permuted labels a network may still classify well. So the start is trained as a canary
    too, with the same seeds. Networks of others (``init_from`` of an imported one, or a file for a whole network in
    ``model.pretrained``) know expressions of other people. That is not a leak, but the canary could not tell it from
    one: they are left out, and a note says so. Files for parts, such as IR50, landmarks and the displacement module,
    have seen no emotion label and stay.

    Raises:
        UserError: Data is not prepared, or so few networks would be trained that the verdict is not possible.
    """
    with alone(workspace.work("locks", f"canary {variant}.lock"), f"the canary of {variant}"):
        return _canary(catalog, workspace, variant, settings)


def _canary(catalog: Catalog, workspace: Workspace, variant: str, settings: Settings) -> Result:
    config = catalog.variants[variant]
    runs = _Runs(catalog, workspace, settings, [])
    store, rows, split = runs.data(variant)
    classes = runs.classes(config)
    folds = split["fold"].nunique()
    needed = networks_needed(len(classes))
    permutations = settings.permutations or -(-needed // folds)
    if permutations * folds < needed:
        raise UserError(
            f"{permutations * folds} network(s) cannot tell {len(classes)} classes from chance: one may name all of "
            f"them right by chance. Give --permutations {-(-needed // folds)} or more"
        )
    refused, planted = "", None
    if settings.plant:
        folder = workspace.work("canary", variant) / "faces"
        planted = plant(settings.plant, split, rows, store, folder, settings.seed)
        refused, kept = _checked(planted, config)
        planted = planted._replace(split=planted.split if settings.anyway else kept)
    measured = control = None
    if not refused or settings.anyway:
        runs.shortened(config)
        seeds = range(settings.seed, settings.seed + permutations)
        measured = runs.measure(variant, settings.plant or "permuted", seeds, planted)
        if settings.control:
            control = runs.measure(variant, "true", [settings.seed], None)
    return Result(
        variant,
        settings,
        config.selection,
        folds,
        permutations,
        measured,
        control,
        refused,
        list(dict.fromkeys(runs.notes)),
    )


def _checked(planted: Planted, config: Variant) -> tuple[str, pd.DataFrame]:
    """Check a planted leak: how it was refused (empty: it was not), and the split that the check leaves."""
    try:
        kept, _ = check_leaks(planted.rows, planted.split, planted.store.hashes(), config.protocol)
    except LeakError as error:
        first = error.pairs.iloc[0]
        text = f"splits.check_leaks (LeakError): {len(error.pairs)} leak(s), such as {first['sample']} and "
        return f"{text}{first['other']}: {first['why']}", planted.split
    left = planted.samples.merge(kept[kept["part"] == "train"], on=["fold", "sample"])
    if left.empty:
        return f"splits.check_leaks: it dropped all {len(planted.samples)} planted samples", kept
    return "", kept


def _train(threads: int | None, task: Callable[[], None]) -> None:
    """Train with a number of threads, in a process of its own; None: as it is."""
    if threads:
        torch.set_num_threads(threads)
    task()


@cache
def _whole(architecture: str, options: str) -> set[str]:
    """Return the parts of ``model.pretrained`` that are whole networks, with a last layer for expressions."""
    parts: Mapping[str, str] = getattr(create(architecture, json.loads(options), 2), "pretrained_parts", {})
    return {part for part, place in parts.items() if not place}


@dataclass(frozen=True)
class _Runs:
    """The runs of one canary; ``notes`` is filled on the way."""

    catalog: Catalog
    workspace: Workspace
    settings: Settings
    notes: list[str]

    def classes(self, config: Variant) -> list[str]:
        return read_index(self.workspace.index(config.dataset)).classes

    def data(self, variant: str) -> tuple[FaceStore, pd.DataFrame, pd.DataFrame]:
        """Return the faces, the index and the split of a variant, of samples with a face and of the chosen folds.

        Raises:
            UserError: A file is missing; the message names the command.
        """
        dataset, place = self.catalog.variants[variant].dataset, self.workspace
        for path in (place.index(dataset), place.faces(dataset), place.landmarks(dataset), place.split(variant)):
            if not path.exists():
                raise UserError(f"{path} is missing: run `dvc repro split@{variant} landmarks@{dataset}`")
        store = FaceStore(place.faces(dataset))
        split = read_table(place.split(variant))
        split = split[split["sample"].isin(set(store.samples))]
        if self.settings.folds:
            split = split[split["fold"].isin(sorted(split["fold"].unique())[: self.settings.folds])]
        rows = read_index(place.index(dataset)).rows
        return store, rows, split.reset_index(drop=True)

    def shortened(self, config: Variant) -> None:
        """Note what makes this canary weaker than the variant."""
        short = []
        if self.settings.epochs and self.settings.epochs < config.recipe.epochs:
            short.append(f"{self.settings.epochs} of {config.recipe.epochs} epochs")
        if self.settings.samples:
            short.append(f"{self.settings.samples} training samples a fold")
        if self.settings.folds:
            short.append(f"{self.settings.folds} fold(s)")
        if short:
            self.notes.append(f"shortened to {', '.join(short)}: a weaker canary, for a leak may need more to show")

    def folder(self, variant: str, kind: str, seed: int, fold: int) -> Path:
        return self.workspace.work("canary", variant) / f"{kind}_{seed}" / f"fold_{fold}"

    def labelled(
        self, samples: pd.DataFrame, kind: str, seed: int, classes: int, planted: Planted | None
    ) -> pd.DataFrame:
        """Return the samples with the labels of a kind of run."""
        if kind == "true":
            return samples
        if kind == "subject":
            return one_a_person(samples, classes, seed)
        if planted is None:
            return permuted(samples, seed)
        original = samples["sample"].map(planted.originals)
        rest = permuted(samples[original.isna()], seed, ("train", "val", "test"))
        copies = samples[original.notna()].drop(columns="label").assign(original=original)
        scored = rest.loc[rest["part"] == "test", ["fold", "sample", "label"]]
        copies = copies.merge(scored.rename(columns={"sample": "original"}), on=["fold", "original"])
        return pd.concat([rest, copies.drop(columns="original")], ignore_index=True)

    def recipe_of(self, variant: str, seed: int, kind: str) -> Variant:
        """Return the variant as it is run: with its own start, a seed of its own, and shortened."""
        config = self.catalog.variants[variant]
        recipe = config.recipe
        if epochs := self.settings.epochs:
            short: dict[str, Any] = {"epochs": epochs, "pretrain_epochs": min(epochs, recipe.pretrain_epochs)}
            short["warmup_epochs"] = min(recipe.warmup_epochs, epochs - 1)
            if recipe.warmup_epochs and not short["warmup_epochs"]:
                short["schedule"] = "constant"  # no room for a warm-up
            recipe = recipe.model_copy(update=short)
        if kind not in ("true", "permuted"):
            recipe = recipe.model_copy(update={"targets": "hard"})  # planted labels have no votes
        init = config.init_from
        if self.workspace.imported(init):
            self.notes.append(f"{variant} does not start from {init}, which knows expressions of other people")
            init = "scratch"
        whole = _whole(config.model.architecture, json.dumps(config.model.options)) if config.model.files else set()
        for part in sorted(whole & config.model.files.keys()):
            text = f"{variant} does not start from model.pretrained.{part}, which knows expressions of other people"
            self.notes.append(text)
        files = {part: path for part, path in config.model.pretrained.items() if part not in whole}
        model = config.model.model_copy(update={"pretrained": files})
        own = {"recipe": recipe, "init_from": init, "model": model}
        return config.model_copy(update=own).with_seed(seed)

    def samples_of(self, variant: str, kind: str, seed: int, planted: Planted | None) -> tuple[FaceStore, pd.DataFrame]:
        """Return the faces and the samples of a run with its labels, at most ``settings.samples`` of training."""
        store, rows, split = self.data(variant)
        if planted:
            store, rows, split = planted.store, planted.rows, planted.split
        samples = with_faces(split, rows, store)
        samples = self.labelled(samples, kind, seed, len(self.classes(self.catalog.variants[variant])), planted)
        if most := self.settings.samples:
            placed = pd.MultiIndex.from_frame(samples[["fold", "sample"]])
            own = samples["part"].eq("train")
            if planted:
                own &= ~placed.isin(pd.MultiIndex.from_frame(planted.samples[["fold", "sample"]]))
            kept = samples[own].sample(frac=1, random_state=seed).groupby("fold").head(most)
            samples = samples[~own | samples.index.isin(kept.index)]
        return store, samples

    def train(self, variant: str, kind: str, seeds: Iterable[int], planted: Planted | None) -> set[int]:
        """Train the networks of all folds and seeds, and before them those that they start from; returns the folds."""
        config = self.catalog.variants[variant]
        start = self.recipe_of(variant, 0, kind).init_from
        started = "true" if kind == "true" else "permuted"
        before = self.train(start, started, seeds, None) if start != "scratch" else set()
        jobs, folds = [], set()
        for seed in seeds:
            store, samples = self.samples_of(variant, kind, seed, planted)
            for fold, rows in samples.groupby("fold"):
                folder = self.folder(variant, kind, seed, int(fold))
                folds.add(int(fold))
                own = self.recipe_of(variant, seed + APART * (int(fold) - 1), kind)
                init = None
                if before:
                    init = self.folder(start, started, seed, int(fold) if fold in before else 1) / "network"
                task = partial(
                    train_fold,
                    own,
                    self.classes(config),
                    int(fold),
                    rows,
                    store,
                    out=folder / "network",
                    work=folder / "state",
                    compute=config.on(self.catalog.compute),
                    init=init,
                    landmarks=self.workspace.landmarks(config.dataset),
                    au_centers=self.workspace.au_centers(config.dataset),
                )
                jobs.append(Task(f"{variant}, {kind} {seed}, fold {fold}", task))
        compute = self.catalog.compute
        with Local(compute.jobs) as engine:
            needs, at_once = plan(compute, engine, len(jobs), device_of(compute).type)
            threads = min(needs.cores, torch.get_num_threads()) if at_once > 1 else None
            jobs = [Task(job.name, _train, (threads, job.function)) for job in jobs]
            with closing(engine.run(jobs, needs, at_once)) as ended:
                for done in ended:
                    done.result()
        return folds

    def measure(self, variant: str, kind: str, seeds: Iterable[int], planted: Planted | None) -> Measured:
        """Train, predict the test part of each network, and measure all together."""
        self.train(variant, kind, seeds, planted)
        classes = self.classes(self.catalog.variants[variant])
        frames, counts, known, epochs = [], [], [], []
        for seed in seeds:
            store, samples = self.samples_of(variant, kind, seed, planted)
            for fold, rows in samples.groupby("fold"):
                folder = self.folder(variant, kind, seed, int(fold)) / "network"
                model, card = load_trained(folder)
                tested = rows[rows["part"] == "test"]
                logits, _ = predict(model, store, tested, card, self.catalog.compute)
                frame = tested[["sample", "fold", "subject", "label"]].assign(
                    predicted=logits.argmax(axis=1), permutation=seed
                )
                frames.append(frame)
                table = np.zeros((len(classes), len(classes)))
                np.add.at(table, (frame["label"].to_numpy(int), frame["predicted"].to_numpy(int)), 1)
                counts.append(table)
                labels = rows.loc[rows["part"] == "train", "label"]
                known.append(np.isin(np.arange(len(classes)), labels.to_numpy(int)))
                history = pd.read_csv(folder / "history.csv")
                if "test_uar" in history:
                    epochs.append(history["test_uar"].mean())
        frame = pd.concat(frames, ignore_index=True)
        each = [evaluate(own, classes, 1, metrics=("uar",))["uar"] for _, own in frame.groupby("permutation")]
        # a person's predictions by all networks are drawn together
        person = frame["subject"].astype(object).where(frame["subject"].notna(), frame["sample"])
        several = frame["subject"].nunique() > 1
        pooled = frame.assign(
            subject=person if several or len(each) > 1 else None,
            sample=frame["permutation"].astype(str) + "/" + frame["sample"],
        )
        values = evaluate(pooled, classes, self.catalog.report.bootstrap, metrics=("uar",))
        return Measured(
            float(values["uar"]),
            float(values["uar_low"]),
            float(values["uar_high"]),
            chance(np.stack(counts), np.stack(known)),
            frame["sample"].nunique(),
            int(frame["subject"].nunique()),
            [float(value) for value in each],
            float(np.mean(epochs)) if epochs else None,
        )
