"""The command ``duchenne studio``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from duchenne.api.networks import load
from duchenne.errors import UserError
from duchenne.ports import LOOPBACK
from duchenne.studio.server import Models, serve, trained_folds
from duchenne.workspace import Workspace


def run(
    model: str | None,
    host: str,
    port: int,
    max_mb: float,
    device: str | None,
    files: Mapping[str, Path],
    say: Callable[[str], None],
) -> None:
    """Serve the page for one network, or for all of ``models/``, until Ctrl-C.

    Args:
        model: see :func:`duchenne.load`; None: the folds of ``models/``.
        max_mb: size limit of an upload, MB.
        files: ``landmark_model`` and ``detector_model`` of :func:`duchenne.load`.
        say: shows a line to the user.

    Raises:
        UserError: There is no network, it cannot be loaded, or the port cannot be used.
    """
    folds = {model: model} if model else trained_folds(Workspace())
    if not folds:
        raise UserError(
            "models/ has no trained network: run `dvc repro`, or name a fold's folder: duchenne studio FOLD"
        )

    models = Models(list(folds), lambda name: load(folds[name], device=device, **files))
    if model:
        models[model]  # what is wrong with it is said here rather than in the page

    def ready(address: str) -> None:
        say(f"duchenne studio: {address} (Ctrl-C ends it)")
        if host not in LOOPBACK:
            say("there is no password: only a firewall or proxy decides who may ask")

    serve(models, host, port, max_mb, ready)
