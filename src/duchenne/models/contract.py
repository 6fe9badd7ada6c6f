"""Contract of a network: what the rest of the package requires of it, and the defaults of optional parts.

A network is a subclass of :class:`Network` and a function under :func:`register_network` that builds it. It must have

* ``forward_features``: input (B, ...) -> features (B, num_features), and ``forward_head``: features -> logits;
* ``num_features`` and ``num_classes``, lengths of these two;
* an entry in its module's ``default_cfgs`` (timm's ``generate_default_cfgs``): ``input_size`` (C, H, W), ``mean`` and
  ``std`` of the normalisation, ``num_classes``, and ``classifier``, the name of its last layer;
* facts that other code needs without building it: :class:`duchenne.networks.Facts`.

Everything else has a default in :class:`Contract`, so callers never test whether a network has a method. timm's own
networks get the same defaults from :func:`with_contract`: they take images, have no maps of their own, and Grad-CAM
uses the last module of their ``feature_info``.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from importlib import import_module
from typing import Any

import timm
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

from duchenne.errors import UserError, nearest
from duchenne.models.precision import LinearFp32, classify_in_float32
from duchenne.networks import Facts, networks

Converter = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class Contract:
    """Optional parts of a network besides its forward pass, with their defaults."""

    facts: Facts
    """Set by :func:`register_network`."""

    pretrained_parts: Mapping[str, str] = {}
    """Part with published weights -> module that loads them; "" is the network itself."""
    pretrained_entries: Mapping[str, Sequence[str]] = {}
    """Part -> patterns of the entries to load from its file; default: all."""
    pretrained_converters: Mapping[str, Converter] = {}
    """Part -> function from the file's state dict to that of the module."""

    flow: str | None = None
    """Optical flow in channels 2 and 3 of the input (pairs): ``farneback``, ``dis`` or none."""
    learns_without_labels: bool = False
    """Whether the network has :meth:`pretraining_loss`, for ``recipe.pretrain_epochs``."""
    has_au_regions: bool = False
    """Whether the network has :meth:`set_au_centers`; the trainer then calls it before training."""

    def pretraining_loss(self, x: Tensor) -> Tensor:
        """Compute a loss without labels: input (B, ...) -> scalar.

        Raises:
            UserError: The network has no such loss.
        """
        raise UserError(f"{self.facts.title} cannot train without labels: set recipe.pretrain_epochs to 0")

    def set_au_centers(self, centers: Tensor) -> None:
        """Set the centres of the action-unit regions: (9, 2), x and y in px of a face of 224 px.

        Raises:
            UserError: The network has no such regions.
        """
        raise UserError(f"{self.facts.title} has no AU regions")

    def reusable(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, ...], ...]:
        """Compute, without gradient, values that a second forward pass over the same batch (SAM) can reuse.

        The trainer passes them to both passes as further arguments of ``forward``.
        """
        return ()

    def explain(self, x: Tensor) -> dict[str, Tensor]:
        """Return maps (``facts.maps``) of what a network in evaluation mode attends to in inputs (B, ...).

        Returns:
            Maps by name, without gradient and not negative; Grad-CAM is computed elsewhere. Images: (B, H, W), shares
            of attention whose sum is at most one. Clips: ``attention_<part>`` (B, T, H, W) in any unit, each with
            ``frames_<part>`` (B, T), the positions of these T frames in the input, in frames from 0. Pairs: (B, H, W)
            weights as multiples of an even share, and ``displacement`` (B, 2, H, W) from onset to apex in px, which may
            be negative.
        """
        return {}

    def cam_maps(self, output: Tensor) -> Tensor:
        """Reshape the output of ``facts.layer`` to maps for Grad-CAM: (B, C, H, W), for clips (B, T, C, H, W)."""
        return output


