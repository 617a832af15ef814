"""Whether what was computed are numbers: neither infinite nor NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fedml_spurious.common.errors import DivergedError
from fedml_spurious.learning.state_dicts import named_state


def first_not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Name of the first floating-point tensor that holds an infinity or NaN; empty where none does.

    Args:
        tensors: by name; those of integers and truth values cannot hold such a value.
    """
    real = {
        name: torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
        for name, value in tensors.items()
    }
    named = {name: value for name, value in real.items() if value.is_floating_point() and value.numel()}
    if not named:
        return ""
    # All answers are fetched at once, for the sake of GPUs. A finite sum, half as slow as the search for the
    # ends, has finite terms; that of large ones may overflow.
    sums = torch.stack([value.detach().sum().double() for value in named.values()])
    if bool(sums.isfinite().all()):
        return ""
    # One pass without a copy, which hands NaN on.
    ends = [torch.stack(torch.aminmax(value.detach())).double() for value in named.values()]
    finite = torch.stack(ends).isfinite().all(dim=1).tolist()
    return next((name for name, good in zip(named, finite, strict=True) if not good), "")


def require_finite_weights(model: nn.Module, when: str) -> None:
    """Make sure that parameters and buffers are finite.

    Args:
        model: the network.
        when: end of the message, such as ``after epoch 2``.

    Raises:
        DivergedError: one is not.
    """
    name = first_not_finite(named_state(model))
    if name:
        raise DivergedError(f"{name} holds values that are not finite {when}")


def require_finite_losses(losses: Sequence[Tensor], *, first: int, epoch: int) -> None:
    """Make sure that the losses of an epoch are finite.

    Args:
        losses: a scalar per batch.
        first: number of the first batch, from 1.
        epoch: number of the epoch, from 1.

    Raises:
        DivergedError: one is not.
    """
    values = torch.stack([loss.reshape(()) for loss in losses]).tolist()
    for number, value in enumerate(values, start=first):
        if not math.isfinite(value):
            raise DivergedError(f"the loss is {value} in batch {number} (epoch {epoch})")


def require_finite_optimizer(optimizer: torch.optim.Optimizer, names: Iterable[str], when: str) -> None:
    """Make sure that an optimiser's running averages are finite.

    Squares of large gradients overflow long before the gradients do. Adam then divides by infinity, and the
    weights stand still for ever, as if a method had chosen to change nothing.

    Args:
        optimizer: after a step.
        names: of its parameters, in its order.
        when: end of the message.

    Raises:
        DivergedError: one is not.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    averages = {
        f"{name} ({kept})": value
        for name, parameter in zip(names, parameters, strict=True)
        for kept, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    name = first_not_finite(averages)
    if name:
        raise DivergedError(f"the gradients of {name.split(' (')[0]} are too large for Adam {when}")
