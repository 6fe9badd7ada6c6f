"""Benchmark of a GPU: speed of every network, idle time, parity with the CPU, and resuming; see gpu.sh.

    python benchmarks/gpu.py [--seconds 450] [--quick] [--networks NAME ...] [--ways NAME ...]
                             [--parts speed loader parity resume processes]

Prints Markdown tables as they are measured:

- ``parity``: largest difference of the logits from those of the CPU in float32, over the largest logit;
- ``resume``: whether a training run that is interrupted after its first epoch ends with the same weights, bit for bit;
- ``processes``: on two GPUs or more, speed of one network on one and on two of them, and how far apart the weights are;
- ``loader``: samples a second of training from the face store with the default loader, and the share of the time in
  which the device waits: 1 minus the time of the same steps on batches that are there already;
- ``speed``: samples a second of inference and of the training step (SAM where the paper uses it) for every registered
  network, with the batch size of its paper, in float32, TF32, bf16, and bf16 with ``torch.compile``.

What the time does not allow is left out, and named at the end. Without a GPU all of it runs on the CPU, slowly;
``--quick`` uses batches of two, one pass, and a tiny network for ``resume`` and ``loader``.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor

from duchenne.faces.arrow import write_rows
from duchenne.faces.build import _assemble
from duchenne.faces.hashing import face_hash
from duchenne.faces.settings import Faces
from duchenne.faces.store import SCHEMA, FaceStore, encode
from duchenne.models.contract import create
from duchenne.papers.library import library, resolve
from duchenne.planning.measuring import step_of
from duchenne.training.data import Draws, loader
from duchenne.training.device import Placement, accelerator_of, autocast, device_of, layout_of, precision_of
from duchenne.training.fold import train_fold
from duchenne.training.inputs import inputs
from duchenne.training.settings import Compute, Recipe, Variant
from duchenne.training.workers import passes, workers_for

CLASSES = 7
VARIANTS = {
    "poster_v2": "poster_v2_rafdb",
    "poster_l": "poster_rafdb",
    "poster_s": "poster_s_rafdb",
    "poster_t": "poster_t_rafdb",
    "poster_image_only": "poster_image_only_rafdb",
    "ifdd_3dvit": "ifdd_3dvit_dfew",
    "ifdd_2dcnn": "ifdd_2dcnn_dfew",
    "mvit_clip": "mvit_clip_dfew",
    "mobilenetv2_clip": "mobilenetv2_clip_dfew",
    "frl_dgt": "frl_dgt_megc2019",
}
"""Network -> variant of its paper, for the recipe and the batch size."""


class Way(NamedTuple):
    """A way of computing."""

    compute: dict[str, Any]
    tf32: bool = False


WAYS = {
    "float32": Way({"precision": "fp32"}),
    "TF32": Way({"precision": "fp32"}, tf32=True),
    "bf16": Way({"precision": "bf16"}, tf32=True),
    "bf16, compiled": Way({"precision": "bf16", "compile": True}, tf32=True),
}


class Clock:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self.end, self.left_out = time.perf_counter() + seconds, []

    def allows(self, what: str, seconds: float = 0) -> bool:
        """Whether ``seconds`` more are left; otherwise ``what`` is noted as left out."""
        if time.perf_counter() + seconds < self.end:
            return True
        self.left_out.append(what)
        return False


def variant_of(architecture: str, tiny: bool = False) -> Variant:
    """Return the variant of the paper that trains a network, without weights.

    Args:
        tiny: put a small network of timm in its place, to test the script.
    """
    variant = Variant.model_validate(resolve(VARIANTS[architecture], library()["variants"]))
    other = {"architecture": "test_resnet"} if tiny else {}
    model = variant.model.model_copy(update={"options": {}, "pretrained": {}} | other)
    return variant.model_copy(update={"model": model})


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


class Inference:
    """A network on its device, with random weights and inputs that depend on nothing else.

    Without accelerate, whose first use fixes the device for the process.
    """

    def __init__(self, variant: Variant, compute: Compute, batch: int) -> None:
        self.device = device_of(compute)
        self.precision = precision_of(compute, self.device)
        torch.manual_seed(0)
        self.network = create(variant.model.architecture, variant.model.options, CLASSES)
        self.layout = layout_of(compute, self.network.facts.takes)
        self.inputs = torch.rand(batch, *self.network.default_cfg["input_size"]).to(self.device)
        self.network.to(self.device, memory_format=self.layout)

    @torch.inference_mode()
    def predict(self) -> Tensor:
        """Compute the logits of a batch."""
        self.network.eval()
        with autocast(self.device, self.precision):
            return self.network(self.inputs.to(memory_format=self.layout))


class Training(Inference):
    """A network with the trainer's own step, on random inputs."""

    def __init__(self, variant: Variant, compute: Compute, batch: int) -> None:
        super().__init__(variant, compute, batch)
        self.placement = Placement(accelerator_of(compute, self.device), self.precision, self.layout)
        self.labels = (torch.arange(batch) % CLASSES).to(self.device)
        self.train = step_of(self.network, self.placement, variant, CLASSES, compute.compile)

    def step(self) -> None:
        """Make a step of the optimiser."""
        self.train(self.inputs, self.labels)


