"""The terms of the objective (section 6), as free functions."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def log_one_minus_softmax(logits: Tensor) -> Tensor:
    """``log(1 - softmax(logits))`` without cancellation, also where a probability rounds to 1.

    ``1 - softmax(z)_i`` is the probability of all other classes, so its logarithm is
    ``logsumexp_{j != i} z_j - logsumexp_j z_j``.

    Args:
        logits: shape (B, K) with K at least 2.

    Returns:
        Shape (B, K), finite for finite logits.
    """
    num_classes = logits.shape[-1]
    own = torch.eye(num_classes, dtype=torch.bool, device=logits.device)
    others = logits.unsqueeze(-2).masked_fill(own, -torch.inf)  # (B, K, K), row i without class i
    return others.logsumexp(dim=-1) - logits.logsumexp(dim=-1, keepdim=True)


def adversarial_disagreement(logits_p: Tensor, z_g: Tensor) -> Tensor:
    """Binary cross-entropy of the personal predictions on ``x_adv`` against the global ones.

    ``R_adv`` (section 6.1) is printed as minus this value and maximised there; we minimise. The sum runs
    over the K classes, the mean over the batch, and nothing flows into the global model.

    Args:
        logits_p: logits of the personal model on adversarial examples, shape (B, K).
        z_g: probabilities that the global model gives to the same examples, shape (B, K), in [0, 1].

    Returns:
        A scalar, at least the entropy of ``z_g``.

    Examples:
        With two classes both terms of the sum are ``-log(1/2)`` where the personal model cannot decide, and
        where it gives the logits ``log 3`` and 0 the probabilities are 3/4 and 1/4.

        >>> import math
        >>> z_g = torch.tensor([[1.0, 0.0]])
        >>> undecided = adversarial_disagreement(torch.tensor([[0.0, 0.0]]), z_g)
        >>> math.isclose(undecided, 2 * math.log(2), rel_tol=1e-6)
        True
        >>> alike = adversarial_disagreement(torch.tensor([[math.log(3), 0.0]]), z_g)
        >>> math.isclose(alike, 2 * math.log(4 / 3), rel_tol=1e-6)
        True
    """
    z_g = z_g.detach()
    log_z_p = logits_p.log_softmax(dim=-1)
    agreement = z_g * log_z_p + (1 - z_g) * log_one_minus_softmax(logits_p)
    return -agreement.sum(dim=-1).mean()


def l2_distance(w_p: Iterable[Tensor], w_g: Iterable[Tensor]) -> Tensor:
    """``R_L2 = ||w_g - w_p||^2`` (section 6.2) over all trainable parameters.

    Args:
        w_p: personal weights.
        w_g: global weights, of the same shapes and in the same order; nothing flows into them.

    Returns:
        A scalar, at least 0.
    """
    # The summed squared error in one kernel: the weights are large, and every pass over them costs.
    distances = [F.mse_loss(v, w.detach(), reduction="sum") for v, w in zip(w_p, w_g, strict=True)]
    return torch.stack(distances).sum()
