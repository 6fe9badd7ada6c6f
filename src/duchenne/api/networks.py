"""Networks by name: what there is, and new ones with random or published weights."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from duchenne.errors import UserError
from duchenne.networks import networks

if TYPE_CHECKING:  # slow to import
    from torch import nn

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
