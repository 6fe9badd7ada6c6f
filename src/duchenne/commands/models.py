"""Commands on trained networks and published checkpoints: measure them, use them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from duchenne import config
from duchenne.commands.common import DEFAULT, Params, lookup, print_json
from duchenne.errors import UserError, printable
from duchenne.extras import require_extra
from duchenne.ports import LOOPBACK, address
from duchenne.workspace import Workspace

app = typer.Typer()

Fold = Annotated[Path, typer.Argument(help="a fold's folder, such as models/poster_v2_demo/fold_1")]
Host = Annotated[str, typer.Option(help="0.0.0.0: every machine that reaches this one may ask")]
Device = Annotated[str | None, typer.Option(help="such as cpu or cuda:1; default: the first GPU")]
LandmarkModel = Annotated[Path | None, typer.Option(help="file of the landmark model that found the training faces")]
DetectorModel = Annotated[Path | None, typer.Option(help="file of the detector that found them")]


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="file of weights, as its owners publish it")],
    variant: Annotated[
        str | None, typer.Option(help="variant of its network; not needed for a file under its published name")
    ] = None,
    network: Annotated[str | None, typer.Option(help="architecture, if no variant is meant: needs --classes")] = None,
    classes: Annotated[
        str, typer.Option(help="classes in the order of the outputs, separated by commas; default: the known order")
    ] = "",
    name: Annotated[str | None, typer.Option(help="name below models/, which init_from takes")] = None,
    out: Annotated[Path | None, typer.Option(help="folder, instead of models/NAME/fold_1")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an imported network")] = False,
    params: Params = DEFAULT,
) -> None:
    """Make a published checkpoint a network's folder, which predict, evaluate --model and init_from take."""
    from duchenne.importing import import_checkpoint

    catalog = config.load(params) if params.exists() else config.Catalog(datasets={}, variants={})
    done = import_checkpoint(catalog, Workspace(), checkpoint, variant, network, _names(classes), name, out, force)
    card, origin = done.card, done.card["imported"]
    options = f" {card['options']}" if card["options"] else ""
    typer.echo(f"{done.folder}: {card['architecture']}{options}, {len(card['classes'])} classes")
    typer.echo(f"order of the classes: {', '.join(card['classes'])} ({origin['order']})")
    typer.echo(f"faces of the owners: {origin['faces']}; licence: {origin['licence']}")


def _names(text: str) -> list[str] | None:
    """Names separated by commas; None if there are none."""
    return [name.strip() for name in text.split(",")] if text else None


def _given(**files: Path | None) -> dict[str, Path]:
    """Files that were named."""
    return {name: path for name, path in files.items() if path}


@app.command()
def evaluate(
    variant: Annotated[str, typer.Option(help="variant that gives dataset and protocol, for a checkpoint the network")],
    checkpoint: Annotated[Path | None, typer.Option(help="published file of weights")] = None,
    model: Annotated[Path | None, typer.Option(help="instead: folder of a trained or imported network")] = None,
    fold: Annotated[int, typer.Option(help="fold whose test part is evaluated")] = 1,
    order: Annotated[str, typer.Option(help="classes in the order of the checkpoint, separated by commas")] = "",
    out: Annotated[Path | None, typer.Option(help="default: results/published/VARIANT")] = None,
    params: Params = DEFAULT,
) -> None:
    """Measure a published checkpoint, or the folder of a network, on a test part, without training."""
    from duchenne.published import evaluate_checkpoint, evaluate_model

    catalog, workspace = config.load(params).with_library("variants", variant), Workspace()
    lookup(catalog.variants, variant, "variant")
    out = out or workspace.results("published") / variant
    if model and order:
        raise UserError("--order is for a checkpoint: the folder of a network names its classes itself")
    match checkpoint, model:
        case Path(), None:
            metrics = evaluate_checkpoint(catalog, workspace, variant, checkpoint, fold, out, _names(order))
        case None, Path():
            metrics = evaluate_model(catalog, workspace, variant, model, fold, out)
        case _:
            raise UserError("give either a published file (--checkpoint) or the folder of a network (--model)")
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
    onset: Annotated[
        int | None, typer.Option(help="frame number of a micro-expression's onset; default: the first frame")
    ] = None,
    apex: Annotated[int | None, typer.Option(help="frame number of its apex; default: found by its motion")] = None,
    out: Annotated[
        Path | None, typer.Option(help="file of the rows, .jsonl, .csv or .parquet; an interrupted job resumes")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace --out, and do not resume")] = False,
    draw: Annotated[Path | None, typer.Option(help="folder for pictures and videos with the results drawn in")] = None,
    plot: Annotated[Path | None, typer.Option(help="file of probabilities over time, .png, .pdf or .svg")] = None,
    features: Annotated[bool, typer.Option("--features", help="also the input of the last layer")] = False,
    workers: Annotated[int, typer.Option(help="threads that read sources and find faces", min=0)] = 1,
    batch_size: Annotated[int | None, typer.Option(help="faces at a time; default: as in training", min=1)] = None,
    device: Device = None,
    landmark_model: LandmarkModel = None,
    detector_model: DetectorModel = None,
) -> None:
    """Classify the expressions in pictures, videos and clips: one JSON object per line, or a table.

    Without a face the emotion is null. Unreadable inputs are listed on stderr, and the exit status is 1.
    """
    from duchenne.prediction.options import Options
    from duchenne.prediction.run import run

    files = _given(landmark_model=landmark_model, detector_model=detector_model)
    failed, count = run(
        model,
        files,
        sources or [],
        camera or [],
        Options(faces, every, window, stride, onset, apex, features),  # type: ignore[arg-type]
        out=out,
        force=force,
        draw=draw,
        plot=plot,
        workers=workers,
        batch_size=batch_size,
        device=device,
        show=print_json,
    )
    if failed:
        for _, error in failed:
            typer.echo(f"error: {printable(error)}", err=True)
        names = ", ".join(printable(name) for name, _ in failed)
        typer.echo(f"{len(failed)} of {count} failed: {names}", err=True)
        raise typer.Exit(1)


