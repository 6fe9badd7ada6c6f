"""Networks: those that there are, new ones with random or published weights, and trained ones."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from duchenne.errors import UserError
from duchenne.networks import networks
from duchenne.workspace import Workspace

if TYPE_CHECKING:  # slow to import
    from torch import nn

    from duchenne.prediction.model import Model

TIMM = ("features_only", "in_chans", "out_indices")
"""Arguments of ``timm.create_model`` that are not options of a network."""


def list_models(filter: str = "*") -> list[str]:
    """List the networks of this package, sorted; :func:`create_model` also makes those of timm.

    >>> list_models("poster_v*")
    ['poster_v2']

    Args:
        filter: pattern of names, with ``*`` and ``?``.
    """
    return sorted(name for name in networks() if fnmatch(name, filter))


def create_model(
    name: str, num_classes: int = 7, pretrained: Mapping[str, str | Path | None] | None = None, **options: Any
) -> nn.Module:
    """Create a network of this package or of timm.

    >>> net = create_model("frl_dgt", num_classes=3, full_face=False)
    >>> net.num_classes, net.num_features, net.default_cfg["input_size"]
    (3, 256, (2, 224, 224))

    It has timm's usual methods (``forward_features``, ``forward_head``, ``forward_intermediates``,
    ``reset_classifier``), besides those of :class:`duchenne.models.contract.Contract`.

    Args:
        name: a name of :func:`list_models`, or of ``timm.list_models()``.
        num_classes: length of the logits; 0: the network returns features.
        pretrained: part of the network -> file published by its owners, ``packaged`` (the file in this package), or
            None for random weights, as ``model.pretrained`` in ``params.yaml``. Parts of networks of this package that
            are packaged and used by default, such as ``mobilefacenet`` of POSTER, are loaded without being named.
        options: options of the network, and arguments of ``timm.create_model``, such as ``features_only=True``.

    Raises:
        UserError: There is no network, option or part of this name, an option has a wrong value, or a file cannot be
            read or does not fit.
    """
    from duchenne.models.contract import create, require
    from duchenne.models.official import load_pretrained
    from duchenne.training.settings import Model

    require(name)
    if isinstance(pretrained, bool):
        raise UserError(
            f"pretrained={pretrained}: nothing is downloaded. Give a file for each part, such as "
            f"pretrained={{'checkpoint': 'weights.pth'}}"
        )
    own = {option: options.pop(option) for option in TIMM if option in options}
    block = {"architecture": name, "options": options, "pretrained": dict(pretrained or {})}
    try:
        model = Model.model_validate(block)
    except ValidationError as error:
        raise UserError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    network: Any = create(name, model.options | own, num_classes)
    if model.files:
        load_pretrained(network.model if own.get("features_only") else network, model.files)
    return network


def load(
    model: str | Path,
    *,
    device: str | None = None,
    detector_model: str | Path | None = None,
    landmark_model: str | Path | None = None,
    workspace: str | Path = ".",
) -> Model:
    """Load a trained network with what finds its faces, to predict expressions.

    >>> model = load("models/poster_v2_demo/fold_1")  # doctest: +SKIP
    >>> model.predict(["photo.jpg", "holiday/*.jpg"])[["source", "emotion"]]  # doctest: +SKIP

    Args:
        model: the folder of a trained fold; or an address of MLflow: ``models:/<name>/<version>``, ``models:/<id>``,
            ``runs:/<run>/model`` or ``runs:/<run>``.
        device: such as ``cuda:1`` or ``cpu``; default: the first GPU, or the CPU without one.
        detector_model, landmark_model: your own model files, if the faces of training were found by them.
        workspace: the project's folder, whose ``mlflow.db`` is asked unless ``MLFLOW_TRACKING_URI`` is set.

    Returns:
        A :class:`duchenne.prediction.model.Model`: ``model.predict(sources)`` gives a table, ``model.network`` is the
        network in evaluation mode, ``model.card`` describes it.

    Raises:
        UserError: There is no trained fold, one of its files is damaged, the device does not exist, MLflow is not
            installed or has no such model, or a package that finds the faces is missing.
    """
    from duchenne import tracking
    from duchenne.prediction.model import Model

    given = {"detector_model": detector_model, "landmark_model": landmark_model}
    files = {name: Path(path) for name, path in given.items() if path is not None}
    if not re.match(r"(models|runs):/", str(model)):
        return Model(Path(model), files, device)
    with tempfile.TemporaryDirectory() as folder:
        return Model(tracking.download(str(model), Path(folder), Workspace(Path(workspace))), files, device)
