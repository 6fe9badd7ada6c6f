"""Commands on what params.yaml holds: list the library of variants, copy from it, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from duchenne import config
from duchenne.commands.common import DEFAULT, Params, lookup
from duchenne.config import Catalog
from duchenne.errors import UserError
from duchenne.metrics import METRICS
from duchenne.papers.library import SECTIONS, library, section_of
from duchenne.training.settings import Variant

if TYPE_CHECKING:
    from duchenne.params_file import Change

app = typer.Typer()


@app.command()
def variants(
    paper: Annotated[str, typer.Option(help="poster, poster_v2, ifdd, frl_dgt or ours")] = "",
    table: Annotated[str, typer.Option(help="only this table of the paper, by number or name")] = "",
    dataset: Annotated[str, typer.Option(help="only variants on this dataset")] = "",
    available: Annotated[
        bool, typer.Option("--available", help="only variants whose data exists or can be rendered")
    ] = False,
    params: Params = DEFAULT,
) -> None:
    """List the variants that can be run: data, printed values that they reproduce, and which run now."""
    from duchenne.papers.printed import printed_metrics

    catalog = config.load(params)
    named = _named(paper, table) if paper or table else [*catalog.variants, *library()["variants"]]
    listed = Table(title="* what `dvc repro` runs now", title_justify="left")
    listed.add_column("what runs", overflow="fold")
    listed.add_column(f"printed: {', '.join(METRICS[name].label for name in printed_metrics())}")
    listed.add_column("data")

    from duchenne.reporting.basis import basis_of

    for name in dict.fromkeys(named):
        whole = catalog.with_library("variants", name)
        variant = whole.variants[name]
        data = _availability(whole, variant.dataset)
        if (dataset and variant.dataset != dataset) or (available and data.startswith("missing")):
            continue
        optimistic = ", optimistic (epoch picked on the test part)" if variant.selection == "test" else ""
        basis = basis_of(variant.model)
        built = "" if basis == "code" else f" (a {basis})"
        listed.add_row(
            f"[bold]{name}[/bold]{_mark(catalog, name)}\n"
            f"{variant.model.architecture}{built} on {variant.dataset}, {variant.protocol.kind} split, "
            f"{variant.recipe.epochs} epoch{'s' * (variant.recipe.epochs != 1)}{optimistic}",
            _printed(name, variant),
            data,
        )
    Console().print(listed if listed.row_count else "no variant matches")


def _named(paper: str, table: str) -> list[str]:
    """Variants of a paper, or of one of its tables."""
    from duchenne.papers.printed import reproducing

    if not paper:
        raise UserError("--table needs --paper: poster, poster_v2, ifdd or frl_dgt")
    return reproducing(paper, table or None)


def _mark(catalog: Catalog, name: str) -> str:
    """Return a star for a variant that runs now, with a remark if it differs from the library."""
    if name not in catalog.variants:
        return ""
    theirs = library()["variants"].get(name)
    if theirs is None:
        return " *"
    return " *" if Variant.model_validate(theirs) == catalog.variants[name] else " * (differs from the library)"


def _printed(name: str, variant: Variant) -> str:
    """Return the printed values of a variant, one per metric of :func:`printed_metrics`, and their source."""
    from duchenne.papers.printed import printed_for, printed_metrics, sources

    found = {key: cell for key, cell in printed_for(name, variant).items() if key in METRICS}
    if not found:
        return ""
    values = (METRICS[key].number(found[key].value) if key in found else "-" for key in printed_metrics())
    return f"{', '.join(values)}\n{sources(found)}"


def _availability(catalog: Catalog, dataset: str) -> str:
    root = catalog.datasets[dataset].root
    if root.exists():
        return "there"
    return "rendered on demand" if dataset in catalog.rendered else f"missing: {root}"


@app.command()
def add(
    names: Annotated[list[str] | None, typer.Argument(help="variants, datasets or landmark networks")] = None,
    paper: Annotated[str, typer.Option(help="all variants of a paper: poster, poster_v2, ifdd or frl_dgt")] = "",
    table: Annotated[str, typer.Option(help="only those of this table of the paper, by number or name")] = "",
    params: Params = DEFAULT,
) -> None:
    """Copy variants of the library into params.yaml, with their datasets and the runs they start from."""
    from duchenne import params_file

    wanted = [*(names or []), *(_named(paper, table) if paper or table else [])]
    if not wanted:
        raise UserError("name a variant (`duchenne variants` lists them), or a --paper and --table")
    _tell(params_file.add(params, [(section_of(name), name) for name in wanted]), "added", "kept yours of")


@app.command()
def remove(names: list[str], params: Params = DEFAULT) -> None:
    """Remove variants from params.yaml, and the library's datasets that no other variant uses. Results stay on disk."""
    from duchenne import params_file

    catalog = config.load(params)
    blocks = {name: part for part in SECTIONS for name in getattr(catalog, part)}
    for name in names:
        lookup(blocks, name, "block")
    done = params_file.remove(params, [(blocks[name], name) for name in names])
    _tell(done, "removed", "kept your own, unused")


def _tell(change: Change, done: str, kept: str) -> None:
    for place in change.done:
        typer.echo(f"{done} {place}")
    for place in change.kept:
        typer.echo(f"{kept} {place}")
    if not change.done:
        typer.echo("nothing to do: params.yaml does not change")
