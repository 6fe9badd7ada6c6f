"""Benchmark of networks: this package's form against the official arithmetic, forward pass and training step.

    python benchmarks/training.py                       # ratios, POSTER++ and IFDD-3DViT
    python benchmarks/training.py --levers              # what each difference and each untaken option gives
    python benchmarks/training.py --profile             # share of each operator in our forward pass and training step

``official`` is our network turned into the published one by the steps of :data:`OFFICIAL`: float32, contiguous,
published modules, nothing left out and nothing reused. Weights and results are those of our form up to rounding, which
``--check`` tests. ``ours`` is what train and predict run: precision and layout of :mod:`duchenne.training.device`, the
step of :class:`duchenne.training.trainer.Trainer` with the recipe of the paper's variant.

Each form runs in a process of its own, because settings of the memory allocator belong to a process. The forms take
turns, one pass each; a line gives the medians and the median of the ratios of neighbouring passes, by the clock and by
processor time, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import MethodType
from typing import Any

import torch
import torch._inductor.config
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.profiler import ProfilerActivity, profile
from torchvision.models.video.mvit import MultiscaleAttention, MultiscaleBlock

from duchenne.models.backbones import mvit
from duchenne.models.backbones.ir50 import Subsample
from duchenne.models.backbones.mobilefacenet import MobileFaceNet
from duchenne.models.contract import create
from duchenne.models.poster_v2 import CrossAttention
from duchenne.papers.library import library, resolve
from duchenne.planning.measuring import step_of
from duchenne.training.device import Placement, accelerator_of, autocast, device_of, layout_of, precision_of
from duchenne.training.device import reuse_memory as reuse
from duchenne.training.losses import create_loss
from duchenne.training.settings import Compute, Variant

CASES = {  # network -> variant of the paper, batch sizes of the forward pass and of the training step, options of ours
    "poster_v2": ("poster_v2_rafdb", 16, 16, {"landmark_bn_frozen": True}),
    "ifdd_3dvit": ("ifdd_3dvit_dfew", 2, 2, {}),
}
SMALL = {"forward": 1, "step": 2}
"""Batch sizes with ``--small``; a step needs two samples for its BatchNorms."""
CLASSES = 7

# -------------------------------------------------------------------------------------------------- the official form


def every_row(network: nn.Module) -> None:
    """The last transformer block runs on all 148 tokens, of which one is read."""
    if hasattr(network, "VIT"):
        network.VIT.full_last_block = True


def landmark_head(network: nn.Module) -> None:
    """The landmark network computes its 68 points, which are discarded."""
    for module in network.modules():
        if isinstance(module, MobileFaceNet):
            module.forward_features = MethodType(_with_head, module)


def _with_head(self: MobileFaceNet, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    maps = MobileFaceNet.forward_features(self, x)
    self.output_layer(maps[-1])
    return maps


def moving_statistics(network: nn.Module) -> None:
    """BatchNorms of the landmark branch normalise by the batch in training, so that SAM cannot reuse its maps."""
    if hasattr(network, "landmark_bn_frozen"):
        network.landmark_bn_frozen = False


def max_pooling(network: nn.Module) -> None:
    """Shortcuts of IR50 take every second cell by max-pooling with kernel 1."""
    for name, module in list(network.named_modules()):
        if isinstance(module, Subsample):
            network.set_submodule(name, nn.MaxPool2d(1, module.stride))


def separate_attention(network: nn.Module) -> None:
    """Attention is a product, a scale, a bias, a softmax and a product, each of which writes its result."""
    F.scaled_dot_product_attention = _attention  # of this process
    for module in network.modules():
        if isinstance(module, CrossAttention):
            module.bias = MethodType(_bias, module)
        if isinstance(module, Attention):
            module.fused_attn = False
        if isinstance(module, mvit.Block):
            module.__class__ = MultiscaleBlock
        if isinstance(module, mvit.FusedAttention):
            module.__class__ = MultiscaleAttention


def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
    scores = query * query.shape[-1] ** -0.5 @ key.mT
    return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ value


def _bias(self: CrossAttention) -> Tensor | None:
    if self.relative_position_bias_table is None:
        return None
    bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
    return bias.unflatten(0, self.relative_position_index.shape).permute(2, 0, 1).contiguous()


OFFICIAL = (every_row, landmark_head, moving_statistics, max_pooling, separate_attention)
"""What makes our network the published one; float32, layout, optimiser and SAM are differences of :class:`Form`."""


class PublishedSam:
    """The training step of POSTER++'s code: SAM over Adam, one tensor after another."""

    def __init__(self, parameters: list[nn.Parameter], rho: float | None, **settings: Any) -> None:
        self.parameters, self.rho = [p for p in parameters if p.requires_grad], rho
        self.base = torch.optim.Adam(self.parameters, foreach=False, fused=False, **settings)

    def step(self, backward: Callable[[], None]) -> None:
        backward()
        if self.rho:
            moved = [p for p in self.parameters if p.grad is not None]
            with torch.no_grad():
                scale = self.rho / (torch.stack([p.grad.norm() for p in moved]).norm() + 1e-12)
                before = [p.data.clone() for p in moved]
                for p in moved:
                    p.add_(1.0 * p.grad * scale)
            self.base.zero_grad()
            backward()
            for p, old in zip(moved, before, strict=True):
                p.data = old
        self.base.step()
        self.base.zero_grad()


