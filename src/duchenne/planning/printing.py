"""A plan as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duchenne.engines.folds import MEMORY
from duchenne.planning import costs
from duchenne.planning.estimate import about, duration, exactly, shown, size
from duchenne.planning.plan import PARTS, Plan, VariantPlan, basis_of_part
from duchenne.planning.rerun import FoldState, Stage

GIB = 2**30


def print_plan(plan: Plan, gpus: int, counts: Sequence[int], console: Console) -> None:
    """Print what variants cost.

    Args:
        gpus: number for which the parts are shown.
        counts: numbers of GPUs that are compared.
    """
    console.print(_variants(plan))
    console.print(_datasets(plan))
    for line in _sources(plan):
        console.print(f"[dim]{escape(line)}[/dim]")
    console.print(_parts(plan, gpus))
    console.print(_scaling(plan, counts))
    if plan.mixed():
        console.print(f"[yellow]{plan.mixed()}[/yellow]")
    for line in plan.why(counts):
        console.print(line)
    console.print(_disk(plan, gpus))
    _warn(plan, gpus, console)
    for line in plan.unknown():
        console.print(f"[yellow]not counted[/yellow]: {line}")


def _variants(plan: Plan) -> Table:
    heads = ("variant", "folds", "training samples", "epochs", "samples/s", f"{plan.device} time")
    table = _table("variants", *heads)
    for one in plan.variants:
        table.add_row(
            f"{one.name}{' *' if one.needed else ''}",
            f"{len(one.folds)}" if one.folds else "?",
            f"{one.work.trained:,}" if one.folds else "?",
            f"{'<= ' if one.stops_early else ''}{one.epochs}{', SAM' if one.passes > 1 else ''}",
            shown(one.speed.rate),
            duration(one.device_seconds) if one.folds else "?",
        )
    return table


def _datasets(plan: Plan) -> Table:
    table = _table("faces", "dataset", "samples", "frames of each", "faces", "bytes of each")
    for data in plan.datasets:
        table.add_row(
            data.samples.dataset,
            "?" if data.samples.count is None else f"{data.samples.count:,}",
            shown(data.samples.frames),
            "?" if data.faces is None else shown(data.faces),
            about(data.each.each),
        )
    return table


def _table(title: str, first: str, *heads: str) -> Table:
    """Make a table whose first column is a name, and the others numbers."""
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right")
    return table


def _sources(plan: Plan) -> Iterator[str]:
    """Yield where the numbers of each variant and dataset are from."""
    for one in plan.variants:
        yield f"{one.name}: samples from {one.work.source}" if one.folds else f"{one.name}: {one.work.source}"
        yield f"{one.name}: samples/s {one.speed.basis}: {one.speed.source}"
        if one.needed:
            yield f"* {one.name} is there because another one starts from it"
    for data in plan.datasets:
        yield f"{data.samples.dataset}: frames {data.samples.frames_basis}, bytes {data.each.basis}: {data.each.source}"


def _parts(plan: Plan, gpus: int) -> Table:
    title = f"from scratch on {gpus} {plan.device}{'s' * (gpus != 1)}, {about(plan.cores)} cores beside each"
    table = Table("part", "time", "numbers", title=title, title_justify="left")
    parts = plan.parts(gpus)
    for part in PARTS:
        table.add_row(part, duration(parts[part]), basis_of_part(plan, part))
    table.add_row("[bold]all[/bold]", f"[bold]{duration(plan.seconds(gpus))}[/bold]", "")
    return table


def _scaling(plan: Plan, counts: Sequence[int]) -> Table:
    table = Table(
        f"{plan.device}s",
        *map(str, counts),
        title=f"on several {plan.device}s",
        title_justify="left",
    )
    table.add_row("all", *(duration(plan.seconds(count)) for count in counts))
    table.add_row("training", *(duration(plan.parts(count)["training"]) for count in counts))
    return table


def _disk(plan: Plan, gpus: int) -> Table:
    table = Table("kind of files", "bytes", title="disk, without the raw datasets", title_justify="left")
    for kind, count in plan.disk(gpus).items():
        table.add_row(kind, size(count))
    table.add_row("[bold]all[/bold]", f"[bold]{size(plan.total_disk(gpus))}[/bold]")
    table.add_row("free here", size(exactly(plan.free)))
    return table


def _warn(plan: Plan, gpus: int, console: Console) -> None:
    total = plan.total_disk(gpus)
    if total.value > plan.free:
        console.print("[bold red]the disk is too small[/bold red]: free space, or put the DVC cache elsewhere")
    elif total.high > plan.free:
        console.print("[yellow]the disk may be too small[/yellow]: see the upper bound of the faces")
    for one in plan.variants:
        console.print(f"memory of a fold of {one.name}: {memory(one)}")
    tested = max((variant.work.tested for variant in plan.variants), default=0)
    console.print(f"memory of evaluation: {size(exactly(costs.evaluated(tested)[1]))} above that of the imports")


def memory(one: VariantPlan) -> str:
    """Say how much memory training a fold takes, and how that is known."""
    if one.memory is None:
        return f"not measured; on a CPU {MEMORY / GIB:.0f} GiB are assumed (batch {one.batch})"
    known = costs.FOLD_MEMORY[one.architecture]
    return f"about {size(exactly(one.memory))} (batch {one.batch}; measured: {size(exactly(known[1]))} with {known[0]})"


def print_rerun(
    stages: Sequence[Stage], remark: str, folds: Mapping[str, Sequence[FoldState]], console: Console
) -> None:
    """Print which stages would run and why, and which folds would be copied."""
    table = Table("stage", "", "why", title="what `dvc repro` would run", title_justify="left")
    styles = {"done": "[green]done[/green]", "runs": "[yellow]runs[/yellow]", "follows": "[yellow]may run[/yellow]"}
    for stage in stages:
        table.add_row(stage.name, styles.get(stage.state, stage.state), stage.why)
    if stages:
        console.print(table)
    if remark:
        console.print(f"[yellow]{remark}[/yellow]")
    for variant, found in folds.items():
        ended = [fold for fold in found if fold.finished]
        begun = [f"{fold.name}: {fold.epochs} epochs" for fold in found if not fold.finished]
        if ended:
            console.print(
                f"{variant}: {len(ended)} finished fold{'s' * (len(ended) != 1)} in work/, copied instead of trained "
                "if configuration, split and data are the same"
            )
        if begun:
            console.print(f"{variant}: begun or of other code: {', '.join(begun)}")
