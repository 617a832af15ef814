"""Copying, comparing and loading state dictionaries."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


def copy_state(model: nn.Module) -> State:
    """The model's state dictionary as tensors of its own on the CPU, safe to keep while training goes on."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def clone_state(model: nn.Module) -> State:
    """The same on the model's device: no weight travels."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dictionary; integer buffers stay integers whatever type they arrive in.

    FedML's own aggregation turns integer buffers into floats, which are rounded here.

    Raises:
        ValueError: the state is of another architecture.
    """
    problems = state_mismatch(model, state)
    if problems:
        raise ValueError(f"the state dictionary is of another architecture: {problems}")
    with torch.no_grad():
        for name, value in model.state_dict().items():
            update = state[name]
            value.copy_(update if value.is_floating_point() else update.round())


def state_mismatch(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What keeps ``state`` from fitting ``model``: missing, unknown or wrongly shaped tensors; or nothing."""
    own = model.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is not known" for name in state if name not in own]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    return "; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