# ------------------------------------------------------------------------------------------------------------- forms


def folded(network: nn.Module) -> None:
    """Join each BatchNorm with the convolution before it, for inference."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            names = list(module._modules)
            for first, second in itertools.pairwise(names):
                pair = module._modules[first], module._modules[second]
                if isinstance(pair[0], nn.Conv2d) and isinstance(pair[1], nn.BatchNorm2d):
                    module._modules[first], module._modules[second] = fuse_conv_bn_eval(*pair), nn.Identity()


def frozen(network: nn.Module) -> None:
    """Let the compiler treat weights as constants, for inference."""
    torch._inductor.config.freezing = True


class Form:
    """A network in one form, with the passes to measure.

    Args:
        steps: changes of the network.
        published_step: train by :class:`PublishedSam` instead of the trainer.
        memory: whether the process keeps freed memory (:func:`duchenne.training.device.reuse_memory`).
    """

    def __init__(
        self,
        name: str,
        compute: Compute,
        small: bool = False,
        options: dict[str, Any] | None = None,
        steps: tuple[Callable[[nn.Module], None], ...] = (),
        published_step: bool = False,
        memory: bool = True,
    ) -> None:
        variant, self.batch, self.train_batch, own = CASES[name]
        if small:
            self.batch, self.train_batch = SMALL["forward"], SMALL["step"]
        block = resolve(variant, library()["variants"])
        self.variant = Variant.model_validate(block)
        if memory:
            reuse()
        torch.manual_seed(0)
        self.compute, self.device = compute, device_of(compute)
        self.network = create(name, own | (options or {}), CLASSES)
        for step in steps:
            step(self.network)
        self.precision = precision_of(compute, self.device)
        self.layout = layout_of(compute, self.network.facts.takes)
        self.network.to(self.device, memory_format=self.layout)
        if compute.compile:
            self.network.compile()
        self.published_step, self.trained = published_step, None
        torch.manual_seed(1)
        shape = self.network.default_cfg["input_size"]
        self.inputs = torch.rand(max(self.batch, self.train_batch), *shape, device=self.device)

    @torch.inference_mode()
    def forward(self) -> Tensor:
        """Compute the logits of a batch, as predict does."""
        self.network.eval()
        with autocast(self.device, self.precision):
            return self.network(self.inputs[: self.batch].to(memory_format=self.layout))

    def step(self) -> None:
        """Make a step of the optimiser on a batch."""
        inputs = self.inputs[: self.train_batch]
        labels = torch.arange(self.train_batch, device=self.device) % CLASSES
        if self.trained is None:
            self.trained = self._published() if self.published_step else self._trainer()
        self.trained(inputs, labels)

    def _published(self) -> Callable[[Tensor, Tensor], None]:
        recipe = self.variant.recipe
        optimizer = PublishedSam(list(self.network.parameters()), recipe.sam_rho, lr=recipe.lr)
        loss = create_loss(recipe)
        self.network.train()

        def step(inputs: Tensor, labels: Tensor) -> None:
            def backward() -> None:
                with autocast(self.device, self.precision):
                    output = self.network(inputs)
                logits, losses = output if isinstance(output, tuple) else (output, {})
                (loss(logits, labels) + sum(losses.values())).backward()

            optimizer.step(backward)

        return step

    def _trainer(self) -> Callable[[Tensor, Tensor], None]:
        placement = Placement(accelerator_of(self.compute, self.device), self.precision, self.layout)
        return step_of(self.network, placement, self.variant, CLASSES)


FP32 = {"precision": "fp32"}
FORMS: dict[str, dict[str, Any]] = {
    "official": {
        "compute": FP32 | {"channels_last": False},
        "steps": OFFICIAL,
        "published_step": True,
        "memory": False,
    },
    "ours": {},
}
LEVERS: dict[str, dict[str, Any]] = {
    "ours": FORMS["ours"],
    "ours, float32": {"compute": FP32},
    "ours, contiguous": {"compute": {"channels_last": False}},
    "ours, attention in separate operations": {"steps": (separate_attention,)},
    "ours, landmark maps computed in every pass": {"steps": (moving_statistics,)},
    "ours, last block on all tokens": {"steps": (every_row,)},
    "ours, memory returned to the system": {"memory": False},
    "ours, optimiser and SAM as published": {"published_step": True},
    "ours, BatchNorm folded": {"steps": (folded,)},
    "ours, compiled": {"compute": {"compile": True}},
    "ours, compiled with frozen weights": {"compute": {"compile": True}, "steps": (frozen,)},
}
INFERENCE = ("ours, BatchNorm folded", "ours, compiled with frozen weights")
"""Forms that cannot be trained."""
PASSES = ("forward", "step")


def build(name: str, form: str, small: bool) -> Form:
    """Build a network in a form."""
    settings = copy.copy((FORMS | LEVERS)[form])
    compute = Compute(**settings.pop("compute", {}))
    return Form(name, compute, small, **settings)


# ---------------------------------------------------------------------------------------------------------- measuring


def serve(pipe: Connection, name: str, form: str, threads: int, small: bool) -> None:
    """Run passes of a form on demand, in a process of its own; sends seconds by the clock and of processor time."""
    torch.set_num_threads(threads)
    built = build(name, form, small)
    while what := pipe.recv():
        start = time.perf_counter(), time.process_time()
        getattr(built, what)()
        if built.device.type != "cpu":
            torch.accelerator.synchronize()
        pipe.send((time.perf_counter() - start[0], time.process_time() - start[1]))


def measure(
    name: str, what: str, forms: list[str], repeats: int, threads: int, small: bool
) -> dict[str, list[tuple[float, float]]]:
    """Time the passes of every form in turn: form -> (seconds, seconds of processor time) of each pass."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for form in forms:
        pipes[form], there = context.Pipe()
        processes.append(context.Process(target=serve, args=(there, name, form, threads, small), daemon=True))
        processes[-1].start()
        there.close()  # so that a process that fails ends the benchmark
    found: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
    for repeat in range(repeats + 1):
        for form, pipe in pipes.items():
            pipe.send(what)
            if repeat:
                found[form].append(pipe.recv())
            else:
                pipe.recv()  # the first pass allocates
    for pipe in pipes.values():
        pipe.send("")
    for process in processes:
        process.join()
    return found


