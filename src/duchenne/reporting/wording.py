"""Results in words: sentences and terms of the page for readers who do not know the abbreviations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duchenne.evaluation.rules import honest_rule, measured_under
from duchenne.metrics import METRICS, metric_of
from duchenne.networks import facts_of
from duchenne.reporting.runs import Run

OPTIMISTIC = "optimistic: the epoch was picked on the test part"

ALTERED = "dataset not as published"

TERMS = {
    "Parameters, MACs": "weights of the network, and its multiplications with addition for one sample; papers count "
    "both in several ways.",
    "95 % interval": "where the value would fall for other test people of the same kind: percentile bootstrap that "
    "draws subjects (or samples, where the run says so) with replacement; where all of them are the same, as when "
    "every answer is correct or every sample is given one class, the exact binomial interval by their number, which is "
    "wider. It covers another training run only where a run has several seeds, which are then drawn too.",
    "Seeds": "trainings of the same recipe that differ in their random numbers alone. A value is the mean over them; "
    "the best of them, which some papers print, is higher than another training is likely to give.",
    "Guessing": "what always predicting the most common class gives: for WAR its share, for UAR one over the number "
    "of classes.",
    "Cross-validation": "every sample is tested once, by the network that never saw its subject; metrics "
    "come from the predictions of all folds together.",
    "Dataset not as published": "samples are missing, left out or more than the owners publish, or a list differs from "
    "theirs: the value is not comparable with the paper's.",
    "Optimistic": "the reported epoch was picked by its result on the test part, as some published numbers are. "
    "Such a number is higher than new faces will give; compare it only with numbers picked the same way.",
    "Rule of choice": "which epoch of a training run is reported: the last, the best in validation, or the best on the "
    "test part. The honest rule is validation where there is a validation part, otherwise the last epoch.",
}


def glossary() -> dict[str, str]:
    """Return term -> meaning: every metric, then the other terms of the page."""
    return {metric.label: metric.help for metric in METRICS.values()} | TERMS


def percent(share: float, digits: int = 1) -> str:
    """Format a share in per cent, with a narrow no-break space: ``71.3 %``."""
    return f"{100 * share:.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """Format a difference of shares in percentage points, with a sign: ``−1.25``."""
    return f"{100 * difference:+.2f}".replace("-", "−")


def value(metrics: dict[str, float], name: str) -> str:
    """Format a metric or recall, in per cent if papers print it so: ``71.25 %``, ``0.612``; or ``–``."""
    if name not in metrics:
        return "–"
    metric = metric_of(name)
    if metric is None or metric.percent:
        return percent(metrics[name], 2)
    return metric.number(metrics[name]).replace("-", "−")


def change(difference: float, name: str) -> str:
    """Format a difference of a metric with a sign, in points if it is shown in per cent, else in its own unit."""
    metric = metric_of(name)
    text = metric.number(difference, "+").replace("-", "−") if metric else points(difference)
    return text if text.strip("+−0.") else text.replace("−", "+")  # sums of shares are zero up to rounding


def interval(metrics: dict[str, float], name: str) -> str:
    """Format an interval: ``64.2–78.0 %``, or ``0.58–0.71`` for metrics not shown in per cent; empty without one."""
    if f"{name}_low" not in metrics:
        return ""
    metric, low, high = metric_of(name), metrics[f"{name}_low"], metrics[f"{name}_high"]
    if metric is None or metric.percent:
        return f"{100 * low:.1f}–{percent(high)}"
    return f"{low:.2f}{' to ' if low < 0 else '–'}{high:.2f}".replace("-", "−")


def place(number: float, name: str) -> float:
    """Return the position of a value in the range of its metric or recall, in per cent of the range."""
    metric = metric_of(name)
    low, high = (metric.low, metric.high) if metric else (0.0, 1.0)
    return 100 * (number - low) / (high - low)


def guessing(run: Run, name: str) -> float | None:
    """Return the value of always predicting the most common class; None if the metric does not define it."""
    guess = METRICS[name].guessing
    counts = run.predictions["label"].value_counts().to_numpy()
    return None if guess is None else float(guess(counts))


def metric_label(metric: str) -> str:
    """Return the label of a metric; ``loss`` stays."""
    return METRICS[metric].label if metric in METRICS else metric


def network(run: Run) -> str:
    """Return the network's name as printed in its paper."""
    return facts_of(run.config.model.architecture).title


