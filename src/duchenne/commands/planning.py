"""The command ``duchenne plan``: what variants cost before they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console

from duchenne import config
from duchenne.commands.common import DEFAULT, Params, print_json
from duchenne.config import Catalog
from duchenne.errors import UserError, nearest
from duchenne.papers.library import library
from duchenne.training.settings import Variant
from duchenne.workspace import Workspace

if TYPE_CHECKING:  # slow to import
    from duchenne.planning.costs import Speed

app = typer.Typer()

MEASURED = 45.0
"""Seconds of --measure, shared by the networks; building them comes on top (chosen by us)."""


@app.command()
def plan(
    variants: Annotated[list[str], typer.Argument(help="variants of params.yaml or of the library")],
    gpus: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="GPUs; default: those of this machine, at least one")
    ] = None,
    cores: Annotated[
        float | None,
        typer.Option(min=0.1, max=1e6, help="processor cores beside each GPU; default: those of this machine"),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=1e6, max=1e21, help="operations a second of a GPU in training, instead of the assumed"),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="run training steps of each network here, a minute in all")
    ] = False,
    rerun: Annotated[bool, typer.Option("--rerun/--no-rerun", help="ask DVC which stages would run")] = True,
    params: Params = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Estimate time, disk and memory of variants before they run, on any number of GPUs, and what would be rerun.

    Each number says whether it was measured here, measured elsewhere, or assumed.
    """
    from duchenne.planning import plan as planning
    from duchenne.planning import rerun as reruns
    from duchenne.planning.printing import print_plan, print_rerun

    if measure and rate:
        raise UserError("--measure and --rate give the same number: leave one out")
    listed = config.load(params)
    catalog = listed
    for name in variants:
        catalog = catalog.with_library("variants", name)
        if name not in catalog.variants:
            hint = nearest(name, [*catalog.variants, *library()["variants"]]) or ": `duchenne variants` lists them"
            raise UserError(f"there is no variant {name!r}{hint}")
    workspace, machine = Workspace(params.parent), _machine(catalog)
    gpus = gpus or machine.gpus
    made = planning.make_plan(
        catalog,
        workspace,
        list(dict.fromkeys(variants)),
        cores or machine.cores / machine.gpus,
        rate,
        _measuring(catalog, len(set(variants))) if measure else None,
        machine.folds_at_once,
        machine.on_cpu,
    )
    counts = sorted({*planning.USUAL, gpus})
    names = [one.name for one in made.variants]
    stages, remark = reruns.stages(catalog, listed, workspace, names) if rerun else ([], "")
    folds = {name: found for name in names if (found := reruns.folds(catalog, workspace, name))} if rerun else {}
    if as_json:
        asked = {
            "stages": [vars(stage) for stage in stages],
            "remark": remark,
            "folds in work": {name: [vars(fold) for fold in found] for name, found in folds.items()},
        }
        print_json(planning.as_json(made, counts) | ({"rerun": asked} if rerun else {}), indent=2)
        return
    console = Console()
    print_plan(made, gpus, counts, console)
    if rerun:
        print_rerun(stages, remark, folds, console)


MANY = 1000
"""Folds of a variant that has more of them than any machine trains at once."""


class _Machine(NamedTuple):
    """Devices of this machine: its GPUs, or its processor as one; and the folds that train at once on each."""

    gpus: int
    cores: int
    on_cpu: bool
    folds_at_once: int


def _machine(catalog: Catalog) -> _Machine:
    import joblib
    import torch

    from duchenne.engines import Local
    from duchenne.engines.folds import plan
    from duchenne.training.device import device_of

    device = device_of(catalog.compute)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    here = catalog.compute.model_copy(update={"engine": "local"})
    _, at_once = plan(here, Local(), MANY, device.type)
    return _Machine(gpus, joblib.cpu_count(), device.type == "cpu", max(1, at_once // gpus))


def _measuring(catalog: Catalog, count: int) -> Callable[[Variant, int], Speed]:
    """Return a function that measures a variant's network, once for those with the same network and passes."""
    from duchenne.planning.costs import passes
    from duchenne.planning.measuring import measured

    known: dict[str, Speed] = {}

    def measure(variant: Variant, classes: int) -> Speed:
        recipe = f"{passes(variant.recipe)} {variant.recipe.batch_size} {variant.precision}"
        key = f"{variant.model.model_dump_json()} {recipe} {classes}"
        if key not in known:
            known[key] = measured(variant, classes, catalog.compute, MEASURED / count)
        return known[key]

    return measure
