"""Commands on trained networks and published checkpoints: measure them, use them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from duchenne import config
from duchenne.commands.common import DEFAULT, Params, lookup, print_json
from duchenne.errors import UserError
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
        print_json({"source": str(path), **answer})
    if failed:
        typer.echo(f"{len(failed)} of {len(sources)} failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)
