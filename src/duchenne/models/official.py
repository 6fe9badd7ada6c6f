"""Loads published weights into the networks; if an entry does not fit, nothing is loaded.

Files are read without running anything they contain: ``torch.load(weights_only=True)``, and objects of unknown classes
(the official POSTER++ checkpoints hold two meters of their training script) become empty placeholders.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from duchenne.errors import UserError, listed, short
from duchenne.files import unusable
from duchenne.models.backbones.ir50_names import split_body
from duchenne.shortage import explain

if TYPE_CHECKING:
    from duchenne.models.contract import Contract

_AGAIN = "download the file again"
LINES = 100
"""Largest number of entries that a message lists."""
ENTRIES, NAME = 100_000, 1000
"""Largest number of entries of a file of weights, and of characters of a name (chosen by us)."""
DIMENSIONS = 16
"""Largest number of dimensions of a tensor (chosen by us; PyTorch computes with up to 64)."""
REPEATED = 1_000_000_000
"""Largest size of a tensor whose file has one value for many elements, bytes (chosen by us)."""
PLAIN = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16,
         torch.int8, torch.uint8, torch.bool)  # fmt: skip
"""Types of the entries that networks here have, or are converted from."""
CONTAINERS = ("model_state_dict", "state_dict", "model")  # POSTER; POSTER++ and the landmark network; IFDD


@dataclass(frozen=True)
class LoadReport:
    """Names of entries that were loaded, are only in the file, or are only in the network."""

    used: tuple[str, ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...]


class OfficialWeightsError(UserError):
    """Raised when a file of weights cannot be read, or its entries do not fit the network."""


class _Placeholder:
    """Replaces an object of a class that is not loaded; accepts any arguments and state and does nothing."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_official(path: str | Path, remedy: str | None = None) -> dict[str, Tensor]:
    """Read the state dict inside a published file, or a safetensors file.

    Takes it out of its container (:data:`CONTAINERS`) and strips the ``module.`` of DataParallel.

    Args:
        remedy: advice for an error's message.

    Raises:
        OfficialWeightsError: The file does not exist, is not a file of weights or is damaged, holds an optimiser alone,
            or its state dict holds values that are not plain tensors (a few bytes can stand for a tensor of any shape),
            or NaN or infinite numbers.
    """
    path = Path(path)
    if reason := unusable(path):
        raise OfficialWeightsError(f"{path} {reason}" + (f": {remedy}" if remedy else ""))
    safe = path.suffix == ".safetensors"
    try:
        content = load_file(path) if safe else _torch_load(path)
    except Exception as error:  # a damaged file can raise any error
        if safe and explain(error):  # it is mapped as it is; what PyTorch asks for, a damaged file may have named
            raise
        kind = "safetensors file" if safe else "file of PyTorch weights"
        said = str(error).partition("\n")[0]
        if "weights_only" in said:  # its advice is to run what the file contains
            said = "it holds code or objects, which are not loaded"
        raise OfficialWeightsError(f"{path}: not a {kind}, or damaged ({said}): {remedy or _AGAIN}") from error
    state = _state_dict(content, str(path))
    if strange := next((name for name, tensor in state.items() if not tensor.isfinite().all()), None):
        raise OfficialWeightsError(f"{path}: {strange} holds NaN or infinite numbers: {remedy or _AGAIN}")
    return state


def _torch_load(path: Path) -> object:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                raise ValueError("it is compressed, which PyTorch's files are not")
            if wrong := archive.testzip():  # torch.load does not compare the checksums
                raise ValueError(f"the checksum of {wrong} does not fit")
    try:
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except ValueError:  # the format before PyTorch 1.6 (the landmark network's file may have it)
        unknown = _legacy_globals(path)
    with torch.serialization.safe_globals([(_Placeholder, name) for name in unknown]):
        return torch.load(path, map_location="cpu", weights_only=True)


