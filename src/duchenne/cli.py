"""The ``duchenne`` command."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from duchenne import catalog as catalogs
from duchenne.catalog import Catalog
from duchenne.errors import UserError
from duchenne.workspace import Workspace

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Params = Annotated[Path, typer.Option("--params", help="the configuration to read")]
DEFAULT = Path("params.yaml")
T = TypeVar("T")


def main() -> None:
    """Run the command."""
    _print_whatever_the_locale()
    with _readable_errors():
        app()


def stage(function: Callable[..., object]) -> None:
    """Run one function of ``duchenne.pipeline`` as DVC calls it: its dataset or variant, if any, is the argument."""
    _print_whatever_the_locale()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with _readable_errors():
        function(catalogs.load(), Workspace(), *sys.argv[1:])


def _print_whatever_the_locale() -> None:
    """Let a character that stdout or stderr cannot encode be printed as its escape, such as ``\\u8868``.

    Of JSON see :func:`_print_json`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_json(value: object, indent: int | None = None) -> None:
    """Print JSON, with the escapes of JSON for what stdout may not be able to encode."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    typer.echo(json.dumps(value, indent=indent, ensure_ascii=not unicode))


@contextmanager
def _readable_errors() -> Iterator[None]:
    """An error that a person can mend is one message and exit status 1, without a traceback."""
    try:
        yield
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; start again to go on", err=True)
        raise SystemExit(130) from None


@app.command()
def variants(params: Params = DEFAULT) -> None:
    """What can be run, on which data, and what `dvc repro` runs now."""
    catalog = catalogs.load(params)

    from duchenne.models import require
    from duchenne.reporting.basis import basis_of

    table = Table("what runs", "data", title="* what `dvc repro` runs now", title_justify="left", show_lines=True)
    for name, variant in catalog.variants.items():
        require(variant.model.architecture)
        optimistic = ", picked on the test part (optimistic)" if variant.selection == "test" else ""
        basis = basis_of(variant.model)
        built = "" if basis == "code" else f" (a {basis})"
        table.add_row(
            f"[bold]{name}[/bold]{' *' if name in catalog.run.variants else ''}\n"
            f"{variant.model.architecture}{built} on {variant.dataset}, {variant.protocol.kind} split, "
            f"{variant.recipe.epochs} epochs{optimistic}",
            _availability(catalog, variant.dataset),
        )
    Console().print(table)


def _availability(catalog: Catalog, dataset: str) -> str:
    config = catalog.datasets[dataset]
    if config.root.exists():
        return "there"
    return "rendered on demand" if config.synth else f"missing: {config.root}"


@app.command()
def check(
    dataset: str,
    root: Annotated[Path | None, typer.Option(help="where the dataset is, if not where params.yaml says")] = None,
    params: Params = DEFAULT,
    deep: Annotated[bool, typer.Option("--deep", help="decode every image and frame too")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Compare a dataset on the disk with what its owners publish; exit status 1 when it is not complete."""
    from duchenne.datasets import build_index
    from duchenne.datasets.audit import audit
    from duchenne.datasets.printing import print_audit
    from duchenne.datasets.problems import lines

    catalog = catalogs.load(params)
    like = {name.replace("_", ""): name for name in catalog.datasets}
    name = like.get(dataset.replace("_", "").replace("-", "").lower(), dataset)
    config = _lookup(catalog.datasets, name, "dataset")
    config = config.model_copy(update={"root": root or config.root, "bad_rows": "skip", "limit": None})
    index = build_index(name, config)
    if deep:
        from duchenne.datasets.deep import decode_all

        compute = catalog.compute
        index = decode_all(index, config.root, config.faces.max_megapixels, compute.jobs, compute.backend)
    result = audit(index, config)
    if as_json:
        result["problem rows"] = json.loads(index.problems.to_json(orient="records"))
        _print_json(result, indent=2)
    else:
        print_audit(result, lines(index.problems, index.unit), Console(), index.unit)
    raise typer.Exit(0 if result["complete"] else 1)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="variants, or published/VARIANT; the first is the reference")],
    params: Params = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Finished runs beside the first of them: differences with intervals, McNemar's test, where they disagree."""
    from duchenne.reporting.compare import compare_runs, show

    found = compare_runs(Workspace(), runs, catalogs.load(params).report.bootstrap)
    if as_json:
        _print_json(found.as_json(), indent=2)
    else:
        show(found, Console())


