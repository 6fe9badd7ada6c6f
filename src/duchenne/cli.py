"""The ``duchenne`` command, and the entry of DVC's stages."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable

import typer

from duchenne import config, stages
from duchenne.commands import canary, gap, models, params, planning, runs
from duchenne.commands.common import lookup, print_whatever_the_locale, readable_errors
from duchenne.errors import UserError
from duchenne.processes import end_with_dvc
from duchenne.workspace import Workspace

HELP = "Facial-expression recognition with POSTER, POSTER++, IFDD and FRL-DGT, from pictures to published tables."
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
for commands in (params, planning, runs, gap, canary, models):
    app.add_typer(commands.app)


def main() -> None:
    """Run the command."""
    print_whatever_the_locale()
    with readable_errors():
        app()


def stage(function: Callable[..., object]) -> None:
    """Run a stage of ``duchenne.stages``; its dataset or variant, if any, is the argument, and folds of train.

    A stage that DVC started ends soon after DVC, even if DVC is killed: DVC's next command would start another one.
    """
    print_whatever_the_locale()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if "DVC_STAGE" in os.environ:
        end_with_dvc()
    with readable_errors():
        catalog = config.load()
        wanted = list(inspect.signature(function).parameters)[2:3]
        if wanted and len(sys.argv) < 2:
            raise UserError(f"which {wanted[0]}? python {sys.argv[0]} {wanted[0].upper()}")
        if wanted in (["dataset"], ["variant"]):
            lookup(getattr(catalog, wanted[0] + "s"), sys.argv[1], wanted[0])
        workspace = Workspace()
        with stages.by_itself(function.__module__.rpartition(".")[2], workspace, *sys.argv[1:]):
            function(catalog, workspace, *sys.argv[1:])
