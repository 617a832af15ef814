"""The terms of section 5 for a global and a personal model, sample by sample (figure 7, appendix D.1)."""

from __future__ import annotations

import copy
import math

from torch import Tensor, nn

from fedml_spurious.analysis.definitions import (
    adversarial_perturbation,
    cross_entropy_of,
    first_order_transferability,
    gamma,
    grey_part,
    input_gradients,
    norms,
    theta,
    theta_g,
    transferability_loss,
)

TERMS = ("norm_g", "norm_p", "gamma", "theta", "theta_g", "transferability", "first_order")


def gradient_terms(
    model_g: nn.Module, model_p: nn.Module, x: Tensor, y: Tensor, *, eps: float, colored: bool
) -> list[dict[str, float | None]]:
    """Norms, gamma and angles of the input gradients, and the transferability loss beside its first order.

    In double precision: of a confident model's loss, a small budget changes digits that single precision
    has not got.

    Args:
        model_g: the global model; left as it was.
        model_p: the personal model; left as it was.
        x: images, shape (N, 3, H, W).
        y: classes, shape (N,).
        eps: L2 budget of the first-order attack on the global model.
        colored: whether colour is the spurious feature, so that ``theta_g`` is known.

    Returns:
        ``TERMS`` of every sample; None where a term is not defined.
    """
    x = x.double()
    loss_g, loss_p = (cross_entropy_of(copy.deepcopy(model).double(), y) for model in (model_g, model_p))
    g, p = input_gradients(loss_g, x), input_gradients(loss_p, x)
    terms = {
        "norm_g": norms(g),
        "norm_p": norms(p),
        "gamma": gamma(g, p),
        "theta": theta(g, p),
        "transferability": transferability_loss(loss_g, loss_p, x, adversarial_perturbation(g, eps)),
        "first_order": first_order_transferability(g, p, eps),
    }
    if colored:
        terms["theta_g"] = theta_g(g, grey_part(g))
    rows = zip(*(_cells(terms.get(name), len(y)) for name in TERMS), strict=True)
    return [dict(zip(TERMS, row, strict=True)) for row in rows]


def _cells(values: Tensor | None, count: int) -> list[float | None]:
    if values is None:
        return [None] * count
    return [value if math.isfinite(value) else None for value in values.tolist()]