@app.command()
def complexity(
    names: Annotated[list[str] | None, typer.Argument(help="variants; default: one for each network")] = None,
    every: Annotated[bool, typer.Option("--all", help="every variant")] = False,
    params: Params = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Parameters, operations and time of networks, beside what their papers print."""
    from duchenne.reporting.complexity import complexity_table, markdown, representatives

    catalog = catalogs.load(params)
    for name in names or []:
        _lookup(catalog.variants, name, "variant")
    table = complexity_table(catalog, names or (catalog.variants if every else representatives(catalog)))
    typer.echo(table.to_json(orient="records", indent=2) if as_json else markdown(table))


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="weights as their owners publish them")],
    variant: Annotated[str, typer.Option(help="whose network, dataset and protocol they are measured with")],
    fold: Annotated[int, typer.Option(help="whose test part, where there are several")] = 1,
    order: Annotated[str, typer.Option(help="classes in the order of its outputs, with commas between")] = "",
    out: Annotated[Path | None, typer.Option(help="default: results/published/VARIANT")] = None,
    params: Params = DEFAULT,
) -> None:
    """Measure a published checkpoint on a test part, without training."""
    from duchenne.published import evaluate_checkpoint

    catalog, workspace = catalogs.load(params), Workspace()
    _lookup(catalog.variants, variant, "variant")
    out = out or workspace.results("published") / variant
    classes = [name.strip() for name in order.split(",")] if order else None
    metrics = evaluate_checkpoint(catalog, workspace, variant, checkpoint, fold, out, classes)
    _print_json(metrics, indent=2)


@app.command()
def report(params: Params = DEFAULT) -> None:
    """Write the page again from the results on disk."""
    from duchenne import pipeline

    typer.echo(pipeline.report(catalogs.load(params), Workspace()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ui(context: typer.Context) -> None:
    """Start MLflow's pages with the runs of this folder, wherever it was moved; options are those of `mlflow ui`."""
    from duchenne import tracking

    workspace = Workspace()
    tracking.relocate(workspace)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking.uri(workspace), *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def smoke(
    variant: str,
    scratch: Annotated[Path | None, typer.Option(help="folder to work in; kept. Default: a temporary one")] = None,
    samples: Annotated[int, typer.Option(min=16)] = 64,
    params: Params = DEFAULT,
) -> None:
    """Send a few samples and one epoch of VARIANT through every stage, before days are spent on it."""
    from duchenne.smoke import run

    catalog = catalogs.load(params)
    _lookup(catalog.variants, variant, "variant")
    typer.echo(run(catalog, variant, samples, scratch))


@app.command()
def predict(
    sources: Annotated[list[Path], typer.Argument(help="pictures; or videos and folders of frames, one a clip")],
    model: Annotated[Path, typer.Option(help="a fold's folder, such as models/poster_v2_demo/fold_1")],
    onset: Annotated[int | None, typer.Option(help="frame number, for a network of micro-expressions")] = None,
    apex: Annotated[int | None, typer.Option(help="the same")] = None,
    landmark_model: Annotated[Path | None, typer.Option(help="file that the network's faces were found with")] = None,
    detector_model: Annotated[Path | None, typer.Option(help="the same")] = None,
) -> None:
    """Name the expression of the largest face in each picture or clip: one JSON object a line.

    Without a face its emotion is null. What cannot be read is named on stderr, and the exit status is 1.
    """
    from duchenne.predict import Predictor

    files = {"landmark_model": landmark_model, "detector_model": detector_model}
    predictor = Predictor(model, {name: path for name, path in files.items() if path})
    predictor.require_frames(onset, apex)
    failed = []
    for path in sources:
        try:
            answer = predictor(path, onset, apex)
        except UserError as error:
            typer.echo(f"error: {error}", err=True)
            failed.append(str(path))
            continue
        if answer["emotion"] is None:
            answer["probabilities"] = None  # JSON has no NaN
        _print_json({"source": str(path), **answer})
    if failed:
        typer.echo(f"{len(failed)} of {len(sources)} failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _lookup(names: dict[str, T], name: str, what: str) -> T:
    if name not in names:
        hint = catalogs.nearest(name, names) or f" (params.yaml has {', '.join(names)})"
        raise UserError(f"there is no {what} {name!r}{hint}")
    return names[name]
