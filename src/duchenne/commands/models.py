"""Commands on trained networks and published checkpoints: measure them, use them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from duchenne import config
from duchenne.commands.common import DEFAULT, Params, lookup, print_json
from duchenne.workspace import Workspace

app = typer.Typer()


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
    lookup(catalog.variants, variant, "variant")
    out = out or workspace.results("published") / variant
    classes = [name.strip() for name in order.split(",")] if order else None
    metrics = evaluate_checkpoint(catalog, workspace, variant, checkpoint, fold, out, classes)
    print_json(metrics, indent=2)


@app.command()
def predict(
    model: Annotated[Path, typer.Option(help="a fold's folder, such as models/poster_v2_demo/fold_1")],
    sources: Annotated[
        list[str] | None, typer.Argument(help="pictures, videos, folders of them, folders of frames, or patterns")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="number of a camera, or file or address of a stream; Ctrl-C ends it")
    ] = None,
    faces: Annotated[str, typer.Option(help="largest: follow the largest face; all: every face")] = "largest",
    every: Annotated[int, typer.Option(help="use every N-th frame of a video")] = 1,
    window: Annotated[int | None, typer.Option(help="frames of a window of a clip; each gets a row")] = None,
    stride: Annotated[int | None, typer.Option(help="frames from window to window; default: --window")] = None,
    onset: Annotated[int | None, typer.Option(help="frame number of the onset, for micro-expression networks")] = None,
    apex: Annotated[int | None, typer.Option(help="frame number of the apex")] = None,
    out: Annotated[
        Path | None, typer.Option(help="file of the rows, .jsonl, .csv or .parquet; an interrupted job resumes")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace --out, and do not resume")] = False,
    features: Annotated[bool, typer.Option("--features", help="also the input of the last layer")] = False,
    workers: Annotated[int, typer.Option(help="threads that read sources and find faces", min=0)] = 1,
    batch_size: Annotated[int | None, typer.Option(help="faces at a time; default: as in training", min=1)] = None,
    device: Annotated[str | None, typer.Option(help="such as cpu or cuda:1; default: the first GPU")] = None,
    landmark_model: Annotated[
        Path | None, typer.Option(help="file of the landmark model that found the training faces")
    ] = None,
    detector_model: Annotated[Path | None, typer.Option(help="file of the detector that found them")] = None,
) -> None:
    """Classify the expressions in pictures, videos and clips: one JSON object per line, or a table.

    Without a face the emotion is null. Unreadable inputs are listed on stderr, and the exit status is 1.
    """
    from duchenne.prediction.options import Options
    from duchenne.prediction.run import run

    files = {"landmark_model": landmark_model, "detector_model": detector_model}
    failed, count = run(
        model,
        {name: path for name, path in files.items() if path},
        sources or [],
        camera or [],
        Options(faces, every, window, stride, onset, apex, features),  # type: ignore[arg-type]
        out=out,
        force=force,
        workers=workers,
        batch_size=batch_size,
        device=device,
        show=print_json,
    )
    if failed:
        for _, error in failed:
            typer.echo(f"error: {error}", err=True)
        typer.echo(f"{len(failed)} of {count} failed: {', '.join(name for name, _ in failed)}", err=True)
        raise typer.Exit(1)
