"""Export of a trained network as one ONNX file or one PyTorch program, verified against the network.

A file takes a batch of any size, as ``inputs``, and gives ``logits`` and ``probabilities``. The card beside it,
``<file>.json``, says what the input is, in which order the classes come, how the faces were aligned, and by how much
its outputs differ from the network's.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.transforms import v2

from duchenne.errors import UserError
from duchenne.extras import require_extra
from duchenne.files import file_digest, replacing, require_output, write_json
from duchenne.training.augment import transform
from duchenne.training.calibration import temperature_of
from duchenne.training.trained import WEIGHTS, load_trained

Format = Literal["onnx", "torch"]
Run = Callable[[Tensor], tuple[Tensor, Tensor]]

SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
OUTPUTS = ("logits", "probabilities")
BATCHES = (1, 3)
"""Sizes of the random batches on which a file is verified; the graph is made with 2."""
TOLERANCE = {False: 1e-3, True: 0.05}
"""Half or not -> largest difference of a logit, as a share of the largest logit (chosen by us)."""
_NORMALISED = "(pixel / 255 - mean) / std"
_BYTES = "0 to 255"
INPUTS = {
    ("image", False): (("batch", "colour", "height", "width"), "RGB", _NORMALISED),
    ("image", True): (("batch", "height", "width", "colour"), "RGB", _BYTES),
    ("clip", False): (("batch", "colour", "frame", "height", "width"), "RGB", _NORMALISED),
    ("clip", True): (("batch", "frame", "height", "width", "colour"), "RGB", _BYTES),
    ("pair", False): (
        ("batch", "onset and apex, then flow", "height", "width"),
        "grey",
        "pixel / 255; flow from onset to apex in px right and down",
    ),
    ("pair", True): (("batch", "onset and apex", "height", "width", "colour"), "RGB", _BYTES),
}
"""What a network takes, and whether the file prepares faces itself -> axes, colours and values of the file's input."""
GREY = (9798, 19235, 3735)
"""Weights of red, green and blue in OpenCV's grey, of 2 ** 15."""


