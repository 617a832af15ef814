"""What sections 3 and 5.1 define: input gradients, their ratio and angles, and the transferability loss.

A loss here is the function ``x -> l(f(x), y)`` of one model with the labels fixed: it takes a batch of shape
(B, ...) and gives one value per sample, shape (B,), so that gradients of samples do not mix.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fedml_spurious.learning.modes import Classifier, frozen

SampleLoss = Callable[[Tensor], Tensor]


def cross_entropy_of(model: Classifier, y: Tensor) -> SampleLoss:
    """``x -> CE(f(x), y)`` per sample, the model evaluated as a constant.

    Args:
        model: takes (B, ...) and returns logits (B, K); left as it was.
        y: labels, shape (B,).
    """

    def loss(x: Tensor) -> Tensor:
        with frozen(model):
            return F.cross_entropy(model(x), y, reduction="none")

    return loss


def input_gradients(loss: SampleLoss, x: Tensor) -> Tensor:
    """``grad_x l(f(x), y)`` of every sample, shape of ``x``."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(x).sum(), x)
    return gradient


def norms(batch: Tensor) -> Tensor:
    """Euclidean norm of every sample, shape (B,)."""
    found: Tensor = torch.linalg.vector_norm(batch.flatten(start_dim=1), dim=1)
    return found


def gamma(gradient_g: Tensor, gradient_p: Tensor) -> Tensor:
    """``gamma = ||grad_x l(f_g(x), y)|| / ||grad_x l(f_p(x), y)||`` of every sample (section 3), shape (B,).

    Infinite where the personal gradient alone vanishes, NaN where both do.
    """
    return norms(gradient_g) / norms(gradient_p)


def theta(gradient_g: Tensor, gradient_p: Tensor) -> Tensor:
    """Angle between the two models' input gradients (section 3), in [0, pi], shape (B,); NaN for a zero one.

    By Kahan's formula, which keeps its digits where the angle is near 0 or pi, as the arc cosine does not.
    """
    g = gradient_g.flatten(start_dim=1) / norms(gradient_g)[:, None]
    p = gradient_p.flatten(start_dim=1) / norms(gradient_p)[:, None]
    return 2 * torch.atan2(norms(g - p), norms(g + p))


def theta_g(gradient_g: Tensor, robust_part: Tensor) -> Tensor:
    """Angle between the global model's input gradient and its robust part (section 3), in [0, pi / 2].

    It measures how far the global model entangles spurious features, and personalization leaves it as it is.

    Args:
        gradient_g: ``grad_x l(f_g(x), y)``, shape (B, ...).
        robust_part: ``[grad_xr l(f_g(x), y), 0]``: the same with zeros at the spurious features.

    Returns:
        Shape (B,); pi / 2 where the robust part vanishes.
    """
    spurious = norms(gradient_g - robust_part)
    return torch.atan2(spurious, norms(robust_part))


def grey_part(gradient: Tensor) -> Tensor:
    """The robust part of a gradient where colour is the spurious feature: that along the grey of every pixel.

    The paper's ``x = [x_r, x_s]`` splits coordinates, which RGB channels are not: all three carry shape and
    colour. In the rotated coordinates of a pixel, (r + g + b) / sqrt(3) is its grey, and the two orthogonal
    ones are its colour; a rotation changes no norm and no angle.

    Args:
        gradient: shape (B, 3, H, W).

    Returns:
        The projection on grey, same shape.
    """
    return gradient.mean(dim=1, keepdim=True).expand_as(gradient)


def adversarial_perturbation(gradient: Tensor, eps: float) -> Tensor:
    """``delta = eps * grad / ||grad||``, the first-order attack with L2 budget ``eps`` (section 5.1).

    Args:
        gradient: input gradients of the attacked model, shape (B, ...).
        eps: budget, at least 0.

    Returns:
        Same shape; zero where the gradient is.
    """
    size = norms(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)
    return eps * gradient / size.view(-1, *[1] * (gradient.dim() - 1))


def transferability_loss(loss_g: SampleLoss, loss_p: SampleLoss, x: Tensor, delta: Tensor) -> Tensor:
    """``l_trans(f_g, f_p, x, y)`` (section 5.1): how much more the perturbation hurts ``f_g`` than ``f_p``.

    Args:
        loss_g: loss of the global model, which ``delta`` attacks.
        loss_p: loss of the personal model.
        x: samples, shape (B, ...).
        delta: ``x_adv - x``, same shape.

    Returns:
        ``(l_g(x + delta) - l_g(x)) - (l_p(x + delta) - l_p(x))``, shape (B,).
    """
    with torch.no_grad():
        return (loss_g(x + delta) - loss_g(x)) - (loss_p(x + delta) - loss_p(x))


def first_order_transferability(gradient_g: Tensor, gradient_p: Tensor, eps: float) -> Tensor:
    """``eps * ||grad_g|| * (1 - cos(theta) / gamma)`` (Lemma 2, appendix D.1), shape (B,).

    Written as ``eps * (||grad_g|| - ||grad_p|| cos(theta))``, which is defined where a gradient vanishes.
    """
    g, p = gradient_g.flatten(start_dim=1), gradient_p.flatten(start_dim=1)
    size = norms(gradient_g)
    tiny = torch.finfo(size.dtype).tiny
    return eps * (size - (g * p).sum(dim=1) / size.clamp(min=tiny))


def approximation_errors(transferability: Tensor, first_order: Tensor) -> Tensor:
    """``|(l_trans - first order) / l_trans|`` of every sample, whose mean appendix D.1 reports, shape (B,).

    Infinite or NaN where the transferability loss is 0.
    """
    return ((transferability - first_order) / transferability).abs()
