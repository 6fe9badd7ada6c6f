"""Why a number is not the paper's: the difference, and what each single change does to our number.

``duchenne gap`` and the page show it. The parts are in :mod:`duchenne.reporting.gap_parts`. Each is measured alone,
from the run as it is: together, changes may do more or less than their sum. What is left of the difference after the
changes that make the run more like the target has an interval from the same resamples as all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duchenne.config import Catalog, whole_library
from duchenne.errors import UserError, nearest
from duchenne.evaluation.statistics import independent, interval_of_difference, percentiles, predictions_of, units_of
from duchenne.evaluation.together import Measured, measure_together
from duchenne.metrics import METRICS
from duchenne.papers.library import Tree
from duchenne.papers.printed import sources
from duchenne.reporting.gap_measures import counterparts
from duchenne.reporting.gap_offers import towards_a_run
from duchenne.reporting.gap_parts import PARTS
from duchenne.reporting.gap_question import (
    Absent,
    Bound,
    Contrast,
    Found,
    Question,
    Target,
    block_of,
    differing,
    in_words,
    resolved,
)
from duchenne.reporting.runs import Run
from duchenne.reporting.wording import change

ALONE = (
    "Each change was measured alone, from the run as it is: together, changes may do more or less than their sum. A "
    "printed value has no interval of its own, and one run has only its own seed."
)

ELSEWHERE = ("rule", "data", "duplicates")
"""Parts that have their own place in the section of a run, as far as the run itself shows them."""

TITLES = {part.name: part.title for part in PARTS}


class Interval(NamedTuple):
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Finding:
    """What a single change does to the run's number.

    Attributes:
        part: name of the part.
        instead: what would be otherwise.
        status: ``measured``; ``bounded``: only the lowest and highest possible change is known, and ``value`` is NaN;
            ``nothing``: there is nothing to change.
        changes: metric -> change of the run's value.
        counterpart: run that shows it; empty if the run itself does.
        counted: whether the target has it so, so that the change explains a part of the difference.
        note: what must be known to read it.
    """

    part: str
    instead: str
    status: Literal["measured", "bounded", "nothing"]
    changes: Mapping[str, Interval]
    counterpart: str = ""
    counted: bool = False
    note: str = ""


@dataclass(frozen=True)
class Gap:
    """A run's number, that of the target, and what is between them.

    Attributes:
        run: name of the run.
        target: source of the other values; empty if there are none.
        metrics: names of the metrics, the most important first.
        ours: metric -> value of the run.
        theirs: metric -> value of the target.
        difference: metric -> theirs minus ours.
        explained: metric -> sum of the counted changes.
        unexplained: metric -> ``difference`` minus ``explained``.
        findings: what was measured.
        absent: what was not, and what to add.
        differs: fields in which the run's block differs from that of the target, with the target's values.
        over_folds: metrics that are means over folds.
    """

    run: str
    target: str
    metrics: list[str]
    ours: dict[str, Interval]
    theirs: dict[str, float]
    difference: dict[str, Interval] = field(default_factory=dict)
    explained: dict[str, Interval] = field(default_factory=dict)
    unexplained: dict[str, Interval] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    differs: str = ""
    over_folds: frozenset[str] = frozenset()

    @property
    def counted(self) -> int:
        """Number of changes that explain a part of the difference."""
        return sum(finding.counted for finding in self.findings)

    @property
    def measured(self) -> list[Finding]:
        """What changes the value, or may."""
        return [finding for finding in self.findings if finding.status != "nothing"]

    @property
    def worth_showing(self) -> bool:
        """Whether the page has it: there is a target, or something that the run's section does not say elsewhere."""
        return bool(self.theirs) or any(one.counterpart or one.part not in ELSEWHERE for one in self.measured)

    def as_json(self) -> dict[str, Any]:
        """Return everything as values for :func:`json.dumps`; NaN is null."""

        def plain(values: Mapping[str, Interval]) -> dict[str, Any]:
            return {
                name: {key: None if math.isnan(value) else value for key, value in interval._asdict().items()}
                for name, interval in values.items()
            }

        return {
            "run": self.run,
            "target": self.target or None,
            "ours": plain(self.ours),
            "theirs": self.theirs,
            "difference": plain(self.difference),
            "explained": plain(self.explained),
            "unexplained": plain(self.unexplained),
            "differs_from_target_in": self.differs or None,
            "mean_over_folds": sorted(self.over_folds),
            "parts": [
                {
                    "part": finding.part,
                    "status": finding.status,
                    "instead": finding.instead,
                    "run": finding.counterpart or None,
                    "as_in_target": finding.counted,
                    "changes": plain(finding.changes),
                    "note": finding.note or None,
                }
                for finding in self.findings
            ],
            "not_measured": [
                {
                    "part": absent.part,
                    "why": absent.why,
                    "add": absent.how or None,
                    "blocks": {section: blocks for section, blocks in absent.blocks.items() if blocks},
                    "seeds": list(absent.seeds) or None,
                }
                for absent in self.absent
            ],
        }