def rate(run: Callable[[], object], batch: int, device: torch.device, seconds: float) -> float:
    """Return samples a second: passes for about ``seconds``, after two that warm up."""
    for _ in range(2 if seconds else 1):
        run()
    synchronise(device)
    passes, start = 0, time.perf_counter()
    while not passes or time.perf_counter() - start < seconds:
        run()
        synchronise(device)
        passes += 1
    return passes * batch / (time.perf_counter() - start)


def speed(names: list[str], ways: list[str], clock: Clock, quick: bool) -> None:
    """Print the speed of every network in every way; compiled ones come last, because compiling takes minutes."""
    print("\n| network | computed in | batch | inference, samples/s | training, samples/s | memory, GB |")
    print("|---|---|--:|--:|--:|--:|")
    for way in ways:
        settings, tf32 = WAYS[way]
        for name in names:
            compute = Compute(**settings)
            what = f"{name} in {way}"
            if not clock.allows(what, 0 if quick else 60 if compute.compile else 10):
                continue
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            variant = variant_of(name)
            batch = 2 if quick else variant.recipe.batch_size
            try:
                cells = _speed(variant, compute, batch, 0 if quick else 1.5)
            except torch.OutOfMemoryError:
                cells = "out of memory | |"
            gc.collect()
            torch.compiler.reset()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            print(f"| {name} | {way} | {batch} | {cells} |", flush=True)


def _speed(variant: Variant, compute: Compute, batch: int, seconds: float) -> str:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    own = Training(variant, compute, batch)
    inference = rate(own.predict, batch, own.device, seconds)
    training = rate(own.step, batch, own.device, seconds)
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if own.device.type == "cuda" else ""
    return f"{inference:.1f} | {training:.1f} | {memory}"


def parity(names: list[str], ways: list[str], clock: Clock) -> None:
    """Print how far the logits of two samples are from those of the CPU, in float32, TF32 and bf16."""
    ways = [way for way in ways if not WAYS[way].compute.get("compile")]
    print(f"\n| network | {' | '.join(f'difference from the CPU, {way}' for way in ways)} |\n|---|{'--:|' * len(ways)}")
    for name in names:
        if not clock.allows(f"parity of {name}"):
            continue
        variant, found = variant_of(name), []
        expected = Inference(variant, Compute(precision="fp32", device="cpu"), 2).predict().float()
        for way in ways:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = WAYS[way].tf32
            logits = Inference(variant, Compute(**WAYS[way].compute), 2).predict().float().cpu()
            found.append(f"{float((logits - expected).abs().max() / expected.abs().max()):.1e}")
        print(f"| {name} | {' | '.join(found)} |", flush=True)


