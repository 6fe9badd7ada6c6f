"""Import of a checkpoint of the official code as the folder of a network: its weights and a card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from duchenne.blocks import Name
from duchenne.config import TAKEN, Catalog
from duchenne.datasets.settings import known_emotions
from duchenne.errors import UserError, nearest
from duchenne.faces.build import store_meta
from duchenne.files import as_json, file_digest, replacing
from duchenne.locks import alone
from duchenne.models.contract import create
from duchenne.models.official import load_official, misfits, read_official
from duchenne.models.precision import classifiers
from duchenne.networks import networks
from duchenne.papers.checkpoints import Checkpoint, checkpoint_of, checkpoints, faces_of, published_as
from duchenne.papers.library import library
from duchenne.sealed import sealed
from duchenne.training.checkpoint import save_weights
from duchenne.training.settings import Variant
from duchenne.training.trained import CARD, WEIGHTS, network_card
from duchenne.workspace import Workspace

LISTED = 6
"""Number of entries that do not fit that a message lists."""


class Imported(NamedTuple):
    """Result of an import."""

    folder: Path
    card: dict[str, Any]


def import_checkpoint(
    catalog: Catalog,
    workspace: Workspace,
    file: Path,
    variant: str | None = None,
    network: str | None = None,
    classes: list[str] | None = None,
    name: str | None = None,
    out: Path | None = None,
    force: bool = False,
) -> Imported:
    """Write the weights of a checkpoint and their card to ``models/<name>/fold_1``.

    Reading runs nothing that the file contains. The network predicts in float32, as its owners run it. A new picture is
    aligned as this package aligns faces for the variant's dataset; what the owners' faces were is a note on the card.

    Args:
        catalog: variants of ``params.yaml``; those of the library are known too.
        file: checkpoint in a container of the official code, a plain state dict, or a safetensors file.
        variant: variant that gives network, options, dataset and the sampling of clips. Default: the one of a file
            under its published name, or the first of ``network``.
        network: architecture, instead of a variant.
        classes: names in the order of the outputs. Default: the known order of the checkpoint.
        name: name below ``models``, which ``init_from`` takes. Default: ``<variant>_published`` for a known checkpoint,
            otherwise after the file.
        out: folder to write to, instead of that below ``models``; not together with ``name``.
        force: replace an imported network that is there.

    Raises:
        UserError: The file is damaged or of another network, the order of its classes is neither given nor known, their
            number is not that of its outputs, or the place is taken.
    """
    if name and out:
        raise UserError("--name is a name below models/, and --out another folder: give one of the two")
    state = read_official(file)
    variant, known = _choose(catalog, file, variant, network, state)
    whole = catalog.with_library("variants", variant)
    config = whole.variants[variant]
    name = name or (f"{variant}_published" if known else re.sub(r"[^A-Za-z0-9_-]+", "_", file.stem).strip("_-"))
    folder = out or workspace.fold(_free_name(catalog, workspace, name), 1)
    if not (count := _outputs(config, state)):
        raise UserError(_misfit(whole, file, variant, state))
    _require_place(folder, force)
    classes, order = _classes(file, variant, count, classes, known)
    model = create(config.model.architecture, config.model.options, count)
    load_official(model, state)

    faces = faces_of(config.dataset)
    alignment = store_meta(faces.new if faces else whole.datasets[config.dataset].faces)
    stated = config.model.model_copy(update={"pretrained": {"checkpoint": Path(file.name)}})
    card = network_card(model, config.model_copy(update={"model": stated}), classes, alignment, "fp32") | {
        "imported": {
            "file": file.name,
            "sha256": file_digest(file),
            "bytes": file.stat().st_size,
            "order": order,
            "faces": faces.owners if faces and known else "not known",
            "page": known.page if known else None,
            "licence": known.licence if known else "not known",
        }
    }
    place = folder.absolute()  # "." has no name
    with alone(place.with_name(f".{place.name}.lock"), f"{folder}", remove=True):
        _require_place(folder, force)  # again: another command may have taken it
        with replacing(folder / CARD) as part, replacing(folder / WEIGHTS) as weights:  # none without the other
            save_weights(model.state_dict(), weights)
            card |= {"weights_sha256": file_digest(weights)}
            part.write_text(as_json(sealed(card, CARD)), encoding="utf-8")
    return Imported(folder, card)


def _choose(
    catalog: Catalog, file: Path, variant: str | None, network: str | None, state: dict[str, Tensor]
) -> tuple[str, Checkpoint | None]:
    """Choose the variant of a file; returns it and what is known of its checkpoint."""
    known = checkpoint_of(variant) if variant else published_as(file.name)
    chosen = variant or (known.variants[0] if known else None)
    if chosen:
        if chosen not in (names := catalog.with_library("variants", chosen).variants):
            raise UserError(f"there is no variant {chosen!r}{nearest(chosen, [*names, *library()['variants']])}")
        if network in (None, architecture := names[chosen].model.architecture):
            return chosen, known
        if variant:
            raise UserError(f"{variant} is a variant of {architecture}, not of {network}: give one of the two")
    asks = f"{file}: which network is it? Name its variant (--variant), or the network (--network)"
    if network:
        for found in (*(known.variants[0] for known in checkpoints()), *catalog.variants, *library()["variants"]):
            if _config(catalog, found).model.architecture == network:
                return found, None
        raise UserError(f"no variant runs a network {network!r}{nearest(network, networks())}: name one (--variant)")
    if fitting := next(_fitting(catalog, state), None):
        found, config = fitting
        raise UserError(f"{asks}. Its entries are those of {config.model.architecture}, as in --variant {found}")
    raise UserError(_part(catalog, file, state) or asks)


def _free_name(catalog: Catalog, workspace: Workspace, name: str) -> str:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise UserError(f"--name: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    # without a file, or with temporary ones alone, it is what an import that failed has left
    files = [path for path in workspace.model(name).rglob("*") if path.is_file() and not path.name.startswith(".")]
    trained = files and workspace.imported(name) is None
    if trained or name in {*TAKEN, *catalog.variants, *catalog.landmark_nets}:
        raise UserError(f"--name: {workspace.model(name)} belongs to a run of this project: give another name")
    return name


def _require_place(folder: Path, force: bool) -> None:
    if folder.is_file():
        raise UserError(f"{folder} is a file: give a folder")
    if not force and any((folder / name).exists() for name in (WEIGHTS, CARD)):
        raise UserError(f"{folder} holds a network: give another name (--name), or replace it (--force)")


def _classes(
    file: Path, variant: str, count: int, given: list[str] | None, known: Checkpoint | None
) -> tuple[list[str], str]:
    """Return the classes in the order of the outputs, and how it is known."""
    if given:
        try:
            classes, order = known_emotions(given), "named by the user"
        except ValueError as error:
            raise UserError(f"--classes: {error}") from None
    elif known and known.classes:
        classes, order = known.classes, known.order
    else:
        why = known.order if known else "the file does not hold it"
        raise UserError(
            f"{file}: the order of its {count} classes is not known ({why}). To find it, run `duchenne evaluate "
            f"--checkpoint {file} --variant {variant}`: it compares the outputs with labels and suggests an --order. "
            "Then name that order here (--classes)"
        )
    if len(classes) != count:
        raise UserError(f"{file} has {count} outputs, but {len(classes)} classes are named: {', '.join(classes)}")
    return classes, order


def _config(catalog: Catalog, variant: str) -> Variant:
    return catalog.with_library("variants", variant).variants[variant]


def _on_meta(config: Variant, classes: int = 2) -> nn.Module:
    """Build the network of a variant as names and shapes, without values."""
    with torch.device("meta"):
        return create(config.model.architecture, config.model.options, classes)


def _outputs(config: Variant, state: dict[str, Tensor]) -> int:
    """Number of outputs of a file with the entries of a variant's network; 0 if its entries are others."""
    model = _on_meta(config)
    heads = classifiers(model)
    first = state.get(f"{heads[0]}.weight") if heads else None
    if first is None or not first.ndim or misfits(model, state, skip=[f"{head}.*" for head in heads]):
        return 0
    return len(first)