class Network(Contract, nn.Module, ABC):
    """Base class of a network of this package."""

    num_classes: int
    num_features: int
    default_cfg: dict[str, Any]
    """Set by timm, from the module's ``default_cfgs``."""
    ballast: tuple[str, ...] = ()
    """Names of unused modules and parameters: official weights hold them, but the logits do not depend on them."""

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Compute features (B, num_features) of an input (B, ...)."""

    @abstractmethod
    def forward_head(self, features: Tensor) -> Tensor:
        """Compute logits (B, num_classes) from features (B, num_features)."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Compute logits; in ``train()`` optionally ``(logits, {name: loss})``, losses to add to the main loss."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.get_submodule(self.default_cfg["classifier"])

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one for a different number of classes.

        Raises:
            UserError: There is less than one class; for features use ``forward_features``.
        """
        if num_classes < 1:
            raise UserError(f"{self.facts.title}: num_classes is {num_classes}; for features call forward_features")
        old = self.get_classifier()
        new = LinearFp32(old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype)
        nn.init.normal_(new.weight, std=0.02)
        nn.init.zeros_(new.bias)
        self.set_submodule(self.default_cfg["classifier"], new, strict=True)
        self.num_classes = num_classes


def register_network(title: str, **facts: Any) -> Callable[[Callable[..., Network]], Callable[..., Network]]:
    """Register the decorated function with timm under its name, and attach the facts to the networks that it builds.

    Args:
        title, facts: fields of :class:`duchenne.networks.Facts`, as literals (see that module).

    Raises:
        UserError: A fact has an invalid value; or, when the network is built, ``layer`` or the ``classifier`` of its
            ``default_cfgs`` is not one of its modules, or it has ``maps`` and no ``explain``.
    """
    stated = Facts(title, **facts)

    def decorate(function: Callable[..., Network]) -> Callable[..., Network]:
        @wraps(function)
        def entry(pretrained: bool = False, **kwargs: Any) -> Network:
            network = function(pretrained, **kwargs)
            network.facts = stated
            _check(network, function)
            return network

        return register_model(entry)

    return decorate


def _check(network: Network, function: Callable[..., Network]) -> None:
    """Raise a UserError for names of modules and maps that the network does not have."""
    where = f"{sys.modules[function.__module__].__file__}: {function.__name__}"
    modules = dict(network.named_modules())
    classifier, layer = (getattr(network, "default_cfg", None) or {}).get("classifier"), network.facts.layer
    if not isinstance(modules.get(classifier), nn.Linear):
        linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
        raise UserError(
            f"{where}: 'classifier' in default_cfgs is {classifier!r}, not the name of a linear layer"
            f"{nearest(str(classifier), linear) or f' (the last one is {linear[-1]!r})' if linear else ''}"
        )
    if layer is not None and layer not in modules:
        top = ", ".join(name for name, _ in network.named_children())
        raise UserError(
            f"{where}: layer={layer!r} in register_network is not a module of {type(network).__name__}"
            f"{nearest(layer, modules) or f' (it has {top})'}"
        )
    if network.facts.maps and type(network).explain is Contract.explain:
        named = ", ".join(network.facts.maps)
        raise UserError(f"{where}: register_network names maps ({named}), and {type(network).__name__} has no explain")


def register_networks() -> None:
    """Register every network of this package with timm, for ``timm.create_model("poster_v2", num_classes=7)``."""
    for module in sorted({network.module for network in networks().values()}):
        import_module(module)


def require(architecture: str) -> None:
    """Make sure that timm's registry has a network of this name; registers the one of this package, if it is ours.

    Raises:
        UserError: There is no such network.
    """
    if known := networks().get(architecture):
        import_module(known.module)
    elif not timm.is_model(architecture):
        known_names = {*networks(), *timm.list_models()}
        raise UserError(f"no network is called {architecture!r}{nearest(architecture, known_names)}")


def create(architecture: str, options: Mapping[str, Any], num_classes: int) -> nn.Module:
    """Create a network of the registry with random weights and the contract; its logits are always float32.

    Raises:
        UserError: There is no network of this name, or an option has an invalid name or value.
    """
    require(architecture)
    try:
        network = timm.create_model(architecture, num_classes=num_classes, **options)
    except TypeError as error:
        if not options:
            raise
        given = ", ".join(f"{name}: {value!r}" for name, value in options.items())
        raise UserError(f"{architecture} cannot be built with the options {{{given}}}: {error}") from error
    return classify_in_float32(with_contract(network, architecture))


def with_contract(network: nn.Module, name: str) -> nn.Module:
    """Give a network of timm the defaults of the contract; changes and returns the network.

    It takes images. Grad-CAM shows the last module of its ``feature_info``, where timm names one that gives maps.
    """
    if not isinstance(network, Contract):
        network.__class__ = _adopted(type(network))
        network.facts = Facts(name, layer=_last_maps(network))
    return network


def _last_maps(network: nn.Module) -> str | None:
    """The last module that timm lists as one of features; None where there is none, or its channels come last."""
    features = vars(network).get("feature_info")
    if not features or vars(network).get("output_fmt", "NCHW") != "NCHW":
        return None
    layer = features[-1]["module"]
    return layer if layer in dict(network.named_modules()) else None


@cache
def _adopted(network: type[nn.Module]) -> type[nn.Module]:
    """Extend a class of timm by the missing parts of the contract."""
    return type(network.__name__, (network, Contract), {})


def weighted(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017, Eqs. 1 and 2): maps and gradients (..., C, H, W) -> (..., H, W).

    A channel's weight is the mean of its gradient over the map; negative sums become 0. The result has no unit.
    """
    return F.relu((gradients.mean((-2, -1), keepdim=True) * maps).sum(-3)).detach()