def target_of(run: Run) -> Target | None:
    """Return what a paper prints for a run; None if it prints none of the metrics that are measured here."""
    printed = {name: cell for name, cell in run.printed.items() if name in run.metrics}
    if not printed:
        return None
    name = run.config.reproduces or run.name
    library = whole_library()
    variant = library.variants[name]
    return Target(
        label=sources(printed),
        values={metric: cell.value for metric, cell in printed.items()},
        name=name,
        block=resolved(variant, library) | {"precision": "fp32"},  # PyTorch's default (assumed: no paper says it)
        selection=next(iter(printed.values())).paper.selection,
        over_folds=frozenset(
            metric
            for metric, cell in printed.items()
            if cell.table.over_folds == "mean" and f"{metric}_fold_mean" in run.metrics
        ),
    )


def against(run: Run, other: str, metric: str, catalog: Catalog, runs: Mapping[str, Run]) -> Target:
    """Return a value or another run as target.

    Args:
        other: a number in the unit in which the metric is shown, or the name of a finished run of ``params.yaml``.
        metric: name of the metric of a number; empty: UAR.

    Raises:
        UserError: It is neither, or the metric does not exist or cannot have the value.
    """
    try:
        number = float(other)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        name = metric or "uar"
        if name not in METRICS:
            raise UserError(f"there is no metric {name!r}{nearest(name, METRICS)}: give one of {', '.join(METRICS)}")
        known = METRICS[name]
        value = number / known.scale
        if not known.low <= value <= known.high:
            unit = "per cent" if known.percent else "its own unit"
            raise UserError(
                f"{known.label} cannot be {other}: in {unit} it lies between {known.scale * known.low:g} and "
                f"{known.scale * known.high:g}"
            )
        return Target(f"{known.number(value)}, as given", {name: value})
    if other not in runs:
        raise UserError(f"--against {other!r} is neither a number nor a variant of params.yaml{nearest(other, runs)}")
    if other == run.name:
        raise UserError(f"--against {other}: name another run than the one that is asked about")
    theirs = runs[other]
    _require(theirs)
    if theirs.classes != run.classes:
        raise UserError(f"{other} has the classes {', '.join(theirs.classes)}, {run.name} {', '.join(run.classes)}")
    metrics = [metric] if metric else _usual(run)
    return Target(
        other,
        {name: theirs.metrics[name] for name in metrics if name in theirs.metrics},
        block=block_of(theirs, catalog),
        selection=theirs.config.selection,
        run=theirs,
    )


def _usual(run: Run) -> list[str]:
    """Metrics where no paper says which: WAR and UAR, after the monitored one if it is measured in classes."""
    monitored = [run.config.monitor] if METRICS.get(run.config.monitor, METRICS["ece"]).needs == "predicted" else []
    return [name for name in dict.fromkeys([*monitored, "war", "uar"]) if name in run.metrics]


def _require(run: Run) -> None:
    if run.status != "run":
        raise UserError(f"{run.name} is not finished: run `dvc repro evaluate@{run.name}` first")


def gap_of(
    run: Run, catalog: Catalog, runs: Mapping[str, Run], target: Target | None = None, bootstrap: int = 2000
) -> Gap:
    """Take the difference between a run and a printed value apart.

    Args:
        run: the run.
        runs: all runs of ``params.yaml`` by name, finished or not.
        target: what it is compared with; default: the printed values of the run, if there are any.
        bootstrap: number of resamples.

    Raises:
        UserError: The run is not finished, or a file of another run is damaged.
    """
    _require(run)
    target = target or target_of(run)
    metrics = list(target.values) if target else _usual(run)
    question = Question(run, catalog, runs, target, metrics)
    found = list(_found(question))
    return _measured(question, found, bootstrap)


