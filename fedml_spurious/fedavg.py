"""Federated averaging (McMahan et al. 2017), without FedML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fedml_spurious.seeds import Purpose, generator

State = dict[str, Tensor]


def sample_clients(seed: int, round_index: int, *, total: int, per_round: int) -> list[int]:
    """Choose the clients of a round uniformly without replacement.

    Args:
        seed: the federated seed; other seeds see other clients.
        round_index: from 0.
        total: number of clients.
        per_round: number of clients to choose, at most ``total``.

    Returns:
        Ascending client indices.
    """
    rng = generator(seed, Purpose.CLIENT_SAMPLING, round_index)
    return [int(index) for index in np.sort(rng.choice(total, per_round, replace=False))]


def average(updates: Sequence[tuple[int, Mapping[str, Tensor]]]) -> State:
    """Average client models, weighted by their numbers of training samples.

    BatchNorm running statistics are averaged like weights. Integer buffers (``num_batches_tracked``) are
    counters, for which a mean has no meaning: the largest is kept, as an integer. Sums run in double
    precision and in the order given.

    Args:
        updates: number of training samples (at least 1) and state dictionary of each client; the tensors
            are left as they are.

    Returns:
        A state dictionary of new tensors with the types of the first client's.

    Raises:
        ValueError: no clients, or a count below 1.
    """
    counts = [count for count, _ in updates]
    if not counts or min(counts) < 1:
        raise ValueError(f"expected at least one client, each with at least 1 sample; got counts {counts}")
    total = sum(counts)
    averaged: State = {}
    for name, first in updates[0][1].items():
        if first.is_floating_point():
            mean = torch.zeros_like(first, dtype=torch.float64)
            for count, state in updates:
                mean.add_(state[name], alpha=count / total)
            averaged[name] = mean.to(first.dtype)
        else:
            averaged[name] = torch.stack([state[name] for _, state in updates]).amax(dim=0)
    return averaged


def copy_state(model: nn.Module) -> State:
    """The model's state dictionary as tensors of its own on the CPU, safe to keep while training goes on."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


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
