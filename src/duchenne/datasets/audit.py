"""Completeness of a dataset: counts found, compared with the owners' lists (``expected`` of the layout's facts)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from duchenne.datasets.contract import Expected, FrameRule, layout_facts
from duchenne.datasets.index import Index, summarise
from duchenne.datasets.settings import Dataset
from duchenne.sealed import damaged, read_sealed

NO_LIST = "none"
"""Digest of a missing list: the dataset was read in another form, such as a tree of folders."""

FROZEN = "frozen "
"""Start of the name of a comparison with the record of a frozen rendered set (:mod:`duchenne.datasets.frozen`)."""

RECORDED = "the record of the frozen set in this package"

_SHOWN = 3  # differing counts named


class Comparison(NamedTuple):
    """A number or digest that was found, with the expected one."""

    what: str
    found: int | str
    expected: int | str
    verdict: str
    """``ok``; ``differs``; ``about`` (known only roughly); ``other list`` (a digest differs; the counts decide)."""


def expectation(config: Dataset, edition: str = "") -> Expected:
    """Return the published counts of a dataset's label set and edition; empty if there are none."""
    known = config.facts.expected
    return known.get(f"{config.label_set}/{edition}") or known.get(config.label_set or "") or Expected()


def compare(index: Index, config: Dataset) -> list[Comparison]:
    """Compare every published number with the one found."""
    expected = expectation(config, index.findings.edition)
    differs = "about" if expected.about else "differs"
    counts = index.findings.counts
    return (
        [
            Comparison(what, found, should, "ok" if found == should else differs)
            for what, found, should in _counts(index.rows, expected)
        ]
        + [
            Comparison(what, counts[what], should, "ok" if counts[what] == should else "differs")
            for what, should in expected.counts.items()
            if what in counts
        ]
        + [
            Comparison(f"digest of {name}", found, should, "ok" if found == should else "other list")
            for name, should in expected.digests.items()
            if (found := index.findings.digests.get(name, NO_LIST))
        ]
    )


def incomplete_clips(index: Index, config: Dataset) -> tuple[list[Comparison], list[str]]:
    """Find clips that lack frames; samples with an unknown number of frames are not checked.

    Returns:
        The number of complete clips compared with the total, and paths and frame counts of the incomplete ones.
    """
    rows = index.rows[index.rows["n_frames"].notna()]
    parts = rows.groupby(rows["sample"].str.split("/").str[0]) if config.facts.parts else [(config.layout, rows)]
    whole, wrong = 0, []
    for name, clips in parts:
        frames = layout_facts(name).frames
        rule = frames.get(index.findings.form) or frames.get("any")
        if rule is None:
            continue
        most = clips["last"] - clips["first"] + 1 if rule.annotated else rule.most
        least = most if rule.annotated else rule.least
        bad = ((clips["n_frames"] < least) | (most is not None and clips["n_frames"] > most)).fillna(False)
        bad &= ~clips["sample"].isin(rule.short)
        whole += len(clips) - int(bad.sum())
        for clip in clips[bad].itertuples():
            expected = f"{clip.last - clip.first + 1}" if rule.annotated else _words(rule)
            wrong.append(f"{clip.path} ({clip.n_frames} frames, expected {expected})")
    if not whole and not wrong:
        return [], []
    total = whole + len(wrong)
    return [Comparison("clips with all frames", whole, total, "ok" if whole == total else "differs")], wrong


def _frozen(index: Index, config: Dataset) -> list[Comparison]:
    """Compare a frozen rendered set with its record."""
    if not config.facts.rendered:
        return []
    from duchenne.datasets import frozen  # reads pictures: slow to import, and nothing else here needs it

    return [
        Comparison(f"{FROZEN}{what}", found, known, "ok" if found == known else "differs")
        for what, (found, known) in frozen.compare(index.dataset, config.root).items()
    ]


def _words(rule: FrameRule) -> str:
    if rule.least == rule.most:
        return f"{rule.least}"
    return f"{rule.least} to {rule.most}" if rule.most else f"{rule.least} or more"


def audit(index: Index, config: Dataset) -> dict[str, object]:
    """Summarise an index and whether the dataset is complete, as values for JSON.

    A dataset is complete when no row is wrong, no file is missing, every clip has its frames (where their number is
    known) and no published count differs.
    """
    clips, wrong = incomplete_clips(index, config)
    frozen = _frozen(index, config)
    comparisons = compare(index, config) + clips + frozen
    findings = index.findings
    missing = findings.missing + wrong
    lost = index.problems[(index.problems["column"] == "path") & index.problems["path"].ne("")]
    return {
        "root": str(config.root),
        **summarise(index),
        "label set": config.label_set,
        "recognised": findings.recognised,
        "source of the counts": expectation(config, findings.edition).source or (RECORDED if frozen else None),
        "comparisons": [item._asdict() for item in comparisons],
        "missing or damaged files": lost["path"].tolist() + missing,
        "missing frames": missing,
        "files no list names": findings.extra,
        "oddities": [dict(zip(("row", "column", "path", "oddity", "done"), n, strict=True)) for n in findings.notes],
        "complete": index.problems.empty and not missing and all(item.verdict != "differs" for item in comparisons),
    }


