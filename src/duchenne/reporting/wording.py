"""Results in words: what a reader who knows none of the abbreviations should take away."""

from __future__ import annotations

from duchenne.reporting.runs import Run

NETWORKS = {
    "poster_t": "POSTER-T",
    "poster_s": "POSTER-S",
    "poster_l": "POSTER",
    "poster_image_only": "POSTER, image only",
    "poster_v2": "POSTER++",
    "ifdd_3dvit": "IFDD (3DViT)",
    "ifdd_2dcnn": "IFDD (2DCNN)",
    "mvit_clip": "MViT",
    "mobilenetv2_clip": "MobileNetV2",
    "frl_dgt": "FRL-DGT",
}
"""Names as the papers print them, where they are not the registry's."""

OPTIMISTIC = "optimistic: the epoch was picked on the test part"

ALTERED = "dataset not as published"

GLOSSARY = {
    "WAR": "weighted average recall, the share of test samples named right; the same as accuracy.",
    "UAR": "unweighted average recall, the mean over classes of the share named right: a rare class counts as much "
    "as a common one. Also called mean class accuracy.",
    "UF1": "unweighted F1, the mean over classes of the harmonic mean of precision and recall.",
    "ECE": "expected calibration error, how far confidence is from accuracy on average, in 15 bins of confidence; "
    "0 is perfect.",
    "Parameters, MACs": "weights of the network, and its multiplications with addition for one sample; papers count "
    "both in several ways.",
    "95 % interval": "where the value would fall for other test people of the same kind: percentile bootstrap that "
    "draws subjects (or samples, where the run says so) with replacement; where all of them are alike, as when every "
    "answer is right, the exact binomial interval by their number. It does not cover another training run.",
    "Guessing": "always naming the commonest class gives the WAR under “guessing”; for UAR it is one over the number "
    "of classes.",
    "Cross-validation": "every sample is tested once, by the network that never saw its subject; WAR, UAR and UF1 "
    "come from the counts of all folds together.",
    "Dataset not as published": "samples are missing, left out or more than the owners publish, or a list differs from "
    "theirs: the value is not comparable with the paper's.",
    "Optimistic": "the reported epoch was picked by its result on the test part, as some published numbers are. "
    "Such a number promises more than new faces will give; compare it with numbers picked the same way only.",
}


def percent(share: float, digits: int = 1) -> str:
    """A share in per cent, with a narrow no-break space: ``71.3 %``."""
    return f"{100 * share:.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with a sign: ``−1.25``."""
    return f"{100 * difference:+.2f}".replace("-", "−")


def interval(metrics: dict[str, float], name: str) -> str:
    """``64.2–78.0 %``."""
    return f"{100 * metrics[f'{name}_low']:.1f}–{percent(metrics[f'{name}_high'])}"


def network(run: Run) -> str:
    """The network's name as its paper prints it."""
    return NETWORKS.get(run.config.model.architecture, run.config.model.architecture)


def protocol(run: Run) -> str:
    """How the samples were divided, in a few words."""
    folds = run.metrics["folds"]
    return {
        "official": "official split" if folds == 1 else f"official {folds} folds",
        "kfold": f"{folds}-fold cross-validation",
        "loso": f"leave one subject out, {folds} folds",
        "holdout": "held-out subjects" if run.metrics["subjects"] else "held-out samples",
    }[run.config.protocol.kind]


def selection(run: Run) -> str:
    """Which epoch is reported."""
    monitor = "loss" if run.config.monitor == "loss" else run.config.monitor.upper()
    return {
        "last": "last epoch",
        "val": f"best validation {monitor}",
        "train": "lowest training loss",
        "test": f"best test {monitor}",
    }[run.config.selection]


def verdict(run: Run) -> str:
    """One or two plain sentences: on whom, how often right, how sure, and against guessing."""
    m = run.metrics
    if m["subjects"]:
        whom = f"{m['n']:,} {run.noun} of {m['subjects']:,} people"
        unseen = (" never seen in training", ", each tested by a network that never saw the person")
    else:
        whom = f"{m['n']:,} {run.noun}"
        unseen = (" not used in training", ", each tested by a network not trained on it")
    sentence = (
        f"On {whom}{unseen[m['folds'] > 1]}, {network(run)} names the expression right in {percent(m['war'])} "
        f"({percent(0.95, 0)} interval {interval(m, 'war')}). "
        f"Always guessing the commonest class gives {percent(m['majority'])}; "
        f"averaged over the {len(run.present)} classes it is right in {percent(m['uar'])}, "
        f"where guessing gives {percent(1 / len(run.present))}. "
    )
    if m["war_low"] > m["majority"]:
        return sentence + "That is better than guessing."
    if m["war_high"] < m["majority"]:
        return sentence + "That is worse than guessing the commonest class."
    return sentence + "The interval includes guessing: this run does not show that anything was learned."


def near_duplicates(run: Run) -> str:
    """How many near-duplicates the parts share, and the values without the test samples concerned; or nothing."""
    m = run.metrics
    if not m.get("near_duplicates"):
        return ""
    found = f"{m['near_duplicates']:,} pairs of near-duplicate images lie in two parts of a fold"
    if "n_without_duplicates" not in m:
        return f"{found}; none of them is a test sample."
    found += f" (near_duplicates: {run.config.protocol.near_duplicates})"
    if not (n := m["n_without_duplicates"]):
        return f"{found}; every test sample has one in training or validation."
    values = (
        f"{name.upper()} {percent(m[key], 2)} ({interval(m, key)})"
        for name in ("war", "uar", "uf1")
        for key in [f"{name}_without_duplicates"]
    )
    return f"{found}. Without the {m['n'] - n:,} test samples concerned: {', '.join(values)} on {n:,} samples."
