"""Copying models, and copying, comparing and loading their state dictionaries."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
ModelT = TypeVar("ModelT", bound=nn.Module)


def copy_model(model: ModelT) -> ModelT:
    """What ``copy.deepcopy`` gives, in about half the time where the network is small.

    The other half goes into the dozen containers of every module that hold its hooks, nearly all empty.
    """
    attributes = [value for module in model.modules() for value in vars(module).values()]
    empty = (value for value in attributes if type(value) in (dict, OrderedDict, set) and not value)
    return copy.deepcopy(model, {id(value): type(value)() for value in empty})


def named_state(model: nn.Module) -> State:
    """The model's tensors under the names that they have without ``torch.compile``; not copied.

    A compiled module holds the plain one as ``_orig_mod``, which is no part of the architecture.
    """
    return {without_compile(name): value for name, value in model.state_dict().items()}


def without_compile(name: str) -> str:
    """A name without what ``torch.compile`` adds to it."""
    return name.replace("_orig_mod.", "")


def copy_state(model: nn.Module) -> State:
    """The model's state dictionary as tensors of its own on the CPU, safe to keep while training goes on."""
    return {name: value.detach().to("cpu", copy=True) for name, value in named_state(model).items()}


def clone_state(model: nn.Module) -> State:
    """The same on the model's device: no weight travels."""
    return {name: value.detach().clone() for name, value in named_state(model).items()}


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dictionary; integer and bool buffers stay what they are whatever type they arrive in.

    FedML's own aggregation turns integer buffers into floats, which are rounded here.

    Raises:
        ValueError: the state is of another architecture.
    """
    problems = state_mismatch(model, state)
    if problems:
        raise ValueError(f"the state dictionary is of another architecture: {problems}")
    state = {without_compile(name): value for name, value in state.items()}
    with torch.no_grad():
        for name, value in named_state(model).items():
            update = state[name]
            rounds = update.is_floating_point() and not value.is_floating_point()
            value.copy_(update.round() if rounds else update)


def state_mismatch(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What keeps ``state`` from fitting ``model``: missing, unknown or wrongly shaped tensors; or nothing."""
    own, state = named_state(model), {without_compile(name): value for name, value in state.items()}
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is not known" for name in state if name not in own]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    return "; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
