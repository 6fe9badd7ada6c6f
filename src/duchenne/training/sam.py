"""Sharpness-aware minimisation, as in the official POSTER recipes.

Foret, Kleiner, Mobahi, Neyshabur: "Sharpness-Aware Minimization for Efficiently Improving Generalization",
https://arxiv.org/abs/2010.01412, equation 2; the form without ``adaptive``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def ascended(parameters: Iterable[nn.Parameter], rho: float) -> Iterator[None]:
    """Inside the block the weights are ``w + rho * g / (|g| + 1e-12)``; after it they are ``w`` again, bit for bit.

    ``g`` is the gradient on entry and ``|g|`` its norm over all tensors. Gradients are cleared on entry, so that the
    block computes the gradient at the ascended point, with which any optimiser can step from ``w``. Nothing is kept
    after the block: the optimiser's own state is all there is to save.

    Parameters without a gradient are not touched.

    >>> w = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> (w @ w / 2).backward()
    >>> with ascended([w], rho=0.5):
    ...     print(w.data)
    tensor([3.3000, 4.4000])
    >>> print(w.data, w.grad)
    tensor([3., 4.]) None
    """
    climbing = [p for p in parameters if p.grad is not None]
    before = [p.detach().clone() for p in climbing]
    with torch.no_grad():
        scale = rho / (nn.utils.get_total_norm([p.grad for p in climbing]) + 1e-12)
        for p in climbing:
            p.add_(p.grad * scale)
            p.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for p, w in zip(climbing, before, strict=True):
                p.copy_(w)
