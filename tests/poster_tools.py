"""Helpers of the tests of POSTER and POSTER++."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duchenne.models.contract import register_networks
from duchenne.models.landmark_guided import Maps

register_networks()

LABELS = torch.tensor([0, 3])


def build(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=7, **options)


def lively(name: str, **options) -> nn.Module:
    """With weights under which every part is felt in the logits; fresh ones hide attention behind factors of 1e-5."""
    model = build(name, **options)
    with torch.no_grad():
        for entry, parameter in model.named_parameters():
            if is_ballast(model, entry):
                continue
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            elif "gamma" in entry:
                parameter.fill_(1)
    return model


def on_meta(name: str, **options) -> nn.Module:
    """Names and shapes without values."""
    with torch.device("meta"):
        return timm.create_model(name, **{"num_classes": 7, **options})


def images(count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(seed))


def maps(seed: int = 0) -> tuple[Maps, Maps]:
    """What the two branches could give for two images."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (((64, 56), (128, 28), (256, 14)), ((64, 28), (128, 14), (512, 7)))
    return tuple(tuple(torch.randn(2, dim, side, side, generator=generator) for dim, side in row) for row in shapes)


def is_ballast(model: nn.Module, name: str) -> bool:
    return name.startswith(tuple(f"{module}." for module in model.ballast)) or name in model.ballast


def counts(model: nn.Module) -> tuple[int, int, int]:
    """Parameters in total, trainable, and without ballast."""
    parameters = dict(model.named_parameters())
    return (
        sum(p.numel() for p in parameters.values()),
        sum(p.numel() for p in parameters.values() if p.requires_grad),
        sum(p.numel() for name, p in parameters.items() if not is_ballast(model, name)),
    )


def without_effect(name: str) -> bool:
    """Biases of POSTER that shift a whole token, which the next norm takes away: their gradient is rounding."""
    return name.endswith(("block_l.conv.bias", "upsample_m.bias"))


def check_gradients(model: nn.Module, branches: tuple[str, ...] = ()) -> None:
    """After a backward pass: a gradient everywhere but in ballast and in modules that start with ``branches``."""
    for name, parameter in model.named_parameters():
        if name.startswith((*branches, "face_landback")):
            assert parameter.grad is None, name
        elif is_ballast(model, name):
            assert parameter.grad is None or not parameter.grad.any(), name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any() or without_effect(name), name


def check_fusion_trains(model: nn.Module) -> None:
    """A step of gradient descent behind the backbones reaches every parameter there and lowers the loss."""
    loss = F.cross_entropy(model.forward_head(model.fuse(*maps())), LABELS)
    loss.backward()
    check_gradients(model, ("ir_back",))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
        assert F.cross_entropy(model.forward_head(model.fuse(*maps())), LABELS) < loss


def check_batch(model: nn.Module) -> None:
    """A sample alone gives what it gives among others."""
    with torch.no_grad():
        together = model(images(3))
        alone = torch.cat([model(image) for image in images(3).split(1)])
    assert together.std() > 0.1
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def check_bfloat16(model: nn.Module, logits: Callable[[], Tensor]) -> None:
    """Finite loss and gradients of what ``logits`` computes in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(logits(), LABELS)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