@app.command()
def serve(
    model: Fold,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5001,
    workers: Annotated[int, typer.Option(min=1, help="processes, each with its own network")] = 1,
    clips: Annotated[Path | None, typer.Option(help="folder whose clips requests may name; default: none")] = None,
    max_mb: Annotated[float, typer.Option(min=0.001, max=1e6, help="size limit of a request, MB")] = 32,
    timeout: Annotated[float, typer.Option(min=0.1, max=1e6, help="time limit of a request, s")] = 60,
) -> None:
    """Answer HTTP requests with a trained network, by the protocol of MLflow's scoring server."""
    require_extra("duchenne serve", "pipeline", "mlflow", "starlette", "uvicorn")
    from duchenne import server
    from duchenne.training.trained import read_card

    if clips is not None and not clips.is_dir():
        raise UserError(f"{clips} is not a folder: give the folder of the clips that requests may name")
    takes, place = read_card(model)["takes"], address(host, port)
    typer.echo(f"{model} at {place}; try:\n{server.example(takes, place)}")
    if host not in LOOPBACK:
        typer.echo("there is no password: only a firewall or proxy decides who may ask", err=True)
    folder = str(clips.resolve()) if clips else None
    server.serve(server.Settings(str(model), folder, int(max_mb * 1e6), timeout), host, port, workers)


@app.command()
def export(
    model: Fold,
    kind: Annotated[
        Literal["onnx", "torch"], typer.Option("--format", help="an ONNX file, or a program of torch.export")
    ] = "onnx",
    out: Annotated[Path | None, typer.Option(help="default: VARIANT_FOLD.onnx or .pt2 in the current folder")] = None,
    half: Annotated[
        bool, typer.Option("--half", help="store the weights as float16; arithmetic stays float32")
    ] = False,
    preprocess: Annotated[
        bool, typer.Option("--preprocess", help="the file takes aligned faces, uint8 RGB, and normalises them itself")
    ] = False,
) -> None:
    """Write a trained network as one file for ONNX Runtime or PyTorch, with a card beside it, and verify it."""
    from duchenne.export import SUFFIX
    from duchenne.export import export as write

    folder = model.absolute()
    out = out or Path(f"{folder.parent.name}_{folder.name}{SUFFIX[kind]}")
    card = write(model, kind, out, half, preprocess)
    checked = card["verification"]
    typer.echo(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB, input {' x '.join(map(str, card['input']['shape']))} "
        f"{card['input']['dtype']}\n"
        f"differs from the network by at most {checked['difference_of_logits']:.1e} in the logits (allowed: "
        f"{checked['tolerance']:.1e}) and {checked['difference_of_probabilities']:.1e} in the probabilities\n"
        f"what to feed it, and the classes in order: {out}.json"
    )


@app.command()
def studio(
    model: Annotated[
        str | None, typer.Argument(help="a fold's folder, or an address of MLflow; default: those of models/")
    ] = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 7860,
    max_mb: Annotated[float, typer.Option(min=0.001, max=1e6, help="size limit of a file, MB")] = 500,
    device: Device = None,
    landmark_model: LandmarkModel = None,
    detector_model: DetectorModel = None,
) -> None:
    """Open a local page: drop a picture or a video, see faces, probabilities, attention and a timeline."""
    require_extra("duchenne studio", "studio")
    from duchenne.studio.run import run

    files = _given(landmark_model=landmark_model, detector_model=detector_model)
    run(model, host, port, max_mb, device, files, typer.echo)
