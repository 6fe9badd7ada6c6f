"""The command ``duchenne gap``: why a number is not the paper's."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from duchenne import config
from duchenne.commands.common import DEFAULT, Params, lookup, print_json
from duchenne.errors import UserError
from duchenne.workspace import Workspace

app = typer.Typer()


@app.command()
def gap(
    variant: str,
    target: Annotated[
        str, typer.Option("--against", help="another value, or a finished variant, instead of the paper's")
    ] = "",
    metric: Annotated[
        str, typer.Option(help="metric of --against; default: UAR of a value, several of a variant")
    ] = "",
    add: Annotated[
        list[str] | None,
        typer.Option("--add", help="part whose missing runs are added to params.yaml; all: every part; repeatable"),
    ] = None,
    params: Params = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Take the difference between a run and its paper's number apart, by runs that exist or that --add adds."""
    from duchenne.params_file import add_blocks, set_field
    from duchenne.reporting.gap import against, chosen_offers, gap_of, show
    from duchenne.reporting.runs import open_run

    workspace = Workspace()
    if imported := workspace.imported(variant):
        raise UserError(
            f"{variant} is an imported network (of {imported['variant']}): measure it with `duchenne evaluate --model "
            f"models/{variant}/fold_1 --variant VARIANT`, and `duchenne gap VARIANT` compares the run with it"
        )
    catalog = config.load(params)
    lookup(catalog.variants, variant, "variant")
    if metric and not target:
        raise UserError("--metric says what --against is a value of: give both, or neither for the paper's metrics")
    runs = {name: open_run(workspace, catalog, name) for name in catalog.variants}
    run = runs[variant]
    found = gap_of(
        run,
        catalog,
        runs,
        against(run, target, metric, catalog, runs) if target else None,
        catalog.report.bootstrap,
    )
    if add:
        blocks, seeds = chosen_offers(found, add)
        for place in add_blocks(params, blocks).done:
            typer.echo(f"added {place}")
        if seeds:
            set_field(params, "variants", variant, "seeds", seeds)
            typer.echo(f"variants.{variant} has the seeds {', '.join(map(str, seeds))}")
        typer.echo("`dvc repro` trains and measures them; then run `duchenne gap` again")
    elif as_json:
        print_json(found.as_json(), indent=2)
    else:
        show(found, Console())
