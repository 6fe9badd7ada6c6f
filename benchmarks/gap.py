"""Runs with chosen defects on rendered faces, taken apart by `duchenne gap`, and the same computed by hand.

    python benchmarks/gap.py FOLDER     # a working folder; what is finished there is not run again

Every value that `gap` gives is compared with one that scikit-learn and NumPy compute from the files of predictions;
where they differ, or a part is blamed that was not changed, it stops. Writes docs/results/gap.csv;
`python benchmarks/results.py` then writes the table. About 4 minutes of a core.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from typer.testing import CliRunner

from duchenne import config, stages
from duchenne.cli import app
from duchenne.files import read_json
from duchenne.workspace import Workspace

TABLE = Path(__file__).resolve().parents[1] / "docs" / "results" / "gap.csv"
CLASSES = ["anger", "happiness", "sadness", "surprise"]
RENDERED = {"kind": "image", "classes": CLASSES, "size": 128, "intensity": [0.6, 1.0]}
PEOPLE = {"people": {"subjects": 44, "per_class": 1, "seed": 7, "test_share": 0.4}}
PEOPLE["others"] = {"subjects": 40, "per_class": 1, "seed": 8, "test_share": 0.1}
"""Rendered sets: the one that is asked about, and the one of other people that training starts from."""
FACES = {"mode": "detect", "detector": "dlib", "landmarks": "mobilefacenet", "size": 40, "encoding": "png"}
AS_GIVEN = FACES | {"mode": "aligned", "detector": "none"}
HELD_OUT = 6
"""People for validation."""
COPIED, FEWER, ALTERED, UNFOUND = 16, 0.4, 0.3, 10
"""Test pictures that are in training too; shares of training samples left out, and of labels altered; test pictures
without a face."""
START = {
    "dataset": "others",
    "init_from": "scratch",
    "protocol": {"kind": "official", "val_share": 0.2},
    "model": {"architecture": "test_resnet", "options": {"pretrained_cfg_overlay": {"input_size": [3, 40, 40]}}},
    "recipe": {"epochs": 12, "batch_size": 16, "lr": 3e-3, "optimizer": "adamw", "schedule": "one_cycle"},
    "selection": "last",
    "seed": 5,
}
CLEAN = START | {
    "dataset": "people",
    "init_from": "start",
    "protocol": {"kind": "official", "near_duplicates": "drop"},
    "selection": "val",
    "test_each_epoch": True,
    "seed": 0,
}
SHORT = {"recipe": CLEAN["recipe"] | {"epochs": 5, "augment": {"hflip": 0.0}}}
COPIES = {"protocol": {"kind": "official", "near_duplicates": "ignore"}}
SINGLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "picked_on_test": ("rule", {"dataset": "as_given", "selection": "test"}, "epoch picked on the test part"),
    "without_weights": ("weights", {"init_from": "scratch"}, "random weights, not those of another run"),
    "again": ("seeds", {"seed": 3}, "seed 3, not 0"),
    "as_given": ("alignment", {"dataset": "as_given"}, "pictures as they are, no face aligned"),
    "fewer": ("data", {"dataset": "fewer"}, f"{100 * FEWER:.0f} % of the training samples missing"),
    "altered": ("data", {"dataset": "altered"}, f"{100 * ALTERED:.0f} % of the training labels wrong"),
    "altered_test": (
        "data",
        {"dataset": "altered_test"},
        f"{100 * ALTERED:.0f} % of the test labels wrong, same network",
    ),
    "unfound": ("data", {"dataset": "unfound"}, "test pictures without a face, same network"),
    "copies": ("duplicates", COPIES, f"{COPIED} test pictures also in training"),
    "short": ("recipe", SHORT, "5 epochs without mirroring, not 12 with it"),
    "bf16": ("precision", {"precision": "bf16"}, "bf16, not float32"),
}
"""Run with one defect -> the part that must be found, how the block differs from ``clean``, and in words."""
BASE = {"picked_on_test": "as_given"}
"""Run with one defect -> the run without it, where that is not ``clean``, whose rules pick the same epoch."""
SEVERAL = COPIES | SHORT | {"init_from": "scratch", "dataset": "altered_as_given", "selection": "test"}
SEVERAL |= {"precision": "bf16"}
CHANGED = ("rule", "weights", "alignment", "data", "duplicates", "recipe", "precision")
"""Parts in which ``several`` differs from ``clean``."""
BOOTSTRAP = 1000
METRICS = {"war": accuracy_score, "uar": balanced_accuracy_score}


class Pair(NamedTuple):
    """Predictions before and after a change; their rows may be of other samples."""

    old: pd.DataFrame
    new: pd.DataFrame


def write_sets() -> None:
    """Write the tables of the sets, with their planted defects, beside the pictures."""
    raw, random = Path("data/raw/people"), np.random.default_rng(0)
    rows = pd.read_parquet(raw / "truth.parquet").rename(columns={"emotion": "label"})
    rows = rows[["sample", "path", "label", "subject", "split"]].sort_values("sample", ignore_index=True)
    people = rows.loc[rows["split"] == "train", "subject"].unique()
    rows.loc[rows["subject"].isin(random.choice(people, HELD_OUT, replace=False)), "split"] = "val"
    train, test = (rows.index[rows["split"] == part] for part in ("train", "test"))
    copied = rows.loc[random.choice(test, COPIED, replace=False)]
    copies = copied.assign(sample="copy_" + copied["sample"], subject="copy of " + copied["subject"], split="train")
    copies["path"] = "copy_" + copied["path"].map(lambda path: Path(path).name)
    for old, new in zip(copied["path"], copies["path"], strict=True):
        shutil.copy(raw / old, raw / new)
    # one that is also in training keeps its picture: without a face it would not be found there
    noise = {place: f"noise_{place}.png" for place in random.choice(test, UNFOUND, replace=False)}
    for name in noise.values():
        cv2.imwrite(str(raw / name), random.integers(0, 256, (128, 128, 3), dtype=np.uint8))
    tables = {
        "people": rows,
        "fewer": rows.drop(random.choice(train, round(FEWER * len(train)), replace=False)),
        "altered": altered(rows, random.choice(train, round(ALTERED * len(train)), replace=False), random),
        "altered_test": altered(rows, random.choice(test, round(ALTERED * len(test)), replace=False), random),
        "unfound": rows.assign(
            path=pd.Series(noise).drop(copied.index, errors="ignore").reindex(rows.index).fillna(rows["path"])
        ),
    }
    for name, table in tables.items():
        pd.concat([table, copies], ignore_index=True).to_csv(raw / f"{name}.csv", index=False)


def altered(rows: pd.DataFrame, places: np.ndarray, random: np.random.Generator) -> pd.DataFrame:
    """Give some rows another label, each of the others with the same probability."""
    moved = rows.loc[places, "label"].map(CLASSES.index) + random.integers(1, len(CLASSES), len(places))
    return rows.assign(
        label=rows["label"].where(~rows.index.isin(places), moved.mod(len(CLASSES)).map(CLASSES.__getitem__))
    )


def write_params(path: Path) -> None:
    """Write params.yaml with the sets and the runs that are not added by `duchenne gap --add`."""
    block = {"layout": "manifest", "root": "data/raw/people", "classes": CLASSES, "faces": FACES}
    made = {
        name: block | {"manifest": f"{name}.csv"} for name in ("people", "fewer", "altered", "altered_test", "unfound")
    }
    made["as_given"] = made["people"] | {"faces": AS_GIVEN}
    made["altered_as_given"] = made["altered"] | {"faces": AS_GIVEN}
    made["others"] = {"layout": "synth", "root": "data/raw/others", "classes": CLASSES, "faces": FACES}
    params = {
        "compute": {"device": "cpu", "precision": "fp32", "jobs": 1, "folds_at_once": 1},
        "report": {"bootstrap": BOOTSTRAP},
        "rendered": {name: RENDERED | one for name, one in PEOPLE.items()},
        "datasets": made,
        "landmark_nets": {},
        "variants": {
            "start": START,
            "clean": CLEAN,
            "seeded": CLEAN | SHORT,
            **{name: CLEAN | change for name, (_, change, _) in SINGLE.items()},
            "several": CLEAN | SEVERAL,
        },
    }
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.dump(json.loads(json.dumps(params)), path)  # no anchors for what occurs twice


def run(*variants: str) -> None:
    """Run all stages of variants up to their metrics, with their datasets and what they start from."""
    catalog, workspace = config.load(), Workspace()
    for name in variants:
        block = catalog.variants[name]
        metrics = workspace.results(name) / "metrics.json"
        if metrics.exists() and read_json(metrics).get("seeds", 1) == len(block.every_seed):
            continue
        if block.init_from != "scratch":
            run(block.init_from)
        if block.dataset in catalog.rendered and not workspace.raw(block.dataset).exists():
            stages.run("synthesize", catalog, workspace, block.dataset)
        if not workspace.landmarks(block.dataset).exists():
            for stage in stages.OF_A_DATASET:
                stages.run(stage, catalog, workspace, block.dataset)
        for stage in ("split", "train", "evaluate"):
            stages.run(stage, catalog, workspace, name)


def prepare() -> None:
    """Render the people, plant the defects, and train all runs of params.yaml."""
    if not Path("params.yaml").exists():
        write_params(Path("params.yaml"))
    if not Path("data/raw/people/unfound.csv").exists():
        stages.run("synthesize", config.load(), Workspace(), "people")
        write_sets()
    run(*config.load().variants)


def tested(name: str) -> pd.DataFrame:
    """Read the predictions of a run."""
    return pd.read_parquet(Workspace().results(name) / "predictions.parquet")


def under(name: str, rule: str) -> pd.DataFrame:
    """Return the predictions of a run at the epoch that another rule picks, from the logits that were kept."""
    kept = pd.read_parquet(Workspace().fold(name, 1) / "rules.parquet").query("rule == @rule").set_index("sample")
    logits = kept[[f"logit_{one}" for one in CLASSES]].loc[tested(name)["sample"]]
    return tested(name).assign(predicted=logits.to_numpy().argmax(axis=1))


def value(frame: pd.DataFrame, metric: str) -> float:
    """Measure predictions with scikit-learn, the mean over seeds."""
    return float(np.mean([METRICS[metric](own["label"], own["predicted"]) for _, own in frame.groupby("seed")]))


def ends(pairs: list[Pair], metric: str) -> np.ndarray:
    """Return the 95 % interval of the sum of changes, by a bootstrap of people with random numbers of its own."""
    people = sorted(set().union(*(frame["subject"] for pair in pairs for frame in pair)))
    random, size = np.random.default_rng(99), len(CLASSES)
    times = np.stack(
        [np.bincount(random.integers(len(people), size=len(people)), minlength=len(people)) for _ in range(4000)]
    )

    def spread(frame: pd.DataFrame) -> np.ndarray:
        counts = np.zeros((len(people), size, size))
        np.add.at(counts, (frame["subject"].map(people.index), frame["label"], frame["predicted"]), 1)
        drawn = np.tensordot(times, counts, 1)
        hits, every = np.diagonal(drawn, axis1=1, axis2=2), drawn.sum(axis=2)
        with np.errstate(invalid="ignore"):
            return hits.sum(axis=1) / every.sum(axis=1) if metric == "war" else np.nanmean(hits / every, axis=1)

    return np.percentile(sum(spread(pair.new) - spread(pair.old) for pair in pairs), [2.5, 97.5])


def expect(what: str, condition: bool) -> None:
    """Stop where `gap` is wrong."""
    if not condition:
        raise SystemExit(f"wrong: {what}")


def same(what: str, found: dict[str, dict[str, float]], pairs: list[Pair]) -> None:
    """Compare changes that `gap` gives with those of predictions: to 1e-9, the interval to a tenth of its width."""
    for metric in METRICS:
        by_hand, given = sum(value(pair.new, metric) - value(pair.old, metric) for pair in pairs), found[metric]
        expect(f"{what}: {metric} {given['value']}, by hand {by_hand}", abs(given["value"] - by_hand) < 1e-9)
        if pairs and all(frame["seed"].nunique() == 1 for pair in pairs for frame in pair):
            low, high = ends(pairs, metric)
            near = 0.1 * (high - low) + 0.002
            if low < high:  # otherwise all resamples agree, and the interval is an exact one
                expect(
                    f"{what}: {metric} {given['low']} to {given['high']}, by hand {low} to {high}",
                    abs(given["low"] - low) < near and abs(given["high"] - high) < near,
                )


def gap(*words: str) -> dict[str, Any]:
    """Run `duchenne gap`."""
    return json.loads(CliRunner().invoke(app, ["gap", *words, "--json"], catch_exceptions=False).stdout)


def add(*words: str) -> None:
    """Let `duchenne gap` add what is missing, and run it."""
    before = set(config.load().variants)
    CliRunner().invoke(app, ["gap", *words], catch_exceptions=False)
    run(*(name for name in config.load().variants if name not in before))


def parts(found: dict[str, Any], name: str, **fields: Any) -> list[dict[str, Any]]:
    """Return what was found of a part, with these fields."""
    return [one for one in found["parts"] if one["part"] == name and fields.items() <= one.items()]


def row(what: str, part: str, pairs: list[Pair], given: dict[str, float], rest: float | None) -> dict[str, str]:
    """Make a row of the table."""
    by_hand = 100 * sum(value(pair.new, "uar") - value(pair.old, "uar") for pair in pairs)
    shown = f"{100 * given['value']:+.1f} ({100 * given['low']:+.1f} to {100 * given['high']:+.1f})"
    return {
        "changed": what,
        "part": part,
        "by hand, points of UAR": f"{by_hand:+.1f}",
        "gap": shown,
        "unexplained": "" if rest is None else f"{100 * rest:+.1f}",
    }


def single(name: str) -> dict[str, str]:
    """Ask why a run with one defect is not the run without it: its part alone must explain all."""
    (part, _, what), base = SINGLE[name], BASE.get(name, "clean")
    found, pair = gap(name, "--against", base), Pair(tested(name), tested(base))
    counted = [one for one in found["parts"] if one["as_in_target"]]
    expect(f"{name}: counted {counted}", [one["part"] for one in counted] == [part])
    same(name, counted[0]["changes"], [pair])
    same(f"{name}, difference", found["difference"], [pair])
    same(f"{name}, explained", found["explained"], [pair])
    same(f"{name}, unexplained", found["unexplained"], [])
    told = {one["part"] for one in (*found["parts"], *found["not_measured"])}
    expect(f"{name}: untold parts", told >= {"rule", *(one for one, *_ in SINGLE.values())})
    return row(what, part, [pair], counted[0]["changes"]["uar"], found["unexplained"]["uar"]["value"])


def known() -> Iterator[dict[str, str]]:
    """Check what is known by construction, without another run."""
    clean = tested("clean").set_index("sample")
    for name in ("altered_test", "unfound"):
        own = tested(name).set_index("sample")
        expect(f"{name}: another network", (own["predicted"] == clean.loc[own.index, "predicted"]).all())
    picked = tested("picked_on_test").set_index("sample")["predicted"]
    again = under("as_given", "test").set_index("sample")["predicted"]
    expect("picked_on_test: another network", (picked == again.loc[picked.index]).all())
    found = gap("unfound")
    (bound,) = parts(found, "data", status="bounded")
    gone = len(tested("clean")) - len(tested("unfound"))
    expect(f"unfound: {bound['instead']}", 0 < gone <= UNFOUND and f"({gone})" in bound["instead"])
    for metric, between in bound["changes"].items():
        truth = value(tested("clean"), metric) - value(tested("unfound"), metric)
        expect(f"unfound: {metric} {truth} is not in {between}", between["low"] <= truth <= between["high"])
    ends_of = f"{100 * bound['changes']['uar']['low']:+.1f} to {100 * bound['changes']['uar']['high']:+.1f}"
    truth = 100 * (value(tested("clean"), "uar") - value(tested("unfound"), "uar"))
    yield {
        "changed": f"the same {gone} pictures, by that run alone",
        "part": "data",
        "by hand, points of UAR": f"{truth:+.1f}",
        "gap": ends_of,
        "unexplained": "",
    }
    (without,) = parts(gap("copies"), "duplicates", run=None)
    planted = pd.read_csv("data/raw/people/people.csv")["sample"].loc[lambda name: name.str.startswith("copy_")]
    whole = tested("copies")
    rest = whole[~whole["sample"].isin(planted.str.removeprefix("copy_"))]
    expect(f"copies: {without['instead']}", f"({COPIED})" in without["instead"])
    same("copies, without", without["changes"], [pair := Pair(whole, rest)])
    yield row(f"the same {COPIED} pictures left out of the test", "duplicates", [pair], without["changes"]["uar"], None)


def all_of_clean() -> None:
    """Ask what single changes are worth: every run with one defect is one, and nothing is left to add."""
    found, clean = gap("clean"), tested("clean")
    for name, (part, *_) in SINGLE.items():
        if part not in ("rule", "seeds"):
            (one,) = parts(found, part, run=name)
            same(f"clean, {name}", one["changes"], [Pair(clean, tested(name))])
    (picked,) = (one for one in parts(found, "rule") if "test" in one["instead"])
    same("clean, rule", picked["changes"], [Pair(clean, under("clean", "test"))])
    expect(f"clean: not measured {found['not_measured']}", not found["not_measured"])


def seeds() -> dict[str, str]:
    """Let `gap` add two seeds, and compare the best with the mean."""
    if not config.load().variants["seeded"].seeds:
        add("seeded", "--add", "seeds")
    run("seeded")
    every, found = tested("seeded"), gap("seeded")
    frames = dict(list(every.groupby("seed")))
    expect(f"seeded: {sorted(frames)}", sorted(frames) == [0, 1, 2])
    (one,) = parts(found, "seeds")
    each = {seed: value(frame, "war") for seed, frame in frames.items()}
    best = max(each, key=lambda seed: each[seed])
    pair = Pair(every, frames[best])
    same("seeds", one["changes"], [pair])
    deviation = f"WAR {100 * np.std(list(each.values()), ddof=1):.2f}"
    expect(f"seeds: {one['note']}, by hand {deviation}", deviation in one["note"] and f"seed {best};" in one["note"])
    return row("the best of three seeds, not their mean", "seeds", [pair], one["changes"]["uar"], None)


def several() -> Iterator[dict[str, str]]:
    """Take a run with seven defects apart, by runs that `gap` adds."""
    if "several_weights_as_clean" not in config.load().variants:
        add("several", "--against", "clean", "--add", "all")
    run(*config.load().variants)
    found, whole = gap("several", "--against", "clean"), Pair(tested("several"), tested("clean"))
    pairs = {part: Pair(whole.old, tested(f"several_{part}_as_clean")) for part in CHANGED[1:]}
    pairs = {"rule": Pair(whole.old, under("several", "val"))} | pairs
    counted = {one["part"]: one for one in found["parts"] if one["as_in_target"]}
    expect(f"several: counted {sorted(counted)}", counted.keys() == {*CHANGED})
    for part, pair in pairs.items():
        same(f"several, {part}", counted[part]["changes"], [pair])
        yield row("seven defects at once, one taken back", part, [pair], counted[part]["changes"]["uar"], None)
    same("several, difference", found["difference"], [whole])
    same("several, explained", found["explained"], list(pairs.values()))
    back = [Pair(pair.new, pair.old) for pair in pairs.values()]
    same("several, unexplained", found["unexplained"], [whole, *back])
    rest = found["unexplained"]["uar"]["value"]
    yield row("seven defects at once, all taken back", "all", [whole], found["difference"]["uar"], rest)


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    place.mkdir(parents=True, exist_ok=True)
    with chdir(place):
        prepare()
        all_of_clean()
        rows = [*map(single, SINGLE), *known(), seeds(), *several()]
    pd.DataFrame(rows).to_csv(TABLE, index=False, lineterminator="\n")