def _fitting(catalog: Catalog, state: dict[str, Tensor]) -> Iterator[tuple[str, Variant]]:
    """Yield a variant of each network of the library that a file fits, known checkpoints first."""
    tried = set()
    for name in (*(known.variants[0] for known in checkpoints()), *catalog.variants, *library()["variants"]):
        config = _config(catalog, name)
        key = config.model.architecture, json.dumps(config.model.options, sort_keys=True)
        if key not in tried and _outputs(config, state):
            yield name, config
        tried.add(key)


def _misfit(catalog: Catalog, file: Path, variant: str, state: dict[str, Tensor]) -> str:
    """Message for a file whose entries are not those of the variant's network: what it holds, as far as is known."""
    if part := _part(catalog, file, state):
        return part
    config = catalog.variants[variant].model
    if found := next(_fitting(catalog, state), None):
        name, other = found[0], found[1].model
        options = f" with the options {other.options}" if other.options else ""
        return f"{file} holds {other.architecture}{options}, not the network of {variant}: give --variant {name}"
    named = (state.get(f"{name}.weight") for name in classifiers(_on_meta(catalog.variants[variant])))
    outputs = next((len(weight) for weight in named if weight is not None and weight.ndim), 2)
    lines = misfits(_on_meta(catalog.variants[variant], outputs), state)
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    head = f"{file} does not hold the network of {variant} ({config.architecture}), nor any other of the library:"
    return "\n".join([head, *lines[:LISTED], *more])


def _part(catalog: Catalog, file: Path, state: dict[str, Tensor]) -> str | None:
    """Message for a file that holds a backbone alone; None if it holds no such part of a known checkpoint's network."""
    for known in checkpoints():
        name = known.variants[0]
        model = _on_meta(_config(catalog, name))
        for part, place in model.pretrained_parts.items():
            whole = part not in (*model.pretrained_entries, *model.pretrained_converters)
            if place and whole and not misfits(model.get_submodule(place), state):
                return (
                    f"{file} holds only the part {part} of {model.facts.title}, not a trained network: to train from "
                    f"it, name it in a variant: `model: {{pretrained: {{{part}: {file}}}}}`"
                )
    return None
