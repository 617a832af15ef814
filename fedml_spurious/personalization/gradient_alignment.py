"""A penalty on the angle between the input gradients of the personal and the global model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.learning.modes import batchnorm_in_eval_mode, frozen
from fedml_spurious.personalization.base import Batch, Personalizer
from fedml_spurious.personalization.options import GradientAlignmentSettings

SHORTEST = 1e-12  # shorter gradients have no direction in single precision: their squares underflow


def input_gradients(model: nn.Module, x: Tensor, y: Tensor, *, differentiable: bool) -> Tensor:
    """Gradients of every sample's cross-entropy in its image.

    Args:
        model: its BatchNorm layers must be in eval mode, or the samples would not be independent.
        x: images, shape (B, ...).
        y: classes, shape (B,).
        differentiable: whether the gradients are to be differentiated in the weights.

    Returns:
        Shape (B, D), images flattened.
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = F.cross_entropy(model(x), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x, create_graph=differentiable)
    return gradient.flatten(start_dim=1)


def misalignment(gradient_p: Tensor, gradient_g: Tensor) -> Tensor:
    """Mean of ``1 - cos(theta)`` over a batch.

    Args:
        gradient_p: input gradients of the personal model, shape (B, D).
        gradient_g: those of the global model, shape (B, D); nothing flows into it.

    Returns:
        A scalar in [0, 2]. A sample with a vanishing gradient has no angle and adds 0.
    """
    norm_p, norm_g = (torch.linalg.vector_norm(g.detach(), dim=1) for g in (gradient_p, gradient_g))
    defined = (norm_p > SHORTEST) & (norm_g > SHORTEST)
    direction_p = gradient_p[defined] / torch.linalg.vector_norm(gradient_p[defined], dim=1, keepdim=True)
    direction_g = gradient_g[defined].detach() / norm_g[defined].unsqueeze(1)
    cosine: Tensor = (direction_p * direction_g).sum(dim=1)
    return (1 - cosine).sum() / len(gradient_p)


class GradientAlignment(Personalizer[GradientAlignmentSettings]):
    """``CE + lam * (1 - cos(theta))``; not a method of the paper, but what its theory speaks of.

    ``theta`` is the angle between the input gradients of the global and the personal model (Lemma 1).
    Theorem 3 bounds ``sin(theta)`` by the adversarial transferability, through which ``ours`` holds it down.

    The input gradients are of the network with its running statistics under ``batchnorm_mode: batch`` too,
    because a sample has a gradient of its own only there; the two terms then speak of two functions, which
    come apart. Under ``frozen`` they speak of one.
    """

    name = "grad_align"
    settings_type = GradientAlignmentSettings
    tuning_rule = "largest_harmless"

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """``CE(f_p(x), y) + lam * (1 - cos(grad_x l(f_g(x), y), grad_x l(f_p(x), y)))``."""
        loss = F.cross_entropy(model(batch.x), batch.y)
        if self.settings.lam:
            with frozen(batch.f_g):
                gradient_g = input_gradients(batch.f_g, batch.x, batch.y, differentiable=False)
            with batchnorm_in_eval_mode(model):
                gradient_p = input_gradients(model, batch.x, batch.y, differentiable=True)
            loss = loss + self.settings.lam * misalignment(gradient_p, gradient_g)
        return loss