def table(names: list[str], passes: list[str], forms: list[str], repeats: int, threads: int, small: bool) -> None:
    """Print a line for every form of every pass, with its speed as a multiple of the first form's.

    Each form takes turns with the first one alone, so that memory holds two networks.
    """
    first = forms[0]
    print(f"| network | pass | form | ms a sample | times as fast as {first} | by processor time |")
    print("|---|---|---|--:|--:|--:|")
    for name in names:
        for what in passes:
            count = SMALL[what] if small else CASES[name][1 if what == "forward" else 2]
            for form in forms[1:]:
                if what == "step" and form in INFERENCE:
                    continue
                found = measure(name, what, [first, form], repeats, threads, small)
                pairs = list(zip(found[first], found[form], strict=True))
                clock, processor = (statistics.median(base[k] / own[k] for base, own in pairs) for k in (0, 1))
                one = 1000 * statistics.median(own for _, (own, _) in pairs) / count
                values = f"{one:.1f} | {clock:.2f} | {processor:.2f}"
                print(f"| {name} | {what} of {count} | {form} | {values} |", flush=True)


def check(name: str) -> float:
    """Return the largest difference of the logits of both forms, over the largest logit; both in float32."""
    own = Form(name, Compute(**FP32), small=True).forward()
    kept = F.scaled_dot_product_attention
    official = build(name, "official", small=True)
    other = official.forward()
    F.scaled_dot_product_attention = kept
    return float((own - other).abs().max() / own.abs().max())


def shares(name: str, what: str, form: str, threads: int, small: bool, least: float = 0.01) -> None:
    """Print the share of every operator in the time of a pass, those of at least ``least``."""
    torch.set_num_threads(threads)
    built = build(name, form, small)
    getattr(built, what)()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if built.device.type == "cuda" else [])]
    with profile(activities=activities) as seen:
        getattr(built, what)()
    own = "self_device_time_total" if built.device.type == "cuda" else "self_cpu_time_total"
    times = {entry.key: getattr(entry, own) for entry in seen.key_averages()}
    total = sum(times.values())
    print(f"\n| {name}, {what} ({built.precision}), operator | share, % |\n|---|--:|")
    for operator, seconds in sorted(times.items(), key=lambda item: -item[1]):
        if seconds >= least * total:
            print(f"| `{operator}` | {100 * seconds / total:.1f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--networks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--repeats", type=int, default=5, help="passes of each form")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--small", action="store_true", help="batches of one and two")
    parser.add_argument("--check", action="store_true", help="compare the logits of both forms")
    parser.add_argument("--levers", action="store_true", help="one difference at a time")
    parser.add_argument("--profile", action="store_true", help="operators of our form")
    chosen = parser.parse_args()
    if chosen.check:
        for name in chosen.networks:
            print(f"{name}: logits of both forms differ by {check(name):.1e} of the largest")
    elif chosen.profile:
        for name in chosen.networks:
            for what in chosen.passes:
                shares(name, what, "ours", chosen.threads, chosen.small)
    else:
        forms = list(LEVERS if chosen.levers else FORMS)
        table(chosen.networks, chosen.passes, forms, chosen.repeats, chosen.threads, chosen.small)


if __name__ == "__main__":
    main()