def load_official(
    model: nn.Module,
    source: str | Path | Mapping[str, object],
    skip: Sequence[str] = (),
    only: Sequence[str] = ("*",),
) -> LoadReport:
    """Load published weights into ``model``; on an error the model is left as it was.

    POSTER and POSTER++ name the units of IR50 differently: entries of the source are renamed as in the model.

    Args:
        source: a file, or the contents of such a file.
        skip: patterns (as for file names) of entries that keep their values in ``model``, whether the source has them
            or not. For a different number of classes: ``("VIT.head.*",)``.
        only: patterns of the entries to load; all others are skipped.

    Raises:
        OfficialWeightsError: The file cannot be read, or entries do not fit; the message lists those that only the
            source or only the model has, and those of different shapes or types. ``num_batches_tracked`` may be
            missing: files older than PyTorch 0.4.1 lack it and nothing reads it.
    """
    if isinstance(source, Mapping):
        state, origin = _state_dict(source, "state dict"), "state dict"
    else:
        state, origin = read_official(source), str(source)
    if problems := misfits(model, state, skip, only):
        raise OfficialWeightsError(
            f"{origin} does not fit {type(model).__name__}; nothing was loaded. Check that it is the file of this "
            f"network, or name entries to leave out on purpose in `skip`.\n" + "\n".join(few(problems))
        )
    own = model.state_dict()
    state = _renamed(state, own)
    skipped = _skipped({*state, *own}, skip, only)
    used = tuple(name for name in own if name in state and name not in skipped)
    unused = tuple(name for name in state if name not in own or name in skipped)
    missing = tuple(name for name in own if name not in state or name in skipped)
    model.load_state_dict({name: state[name] for name in used}, strict=False)
    return LoadReport(used, unused, missing)


def misfits(
    model: nn.Module, state: Mapping[str, Tensor], skip: Sequence[str] = (), only: Sequence[str] = ("*",)
) -> list[str]:
    """List the entries of a state dict that do not fit ``model``, a line each, as for :func:`load_official`.

    Compares names, shapes and types alone: ``model`` may be on PyTorch's meta device.
    """
    own = model.state_dict()
    state = _renamed(state, own)
    skipped = _skipped({*state, *own}, skip, only)
    problems = [f"  only in the file: {name}" for name in state if name not in own and name not in skipped]
    problems += [
        f"  only in the network: {name}"
        for name in own
        if name not in state and name not in skipped and not name.endswith("num_batches_tracked")
    ]
    both = [name for name in own if name in state and name not in skipped]
    problems += [
        f"  {name}: {tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the network"
        for name in both
        if state[name].shape != own[name].shape
    ]
    return problems + [
        f"  {name}: {state[name].dtype} in the file, {own[name].dtype} in the network"
        for name in both
        if is_rounded(state[name], own[name])
    ]


def is_rounded(given: Tensor, own: Tensor) -> bool:
    """Whether a file holds whole numbers, as quantised networks do, where a network has others."""
    return own.is_floating_point() and not given.is_floating_point()