def protocol(run: Run) -> str:
    """Describe in a few words how the samples were divided."""
    folds = run.metrics["folds"]
    return {
        "official": "official split" if folds == 1 else f"official {folds} folds",
        "kfold": f"{folds}-fold cross-validation",
        "loso": f"leave one subject out, {folds} folds",
        "holdout": "held-out subjects" if run.metrics["subjects"] else "held-out samples",
    }[run.config.protocol.kind]


def selection(run: Run) -> str:
    """Describe which epoch is reported."""
    return chosen_by(run.config.selection, run.config.monitor)


def chosen_by(rule: str, monitor: str) -> str:
    """Describe which epoch a rule chooses."""
    return {
        "last": "last epoch",
        "val": f"best validation {metric_label(monitor)}",
        "train": "lowest training loss",
        "test": f"best test {metric_label(monitor)}",
    }[rule]


def worth(run: Run) -> str:
    """Say what choosing the epoch on the test part is worth, or that it is not known."""
    m, rules = run.metrics, run.rules
    if "test" not in rules:
        why = (
            "the monitored metric is not defined in the test part of every fold"
            if rules
            else "the run was trained without test_each_epoch, or by an older version"
        )
        return f"Not kept: {why}."
    honest, name = honest_rule(rules), _worded_metric(run)
    against = {"val": "the best one in validation", "last": "the last one"}[honest]
    key = f"{name}_test_minus_{honest}"
    unit = " points of" if METRICS[name].percent else " of"
    low, high = (change(m[f"{key}{end}"], name) for end in ("_low", "_high"))
    return (
        f"Choosing the epoch on the test {run.noun} is worth {change(m[key], name)}{unit} {METRICS[name].label} "
        f"({percent(0.95, 0)} interval {low} to {high}) against {against}{_same_epochs(run, honest)}."
    )


def _worded_metric(run: Run) -> str:
    """Return the monitored metric, or UAR where it is the loss or has no value under a rule."""
    return run.config.monitor if f"{run.config.monitor}_rule_test" in run.metrics else "uar"


def _same_epochs(run: Run, honest: str) -> str:
    """Say whether the epochs chosen on the test part are the honest ones."""
    ours, theirs = (run.rules[rule].groupby("fold")["epoch"].first() for rule in ("test", honest))
    same = int((ours == theirs).sum())
    if not same:
        return ""
    return ": it is the same epoch" if len(ours) == 1 else f"; it is the same epoch in {same} of {len(ours)} folds"


def rules(run: Run) -> list[dict[str, Any]]:
    """Return a row for each rule: its words, epochs, ``reported`` and ``optimistic``, and its values by metric.

    A value has ``value``, ``interval`` and, except for the honest rule, ``difference`` from it with its interval.
    """
    m, rows = run.metrics, []
    honest = honest_rule(run.rules)
    for rule, frame in run.rules.items():
        epochs = frame.groupby("fold")["epoch"].first()
        first, last, middle = int(epochs.min()), int(epochs.max()), epochs.median()
        values = {}
        for name in measured_under(run.config.monitor):
            key, minus = f"{name}_rule_{rule}", f"{name}_{rule}_minus_{honest}"
            values[name] = {"value": value(m, key), "interval": interval(m, key), "difference": ""}
            if minus in m:
                low, high = (change(m[f"{minus}{end}"], name) for end in ("_low", "_high"))
                values[name]["difference"] = f"{change(m[minus], name)} ({low} to {high})"
        rows.append(
            {
                "words": chosen_by(rule, run.config.monitor),
                "epochs": str(first) if first == last else f"{first}–{last}, median {middle:g}",
                "reported": rule == run.config.selection,
                "honest": rule == honest,
                "optimistic": rule == "test",
                "values": values,
            }
        )
    return rows