def flaws(result: dict[str, Any], used: int) -> list[str]:
    """List the reasons why results on a dataset cannot be compared with published ones; empty when they can.

    A roughly known total (``about``) is a reason when it is more than 10 % off (chosen by us). A set without published
    counts (rendered, or by manifest) is only checked against its own files.

    Args:
        result: from :func:`audit`, of all samples.
        used: number of samples used; lower than the total under ``limit``.
    """
    found = []
    if used < result["samples"]:
        found.append(f"{used:,} of {result['samples']:,} samples are used (limit)")
    if n := sum(result["problems"].values()):
        found.append(f"{n:,} problem{'s' * (n != 1)} in its rows, which are left out (bad_rows: skip)")
    if lost := result["missing frames"]:
        found.append(f"{len(lost):,} frame{'s are' if len(lost) != 1 else ' is'} missing")
    differing = [item for item in result["comparisons"] if item["verdict"] == "differs" or _far(item)]
    changed = [item["what"].removeprefix(FROZEN) for item in differing if item["what"].startswith(FROZEN)]
    if changed:
        found.append(f"it is not the frozen benchmark of this name: {' and '.join(changed)} differ")
    differing = [item for item in differing if not item["what"].startswith(FROZEN)]
    if differing:
        counts = [f"{item['what']} {item['found']:,} instead of {item['expected']:,}" for item in differing[:_SHOWN]]
        more = [f"{len(differing) - _SHOWN:,} more"] if len(differing) > _SHOWN else []
        found.append(f"counts differ from the published ones: {'; '.join(counts + more)}")
    others = [
        item["what"].removeprefix("digest of ")
        for item in result["comparisons"]
        if item["verdict"] == "other list" and item["found"] != NO_LIST
    ]
    if others:
        found.append(f"lists differ from the published ones: {', '.join(others)}")
    return found


def known_flaws(path: Path) -> list[str]:
    """Return what :func:`flaws` found when the dataset was indexed.

    Args:
        path: audit file of the index stage.
    """
    try:
        return read_sealed(path)["flaws"]
    except (KeyError, TypeError) as error:  # of a version without seals
        raise damaged(path, why=error) from None


def _far(item: dict[str, Any]) -> bool:
    """Whether a roughly known total is more than 10 % off."""
    if item["verdict"] != "about" or item["what"] != "samples":
        return False
    return abs(item["found"] - item["expected"]) > 0.1 * item["expected"]


def _counts(rows: pd.DataFrame, expected: Expected) -> Iterator[tuple[str, int, int]]:
    """Yield (what, found, expected) for every published count."""
    emotions = rows["emotion"]
    if expected.classes:
        yield "samples", len(rows), sum(expected.classes.values())
        yield from _each("", emotions, expected.classes)
    if expected.parts:
        yield "samples", len(rows), sum(sum(classes.values()) for classes in expected.parts.values())
    for part, classes in expected.parts.items():
        here = emotions[rows["split"] == part]
        yield part, len(here), sum(classes.values())
        yield from _each(f"{part} ", here, classes)
    folds = rows["folds"].explode()
    if expected.folds:
        yield "samples", len(rows), sum(sum(of.values()) - of["train"] for of in expected.folds.values())
    for fold, of in expected.folds.items():
        tests = emotions[folds == fold]
        yield f"fold {fold} train", len(rows) - len(tests), of["train"]
        yield f"fold {fold} test", len(tests), sum(of.values()) - of["train"]
        yield from _each(
            f"fold {fold} test ", tests, {name: n for name, n in of.items() if name not in ("train", "test")}
        )
    if expected.subjects:
        yield "subjects", rows["subject"].nunique(), expected.subjects
    yield from _each("", rows["subject"], expected.per_subject)
    factors = rows["factors"].fillna("{}").map(json.loads) if expected.factors else None
    for factor, values in expected.factors.items():
        yield from _each(f"{factor}: ", factors.map(lambda item, factor=factor: item.get(factor)), values)


def _each(prefix: str, values: pd.Series, expected: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    found = values.value_counts()
    for name, n in expected.items():
        yield f"{prefix}{name}", int(found.get(name, 0)), n