def _renamed(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the units of IR50 as the entries ``own`` of a network do."""
    ours = {split_body(name): name for name in own}
    return {ours.get(split_body(name), name): value for name, value in state.items()}


def _skipped(names: Iterable[str], skip: Sequence[str], only: Sequence[str]) -> set[str]:
    def matches(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    return {name for name in names if matches(name, skip) or not matches(name, only)}


def load_pretrained(model: Contract, files: Mapping[str, str | Path]) -> dict[str, LoadReport]:
    """Load published files into the parts of ``model`` that ``model.pretrained_parts`` names (part -> module).

    If ``model.pretrained_entries`` has patterns for a part, only these entries are loaded; if
    ``model.pretrained_converters`` has a function for it, that converts the file's state dict to the network's.

    >>> load_pretrained(poster, {"ir50": "ir50.pth", "mobilefacenet": "mobilefacenet.pth"})  # doctest: +SKIP

    Raises:
        OfficialWeightsError: A part is unknown, or an error of :func:`load_official`.
    """
    _require_parts(model, files)
    parts, only, converters = model.pretrained_parts, model.pretrained_entries, model.pretrained_converters
    return {
        part: load_official(
            model.get_submodule(parts[part]),
            converters[part](read_official(path)) if part in converters else path,
            only=only.get(part, ("*",)),
        )
        for part, path in files.items()
    }


def entries_of(model: Contract, part: str) -> dict[str, Tensor]:
    """Return the entries of a part of ``model``, as a file for :func:`load_pretrained` holds them.

    Raises:
        OfficialWeightsError: The part is unknown.
    """
    _require_parts(model, [part])
    only = model.pretrained_entries.get(part, ("*",))
    state = model.get_submodule(model.pretrained_parts[part]).state_dict()
    return {name: value for name, value in state.items() if any(fnmatchcase(name, pattern) for pattern in only)}


def load_shared(model: Contract, source: Contract) -> list[str]:
    """Load the parts that another network has in common with ``model``, and return their names; [] if there are none.

    A part is one with published weights (``pretrained_parts``), such as IR50; a whole network is not a part.

    Raises:
        OfficialWeightsError: A part of that name does not fit.
    """
    parts = [part for part, module in model.pretrained_parts.items() if module and source.pretrained_parts.get(part)]
    for part in parts:
        only = model.pretrained_entries.get(part, ("*",))
        load_official(model.get_submodule(model.pretrained_parts[part]), entries_of(source, part), only=only)
    return parts


def _require_parts(model: Contract, names: Iterable[str]) -> None:
    parts = model.pretrained_parts
    if unknown := sorted(set(names) - set(parts)):
        raise OfficialWeightsError(
            f"{type(model).__name__} has no part {', '.join(unknown)}; its parts: {', '.join(parts) or 'none'}"
        )


def _legacy_globals(path: str | Path) -> set[str]:
    """Full names of the classes that a file of the old format refers to, except those of torch and Python."""
    with Path(path).open("rb") as file:
        # four pickles follow each other: magic number, protocol, system, content
        names = {arg for _ in range(4) for code, arg, _ in pickletools.genops(file) if code.name == "GLOBAL"}
    return {name.replace(" ", ".") for name in names if not name.startswith(("torch", "collections"))}


def _state_dict(content: object, origin: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in CONTAINERS if key in content), content)
    if not isinstance(content, Mapping):
        raise OfficialWeightsError(f"{origin}: expected a state dict, found {type(content).__name__}")
    if {"state", "param_groups"} <= content.keys():
        raise OfficialWeightsError(
            f"{origin} holds the state of an optimiser and no weights (POSTER++'s script writes such a file as its "
            "best model): the weights of the last epoch are in the file beside it whose name ends with model.pth"
        )
    if strange := [str(name) for name, value in content.items() if not isinstance(value, Tensor)]:
        raise OfficialWeightsError(
            f"{origin}: entries that are not tensors: {listed([short(x, 100) for x in strange])}"
        )
    if len(content) > ENTRIES or any(not isinstance(name, str) or len(name) > NAME for name in content):
        raise OfficialWeightsError(
            f"{origin}: more than {ENTRIES:,} entries, or names that are not text of at most {NAME:,} characters"
        )
    if odd := next((name for name, value in content.items() if not _is_plain(value)), None):
        raise OfficialWeightsError(f"{origin}: {odd} is not a plain tensor of numbers")
    state = {name.removeprefix("module."): value for name, value in content.items()}
    if len(state) < len(content):
        raise OfficialWeightsError(f"{origin}: entries have the same name with and without module. before it")
    return state


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor is dense, on the CPU, of a usual type and shape, and not one repeated element of any size."""
    dense = value.layout == torch.strided and value.device.type == "cpu" and value.dtype in PLAIN
    dense = dense and not value.is_nested and value.ndim <= DIMENSIONS
    return dense and value.numel() * value.element_size() <= max(value.untyped_storage().nbytes(), REPEATED)


def few(lines: Sequence[str]) -> list[str]:
    """Return the first :data:`LINES` of some lines, and how many more there are."""
    more = [f"  and {len(lines) - LINES} more"] if len(lines) > LINES else []
    return [*lines[:LINES], *more]
