"""Group DRO against its algorithm on losses that are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from client_views import batch_of, make, view
from torch import nn

from fedml_spurious.personalization.base import Batch


class Constant(nn.Module):
    """Two logits (0, z): a sample of class 0 costs log(1 + e^z), one of class 1 log(1 + e^-z)."""

    def __init__(self, z: float) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.tensor(z, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(len(x), dtype=torch.float64)
        return torch.stack([zeros, self.z.expand(len(x))], dim=1)


def batch(y: list[int], aligned: list[bool]) -> Batch:
    x = torch.zeros(len(y), 3, 6, 6, dtype=torch.float64)
    return replace(batch_of(view()), x=x, y=torch.tensor(y), aligned=torch.tensor(aligned))


def test_two_steps_follow_the_algorithm() -> None:
    """q_g <- q_g exp(eta loss_g), normalised, then sum_g q_g loss_g, by hand with eta = 0.5 and z = 1."""
    cheap, dear = math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(1.0))
    mixed = (2 * cheap + dear) / 3
    method, model = make("group_dro", step_size=0.5), Constant(1.0)
    first = method.loss(model, batch([1, 1, 0, 0], [True, True, True, False]))
    q = [math.exp(0.5 * mixed), math.exp(0.5 * dear)]
    expected = (q[0] * mixed + q[1] * dear) / sum(q)
    assert first.item() == pytest.approx(expected, rel=1e-12)

    second = method.loss(model, batch([0, 1], [True, False]))
    q = [q[0] * math.exp(0.5 * dear), q[1] * math.exp(0.5 * cheap)]
    assert second.item() == pytest.approx((q[0] * dear + q[1] * cheap) / sum(q), rel=1e-12)


def test_the_weights_are_constants_of_the_step() -> None:
    """d/dz of a class-0 sample is sigmoid(z), of class 1 -sigmoid(-z); nothing flows through q."""
    method, model = make("group_dro", step_size=2.0), Constant(0.3)
    method.loss(model, batch([0, 1], [True, False])).backward()
    up, down = 1 / (1 + math.exp(-0.3)), 1 / (1 + math.exp(0.3))
    q = [math.exp(2 * math.log(1 + math.exp(0.3))), math.exp(2 * math.log(1 + math.exp(-0.3)))]
    assert model.z.grad.item() == pytest.approx((q[0] * up - q[1] * down) / sum(q), rel=1e-12)


def test_a_group_without_samples_in_the_batch_costs_nothing() -> None:
    """Its loss counts as 0, so its weight shrinks only by the normalisation."""
    dear = math.log(1 + math.exp(1.0))
    value = make("group_dro", step_size=0.5).loss(Constant(1.0), batch([0, 0], [True, True]))
    q = math.exp(0.5 * dear) / (math.exp(0.5 * dear) + 1)
    assert value.item() == pytest.approx(q * dear, rel=1e-12)


def test_the_default_step_size_is_that_of_its_authors() -> None:
    """The default of the program of Sagawa et al. 2020, --robust_step_size."""
    assert make("group_dro").settings.step_size == 0.01


def test_a_step_size_of_zero_is_the_mean_of_the_group_means() -> None:
    cheap, dear = math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(1.0))
    method = make("group_dro", step_size=0.0)
    for _ in range(3):
        value = method.loss(Constant(1.0), batch([1, 1, 1, 0], [True, True, True, False]))
        assert value.item() == pytest.approx((cheap + dear) / 2, rel=1e-12)
