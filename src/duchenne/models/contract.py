"""Contract of a network: what the rest of the package requires of it, and the defaults of optional parts.

A network is a subclass of :class:`Network` and a function under :func:`register_network` that builds it. It must have

* ``forward_features``: input (B, ...) -> features (B, num_features), and ``forward_head``: features -> logits, or with
  ``pre_logits=True`` what the last layer sees of them;
* ``num_features`` and ``num_classes``, lengths of these two;
* an entry in its module's ``default_cfgs`` (timm's ``generate_default_cfgs``): ``input_size`` (C, H, W), ``mean`` and
  ``std`` of the normalisation, ``num_classes``, and ``classifier``, the name of its last layer;
* facts that other code needs without building it: :class:`duchenne.networks.Facts`.

Everything else has a default in :class:`Contract` or :class:`Network`, so callers never test whether a network has a
method, and users of timm find its usual ones: ``reset_classifier``, ``forward_intermediates``, ``feature_info``, and
``features_only=True`` of ``timm.create_model``. timm's own
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

from duchenne.errors import UserError, nearest, short
from duchenne.models.precision import LinearFp32, classify_in_float32
from duchenne.networks import Facts, networks
from duchenne.shortage import stop_if_short

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
    head_hidden_size: int
    """Length of the last layer's input; set when the network is built, for :meth:`reset_classifier`."""
    ballast: tuple[str, ...] = ()
    """Names of unused modules and parameters: official weights hold them, but the logits do not depend on them."""
    feature_info: Sequence[Mapping[str, Any]] = ()
    """Stages of :meth:`forward_intermediates`, as in timm: ``module`` (its name), ``num_chs`` (channels of its map) and
    ``reduction`` (height of the network's input by that of the map)."""

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Compute features (B, num_features) of an input (B, ...)."""

    @abstractmethod
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute logits (B, num_classes) from features (B, num_features).

        Args:
            pre_logits: return the input of the last layer instead, (B, head_hidden_size).
        """

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Compute logits; in ``train()`` optionally ``(logits, {name: loss})``, losses to add to the main loss."""
        return self.forward_head(self.forward_features(x))

    def stage_maps(self, output: Any) -> Tensor:
        """Reshape the output of a module of :attr:`feature_info` to maps: (B, C, H, W), for clips (B, C, T, H, W)."""
        return output

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute the maps of stages, and the features, of an input (B, ...).

        Args:
            indices: positions in :attr:`feature_info`, negative ones from the end; a number: the last so many; None:
                all.
            stop_early: with ``intermediates_only``, compute nothing after the last of these stages.
            norm, output_fmt: for timm's callers; only these values exist here.
            intermediates_only: return the maps alone.

        Returns:
            Features (B, num_features), and a map for each index: (B, C, H, W), for clips (B, C, T, H, W).

        Raises:
            UserError: The network names no stages, an index is not one of them, or ``norm`` or ``output_fmt`` has
                another value.
        """
        count = len(self.feature_info)
        if not count:
            raise UserError(f"{self.facts.title}, with these options, has no stages: its feature_info is empty")
        if norm or output_fmt != "NCHW":
            raise UserError(f"{self.facts.title}: stages are given without a norm and as NCHW maps")
        wanted = range(-count if indices is None else -indices, 0) if isinstance(indices, int | None) else indices
        if not wanted or not all(-count <= index < count for index in wanted):
            raise UserError(f"{self.facts.title}: indices {indices} are not among its {count} stages")
        taken = [index % count for index in wanted]
        maps: dict[int, Tensor] = {}
        features = None

        def keep(number: int) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                maps[number] = self.stage_maps(output)
                if stop_early and intermediates_only and maps.keys() == set(taken):
                    raise _StoppedError

            return hook

        modules = {number: self.get_submodule(self.feature_info[number]["module"]) for number in taken}
        hooks = [module.register_forward_hook(keep(number)) for number, module in modules.items()]
        try:
            features = self.forward_features(x)
        except _StoppedError:
            pass
        finally:
            for each in hooks:
                each.remove()
        found = [maps[number] for number in taken]
        return found if intermediates_only else (features, found)

    def get_classifier(self) -> nn.Module:
        """Return the last layer; an identity if there are no classes."""
        return self.get_submodule(self.default_cfg["classifier"])

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by a new one for a different number of classes, or by an identity for none.

        Without classes ``forward`` returns the input of the last layer, (B, head_hidden_size).

        Args:
            global_pool: for timm's callers: how features are pooled is part of these networks, so only None or "".

        Raises:
            UserError: ``num_classes`` is negative, or ``global_pool`` is given.
        """
        if global_pool:
            raise UserError(f"{self.facts.title} pools in its own way: leave global_pool={global_pool!r} out")
        if num_classes < 0:
            raise UserError(f"{self.facts.title}: num_classes is {num_classes}: give 0, for features, or more")
        new: nn.Module = nn.Identity()
        if num_classes:
            like = next(self.parameters())
            new = LinearFp32(self.head_hidden_size, num_classes, device=like.device, dtype=like.dtype)
            nn.init.normal_(new.weight, std=0.02)
            nn.init.zeros_(new.bias)
        self.set_submodule(self.default_cfg["classifier"], new, strict=True)
        self.num_classes = num_classes


class _StoppedError(Exception):
    """Raised within a forward pass after the last stage that is wanted."""


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
            headless = kwargs.get("num_classes") == 0
            if headless:  # a linear layer without outputs would warn, and lose the length of its input
                del kwargs["num_classes"]
            network = function(pretrained, **kwargs)
            if kwargs.get("features_only"):  # timm's wrapper, which uses no head
                network.model.facts = stated
                return network
            network.facts = stated
            _check(network, function)
            network.head_hidden_size = network.get_classifier().in_features
            if headless:
                network.reset_classifier(0)
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
        raise UserError(f"no network is called {short(architecture, 100)!r}{nearest(architecture, known_names)}")


def create(architecture: str, options: Mapping[str, Any], num_classes: int) -> nn.Module:
    """Create a network of the registry with random weights and the contract; its logits are always float32.

    With the option ``features_only`` it is timm's wrapper, which returns the maps of the stages, without the contract.

    Raises:
        UserError: There is no network of this name, an option has an invalid name or value, or ``num_classes`` is
            negative.
    """
    require(architecture)
    if num_classes < 0:
        raise UserError(f"{architecture}: num_classes is {num_classes}: give 0, for features, or more")
    try:
        network = timm.create_model(architecture, num_classes=num_classes, **options)
    except Exception as error:  # networks of timm raise any
        if not options or isinstance(error, UserError):
            raise
        stop_if_short(error)
        given = ", ".join(f"{name}: {value!r}" for name, value in options.items())
        why = short(" ".join(f"{type(error).__name__}: {error}".split()), 500)
        raise UserError(f"{architecture} cannot be built with the options {{{short(given)}}}: {why}") from error
    if options.get("features_only"):
        return network
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
