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
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from duchenne import config
from duchenne.config import Catalog
from duchenne.errors import UserError, nearest
from duchenne.extras import require_extra
from duchenne.metrics import METRICS
from duchenne.papers.library import SECTIONS, library, section_of
from duchenne.training.settings import Variant
from duchenne.workspace import Workspace

if TYPE_CHECKING:
    from duchenne.params_file import Change

HELP = "Facial-expression recognition with POSTER, POSTER++, IFDD and FRL-DGT, from pictures to published tables."
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
Params = Annotated[Path, typer.Option("--params", help="the configuration to read")]
DEFAULT = Path("params.yaml")
T = TypeVar("T")


def main() -> None:
    """Run the command."""
    _print_whatever_the_locale()
    with readable_errors():
        app()


def stage(function: Callable[..., object]) -> None:
    """Run a stage of ``duchenne.stages`` for DVC; its dataset or variant, if any, is the argument."""
    _print_whatever_the_locale()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with readable_errors():
        function(config.load(), Workspace(), *sys.argv[1:])


def _print_whatever_the_locale() -> None:
    """Print characters that stdout or stderr cannot encode as escapes, such as ``\\u8868``.

    For JSON see :func:`_print_json`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_json(value: object, indent: int | None = None) -> None:
    """Print JSON, with JSON's escapes for characters that stdout may not be able to encode."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    typer.echo(json.dumps(value, indent=indent, ensure_ascii=not unicode))


@contextmanager
def readable_errors() -> Iterator[None]:
    """Print an error that the user can fix as one message without traceback, and exit with status 1."""
    try:
        yield
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command to resume", err=True)
        raise SystemExit(130) from None


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
            f"{variant.recipe.epochs} epochs{optimistic}",
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
        _lookup(blocks, name, "block")
    done = params_file.remove(params, [(blocks[name], name) for name in names])
    _tell(done, "removed", "kept your own, unused")


def _tell(change: Change, done: str, kept: str) -> None:
    for place in change.done:
        typer.echo(f"{done} {place}")
    for place in change.kept:
        typer.echo(f"{kept} {place}")
    if not change.done:
        typer.echo("nothing to do: params.yaml does not change")


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
    block = _lookup(catalog.datasets, name, "dataset")
    block = block.model_copy(update={"root": root or block.root, "bad_rows": "skip", "limit": None})
    index = build_index(name, block)
    if deep:
        from duchenne.datasets.deep import decode_all

        compute = catalog.compute
        index = decode_all(index, block.root, block.faces.max_megapixels, compute.jobs, compute.backend)
    result = audit(index, block)
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
    """Compare finished runs with the first: differences with intervals, McNemar's test, and disagreements."""
    from duchenne.reporting.compare import compare_runs, finished_runs, show

    found = compare_runs(finished_runs(Workspace(), runs), config.load(params).report.bootstrap)
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
    """Count parameters and operations of networks and time them, with the values printed in their papers."""
    import pandas as pd
    from tqdm import tqdm

    from duchenne.reporting.complexity import markdown, representatives
    from duchenne.stages.complexity import row

    catalog = config.load(params)
    for name in names or library()["variants"]:
        catalog = catalog.with_library("variants", name)
        _lookup(catalog.variants, name, "variant")
    names = names or list(catalog.variants if every else representatives(catalog))
    table = pd.DataFrame([row(catalog, name) for name in tqdm(names, desc="complexity", unit="network")])
    typer.echo(table.to_json(orient="records", indent=2) if as_json else markdown(table))


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="published file of weights")],
    variant: Annotated[str, typer.Option(help="variant that gives network, dataset and protocol")],
    fold: Annotated[int, typer.Option(help="fold whose test part is evaluated")] = 1,
    order: Annotated[str, typer.Option(help="classes in the order of the outputs, separated by commas")] = "",
    out: Annotated[Path | None, typer.Option(help="default: results/published/VARIANT")] = None,
    params: Params = DEFAULT,
) -> None:
    """Measure a published checkpoint on a test part, without training."""
    from duchenne.published import evaluate_checkpoint

    catalog, workspace = config.load(params).with_library("variants", variant), Workspace()
    _lookup(catalog.variants, variant, "variant")
    out = out or workspace.results("published") / variant
    classes = [name.strip() for name in order.split(",")] if order else None
    metrics = evaluate_checkpoint(catalog, workspace, variant, checkpoint, fold, out, classes)
    _print_json(metrics, indent=2)


@app.command()
def report(params: Params = DEFAULT) -> None:
    """Write the report again from the results on disk."""
    from duchenne import stages

    typer.echo(stages.run("report", config.load(params), Workspace()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ui(context: typer.Context) -> None:
    """Start the MLflow UI with the runs of this folder; takes the options of `mlflow ui`."""
    require_extra("duchenne ui", "pipeline", "mlflow")
    from duchenne import tracking

    workspace = Workspace()
    tracking.relocate(workspace)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking.uri(workspace), *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


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
    _lookup(catalog.variants, variant, "variant")
    typer.echo(run(catalog, variant, samples, scratch))


@app.command()
def predict(
    sources: Annotated[list[Path], typer.Argument(help="images; or clips: videos and folders of frames")],
    model: Annotated[Path, typer.Option(help="a fold's folder, such as models/poster_v2_demo/fold_1")],
    onset: Annotated[int | None, typer.Option(help="frame number of the onset, for micro-expression networks")] = None,
    apex: Annotated[int | None, typer.Option(help="frame number of the apex")] = None,
    landmark_model: Annotated[
        Path | None, typer.Option(help="file of the landmark model that found the training faces")
    ] = None,
    detector_model: Annotated[Path | None, typer.Option(help="file of the detector that found them")] = None,
) -> None:
    """Classify the expression of the largest face in each image or clip: one JSON object per line.

    Without a face the emotion is null. Unreadable inputs are listed on stderr, and the exit status is 1.
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
        hint = nearest(name, names) or f" (params.yaml has {', '.join(names)})"
        raise UserError(f"there is no {what} {name!r}{hint}")
    return names[name]
