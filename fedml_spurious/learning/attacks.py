"""Projected gradient descent (Madry et al. 2018, section 2.1) and the budget rule (appendix C.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.common.errors import DivergedError, InputError
from fedml_spurious.common.travelling import travels
from fedml_spurious.learning.modes import Classifier, frozen
from fedml_spurious.learning.options import Norm

# Bounds the memory of an attack; the result does not depend on it beyond rounding.
ATTACK_BATCH = 512


def pgd(
    model: Classifier, x: Tensor, y: Tensor, *, norm: Norm, eps: float, step_size: float, steps: int
) -> Tensor:
    """Adversarial examples of ``model``: maximise the cross-entropy within a ball around ``x`` (eq. 1).

    The update printed in section 6.1 restarts every step from ``x``; the iteration of Madry et al. is
    meant: step from ``x_adv^t``, project into the ball, clamp to the range of images. No random start.

    Args:
        model: the victim; takes (B, ...) and returns logits (B, K). A module is used in eval mode and
            left as it was.
        x: images, shape (B, ...), values in [0, 1].
        y: labels, shape (B,).
        norm: ``linf`` steps along the sign of the gradient, ``l2`` along its direction.
        eps: budget, radius of the ball around ``x``, at least 0.
        step_size: length of a step in the norm.
        steps: number of steps, at least 1.

    Returns:
        Adversarial examples, shape of ``x``, values in [0, 1], without a gradient.

    Raises:
        InputError: unknown norm, a budget or step that is no number from 0, or no whole number of steps.
        ValueError: a model that has no gradients.
        DivergedError: a gradient of the loss in the images is not finite.

    Examples:
        The loss of a linear classifier rises in the same direction everywhere, here against the weights of
        class 0, so the attack ends in a corner of the ball. The last pixel meets the range of images.

        >>> weight = torch.tensor([[1.0, -1.0, -1.0], [0.0, 0.0, 0.0]])
        >>> x, y = torch.tensor([[0.5, 0.5, 0.875]]), torch.tensor([0])
        >>> pgd(lambda images: images @ weight.T, x, y, norm="linf", eps=0.25, step_size=0.125, steps=3)
        tensor([[0.2500, 0.7500, 1.0000]])
    """
    _require_norm(norm)
    _require_numbers(steps=steps, eps=eps, step_size=step_size)
    if isinstance(model, nn.Module) and any(weight.is_inference() for weight in model.parameters()):
        raise ValueError("the model was made in torch.inference_mode and has no gradients; make it outside")
    with torch.inference_mode(False):
        return _ascend(model, _plain(x), _plain(y), norm, eps, step_size, steps)


def _require_norm(norm: str) -> None:
    if norm not in get_args(Norm):
        raise InputError(f"norm: expected {' or '.join(map(repr, get_args(Norm)))}, got {norm!r}")


def _require_numbers(*, steps: object, **sizes: object) -> None:
    if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 1:
        raise InputError(f"steps: expected a whole number from 1, got {steps!r}")
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise InputError(f"{name}: expected a finite number from 0, got {value!r}")


def _plain(tensor: Tensor) -> Tensor:
    """Tensors that were made in inference mode take no part in gradients; their copies do."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _ascend(
    model: Classifier, x: Tensor, y: Tensor, norm: Norm, eps: float, step_size: float, steps: int
) -> Tensor:
    move = _linf_step if norm == "linf" else _l2_step
    x_adv, finite = x, torch.tensor(True, device=x.device)
    with frozen(model), torch.enable_grad():
        for _ in range(steps):
            x_adv = x_adv.detach().requires_grad_(True)
            # Sum, not mean: one example's gradient must not depend on the batch size.
            loss = F.cross_entropy(model(x_adv), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x_adv)  # leaves the parameters' .grad alone
            finite &= gradient.isfinite().all()
            x_adv = move(x, x_adv.detach(), gradient, eps, step_size)
    if not finite:  # read once, so that a GPU need not wait in every step
        raise DivergedError("the gradients of the loss in the images are not finite")
    return x_adv.detach()


def _linf_step(x: Tensor, x_adv: Tensor, gradient: Tensor, eps: float, step_size: float) -> Tensor:
    lower, upper = (x - eps).clamp(min=0.0), (x + eps).clamp(max=1.0)
    return (x_adv + step_size * gradient.sign()).clamp(lower, upper)


