"""Export to ONNX, checked by running what came out."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn


def check_onnx(model: nn.Module, example: Tensor, other: Tensor, path: Path) -> None:
    """The graph exported with ``example`` gives the network's logits for ``other``, a batch of another size."""
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=shapes, input_names=["inputs"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"inputs": other.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), model(other), rtol=0, atol=1e-4)
