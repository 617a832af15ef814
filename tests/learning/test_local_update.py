"""A client's local update against a plain loop over the order that its address draws."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.analysis.divergence import pseudo_gradient
from fedml_spurious.learning.local_update import update_locally
from fedml_spurious.learning.options import LocalTraining

TRAINING = LocalTraining(epochs=3, batch_size=4, learning_rate=0.05)
LOCAL_BATCHES = 3  # in every published result


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def plain_loop(model: nn.Module, x: Tensor, y: Tensor, *address: int) -> list[float]:
    """Adam on the mean cross-entropy of batches of 4, 4 and 2 samples, in the order of the seed sequence."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.05), []
    for epoch in range(3):
        sequence = np.random.SeedSequence([*address, epoch])
        order = torch.from_numpy(np.random.default_rng(sequence).permutation(10))
        for rows in (order[:4], order[4:8], order[8:]):
            optimizer.zero_grad()
            loss = -F.log_softmax(model(x[rows]), dim=1)[torch.arange(len(rows)), y[rows]].mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def test_it_is_a_plain_loop_in_the_order_of_seed_round_client_and_epoch() -> None:
    """And the pseudo-gradient of figure 1b is what this loop takes away from the weights (section 3)."""
    x = torch.rand(10, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.arange(10) % 3
    start, expected, model = network(), network(), network()
    losses = plain_loop(expected, x, y, 5, LOCAL_BATCHES, 7, 2)
    found = [
        step.loss.item() for step in update_locally(model, x, y, TRAINING, seed=5, round_index=7, client=2)
    ]
    assert found == pytest.approx(losses, rel=1e-9)
    moved = pseudo_gradient(start, x, y, TRAINING, seed=5, round_index=7, client=2)
    before, kept = dict(start.named_parameters()), copy.deepcopy(start.state_dict())
    for name, after in expected.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), after, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(moved[name], (before[name] - after).detach(), rtol=1e-7, atol=1e-12)
        assert torch.equal(start.state_dict()[name], kept[name])