def start(run: Run) -> str:
    """Describe the weights that training began with."""
    config, published = run.config, run.config.model.published
    if config.init_from != "scratch":
        origin = run.workspace.imported(config.init_from)
        imported = f", imported from {origin['file']} (SHA-256 {origin['sha256'][:16]})" if origin else ""
        theirs, ours = run.workspace.card(config.init_from).get("architecture"), config.model.architecture
        if theirs in (None, ours):
            return f"Training started from the weights of {config.init_from}{imported}."
        named = f"{config.init_from} ({facts_of(theirs).title}){imported}"
        lacking = f"; those that it lacks came from published weights of {', '.join(published)}" if published else ""
        return f"Training started from the parts of {named} that {facts_of(ours).title} has too{lacking}."
    packaged = list(config.model.packaged)
    parts = [f"packaged weights of {', '.join(packaged)}, trained on rendered people"] if packaged else []
    parts += [f"published weights of {', '.join(published)}"] if published else []
    if not parts:
        return "Training started from random weights."
    rest = "" if "checkpoint" in published else "; all other weights were random"
    return f"Training started from {' and '.join(parts)}{rest}."


def seeds(run: Run) -> str:
    """Say what values and figures mean where a run has several seeds; empty for one."""
    if "seeds" not in run.metrics:
        return ""
    names = ", ".join(map(str, run.seed_metrics.index))
    return (
        f"Values are means over {run.metrics['seeds']} seeds ({names}), and the intervals draw "
        f"{run.metrics['resampled']} and seeds. Counts, figures of predictions, lists of samples, epochs and maps are "
        f"of seed {run.seed_metrics.index[0]}."
    )


def verdict(run: Run) -> str:
    """Summarise a run in one or two sentences: test set, accuracy, interval, and comparison with guessing."""
    m = run.metrics
    if m["subjects"]:
        whom = f"{m['n']:,} {run.noun} of {m['subjects']:,} people"
        unseen = (" never seen in training", ", each tested by a network that never saw the person")
    else:
        whom = f"{m['n']:,} {run.noun}"
        unseen = (" not used in training", ", each tested by a network not trained on it")
    sentence = (
        f"On {whom}{unseen[m['folds'] > 1]}, {network(run)} classifies {percent(m['war'])} correctly "
        f"({percent(0.95, 0)} interval {interval(m, 'war')}). "
        f"Always guessing the most common class gives {percent(m['majority'])}; "
        f"averaged over the {len(run.present)} classes {percent(m['uar'])} are correct, "
        f"where guessing gives {percent(1 / len(run.present))}. "
    )
    if m["war_low"] > m["majority"]:
        return sentence + "That is better than guessing."
    if m["war_high"] < m["majority"]:
        return sentence + "That is worse than guessing the most common class."
    return sentence + "The interval includes guessing: this run does not show that anything was learned."


def environments(run: Run) -> dict[str, str]:
    """Describe versions and hardware of training and of evaluation, in one entry if they are the same.

    Cards and results of older versions of this software state less, or nothing.
    """
    trained = dict.fromkeys(environment(card) for card in run.cards.values())
    measured = environment(run.record)
    if list(trained) == [measured] or not measured:
        return {"Trained and measured with" if measured else "Trained with": each for each in trained}
    return {"Trained with": "; other folds: ".join(trained), "Measured with": measured}


def environment(stated: Mapping[str, Any]) -> str:
    """Describe the versions and hardware on a card or in a record; empty if it states none."""
    machine = stated.get("machine", {})
    versions = ", ".join(f"{name} {version}" for name, version in stated.get("versions", {}).items())
    if not machine:
        return versions
    gpu = f"{machine['gpus']} × {machine['gpu']}, " if "gpu" in machine else ""
    bf16 = "with" if machine["bf16"] else "without"
    return (
        f"{versions}; {machine['os']}; {gpu}{machine['cpu']}, cores: {machine['cores']}, threads: "
        f"{machine['threads']}, {bf16} bf16 arithmetic"
    )


def near_duplicates(run: Run) -> str:
    """Describe near-duplicates between the parts, and the values without the test samples concerned; may be empty."""
    m = run.metrics
    if not m.get("near_duplicates"):
        return ""
    found = f"{m['near_duplicates']:,} pairs of near-duplicate images have one in the test part, one in another"
    found += f" (near_duplicates: {run.config.protocol.near_duplicates})"
    if not (n := m["n_without_duplicates"]):
        return f"{found}; every test sample has one in training or validation."
    values = (
        f"{metric.label} {value(m, key)} ({interval(m, key)})"
        for name, metric in METRICS.items()
        if (key := f"{name}_without_duplicates") in m
    )
    return f"{found}. Without the {m['n'] - n:,} test samples concerned: {', '.join(values)} on {n:,} samples."
