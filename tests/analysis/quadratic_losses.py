"""Losses of which every term of the theory is known: quadratic in the input, each sample with its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Quadratic:
    """``l(x) = slope . (x - x0) + (x - x0) . curvature (x - x0) / 2`` for every sample.

    Attributes:
        x0: shape (B, D).
        slope: gradient at ``x0``, shape (B, D).
        curvature: symmetric, shape (B, D, D).
    """

    x0: Tensor
    slope: Tensor
    curvature: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        step = x - self.x0
        return (self.slope * step).sum(dim=1) + torch.einsum("bi,bij,bj->b", step, self.curvature, step) / 2


def random_symmetric(count: int, size: int, smoothness: float, rng: torch.Generator) -> Tensor:
    """Symmetric matrices (count, size, size) whose eigenvalues lie in [-smoothness, smoothness]."""
    vectors, _ = torch.linalg.qr(torch.randn(count, size, size, generator=rng, dtype=torch.float64))
    values = smoothness * (2 * torch.rand(count, size, generator=rng, dtype=torch.float64) - 1)
    return vectors @ torch.diag_embed(values) @ vectors.transpose(1, 2)