def export(fold: Path, kind: Format, out: Path, half: bool = False, preprocess: bool = False) -> dict[str, Any]:
    """Export the network of a trained fold and verify the file; returns its card, written to ``<out>.json``.

    Args:
        fold: folder with the card and the weights.
        half: store weights as float16, which halves the file; arithmetic stays float32.
        preprocess: the file takes aligned faces as uint8 RGB: images (B, H, W, 3), clips (B, T, H, W, 3), onset and
            apex (B, 2, H, W, 3). Otherwise it takes the network's normalised input.

    Raises:
        UserError: The folder has no trained network, a package is missing, the network cannot be exported, or the
            file's outputs differ from the network's; then no file is written.
    """
    if out.suffix != SUFFIX[kind]:
        raise UserError(f"{out}: a file of format {kind} must be named *{SUFFIX[kind]}")
    require_output(out)
    if kind == "onnx":
        require_extra("duchenne export --format onnx", "export")
    network: Any
    network, card = load_trained(fold)
    takes: str = network.facts.takes
    face: int = card["alignment"].get("size") or card["alignment"].get("settings", {}).get("size", 224)
    if preprocess and network.flow:
        raise UserError(
            f"{fold}: {card['architecture']} takes optical flow ({network.flow}), which no graph computes: leave out "
            "--preprocess"
        )
    prepare = _Prepare(card, takes, face) if preprocess else nn.Identity()
    inner = _Halved(network) if half else network
    whole = _Exported(inner, prepare, temperature_of(card)).eval().requires_grad_(False)
    shape = _shape(card, takes, face) if preprocess else tuple(card["input_size"])
    examples = [_example(shape, takes, preprocess, count) for count in (2, *BATCHES)]
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(whole, (examples[0],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # of torch, which has no common class for what its tracing does not support
        raise UserError(f"{fold}: {card['architecture']} cannot be exported: {_first_line(error)}") from error
    stated = _stated(card, takes, shape, face, half, preprocess)
    stated["source"]["weights_sha256"] = file_digest(fold / WEIGHTS)
    with replacing(out) as part:
        run = _write_onnx(program, part, stated) if kind == "onnx" else _write_torch(program, part, stated)
        stated["verification"] = _verify(run, network, examples[1:], card, preprocess, half)
        stated = {"file": out.name, "sha256": file_digest(part), **stated}
        write_json(out.with_name(f"{out.name}.json"), stated)
    return stated


class _Exported(nn.Module):
    """Inputs (B, ...) -> logits and, at a temperature, probabilities (B, classes)."""

    def __init__(self, network: nn.Module, prepare: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.prepare, self.temperature = network, prepare, temperature

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self.prepare(inputs))
        return logits, _shares(logits, self.temperature)


def _shares(logits: Tensor, temperature: float) -> Tensor:
    """Return probabilities (B, classes); a network that is not calibrated needs no division in its graph."""
    return (logits if temperature == 1 else logits / temperature).softmax(1)


class _Halved(nn.Module):
    """A network whose weights are stored as float16 and used as float32, so that no operation can overflow."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = (network,)  # no submodule: its own weights are not stored
        self._names = {}
        for name, value in (*network.named_parameters(), *network.named_buffers()):
            self._names[name] = name.replace(".", "__")
            stored = value.detach().half() if value.dtype == torch.float32 else value.detach()
            self.register_buffer(self._names[name], stored)

    def forward(self, inputs: Tensor) -> Tensor:
        values = {name: getattr(self, stored) for name, stored in self._names.items()}
        used = {name: value.float() if value.dtype == torch.float16 else value for name, value in values.items()}
        return functional_call(self._network[0], used, (inputs,))


class _Prepare(nn.Module):
    """Aligned faces, uint8 RGB with channels last -> the network's input, as training and prediction make it.

    Resizing is separable and linear, so it is a product with the matrix that resizing makes of an identity. A few
    bytes in a hundred may differ by a level, because torchvision rounds its weights.
    """

    matrix: Tensor | None
    mean: Tensor
    std: Tensor

    def __init__(self, card: dict[str, Any], takes: str, face: int) -> None:
        super().__init__()
        self.takes = takes
        height, width = card["input_size"][-2:]
        matrix = None
        if (height, width) != (face, face):
            if height != width:
                raise UserError(
                    f"{card['architecture']} takes {height} x {width} px: --preprocess needs a square input"
                )
            matrix = _resizing(takes, face, height)
        self.register_buffer("matrix", matrix)
        for name in ("mean", "std") if takes != "pair" else ():
            self.register_buffer(name, torch.tensor(card[name]).view(-1, *(1 for _ in card["input_size"][1:])))

    def forward(self, faces: Tensor) -> Tensor:
        if self.takes == "pair":
            red, green, blue = faces.to(torch.int32).unbind(-1)
            grey = (GREY[0] * red + GREY[1] * green + GREY[2] * blue + 2**14) // 2**15
            return self._resized(grey.float()) / 255  # (B, 2, H, W)
        x = self._resized(faces.movedim(-1, 1).float()) / 255  # (B, 3, H, W) or (B, 3, T, H, W)
        return (x - self.mean) / self.std

    def _resized(self, x: Tensor) -> Tensor:
        if self.matrix is None:
            return x
        rows = x @ self.matrix.T
        return _byte(self.matrix @ (rows if self.takes == "pair" else _byte(rows)))  # torchvision rounds in between


def _byte(x: Tensor) -> Tensor:
    """Round to whole levels of a byte, halves up, as OpenCV and torchvision do when they resize."""
    return (x + 0.5).floor().clamp(0, 255)


def _resizing(takes: str, size: int, wanted: int) -> Tensor:
    """Return the matrix (wanted, size) that resizes one side of a face."""
    if takes == "pair":
        return torch.from_numpy(
            cv2.resize(np.eye(size, dtype=np.float32), (size, wanted), interpolation=cv2.INTER_AREA)
        )
    return v2.functional.resize(torch.eye(size)[None], [wanted, size], antialias=True)[0]


def _shape(card: dict[str, Any], takes: str, face: int) -> tuple[int, ...]:
    """Return the shape of a sample's uint8 faces."""
    frames = {"image": (), "clip": (card["input_size"][1],), "pair": (2,)}[takes]
    return (*frames, face, face, 3)


def _example(shape: tuple[int, ...], takes: str, preprocess: bool, count: int) -> Tensor:
    """Draw a random batch."""
    generator = torch.Generator().manual_seed(count)
    if preprocess:
        return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    x = torch.randn(count, *shape, generator=generator)
    if takes == "pair":  # grey levels in [0, 1]; flow in px behind them
        x[:, :2] = torch.rand(count, 2, *shape[1:], generator=generator)
    return x


def _prepared(faces: Tensor, card: dict[str, Any], takes: str) -> Tensor:
    """Prepare uint8 faces as prediction does, for the verification."""
    if takes == "pair":
        size = card["input_size"][-1]
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for pair in faces.numpy() for frame in pair]
        if grey[0].shape != (size, size):
            grey = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in grey]
        return torch.from_numpy(np.stack(grey).reshape(len(faces), 2, size, size)).float() / 255
    prepare = transform(card)
    samples = [prepare(sample.movedim(-1, -3)) for sample in faces]
    return torch.stack([sample.movedim(1, 0) if takes == "clip" else sample for sample in samples])


