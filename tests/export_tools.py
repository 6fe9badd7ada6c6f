"""Checks of a network's exported graph and ONNX file, by running them."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn


def check_exports(model: nn.Module, example: Tensor, other: Tensor, path: Path | None = None) -> None:
    """The graph, exported with ``example``, gives the network's logits for ``other``, a batch of another size.

    With a ``path`` the ONNX file written there does too. Writing one takes ten seconds and more.
    """
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with torch.no_grad():
        expected = model(other)
        torch.testing.assert_close(program.module()(other), expected, rtol=0, atol=1e-5)
    if path is None:
        return
    torch.onnx.export(program, (example,), path, dynamo=True, input_names=["inputs"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"inputs": other.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-4)