def _found(question: Question) -> Iterator[Found]:
    """Yield all parts, and what they offer: where no other run shows the part, or towards the target.

    Where the target is a run, only parts in which the two differ offer anything.
    """
    for part in PARTS:
        own = _each_field_once([found for measure in part.measures for found in measure(question, part)])
        shown = any(one.counterpart for one in own if not isinstance(one, Bound))
        shown = shown or (not part.loose and any(True for _ in counterparts(question, part)))  # as of seeds
        if question.target and question.target.run:
            offers = list(towards_a_run(question, part))
            if (
                part.fields
                and not own
                and not any(part.fits({key}) for key in differing(question.block, question.wanted))
            ):
                whole = question.run.every_prediction
                own.append(Contrast(part.name, f"as in {question.target.label}", whole, whole))
        else:
            offers = list(part.offer(question, part)) if part.offer else []
        own += [offer for offer in offers if offer.towards or not shown]
        if not own and part.fields:
            name = question.target.name if question.target and part.alike else ""
            alike = f" and names `reproduces: {name}`" if name else ""
            how = f"add a copy of variants.{question.run.name} that differs in {' or '.join(part.fields)} alone{alike}"
            own.append(Absent(part.name, "no run shows it", how))
        yield from own


def _each_field_once(found: list[Found]) -> list[Found]:
    """Count a change towards the target once: of counterparts that share fields, the one that has most of them."""
    counted = [one for one in found if isinstance(one, Contrast) and one.counted]
    taken: list[Contrast] = []
    for one in sorted(counted, key=lambda one: -len(one.fields)):
        if not any(one.fields & other.fields for other in taken):
            taken.append(one)
    kept = {id(one) for one in taken}
    twice = {id(one) for one in counted} - kept
    return [replace(one, counted=False) if isinstance(one, Contrast) and id(one) in twice else one for one in found]


def _measured(question: Question, found: list[Found], bootstrap: int) -> Gap:
    """Measure all contrasts in the same resamples."""
    run, target = question.run, question.target
    contrasts = [one for one in found if isinstance(one, Contrast)]
    frames = {id(run.every_prediction): run.every_prediction}
    frames |= {id(frame): frame for one in contrasts for frame in (one.old, one.new)}
    if target and target.run:
        frames[id(target.run.every_prediction)] = target.run.every_prediction
    rows = {key: row for row, key in enumerate(frames)}
    over_folds = target.over_folds if target else frozenset()
    how: dict[str, Any] = {"classes": run.classes, "bootstrap": bootstrap, "seed": run.config.seed}
    ours: dict[str, Interval] = {}
    changes: list[dict[str, Interval]] = [{} for _ in contrasts]
    between: dict[str, dict[str, Interval]] = {"difference": {}, "explained": {}, "unexplained": {}}
    for name in question.metrics:
        all_of = measure_together(list(frames.values()), metric=METRICS[name], over_folds=name in over_folds, **how)
        ours[name] = _ours(all_of, run, name, name in over_folds)
        for one, own in zip(contrasts, changes, strict=True):
            own[name] = _change(all_of, rows, one, name, run.classes)
        if not target:
            continue
        theirs = {rows[id(target.run.every_prediction)]: 1.0} if target.run else {}
        fixed = 0.0 if target.run else target.values[name]
        counted: dict[int, float] = {}
        for one in contrasts:
            if one.counted:
                for frame, sign in ((one.new, 1.0), (one.old, -1.0)):
                    counted[rows[id(frame)]] = counted.get(rows[id(frame)], 0.0) + sign
        whole = _sum(theirs, {0: -1.0})
        rest = _sum(whole, {row: -weight for row, weight in counted.items()})
        between["difference"][name] = _wide(_interval(all_of, whole, fixed), ours[name])
        summed = _interval(all_of, counted)
        if summed.low == summed.high:  # all resamples agree: the changes have exact intervals
            of_counted = [own[name] for one, own in zip(contrasts, changes, strict=True) if one.counted]
            low, high = sum(own.low for own in of_counted), sum(own.high for own in of_counted)
            summed = Interval(summed.value, low, high)
        between["explained"][name] = summed
        between["unexplained"][name] = _wide(_interval(all_of, rest, fixed), ours[name])
        if target.run:
            of_two = Contrast("", "", run.every_prediction, target.run.every_prediction)
            between["difference"][name] = _change(all_of, rows, of_two, name, run.classes)
            between["unexplained"][name] = _interval(all_of, rest)
    measured = iter(changes)
    findings = []
    for one in found:
        if isinstance(one, Contrast):
            status: Literal["measured", "nothing"] = "measured" if one.old is not one.new else "nothing"
            findings.append(
                Finding(one.part, one.instead, status, next(measured), one.counterpart, one.counted, one.note)
            )
        elif isinstance(one, Bound):
            known = {name: Interval(math.nan, *one.changes[name]) for name in question.metrics if name in one.changes}
            findings.append(Finding(one.part, one.instead, "bounded", known, note=one.note))
    own = {"data.root"} if target and target.run else {"data.root", "precision"}
    fields = differing(question.block, question.wanted) - own if question.wanted else set()
    return Gap(
        run.name,
        target.label if target else "",
        question.metrics,
        ours,
        dict(target.values) if target else {},
        **between,
        findings=findings,
        absent=[one for one in found if isinstance(one, Absent)],
        differs=in_words(question.wanted, fields),
        over_folds=over_folds,
    )