def _l2_step(x: Tensor, x_adv: Tensor, gradient: Tensor, eps: float, step_size: float) -> Tensor:
    # The smallest positive number only guards 0 / 0: a zero gradient then moves nothing.
    tiny = torch.finfo(x.dtype).tiny
    direction = gradient / _norms(gradient).clamp(min=tiny)
    delta = x_adv + step_size * direction - x
    delta = delta * (eps / _norms(delta).clamp(min=tiny)).clamp(max=1.0)
    # x lies in [0, 1], so clamping moves towards x and stays in the ball.
    return (x + delta).clamp(0.0, 1.0)


def _norms(batch: Tensor) -> Tensor:
    """Euclidean norm per example, shape (B, 1, ...) for broadcasting."""
    norms: Tensor = torch.linalg.vector_norm(batch, dim=tuple(range(1, batch.dim())), keepdim=True)
    return norms


@dataclass(frozen=True)
class Attack:
    """A PGD attack with its budget.

    Attributes:
        norm: norm of the ball.
        eps: budget, at least 0.
        steps: number of steps, at least 1.
        step_ratio: length of a step as a share of ``eps``, at least 0.

    Raises:
        InputError: a value is none of these.
    """

    norm: Norm
    eps: float
    steps: int = 10
    step_ratio: float = 0.25

    def __post_init__(self) -> None:
        _require_norm(self.norm)
        _require_numbers(steps=self.steps, eps=self.eps, step_ratio=self.step_ratio)

    def __call__(self, model: Classifier, x: Tensor, y: Tensor) -> Tensor:
        """Adversarial examples of all of ``x`` (N, ...) against ``model``, in bounded memory."""
        if not len(x):  # not every network takes no images
            return x.clone()
        parts = [
            pgd(
                model,
                part,
                labels,
                norm=self.norm,
                eps=self.eps,
                step_size=self.eps * self.step_ratio,
                steps=self.steps,
            )
            for part, labels in zip(torch.split(x, ATTACK_BATCH), torch.split(y, ATTACK_BATCH), strict=True)
        ]
        return torch.cat(parts)


@travels
@dataclass(frozen=True)
class SuccessCount:
    """How often an attack fooled the model.

    Attributes:
        fooled: correctly classified samples whose adversarial example is classified wrongly.
        correct: correctly classified samples.
    """

    fooled: int
    correct: int

    def __add__(self, other: SuccessCount) -> SuccessCount:
        return SuccessCount(self.fooled + other.fooled, self.correct + other.correct)

    @property
    def rate(self) -> float:
        """Share of attacks that succeed; 0 where the model classifies nothing correctly."""
        return self.fooled / self.correct if self.correct else 0.0


def count_successes(model: Classifier, x: Tensor, y: Tensor, attack: Attack) -> SuccessCount:
    """Attack the correctly classified samples of ``x`` (N, ...) with labels ``y`` (N,) and count."""
    with frozen(model):  # once for all three
        correct = _predict(model, x) == y
        x, y = x[correct], y[correct]
        fooled = _predict(model, attack(model, x, y)) != y
    return SuccessCount(int(fooled.sum()), len(y))


def _predict(model: Classifier, x: Tensor) -> Tensor:
    """Predicted classes, shape (N,); the model is left as it was."""
    if not len(x):
        return torch.zeros(0, dtype=torch.int64, device=x.device)
    with frozen(model), torch.no_grad():
        return torch.cat([model(part).argmax(dim=1) for part in torch.split(x, ATTACK_BATCH)])


@dataclass(frozen=True)
class BudgetSearch:
    """Outcome of the budget rule.

    Attributes:
        eps: the chosen budget.
        trail: every budget that was tried with its success rate, in order.
        in_range: whether the chosen budget's success rate lies in the wanted range.
    """

    eps: float
    trail: tuple[tuple[float, float], ...]
    in_range: bool


def find_budget(
    success_rate: Callable[[float], float], *, start: float, shrink: float, low: float, high: float
) -> BudgetSearch:
    """Shrink the budget until the attack succeeds on 30 % to 50 % of the samples (appendix C.2).

    The rule only shrinks: a success rate below ``low`` at the start keeps the start. Where one step jumps
    over the whole range, the first budget below it is taken. ``in_range`` tells both cases.

    Args:
        success_rate: success rate in [0, 1] of the attack with a given budget.
        start: first budget; the paper starts at 0.031.
        shrink: factor between budgets, in (0, 1).
        low: smallest wanted success rate.
        high: largest wanted success rate.

    Returns:
        The budget and how it was found.
    """
    eps, trail = start, []
    while True:
        rate = success_rate(eps)
        trail.append((eps, rate))
        if rate <= high:
            return BudgetSearch(eps, tuple(trail), low <= rate)
        eps *= shrink
