"""Commands on datasets and runs: check, try, compare, count, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duchenne import config
from duchenne.commands.common import DEFAULT, Params, lookup, print_json
from duchenne.engines import engine_of
from duchenne.errors import UserError
from duchenne.extras import require_extra
from duchenne.papers.library import library
from duchenne.workspace import Workspace

app = typer.Typer()

STYLES = {"ok": "[green]ok[/green]", "warning": "[yellow]warning[/yellow]", "problem": "[bold red]problem[/bold red]"}
"""State of a finding of ``duchenne doctor`` -> its cell."""


@app.command()
def check(
    dataset: str,
    root: Annotated[Path | None, typer.Option(help="folder of the dataset, instead of the one in params.yaml")] = None,
    params: Params = DEFAULT,
    deep: Annotated[bool, typer.Option("--deep", help="also decode every image and frame")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Compare a dataset on disk with its published counts; exit status 1 when it is not complete."""
    from duchenne.datasets.audit import audit
    from duchenne.datasets.build import build_index
    from duchenne.datasets.printing import print_audit
    from duchenne.datasets.problems import lines

    catalog = config.load(params)
    like = {name.replace("_", ""): name for name in [*library()["datasets"], *catalog.datasets]}
    name = like.get(dataset.replace("_", "").replace("-", "").lower(), dataset)
    catalog = catalog.with_library("datasets", name)
    block = lookup(catalog.datasets, name, "dataset")
    block = block.model_copy(update={"root": root or block.root, "bad_rows": "skip", "limit": None})
    index = build_index(name, block)
    if deep:
        from duchenne.datasets.deep import decode_all

        with engine_of(catalog.compute, Workspace().work("check", name), block.root) as engine:
            index = decode_all(index, block.root, block.faces.max_megapixels, engine)
    result = audit(index, block)
    if as_json:
        result["problem rows"] = json.loads(index.problems.to_json(orient="records"))
        print_json(result, indent=2)
    else:
        print_audit(result, lines(index.problems, index.unit), Console(), index.unit)
    raise typer.Exit(0 if result["complete"] else 1)


@app.command()
def smoke(
    variant: str,
    scratch: Annotated[
        Path | None, typer.Option(help="folder to work in, which is kept; default: a temporary one")
    ] = None,
    samples: Annotated[int, typer.Option(min=16)] = 64,
    params: Params = DEFAULT,
) -> None:
    """Run every stage of VARIANT on a few samples for one epoch, to find errors before a long run."""
    from duchenne.smoke import run

    catalog = config.load(params).with_library("variants", variant)
    lookup(catalog.variants, variant, "variant")
    typer.echo(run(catalog, variant, samples, scratch))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="variants, or published/VARIANT; the first is the reference")],
    params: Params = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Compare finished runs with the first: differences with intervals, McNemar's test, and disagreements."""
    from duchenne.reporting.compare import compare_runs, finished_runs, show

    found = compare_runs(finished_runs(Workspace(), runs), config.load(params).report.bootstrap)
    if as_json:
        print_json(found.as_json(), indent=2)
    else:
        show(found, Console())


