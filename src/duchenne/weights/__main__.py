"""Packages a part of a trained network: ``python -m duchenne.weights dgm models/frl_dgt_people/fold_1``."""

from __future__ import annotations

from pathlib import Path

import typer
from safetensors.torch import save_file

from duchenne.commands.common import readable_errors
from duchenne.errors import UserError, nearest
from duchenne.files import file_digest, write_json
from duchenne.models.official import entries_of
from duchenne.networks import facts_of
from duchenne.training.trained import load_trained, read_card
from duchenne.weights import PACKAGED


def package(part: str, fold: Path) -> None:
    """Write PART of the network in the folder FOLD to this package, as float16, with a card."""
    if part not in PACKAGED:
        raise UserError(f"no part {part!r} is packaged{nearest(part, PACKAGED)}: add it to duchenne.weights.PACKAGED")
    if part in facts_of(read_card(fold)["architecture"]).packaged:
        raise UserError(f"{fold} starts from the packaged {part}: another training makes that (landmark_nets)")
    network, card = load_trained(fold)
    entries = entries_of(network, part)
    path = PACKAGED[part]
    save_file({name: value.half() if value.is_floating_point() else value for name, value in entries.items()}, path)
    facts = {
        "part": part,
        "licence": "CC0-1.0",
        "trained": f"duchenne add {fold.parent.name}; dvc repro",
        "sha256": file_digest(path),
    }
    kept = ("architecture", "options", "classes", "samples", "seed", "precision", "variant", "code", "versions")
    write_json(path.with_suffix(".json"), facts | {name: card[name] for name in kept})
    typer.echo(f"{path}: {len(entries)} entries, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    with readable_errors():
        typer.run(package)
