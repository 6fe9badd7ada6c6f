"""The ``duchenne`` command, and the entry of DVC's stages."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import typer

from duchenne import config
from duchenne.commands import canary, models, params, planning, runs
from duchenne.commands.common import print_whatever_the_locale, readable_errors
from duchenne.workspace import Workspace

HELP = "Facial-expression recognition with POSTER, POSTER++, IFDD and FRL-DGT, from pictures to published tables."
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
for commands in (params, planning, runs, canary, models):
    app.add_typer(commands.app)


def main() -> None:
    """Run the command."""
    print_whatever_the_locale()
    with readable_errors():
        app()


def stage(function: Callable[..., object]) -> None:
    """Run a stage of ``duchenne.stages``; its dataset or variant, if any, is the argument, and folds of train."""
    print_whatever_the_locale()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with readable_errors():
        function(config.load(), Workspace(), *sys.argv[1:])
