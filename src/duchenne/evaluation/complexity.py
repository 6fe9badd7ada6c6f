"""Parameters and operations of a network, in one convention for all and in those of the papers.

Papers print "Params" and "FLOPs" that cannot be compared. POSTER prints all parameters and twice the
multiply-accumulates (MACs) of the profiler ``ptflops``; POSTER++ and IFDD print the result of the profiler ``thop``,
one operation per MAC and only the parameters of layers that it knows. Neither profiler counts the products of
attention. Here all conventions are counted, so that printed numbers can be reproduced and networks compared.

Counting computes no values: the network runs on PyTorch's ``meta`` device, which only tracks shapes.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import timm
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from duchenne.models.contract import require
from duchenne.networks import facts_of

aten = torch.ops.aten
ATTENTION = (aten.bmm, aten.baddbmm)
"""Products of two activations; those with a weight are convolutions, ``mm`` and ``addmm``."""


@dataclass(frozen=True)
class Complexity:
    """Parameters and operations for one sample."""

    total: int
    """Parameters."""
    trainable: int
    """Trainable parameters."""
    used: int
    """Parameters that the logits depend on."""
    thop_params: int
    """Parameters of the layers that ran and for which ``thop`` has a rule."""
    macs: int
    """Multiply-accumulates of every product: convolutions, linear layers, attention."""
    attention_macs: int
    """The part of ``macs`` that multiplies two activations."""
    thop_macs: int
    """MACs as counted by ``thop``."""
    ptflops_macs: int
    """MACs as counted by ``ptflops``."""
    block_params: int = 0
    """Parameters of the transformer blocks alone, if a paper prints them (``facts.counting.blocks``); else 0."""
    block_ptflops_macs: int = 0
    """The part of ``ptflops_macs`` of the transformer blocks."""


def count_published(architecture: str, num_classes: int, options: Mapping[str, Any] | None = None) -> Complexity:
    """Count a registered network as its paper measured it; weights are not needed.

    Args:
        options: options of the network, which override those of its facts.

    Raises:
        UserError: there is no network of this name.
    """
    require(architecture)
    form = facts_of(architecture).counting
    with init_empty_weights():
        model = timm.create_model(architecture, num_classes=num_classes, **{**form.options, **(options or {})})
    return count(model, model.pretrained_cfg["input_size"], form.discarded, form.blocks)


def measured(architecture: str, num_classes: int, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Measure a registered network: fields of :class:`Complexity`, ``input_size`` and ``seconds`` per sample.

    It is counted as published (:func:`count_published`), and timed as this package runs it, on the CPU.

    Raises:
        UserError: there is no network of this name.
    """
    size = count_published(architecture, num_classes, options)
    model = timm.create_model(architecture, num_classes=num_classes, **(options or {}))
    shape = model.pretrained_cfg["input_size"]
    return asdict(size) | {"input_size": list(shape), "seconds": seconds(model, shape)}


def count(model: nn.Module, size: tuple[int, ...], discarded: tuple[str, ...] = (), blocks: str = "") -> Complexity:
    """Count one forward pass of one sample in evaluation mode; ``model`` does not change.

    Args:
        size: shape of a sample, such as (3, 224, 224).
        discarded: see :class:`duchenne.networks.Counting`.
        blocks: name of a module that is also counted separately; empty: none.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    sample = torch.empty(1, *size, device="meta")
    sizes = {name: parameter.numel() for name, parameter in shadow.named_parameters()}
    layers = _Layers(shadow)
    within = []  # MACs before and after the blocks
    if blocks:
        part = shadow.get_submodule(blocks)
        part.register_forward_pre_hook(lambda *_: within.append(layers.ptflops))
        part.register_forward_hook(lambda *_: within.append(layers.ptflops))
    # fused attention is one operation without a rule; the plain form is two products and a softmax
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), layers:
        logits = shadow(sample)
    layered = layers.run.union(*({name for name in sizes if name.startswith(f"{part}.")} for part in discarded))
    return Complexity(
        total=sum(sizes.values()),
        trainable=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        used=sum(sizes[name] for name in layers.behind(logits)),
        thop_params=sum(sizes[name] for name in layered),
        macs=sum(layers.macs.values()),
        attention_macs=sum(layers.macs[operation] for operation in ATTENTION),
        thop_macs=layers.thop,
        ptflops_macs=layers.ptflops,
        block_params=sum(size for name, size in sizes.items() if blocks and name.startswith(f"{blocks}.")),
        block_ptflops_macs=within[1] - within[0] if blocks else 0,
    )


def seconds(model: nn.Module, size: tuple[int, ...], repeats: int = 5) -> float:
    """Measure the median wall time of a forward pass of one sample on the model's device, after a warm-up."""
    device = next(model.parameters()).device
    sample = torch.rand(1, *size, device=device)
    training, times = model.training, []
    model.eval()
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            model(sample).cpu()  # the copy waits for a GPU
            times.append(time.perf_counter() - start)
    model.train(training)
    return statistics.median(times[1:])


