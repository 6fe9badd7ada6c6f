"""Parts of a network that stay in float32 when the rest runs in bfloat16.

bfloat16 keeps 8 bits of a value, an error of up to 0.4 %. Most of a network tolerates that. The exceptions are values
whose small differences matter: a displacement that is divided by its own size, the position at which a clip is read,
the difference of two halves, and the logits, the largest of which is the predicted class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P, R = ParamSpec("P"), TypeVar("R")


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function of tensors, or a method, in float32 where autocast would choose a lower precision.

    Arguments in a lower precision, also those inside tuples, are cast. Without autocast nothing changes: a network
    that was converted as a whole (``network.bfloat16()``) computes in the precision it was converted to.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(x.device.type for x in chain(args, kwargs.values()) if isinstance(x, Tensor))
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*map(_raised, args), **{name: _raised(value) for name, value in kwargs.items()})

    return wrapped


def _raised(value: Any) -> Any:
    """Return the value, or its tensors, in at least float32."""
    if isinstance(value, tuple):
        return tuple(map(_raised, value))
    if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16):
        return value.float()
    return value


class LinearFp32(nn.Linear):
    """A linear layer that autocast leaves in float32: (..., in_features) -> (..., out_features).

    For the last layer of a classifier: in bfloat16, logits from 8 to 16 are multiples of 1/16, and classes that differ
    by less tie.
    """

    forward = in_float32(nn.Linear.forward)


def classifiers(network: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's last layers: distilled networks of timm have two, a few have none."""
    names = network.default_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def classify_in_float32(network: nn.Module) -> nn.Module:
    """Keep the classifier of any network of timm's registry in float32; changes and returns the network.

    The classifier is the module, or the modules, that its ``default_cfg`` names as such.
    """
    for name in classifiers(network):
        layer = network.get_submodule(name)
        if not isinstance(layer, LinearFp32 | nn.Identity):  # an identity: no classes
            layer.__class__ = _fp32(type(layer))
    return network


@cache
def _fp32(layer: type[nn.Module]) -> type[nn.Module]:
    """A class of layers with its forward pass in float32."""
    if layer is nn.Linear:
        return LinearFp32
    return type(f"{layer.__name__}Fp32", (layer,), {"forward": in_float32(layer.forward)})