def write_store(folder: Path, count: int) -> tuple[FaceStore, pd.DataFrame]:
    """Write ``count`` stand-in faces of 224 px in the form of the align stage; returns the store and its samples."""
    rng, rows = np.random.default_rng(0), []
    for number in range(count):
        picture = np.kron(rng.integers(0, 256, (14, 14, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
        once = {"frame_numbers": [0], "frames": [encode(picture, "jpeg", 95)], "transforms": [[1.0, 0, 0, 0, 1, 0]]}
        found = {"boxes": [[0.0, 0, 224, 224]], "confidence": [1.0], "doubtful": [False], "faces": [1]}
        rows.append({"sample": f"s{number}"} | once | found | {"phash": face_hash(picture)})
    folder.mkdir(parents=True)
    write_rows(folder / "chunk.arrow", SCHEMA, rows)
    _assemble([folder / "chunk.arrow"], Faces(mode="aligned"), folder / "store")
    samples = pd.DataFrame({"sample": [row["sample"] for row in rows], "label": np.arange(count) % CLASSES})
    return FaceStore(folder / "store"), samples


def waiting(folder: Path, quick: bool) -> None:
    """Print how long the device waits for the default loader, with POSTER++ and its paper's batches."""
    compute = Compute()
    variant = variant_of("poster_v2", quick)
    batch = 2 if quick else variant.recipe.batch_size
    store, samples = write_store(folder / "loader", (1 if quick else 12) * batch)
    own = Training(variant, compute, batch)
    faces = inputs(own.network, store, samples, variant.recipe, train=True)
    draws = Draws(samples["label"], batch, False, 0)
    whole_training = 17_000  # batches of the paper's 200 epochs on RAF-DB, over which starting processes pays
    step = passes(own.network, own.device, own.precision, own.layout, backward=2)
    workers = workers_for(compute, own.device, faces, draws, batch, whole_training, step)
    batches = own.placement.accelerator.prepare(loader(faces, batch, workers, draws))
    own.step()

    def epoch(given: Iterator[Any]) -> float:
        start = time.perf_counter()
        for inputs_, labels, _ in given:
            own.train(inputs_, labels)
        synchronise(own.device)
        return time.perf_counter() - start

    there = list(batches)
    busy, whole = epoch(iter(there)), epoch(iter(batches))
    print(f"\n| POSTER++, loader_workers: auto, here {workers} | samples/s | device waits, % |\n|---|--:|--:|")
    print(f"| batches of {batch} | {len(samples) / whole:.1f} | {100 * max(0.0, 1 - busy / whole):.0f} |", flush=True)


def resuming(folder: Path, quick: bool) -> None:
    """Print whether an interrupted training run ends with the same weights as one without interruption."""
    count, epochs, batch = (4, 2, 2) if quick else (64, 3, 16)
    store, samples = write_store(folder / "resume", count + 2)
    parts = samples.assign(part=["train"] * count + ["val", "test"])
    recipe = Recipe(epochs=epochs, batch_size=batch, lr=1e-4, sam_rho=0.05)
    own = variant_of("poster_v2", quick).model_copy(update={"recipe": recipe, "selection": "last"})
    train = partial(train_fold, own, [f"c{i}" for i in range(CLASSES)], 1, parts, store, compute=Compute())
    train(out=folder / "whole", work=folder / "work_whole")

    class Interrupted(Exception):  # noqa: N818  (not an error)
        pass

    def stop(row: dict[str, float]) -> None:
        raise Interrupted

    try:
        train(out=folder / "resumed", work=folder / "work_resumed", on_epoch=stop)
    except Interrupted:
        train(out=folder / "resumed", work=folder / "work_resumed")
    whole, resumed = ((folder / name / "weights.safetensors").read_bytes() for name in ("whole", "resumed"))
    equal = "equal, bit for bit" if whole == resumed else "DIFFERENT"
    print(
        f"\nWeights after {epochs} epochs, and after {epochs} of which one was before an interruption: {equal}",
        flush=True,
    )


def processes(folder: Path, quick: bool) -> None:
    """Print the speed of training on one and on two GPUs, and how far apart the weights are."""
    if torch.accelerator.device_count() < 2:
        print("\nTwo processes for one network: there are no two GPUs", flush=True)
        return
    _processes(folder, quick, Compute(precision="fp32"))


def _processes(folder: Path, quick: bool, compute: Compute) -> None:
    count, epochs, batch = (8, 2, 4) if quick else (256, 3, 32)
    store, samples = write_store(folder / "processes", count + 2)
    parts = samples.assign(part=["train"] * count + ["val", "test"])
    recipe = Recipe(epochs=epochs, batch_size=batch, lr=1e-4, sam_rho=0.05, optimizer="sgd")
    own = variant_of("poster_v2", quick).model_copy(update={"recipe": recipe, "selection": "last"})
    weights, rates = [], []
    for number in (1, 2):
        out = folder / f"by_{number}"
        several = compute.model_copy(update={"processes": number})
        classes = [f"c{i}" for i in range(CLASSES)]
        train_fold(own, classes, 1, parts, store, out, folder / f"work_by_{number}", several)
        weights.append(load_file(out / "weights.safetensors"))
        rates.append(pd.read_csv(out / "history.csv")["images_per_second"].iloc[-1])
    one, two = weights
    apart = max(float((two[name] - one[name]).abs().max()) for name in one)
    print("\n| one GPU, samples/s | two, samples/s | largest difference of the weights |\n|--:|--:|--:|")
    print(f"| {rates[0]:.1f} | {rates[1]:.1f} | {apart:.1e} |", flush=True)


def describe() -> None:
    """Print what it runs on."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_properties(0).name
        print(f"{name}, {torch.cuda.device_count()} of them, CUDA {torch.version.cuda}, torch {torch.__version__}")
    else:
        print(f"No GPU: on the CPU, {torch.get_num_threads()} threads, torch {torch.__version__}")


def main() -> None:
    """Print the tables."""
    parts = ("parity", "resume", "processes", "loader", "speed")
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=450, help="time for all; what does not fit is left out")
    parser.add_argument("--quick", action="store_true", help="batches of two, one pass each")
    parser.add_argument("--networks", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    chosen = parser.parse_args()
    clock = Clock(chosen.seconds)
    describe()
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            "parity": lambda: parity(chosen.networks, chosen.ways, clock),
            "resume": lambda: resuming(Path(folder), chosen.quick),
            "processes": lambda: processes(Path(folder), chosen.quick),
            "loader": lambda: waiting(Path(folder), chosen.quick),
            "speed": lambda: speed(chosen.networks, chosen.ways, clock, chosen.quick),
        }
        for part in parts:
            if part in chosen.parts and clock.allows(part):
                steps[part]()
    if clock.left_out:
        print(f"\nLeft out for lack of time: {', '.join(clock.left_out)}")


if __name__ == "__main__":
    main()