class _Layers(TorchDispatchMode):
    """Counts like the profilers, and follows parameters through a forward pass even without gradients.

    Tensors are identified by their storage, so that a view has the record of its base.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.macs: Counter[Any] = Counter()
        self.thop = self.ptflops = 0
        self.run: set[str] = set()
        self._parameters = {_address(parameter): name for name, parameter in model.named_parameters()}
        self._behind = defaultdict(set, {address: {name} for address, name in self._parameters.items()})
        self._alive: list[torch.UntypedStorage] = []  # the address of a freed storage may be reused

    def behind(self, tensor: Tensor) -> set[str]:
        """Names of the parameters that ``tensor`` was made from."""
        return self._behind[_address(tensor)]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if formula := flop_registry.get(func.overloadpacket):
            self.macs[func.overloadpacket] += formula(*args, out_val=out) // 2
        if rule := PTFLOPS.get(func.overloadpacket):
            self.ptflops += rule(outputs[0], *args)
        if rule := THOP.get(func.overloadpacket):
            self.thop += rule(outputs[0], *args)
            addresses = {_address(tensor) for tensor in inputs}
            self.run |= {self._parameters[address] for address in addresses & self._parameters.keys()}
        sources = set().union(*map(self.behind, inputs))
        for tensor in outputs:
            self._alive.append(tensor.untyped_storage())
            self.behind(tensor).update(sources)
        return out


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    # also used for a transposed one, although its products are fewer by its strides
    return out.numel() * (x.shape[1] // rest[-1]) * math.prod(weight.shape[2:])


def _each(operations: int) -> Callable[..., int]:
    """Return a rule with this number of operations per element of the output."""
    return lambda out, *_: operations * out.numel()


# Operation -> count of a profiler, from its output and arguments. The profilers watch modules. Here the operations
# below them are counted, so that a layer called as a function counts in the same way. Operations not listed count as 0:
# products of activations, softmax (thop: a module's, 0.05 % of POSTER++), interpolation, pooling.
_SHARED: dict[Any, Callable[..., int]] = {
    aten.mm: lambda out, x, weight: out.numel() * x.shape[1],
    aten.addmm: lambda out, bias, x, weight: out.numel() * x.shape[1],
    aten._prelu_kernel: _each(1),
}
THOP = {
    **_SHARED,
    aten.convolution: _convolution,
    aten.native_batch_norm: _each(4),  # two, doubled for scale and shift
    aten.native_layer_norm: _each(4),
}
"""thop 0.1.1.post2209072238 (https://github.com/Lyken17/pytorch-OpCounter, thop/vision), no longer maintained."""
PTFLOPS = {
    **_SHARED,
    aten.convolution: lambda out, x, weight, bias, *rest: (
        _convolution(out, x, weight, *rest) + (0 if bias is None else out.numel())
    ),
    aten.native_batch_norm: _each(2),
    aten.relu: _each(1),
    aten.gelu: _each(1),
}
"""ptflops 0.6.9 (https://github.com/sovrasov/flops-counter.pytorch), which POSTER's requirements pin."""