def _write_onnx(program: torch.export.ExportedProgram, path: Path, card: dict[str, Any]) -> Run:
    """Write the file with its card as metadata; returns a function that runs it."""
    import onnxruntime

    made: Any
    try:
        with _quiet():
            made = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=["inputs"], output_names=list(OUTPUTS)
            )
    except Exception as error:  # one of several classes of torch and onnxscript
        raise UserError(f"{card['architecture']} cannot be written as ONNX: {_first_line(error)}") from error
    card["opset"] = made.model.opset_imports[""]
    card["versions"]["onnxruntime"] = onnxruntime.__version__
    made.model.metadata_props.update({key: json.dumps(value) for key, value in card.items()})
    made.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = session.run(list(OUTPUTS), {"inputs": inputs.numpy()})
        return torch.from_numpy(logits), torch.from_numpy(probabilities)

    return run


def _write_torch(program: torch.export.ExportedProgram, path: Path, card: dict[str, Any]) -> Run:
    """Write the file with its card as ``card.json``; returns a function that runs it."""
    program.example_inputs = None  # they would be stored too
    stream = io.BytesIO()  # torch warns of paths that do not end in .pt2
    torch.export.save(program, stream, extra_files={"card.json": json.dumps(card)})
    path.write_bytes(stream.getvalue())
    with path.open("rb") as file:
        return torch.export.load(file).module()


@torch.no_grad()
def _verify(
    run: Run, network: Any, batches: list[Tensor], card: dict[str, Any], preprocess: bool, half: bool
) -> dict[str, Any]:
    """Compare a file's outputs with those of the network in float32.

    Raises:
        UserError: They differ by more than :data:`TOLERANCE`.
    """
    wanted = [network(_prepared(batch, card, network.facts.takes) if preprocess else batch) for batch in batches]
    expected, (found, shares) = torch.cat(wanted), map(torch.cat, zip(*map(run, batches), strict=True))
    scale, difference = expected.abs().max().item(), (found - expected).abs().max().item()
    allowed = TOLERANCE[half] * scale
    result = {
        "batches": [len(inputs) for inputs in batches],
        "largest_logit": scale,
        "difference_of_logits": difference,
        "difference_of_probabilities": (shares - _shares(expected, temperature_of(card))).abs().max().item(),
        "tolerance": allowed,
    }
    if not difference <= allowed:  # also for NaN
        raise UserError(
            f"the exported {card['architecture']} differs from the network: its logits by {difference:.2g} of at most "
            f"{scale:.2g} (allowed: {allowed:.2g}); no file was written" + ("; leave out --half" if half else "")
        )
    return result


def _stated(
    card: dict[str, Any], takes: str, shape: tuple[int, ...], face: int, half: bool, preprocess: bool
) -> dict[str, Any]:
    """Return the entries of a file's card that are known before it is written."""
    axes, colours, values = INPUTS[takes, preprocess]
    normalised = takes != "pair"
    recipe = card["variant"].get("recipe") or {}
    return {
        "architecture": card["architecture"],
        "options": card["options"],
        "takes": takes,
        "input": {
            "name": "inputs",
            "shape": ["batch", *shape],
            "axes": axes,
            "dtype": "uint8" if preprocess else "float32",
            "values": values,
            "colours": colours,
            "mean": card["mean"] if normalised else None,
            "std": card["std"] if normalised else None,
            "normalised_by_the_graph": preprocess,
        },
        "outputs": [{"name": name, "shape": ["batch", len(card["classes"])], "dtype": "float32"} for name in OUTPUTS],
        "classes": card["classes"],
        **({"temperature": temperature_of(card)} if "calibration" in card else {}),
        "alignment": card["alignment"],
        "face_size": face,
        **({"clip": recipe.get("clip")} if takes == "clip" else {}),
        "weights": "float16" if half else "float32",
        "trained_in": card.get("precision", "fp32"),
        "source": {name: card.get(name) for name in ("fold", "split", "seed", "code")},
        "versions": {"torch": str(torch.__version__)},
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporters say of their own code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
