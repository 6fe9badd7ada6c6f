"""The command ``duchenne canary``: what a protocol measures where there is nothing to learn."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from duchenne import config
from duchenne.commands.common import DEFAULT, Params, lookup, print_json
from duchenne.errors import UserError
from duchenne.papers.library import library
from duchenne.workspace import Workspace

app = typer.Typer()


@app.command()
def canary(
    variant: str,
    epochs: Annotated[int | None, typer.Option(min=1, help="epochs instead of the recipe's")] = None,
    samples: Annotated[int | None, typer.Option(min=2, help="training samples of each fold; default: all")] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="the first folds only; default: all")] = None,
    permutations: Annotated[
        int | None, typer.Option(min=1, help="number of permutations; default: as many as the verdict needs")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the first permutation; each further one has the next")] = 0,
    plant: Annotated[
        Literal["subject", "source", "copy", "mirror"] | None,
        typer.Option(help="plant a leak in a copy of the split: it is refused, or the number shows it"),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="train although the planted leak is refused, to see what it is worth")
    ] = False,
    control: Annotated[bool, typer.Option("--control", help="also train with the true labels")] = False,
    params: Params = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Train VARIANT on permuted labels: it must fall to guessing; exit status 1 when it does not.

    With --plant the exit status is 1 when the leak is neither refused nor visible.
    """
    if anyway and not plant:
        raise UserError("--anyway is for a planted leak: give --plant too")
    catalog = config.load(params)
    if variant in library()["variants"] and variant not in catalog.variants:
        raise UserError(f"{params} has no {variant}: run `duchenne add {variant}`, then `dvc repro split@{variant}`")
    lookup(catalog.variants, variant, "variant")
    from duchenne.canary.printing import lines, reached
    from duchenne.canary.run import Settings
    from duchenne.canary.run import canary as run

    workspace = Workspace(params.parent)
    settings = Settings(epochs, samples, folds, seed, permutations, plant, anyway, control)
    result = run(catalog, workspace, variant, settings)
    if as_json:
        print_json(result.as_json(), indent=2)
    else:
        for line in lines(result, None if plant or control else reached(workspace, variant)):
            typer.echo(line)
    raise typer.Exit(0 if result.passed else 1)
