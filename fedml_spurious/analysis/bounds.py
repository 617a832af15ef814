"""Both sides of Lemma 1, Lemma 2 and Theorem 3 (section 5, appendix B).

The natural perturbation moves the spurious features alone, each by at most 1, as pixels do. The paper's proof
writes 1 for it: with all entries 1 its first equation holds as printed, and with smaller ones its bound holds
all the more, as ``||delta|| <= sqrt(d_s)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedml_spurious.analysis.definitions import (
    SampleLoss,
    adversarial_perturbation,
    first_order_transferability,
    gamma,
    input_gradients,
    norms,
    theta,
    theta_g,
    transferability_loss,
)


@dataclass(frozen=True)
class Inequality:
    """A statement ``left <= right``.

    Attributes:
        left: its left side.
        right: its right side.
    """

    left: float
    right: float


@dataclass(frozen=True)
class Shift:
    """How biased samples become bias-conflicting ones (section 5.1).

    Attributes:
        natural: the natural perturbation of every sample, shape (B, ...): 0 at robust features, in [-1, 1] at
            spurious ones.
        spurious: which features of a sample are spurious, bool, shape (...).

    Raises:
        ValueError: the perturbation moves a robust feature, or one by more than 1.
    """

    natural: Tensor
    spurious: Tensor

    def __post_init__(self) -> None:
        if (self.natural * ~self.spurious).any() or self.natural.abs().max() > 1:
            raise ValueError("expected a natural perturbation of spurious features alone, each by at most 1")

    @property
    def size(self) -> int:
        """``d_s``, the number of spurious features."""
        return int(self.spurious.sum())

    def robust_part(self, gradient: Tensor) -> Tensor:
        """``[grad_xr, 0]``: the gradient with zeros at the spurious features."""
        return gradient * ~self.spurious


def loss_disparity(loss_p: SampleLoss, x: Tensor, shift: Shift) -> float:
    """``L(f_p, D_bc) - L(f_p, D_b)``, the left side of Lemma 1 and Theorem 3."""
    with torch.no_grad():
        return float((loss_p(x + shift.natural) - loss_p(x)).mean())


def assumption_1(loss_p: SampleLoss, x: Tensor, shift: Shift) -> Inequality:
    """Assumption 1: on the way to the bias-conflicting samples the loss rises no faster than at its start.

    The left side, an integral of the directional derivative, is the loss disparity.
    """
    slope = (input_gradients(loss_p, x) * shift.natural).flatten(start_dim=1).sum(dim=1)
    return Inequality(loss_disparity(loss_p, x, shift), float(slope.mean()))


def lemma_1(loss_g: SampleLoss, loss_p: SampleLoss, x: Tensor, shift: Shift) -> Inequality:
    """Lemma 1: ``L(f_p, D_bc) - L(f_p, D_b) <= E[sqrt(d_s) / gamma ||grad_g|| (sin theta_g + sin theta)]``.

    It holds where Assumption 1 does. The paper prints ``<``; with equality in Assumption 1 it is ``<=``.

    Args:
        loss_g: loss of the global model.
        loss_p: loss of the personal model.
        x: biased samples, shape (B, ...).
        shift: how they become bias-conflicting.
    """
    gradient_g, gradient_p = input_gradients(loss_g, x), input_gradients(loss_p, x)
    entangled = theta_g(gradient_g, shift.robust_part(gradient_g)).sin()
    angles = entangled + theta(gradient_g, gradient_p).sin()
    bound = math.sqrt(shift.size) / gamma(gradient_g, gradient_p) * norms(gradient_g) * angles
    return Inequality(loss_disparity(loss_p, x, shift), float(bound.mean()))


@dataclass(frozen=True)
class Lemma2:
    """``lower <= transferability <= upper`` for every sample, shape (B,) each."""

    lower: Tensor
    transferability: Tensor
    upper: Tensor


def lemma_2(loss_g: SampleLoss, loss_p: SampleLoss, x: Tensor, *, eps: float, smoothness: float) -> Lemma2:
    """Lemma 2: the transferability loss is its first-order form up to ``lambda * eps^2`` (eq. 3).

    Args:
        loss_g: loss of the global model, which is attacked.
        loss_p: loss of the personal model.
        x: samples, shape (B, ...).
        eps: L2 budget of the attack.
        smoothness: ``lambda``: both losses are ``lambda``-smooth in ``x``.
    """
    gradient_g, gradient_p = input_gradients(loss_g, x), input_gradients(loss_p, x)
    found = transferability_loss(loss_g, loss_p, x, adversarial_perturbation(gradient_g, eps))
    first = first_order_transferability(gradient_g, gradient_p, eps)
    rest = smoothness * eps**2
    return Lemma2(first - rest, found, first + rest)


def theorem_3(
    loss_g: SampleLoss, loss_p: SampleLoss, x: Tensor, shift: Shift, *, eps: float, smoothness: float
) -> Inequality:
    """Theorem 3: the loss disparity is bounded by the transferability loss.

    ``sqrt(d_s) * (E[((sin theta_g + sqrt 2) / gamma_min - 1) ||grad_g||] + E[l_trans] / eps + lambda eps)``.
    The paper takes ``theta_g`` for one number and writes it outside of the expectation; ``gamma_min`` is the
    smallest ``gamma`` over the samples.

    Args:
        loss_g: loss of the global model, which is attacked.
        loss_p: loss of the personal model.
        x: biased samples, shape (B, ...).
        shift: how they become bias-conflicting.
        eps: L2 budget of the attack, above 0.
        smoothness: ``lambda`` of both losses.
    """
    gradient_g, gradient_p = input_gradients(loss_g, x), input_gradients(loss_p, x)
    gamma_min = gamma(gradient_g, gradient_p).min()
    entangled = theta_g(gradient_g, shift.robust_part(gradient_g)).sin()
    size = ((entangled + math.sqrt(2)) / gamma_min - 1) * norms(gradient_g)
    found = transferability_loss(loss_g, loss_p, x, adversarial_perturbation(gradient_g, eps))
    bound = float(size.mean()) + float(found.mean()) / eps + smoothness * eps
    return Inequality(loss_disparity(loss_p, x, shift), math.sqrt(shift.size) * bound)
