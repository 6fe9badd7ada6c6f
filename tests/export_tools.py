"""Checks of a network's exported graph, and folders of networks that were never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from duchenne.files import write_json
from duchenne.training.checkpoint import save_weights


def check_exports(model: nn.Module, example: Tensor, other: Tensor) -> None:
    """The graph, exported with ``example``, gives the network's logits for ``other``, a batch of another size."""
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(other), model(other), rtol=0, atol=1e-5)


def fold_of(
    network: nn.Module, architecture: str, folder: Path, options: dict[str, Any] | None = None, size: int | None = None
) -> Path:
    """The folder of a fold with these weights, whose faces came aligned with ``size`` px, by default the network's."""
    data = resolve_model_data_config(network)
    size = size or data["input_size"][-1]
    card = {
        "classes": [f"class_{number}" for number in range(network.num_classes)],
        "architecture": architecture,
        "options": options or {},
        "takes": network.facts.takes,
        **{name: list(data[name]) for name in ("input_size", "mean", "std")},
        "alignment": {"size": size, "settings": {"mode": "aligned", "detector": "none", "size": size}},
        "fold": 1,
        "precision": "fp32",
        "variant": {"recipe": {"epochs": 1, "batch_size": 2, "lr": 0.1, "clip": {"frames": 4}}},
    }
    save_weights(network.state_dict(), folder / "weights.safetensors")
    write_json(folder / "card.json", card)
    return folder