def _sum(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {row: one.get(row, 0.0) + other.get(row, 0.0) for row in one.keys() | other.keys()}


def _interval(all_of: Measured, weights: Mapping[int, float], fixed: float = 0.0) -> Interval:
    """Return ``fixed`` plus a weighted sum of the tables' values, with its interval."""
    if not any(weights.values()):
        return Interval(fixed, fixed, fixed)
    value = fixed + sum(weight * float(all_of.values[row]) for row, weight in weights.items())
    return Interval(value, *percentiles(fixed + _spread(all_of, weights)))


def _ours(all_of: Measured, run: Run, name: str, over_folds: bool) -> Interval:
    """Return the value of the run: where it is that of the page, with the same interval."""
    if over_folds:
        return _interval(all_of, {0: 1.0})
    return Interval(*(run.metrics[f"{name}{end}"] for end in ("", "_low", "_high")))


def _wide(found: Interval, ours: Interval) -> Interval:
    """Return a difference from our value; where all resamples agree, with the width of the interval of ours."""
    if found.low != found.high or not math.isfinite(ours.low):
        return found
    return Interval(found.value, found.value - (ours.high - ours.value), found.value + (ours.value - ours.low))


def _change(all_of: Measured, rows: Mapping[int, int], one: Contrast, name: str, classes: list[str]) -> Interval:
    """Return the change of a contrast; where all resamples agree, with the exact interval of two runs."""
    weights = _sum({rows[id(one.new)]: 1.0}, {rows[id(one.old)]: -1.0})
    found = _interval(all_of, weights)
    if one.old is one.new or len(one.old) != len(one.new):
        return found
    sizes = independent(predictions_of(one.old, classes, units_of(one.old)[0]).counts, classes)
    return Interval(found.value, *interval_of_difference(name, found.value, _spread(all_of, weights), sizes))


def _spread(all_of: Measured, weights: Mapping[int, float]) -> np.ndarray:
    return sum(weight * all_of.spread[row] for row, weight in weights.items())


def gaps(catalog: Catalog, runs: Mapping[str, Run], bootstrap: int) -> dict[str, Gap]:
    """Return the gap of every finished run for the page."""
    found = {name: gap_of(run, catalog, runs, bootstrap=bootstrap) for name, run in runs.items() if run.status == "run"}
    return {name: gap for name, gap in found.items() if gap.worth_showing}


def ends(interval: Interval, name: str) -> str:
    """Format the ends of an interval of values, such as ``68.1 to 74.0``."""
    metric = METRICS[name]
    return f"{metric.number(interval.low)} to {metric.number(interval.high)}"


def span(interval: Interval, name: str) -> str:
    """Format a change with its interval: ``+0.81 (+0.30 to +1.32)``; of a bound only its ends."""
    low_to_high = f"{change(interval.low, name)} to {change(interval.high, name)}"
    return low_to_high if math.isnan(interval.value) else f"{change(interval.value, name)} ({low_to_high})"


def shown(finding: Finding, name: str) -> str:
    """Format the change of a finding in one metric."""
    return span(finding.changes[name], name) if name in finding.changes else "–"


def conclusion(gap: Gap) -> str:
    """Say in a sentence or two what of the difference is explained."""
    if not gap.theirs:
        return "No paper prints a value for this run; the table has what single changes are worth."
    name = gap.metrics[0]
    metric, missing, rest = METRICS[name], gap.difference[name], gap.unexplained[name]
    label = metric.label + (", mean over folds," if name in gap.over_folds else "")
    where, unit = ("above" if missing.value > 0 else "below"), (" points" if metric.percent else "")
    apart = f"{metric.number(abs(missing.value))}{unit} {where} ours"
    first = f"The {label} of {gap.target} is {metric.number(gap.theirs[name])}, {apart}."
    if not gap.counted:
        return f"{first} No run that exists explains a part of it; what would measure more is listed below."
    if rest.low <= 0 <= rest.high:
        verdict = "which includes 0: what is left may be chance"
    else:
        verdict = "which does not include 0: other test people do not account for it"
    number = f"{gap.counted} change{'s' if gap.counted > 1 else ''} towards it explain{'s' if gap.counted == 1 else ''}"
    return f"{first} {number} {span(gap.explained[name], name)}; {span(rest, name)} remains, {verdict}."


def difference_rows(gap: Gap) -> list[tuple[str, list[str]]]:
    """Return what stands below the changes: name of the row, and a text for each metric; empty without a target."""
    if not gap.theirs:
        return []
    explained = [span(gap.explained[name], name) if gap.counted else "nothing" for name in gap.metrics]
    return [("Explained", explained), ("Unexplained", [span(gap.unexplained[name], name) for name in gap.metrics])]


def labels(gap: Gap) -> list[str]:
    """Return the headings of the metrics."""
    return [METRICS[name].label + (" (mean over folds)" if name in gap.over_folds else "") for name in gap.metrics]


def nothing(gap: Gap) -> str:
    """Name the parts in which there is nothing to change."""
    found = [f"{TITLES[one.part]} ({one.instead})" for one in gap.findings if one.status == "nothing"]
    return f"Nothing to change: {', '.join(found)}." if found else ""


def show(gap: Gap, console: Console) -> None:
    """Print a gap as a table, and what was not measured below it."""
    units = "points" if all(METRICS[name].percent for name in gap.metrics) else "points, or the metric's own unit"
    title = f"{gap.run}: 95 % intervals; changes in {units}" + (f"; * as in {gap.target}" if gap.theirs else "")
    table = Table("", "", *labels(gap), title=escape(title), title_justify="left")
    ours = [METRICS[name].number(gap.ours[name].value) for name in gap.metrics]
    table.add_row(
        "This run",
        "",
        *(f"{value}\n{ends(gap.ours[name], name)}" for value, name in zip(ours, gap.metrics, strict=True)),
    )
    if gap.theirs:
        table.add_row(escape(gap.target), "", *(METRICS[name].number(gap.theirs[name]) for name in gap.metrics))
        table.add_row("Difference", "", *(span(gap.difference[name], name) for name in gap.metrics))
    table.add_section()
    for finding in gap.measured:
        words = finding.instead + (f" [{finding.counterpart}]" if finding.counterpart else "")
        head = TITLES[finding.part] + (" *" if finding.counted else "")
        below = f"\n{finding.note}" if finding.note else ""
        table.add_row(escape(head), escape(words + below), *(shown(finding, name) for name in gap.metrics))
    table.add_section()
    for name, texts in difference_rows(gap):
        table.add_row(name, "", *texts)
    console.print(table)
    lines = [conclusion(gap), ALONE, nothing(gap)]
    if gap.differs:
        lines.append(f"In the variant of {gap.target}: {gap.differs}.")
    console.print(escape("\n".join(filter(None, lines))))
    for absent in gap.absent:
        how = f". To measure it: {absent.how}" if absent.how else ""
        console.print(escape(f"not measured: {TITLES[absent.part]}: {absent.why}{how}"))


def chosen_offers(gap: Gap, parts: list[str]) -> tuple[Tree, list[int]]:
    """Return what would measure these parts: blocks by section, and seeds of the run itself.

    Raises:
        UserError: There is no such part, or none of them has anything to add.
    """
    for name in parts:
        if name not in (*TITLES, "all"):
            raise UserError(
                f"there is no part {name!r}{nearest(name, TITLES)}: give one of {', '.join(TITLES)}, or all"
            )
    wanted = [absent for absent in gap.absent if "all" in parts or absent.part in parts]
    blocks: Tree = {}
    for absent in wanted:
        for section, named in absent.blocks.items():
            blocks.setdefault(section, {}).update(named)
    seeds = [seed for absent in wanted for seed in absent.seeds]
    if not seeds and not any(blocks.values()):
        why = "; ".join(f"{TITLES[absent.part]}: {absent.how or absent.why}" for absent in wanted)
        raise UserError(f"there is nothing to add for {', '.join(parts)}" + (f": {why}" if why else ": it is measured"))
    return blocks, seeds