@app.command()
def transfer(
    models: Annotated[list[str], typer.Argument(help="runs, imported networks, or folders of folds")],
    to: Annotated[list[str], typer.Option(help="dataset of params.yaml whose faces are prepared; may be repeated")],
    part: Annotated[
        Literal["test", "all"], typer.Option(help="test: the owners' test part where they have one; all: every sample")
    ] = "test",
    average: Annotated[
        bool, typer.Option("--average", help="mean probabilities of all folds of a run; otherwise fold 1 predicts")
    ] = False,
    mask: Annotated[
        bool, typer.Option("--mask", help="leave classes that the dataset lacks out of the answers")
    ] = False,
    params: Params = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measure trained networks on other datasets: a matrix of UAR and WAR with intervals, which the report shows."""
    from duchenne.reporting.transfer import Transfers, show
    from duchenne.transfer import transfer as measure

    records = measure(config.load(params), Workspace(), models, to, part, average, mask)
    if as_json:
        print_json(records, indent=2)
    else:
        show(Transfers(records, []), Console())


@app.command()
def verify(
    variants: Annotated[
        list[str] | None, typer.Argument(help="variants, or published/VARIANT; default: everything in the folder")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="skip data and outputs that are not on this machine")
    ] = False,
    params: Params = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Check files against dvc.lock and the cache, numbers against the predictions; exit status 1 if any disagree."""
    from duchenne.verification.run import verify as check

    done = check(config.load(params), Workspace(), variants or [], allow_missing)
    if as_json:
        print_json(done.as_json(), indent=2)
    else:
        for finding in done.findings:
            typer.echo(f"{finding.path}: {finding.text}" + (f"\n  to fix it: {finding.fix}" if finding.fix else ""))
        for skipped in done.skipped:
            typer.echo(f"not checked: {skipped}")
        typer.echo(done.summary())
    raise typer.Exit(1 if done.findings else 0)


@app.command()
def groups(
    runs: Annotated[list[str], typer.Argument(help="variants, or published/VARIANT")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Show finished runs by age, gender, ethnicity and skin tone, where the dataset has a column of it."""
    from duchenne.reporting.compare import finished_runs
    from duchenne.reporting.groups import show

    found = {run.name: run.groups for run in finished_runs(Workspace(), runs)}
    if as_json:
        print_json(found, indent=2)
    else:
        for name, each in found.items():
            show(name, each, Console())


@app.command()
def complexity(
    names: Annotated[list[str] | None, typer.Argument(help="variants; default: one for each network")] = None,
    every: Annotated[bool, typer.Option("--all", help="every variant")] = False,
    params: Params = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Count parameters and operations of networks and time them, with the values printed in their papers."""
    import pandas as pd
    from tqdm import tqdm

    from duchenne.reporting.complexity import markdown, representatives
    from duchenne.stages.complexity import row

    catalog = config.load(params)
    for name in names or library()["variants"]:
        catalog = catalog.with_library("variants", name)
        lookup(catalog.variants, name, "variant")
    names = names or list(catalog.variants if every else representatives(catalog))
    table = pd.DataFrame([row(catalog, name) for name in tqdm(names, desc="complexity", unit="network")])
    typer.echo(table.to_json(orient="records", indent=2) if as_json else markdown(table))


@app.command()
def folds(variant: str, params: Params = DEFAULT) -> None:
    """Print the numbers of VARIANT's folds, of all its seeds, separated by commas, for example for a job array."""
    from duchenne.sealed import read_table
    from duchenne.stages.train import networks_of

    found = lookup(config.load(params).variants, variant, "variant")
    file = Workspace().split(variant)
    if not file.exists():
        raise UserError(f"{file} is missing: run `dvc repro split@{variant}`")
    typer.echo(",".join(map(str, networks_of(found, read_table(file, columns=["fold"])["fold"]))))


@app.command()
def report(params: Params = DEFAULT) -> None:
    """Write the report again from the results on disk."""
    from duchenne import stages

    typer.echo(stages.run("report", config.load(params), Workspace()))


@app.command()
def doctor(params: Params = DEFAULT, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Check packages, GPU, disk, MLflow, DVC and the files that params.yaml names; exit status 1 on a problem."""
    from duchenne.doctor import examine

    if params != DEFAULT and not params.exists():
        raise UserError(f"{params} does not exist; without --params the machine is checked alone")
    findings = examine(params, Workspace(params.parent))
    broken = any(finding.state == "problem" for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": [finding.as_json() for finding in findings]}, indent=2)
    else:
        table = Table("", "", "found", "to fix it")
        for finding in findings:
            table.add_row(finding.topic, STYLES[finding.state], escape(finding.text), escape(finding.fix))
        Console().print(table)
    raise typer.Exit(1 if broken else 0)


@app.command()
def licences(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the licences of the installed packages that this one needs, and of the weights that come with it."""
    from duchenne.licences import licences as found

    if as_json:
        print_json([each.as_json() for each in found()], indent=2)
        return
    table = Table("", "version", "licence", "page")
    for each in found():
        note = f"\n[yellow]{escape(each.note)}[/yellow]" if each.note else ""
        table.add_row(each.name, each.version, escape(each.licence or "not stated") + note, escape(each.page))
    Console().print(table)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ui(context: typer.Context) -> None:
    """Start the MLflow UI with the runs of this folder; takes the options of `mlflow ui`."""
    require_extra("duchenne ui", "pipeline", "mlflow")
    from duchenne import tracking

    workspace = Workspace()
    address = tracking.uri(workspace)
    if address.startswith(("http:", "https:")):
        raise UserError(f"runs go to the server at {tracking.shown_uri(workspace)}: open that address in a browser")
    tracking.prepare(workspace)
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": address}  # other users see arguments, which hold passwords
    command = [sys.executable, "-m", "mlflow", "ui", *context.args]
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)
