"""Builder of registered networks, whose number of input channels is fixed."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from timm.models import build_model_with_cfg
from timm.models._features import FeatureGetterNet  # timm names its wrappers nowhere else
from torch import nn

from duchenne.errors import UserError


def build(
    network: type[nn.Module], name: str, pretrained: bool, input_size: tuple[int, ...] | None = None, **options: Any
) -> nn.Module:
    """Build a registered network.

    Args:
        network: class of the network.
        name: name in timm's registry.
        pretrained: argument of ``timm.create_model``.
        input_size: channels, frames of a clip, height and width, if options decide them; default: the registry's.
        options: keyword arguments of the network, and timm's own; with ``features_only`` the result is a wrapper that
            returns a list of the maps of the stages ``out_indices`` (default: all).

    Raises:
        UserError: ``in_chans`` differs from the number of channels that the network takes, or the ``default_cfgs`` of
            the network's module have no entry ``name`` (timm would then build it with timm's default input size).
    """
    module = sys.modules[network.__module__]
    entries = getattr(module, "default_cfgs", {})
    if name not in entries:
        there = ", ".join(map(repr, entries)) or "none"
        raise UserError(f"{module.__file__}: default_cfgs has no entry {name!r} (it has {there}): add it or rename it")
    wanted = options.pop("in_chans", None)
    wrapper = partial(_stages, stages=options.pop("out_indices", None))
    model = build_model_with_cfg(
        network, name, pretrained, feature_cfg={"feature_cls": wrapper}, kwargs_filter=("in_chans",), **options
    )
    if input_size is not None:
        model.default_cfg["input_size"] = input_size
    takes = model.default_cfg["input_size"][0]
    if wanted not in (None, takes):
        raise UserError(f"{name} takes {takes} channels, not in_chans={wanted}: leave in_chans out")
    return model


def _stages(model: nn.Module, out_indices: object, stages: int | tuple[int, ...] | None) -> FeatureGetterNet:
    """Wrap a network for ``features_only``; ``out_indices`` are timm's own default, five stages."""
    info = model.feature_info
    if not info:
        raise UserError(
            f"{type(model).__name__}, with these options, has no stages: features_only needs a feature_info"
        )
    return FeatureGetterNet(model, tuple(range(len(info))) if stages is None else stages)
