"""Section 3 and 5.1 against finite differences, closed forms and quadratic losses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from quadratic_losses import Quadratic, random_symmetric
from torch import nn

from fedml_spurious.analysis.definitions import (
    adversarial_perturbation,
    approximation_errors,
    cross_entropy_of,
    first_order_transferability,
    gamma,
    grey_part,
    input_gradients,
    norms,
    theta,
    theta_g,
    transferability_loss,
)

RNG = torch.Generator().manual_seed(1)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


def test_input_gradients_are_central_differences_of_each_sample() -> None:
    """Also where BatchNorm would mix samples in training mode, in which the model is and stays."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)
    ).double()
    x, y = draw(3, 3, 6, 6), torch.tensor([0, 2, 1])
    gradient = input_gradients(cross_entropy_of(model, y), x)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    model.eval()
    step = 1e-6
    for sample, channel, row, column in ((0, 0, 0, 0), (1, 2, 3, 5), (2, 1, 4, 2)):
        moved = [x[sample].clone() for _ in range(2)]
        moved[0][channel, row, column] += step
        moved[1][channel, row, column] -= step
        up, down = (F.cross_entropy(model(one[None]), y[sample, None]).item() for one in moved)
        # Losses of about 1 are rounded at 1e-16, and their difference is divided by 2e-6.
        assert gradient[sample, channel, row, column].item() == pytest.approx(
            (up - down) / (2 * step), rel=1e-6, abs=1e-9
        )


def test_gamma_and_the_angles_of_gradients_drawn_by_hand() -> None:
    g = torch.tensor([[3.0, 4.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, 1e-9]], dtype=torch.float64)
    p = torch.tensor([[0.0, 0.0, 2.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert gamma(g, p).tolist() == pytest.approx([2.5, 2.0, 1.0])
    assert theta(g, p).tolist() == pytest.approx([math.pi / 2, math.pi, 1e-9], rel=1e-12)
    robust = g * torch.tensor([True, False, True])
    assert theta_g(g, robust).tolist() == pytest.approx([math.atan2(4, 3), math.pi / 2, 0.0])
    assert norms(torch.ones(2, 3, 4, 4)).tolist() == pytest.approx([48**0.5] * 2)


def test_the_grey_part_is_the_projection_on_grey() -> None:
    gradient = draw(2, 3, 2, 2)
    axis = torch.ones(3, dtype=torch.float64) / 3**0.5
    along = torch.einsum("bchw,c->bhw", gradient, axis)
    torch.testing.assert_close(grey_part(gradient), along[:, None] * axis[None, :, None, None])


def test_the_perturbation_has_the_budget_and_the_direction_of_the_gradient() -> None:
    gradient = draw(4, 3, 2, 2)
    gradient[0] = 0
    delta = adversarial_perturbation(gradient, 0.25)
    assert norms(delta).tolist() == pytest.approx([0.0, 0.25, 0.25, 0.25])
    assert theta(delta[1:], gradient[1:]).tolist() == pytest.approx([0.0] * 3, abs=1e-12)


def test_the_transferability_loss_of_quadratic_losses() -> None:
    """Exactly the first order and half the difference of the curvatures along the perturbation."""
    x, eps = draw(5, 4), 0.3
    g, p = (Quadratic(x, draw(5, 4), random_symmetric(5, 4, 2.0, RNG)) for _ in range(2))
    delta = adversarial_perturbation(input_gradients(g, x), eps)
    first = first_order_transferability(input_gradients(g, x), input_gradients(p, x), eps)
    bend = torch.einsum("bi,bij,bj->b", delta, g.curvature - p.curvature, delta) / 2
    torch.testing.assert_close(transferability_loss(g, p, x, delta), first + bend)
    printed = eps * g.slope.norm(dim=1) * (1 - theta(g.slope, p.slope).cos() / gamma(g.slope, p.slope))
    torch.testing.assert_close(first, printed)


def test_the_error_of_the_first_order_vanishes_with_the_budget() -> None:
    """Appendix D.1: the error is of second order, its ratio to a first-order quantity of first order."""
    x = draw(5, 4)
    g, p = (Quadratic(x, draw(5, 4), random_symmetric(5, 4, 1.0, RNG)) for _ in range(2))
    gradients = input_gradients(g, x), input_gradients(p, x)
    errors = []
    for eps in (1e-3, 1e-4):
        found = transferability_loss(g, p, x, adversarial_perturbation(gradients[0], eps))
        errors.append(approximation_errors(found, first_order_transferability(*gradients, eps)))
    torch.testing.assert_close(errors[0], 10 * errors[1], rtol=0.02, atol=1e-6)
    assert approximation_errors(torch.tensor([2.0, -4.0]), torch.tensor([1.0, -5.0])).tolist() == [0.5, 0.25]
