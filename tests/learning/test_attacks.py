"""PGD against closed forms and invariants; the budget rule against hand-made success curves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedml_spurious.common.errors import InputError
from fedml_spurious.config.sections import AttackArgs
from fedml_spurious.learning.attacks import (
    ATTACK_BATCH,
    Attack,
    SuccessCount,
    count_successes,
    find_budget,
    pgd,
)
from fedml_spurious.learning.modes import frozen

WEIGHT = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 3.0, 2.0]], dtype=torch.float64)  # (K, D)
X = torch.tensor([[0.5, 0.95, 0.05], [0.2, 0.6, 0.5]], dtype=torch.float64)  # (B, D)
Y = torch.tensor([0, 1])


def linear(x: torch.Tensor) -> torch.Tensor:
    return x @ WEIGHT.T


def needs_images(x: torch.Tensor) -> torch.Tensor:
    """As many write their networks; of no images torch cannot tell how many values each has."""
    return linear(x.view(len(x), -1))


def test_linf_on_a_linear_model_reaches_the_closed_form_optimum() -> None:
    """Two linear logits: grad_x CE = p_other * (w_other - w_y), whose sign never changes."""
    expected = (X + 0.1 * (WEIGHT[1 - Y] - WEIGHT[Y]).sign()).clamp(0.0, 1.0)
    actual = pgd(linear, X, Y, norm="linf", eps=0.1, step_size=0.03, steps=5)
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(("steps", "reached"), [(2, 0.1), (10, 0.2)])
def test_l2_on_a_linear_model_reaches_the_closed_form_optimum(steps: int, reached: float) -> None:
    """Inside the unit cube it goes along the direction (w_other - w_y) up to a distance of eps."""
    x = torch.full((2, 3), 0.5, dtype=torch.float64)
    direction = WEIGHT[1 - Y] - WEIGHT[Y]
    expected = x + reached * direction / direction.norm(dim=1, keepdim=True)
    actual = pgd(linear, x, Y, norm="l2", eps=0.2, step_size=0.05, steps=steps)
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-12)


def test_one_linf_step_is_the_fast_gradient_sign_method() -> None:
    """Goodfellow et al. 2015: x + eps * sign(grad), with the gradient by finite differences."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    step, h = 0.01, 1e-6
    gradient = torch.zeros_like(X)
    for index in range(X.numel()):
        bump = torch.zeros(X.numel(), dtype=torch.float64)
        bump[index] = h
        bump = bump.view_as(X)
        up = nn.functional.cross_entropy(model(X + bump), Y, reduction="sum")
        down = nn.functional.cross_entropy(model(X - bump), Y, reduction="sum")
        gradient.view(-1)[index] = (up - down).item() / (2 * h)
    expected = (X + step * gradient.sign()).clamp(0, 1)
    actual = pgd(model, X, Y, norm="linf", eps=step, step_size=step, steps=1)
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-12)


@given(
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(0, 0.5),
    steps=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_examples_stay_in_the_ball_and_in_the_range_of_images(
    norm: str, eps: float, steps: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(4, 3, generator=generator, dtype=torch.float64)
    x_adv = pgd(linear, x, torch.tensor([0, 1, 0, 1]), norm=norm, eps=eps, step_size=eps / 2, steps=steps)
    delta = x_adv - x
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
    assert (size <= eps + 1e-9).all()
    assert ((x_adv >= 0) & (x_adv <= 1)).all()
    before = nn.functional.cross_entropy(linear(x), torch.tensor([0, 1, 0, 1]), reduction="none")
    after = nn.functional.cross_entropy(linear(x_adv), torch.tensor([0, 1, 0, 1]), reduction="none")
    assert (after >= before - 1e-9).all()


def test_an_example_does_not_depend_on_its_batch() -> None:
    together = pgd(linear, X, Y, norm="l2", eps=0.3, step_size=0.1, steps=4)
    alone = torch.cat(
        [pgd(linear, X[i : i + 1], Y[i : i + 1], norm="l2", eps=0.3, step_size=0.1, steps=4) for i in (0, 1)]
    )
    torch.testing.assert_close(together, alone, rtol=0.0, atol=1e-14)


def test_a_tiny_gradient_does_not_vanish_in_a_large_batch() -> None:
    """Its 5e-45 is next to the smallest number of single precision: a 64th of it would be 0."""

    def nearly_flat(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([1e-44 * x, torch.zeros_like(x)], dim=1)

    x, y = torch.full((64, 1), 0.5), torch.zeros(64, dtype=torch.int64)
    assert (pgd(nearly_flat, x, y, norm="linf", eps=0.25, step_size=0.25, steps=1) == 0.25).all()


def test_a_zero_gradient_moves_nothing() -> None:
    def constant(x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1, keepdim=True) * torch.zeros(1, 2, dtype=x.dtype)

    for norm in ("linf", "l2"):
        torch.testing.assert_close(pgd(constant, X, Y, norm=norm, eps=0.3, step_size=0.1, steps=3), X)


class Exploding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
        self.calls_left = 10**9

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise ArithmeticError("boom")
        return self.net(x)


@pytest.mark.parametrize("explodes", [False, True])
def test_the_model_is_left_as_it_was(explodes: bool) -> None:
    model = Exploding()
    x, y = torch.rand(4, 3, 6, 6), torch.tensor([0, 1, 0, 1])
    model(x)
    model.train()
    model.net[1].eval()  # a mixed state must come back mixed
    first, *_ = model.parameters()
    first.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    model.calls_left = 2 if explodes else 10**9
    if explodes:
        with pytest.raises(ArithmeticError, match="boom"):
            pgd(model, x, y, norm="linf", eps=0.1, step_size=0.05, steps=4)
    else:
        pgd(model, x, y, norm="linf", eps=0.1, step_size=0.05, steps=4)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == [
        False,
        True,
        True,
        True,
        True,
        True,
    ]
    assert all((parameter.grad == 7.0).all() for parameter in model.parameters())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0.0, atol=0.0)


def test_eval_mode_is_used_for_the_attack() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).double()
    model(torch.rand(64, 3, dtype=torch.float64))
    model.train()
    attacked = pgd(model, X, Y, norm="l2", eps=0.3, step_size=0.1, steps=4)
    model.eval()
    torch.testing.assert_close(attacked, pgd(model, X, Y, norm="l2", eps=0.3, step_size=0.1, steps=4))


def test_frozen_lets_no_gradient_into_the_parameters() -> None:
    model = nn.Linear(3, 2)
    with frozen(model):
        assert not model(torch.ones(1, 3)).requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, "^norm: expected 'linf' or 'l2', got 'l1'$"),
        ({"eps": -0.1}, "^eps: expected a finite number from 0, got -0.1$"),
        ({"eps": None}, "^eps: expected a finite number from 0, got None$"),
        ({"step_size": -0.1}, "^step_size: expected a finite number from 0, got -0.1$"),
        ({"steps": 0}, "^steps: expected a whole number from 1, got 0$"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    arguments = {"norm": "linf", "eps": 0.1, "step_size": 0.1, "steps": 1} | options
    with pytest.raises(ValueError, match=message):
        pgd(linear, X, Y, **arguments)


def test_attack_in_parts_equals_one_pgd_and_takes_nothing() -> None:
    """Two steps of 0.3 of the budget do not reach its end."""
    attack = Attack("linf", 0.1, steps=2, step_ratio=0.3)
    torch.testing.assert_close(
        attack(linear, X, Y), pgd(linear, X, Y, norm="linf", eps=0.1, step_size=0.03, steps=2)
    )
    assert attack(needs_images, X[:0], Y[:0]).shape == (0, 3)


def test_an_attack_of_ones_own_is_by_default_that_of_a_run() -> None:
    assert Attack("linf", 0.031) == AttackArgs().attack(0.031) == Attack("linf", 0.031, 10, 0.25)


def test_every_image_needs_a_label() -> None:
    """A part of the images that finds no part of the labels is not left out."""
    x, y = X.repeat(ATTACK_BATCH, 1), Y.repeat(ATTACK_BATCH // 2)
    with pytest.raises(ValueError, match="shorter"):
        Attack("linf", 0.1)(linear, x, y)


def test_the_length_of_an_image_is_over_all_its_pixels() -> None:
    """Images of one channel: the same optimum as that of their pixels in a row, in more than one part."""
    rows = torch.rand(ATTACK_BATCH + 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(len(rows)) % 2
    weight = torch.tensor([[1.0, -2.0, 0.5, 3.0], [-1.0, 3.0, 2.0, 0.0]], dtype=torch.float64)
    attack = Attack("l2", 0.2)
    found = attack(lambda x: x.flatten(1) @ weight.T, rows.view(-1, 1, 2, 2), y)
    direction = weight[1 - y] - weight[y]
    free = rows + 0.2 * direction / direction.norm(dim=1, keepdim=True)
    inside = ((free > 0) & (free < 1)).all(dim=1)  # the others meet the range of images on the way
    assert 100 < inside.sum() < len(rows)
    torch.testing.assert_close(found.flatten(1)[inside], free[inside], rtol=0.0, atol=1e-12)


def test_nothing_can_be_fooled_where_nothing_is_right() -> None:
    attack = Attack("linf", 0.1)
    assert count_successes(needs_images, X[:0], Y[:0], attack) == SuccessCount(0, 0)
    wrong = 1 - linear(X).argmax(dim=1)
    assert count_successes(needs_images, X, wrong, attack) == SuccessCount(0, 0)
    assert SuccessCount(0, 0).rate == 0.0


def test_successes_are_those_of_the_network_in_eval_mode_which_is_left_as_it_was() -> None:
    """An attack of eps moves the difference of two logits by eps times the sum of its slopes."""
    torch.manual_seed(1)
    norm, layer = nn.BatchNorm1d(3).double(), nn.Linear(3, 2).double()
    model, x = nn.Sequential(norm, layer), torch.rand(64, 3, dtype=torch.float64)
    model(x)  # a tenth of the way to the statistics of these samples
    slopes = (layer.weight[0] - layer.weight[1]) / (norm.running_var + norm.eps).sqrt()
    gap = ((x - norm.running_mean) * slopes).sum(dim=1)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([-gap.median() - 0.01, 0.0]))
    gap = (gap + layer.bias[0]).detach()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    eps = 0.05
    inside = ((x > eps) & (x < 1 - eps)).all(dim=1)
    x, y, gap = x[inside], (gap < 0).long()[inside], gap[inside]
    expected = int((gap.abs() < eps * slopes.abs().sum()).sum())
    assert 0 < expected < len(x)
    assert count_successes(model, x, y, Attack("linf", eps)) == SuccessCount(expected, len(x))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_successes_of_clients_are_added() -> None:
    """1 of 2 and 3 of 8 are 4 of 10."""
    pooled = SuccessCount(1, 2) + SuccessCount(3, 8)
    assert pooled == SuccessCount(4, 10)
    assert pooled.rate == 0.4


def test_successes_count_only_samples_that_were_correct() -> None:
    """One feature against 0.5: an attack of eps fools what lies within eps of the boundary."""

    def threshold(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - x, x - 0.5], dim=1)

    x = torch.tensor([[0.40], [0.45], [0.60], [0.90], [0.70]])
    y = torch.tensor([0, 0, 1, 1, 0])  # the last one is wrong from the start
    count = count_successes(threshold, x, y, Attack("linf", 0.09))
    assert count == SuccessCount(fooled=1, correct=4)
    assert count.rate == 0.25


@pytest.mark.parametrize(
    ("rate_at_start", "expected_eps", "in_range"),
    # The success rate is proportional to the budget: 0.031 * 0.8^k for the first k with a rate <= 0.5.
    [(0.6, 0.031 * 0.8, True), (0.45, 0.031, True), (0.2, 0.031, False), (1.0, 0.031 * 0.8**4, True)],
)
def test_the_budget_rule_shrinks_until_the_rate_is_in_range(
    rate_at_start: float, expected_eps: float, in_range: bool
) -> None:
    found = find_budget(lambda eps: rate_at_start * eps / 0.031, start=0.031, shrink=0.8, low=0.3, high=0.5)
    assert found.eps == pytest.approx(expected_eps, rel=1e-12)
    assert found.in_range is in_range
    assert [eps for eps, _ in found.trail] == sorted((eps for eps, _ in found.trail), reverse=True)


def test_the_budget_rule_says_when_a_step_jumps_over_the_range() -> None:
    found = find_budget(lambda eps: float(eps > 0.02), start=0.031, shrink=0.8, low=0.3, high=0.5)
    assert not found.in_range
    assert found.trail[-1][1] == 0.0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_works_in_inference_mode(norm: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
    options = {"norm": norm, "eps": 0.1, "step_size": 0.05, "steps": 3}
    expected = pgd(model, x, y, **options)
    with torch.inference_mode():
        assert torch.equal(pgd(model, x.clone(), y.clone(), **options), expected)
        inferring = nn.Linear(12, 3)
    with pytest.raises(ValueError, match=r"^the model was made in torch\.inference_mode .* outside$"):
        pgd(inferring, x.flatten(1), y, **options)


@pytest.mark.parametrize(
    ("rates", "chosen", "in_range"),
    [
        ([0.5], 1.0, True),  # both ends of the range are in it
        ([0.3], 1.0, True),
        ([0.5000001, 0.5], 0.8, True),
        ([0.2999999], 1.0, False),
        ([0.9, 0.2], 0.8, False),
    ],
)
def test_the_wanted_range_includes_its_ends(rates: list[float], chosen: float, in_range: bool) -> None:
    left = iter(rates)
    found = find_budget(lambda eps: next(left), start=1.0, shrink=0.8, low=0.3, high=0.5)
    assert (found.eps, found.in_range) == (chosen, in_range)
    assert found.trail == tuple(zip((1.0, 0.8), rates, strict=False))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"norm": "l3"}, "norm: expected 'linf' or 'l2', got 'l3'"),
        ({"eps": -0.1}, "eps: expected a finite number from 0, got -0.1"),
        ({"eps": math.nan}, "eps: expected a finite number"),
        ({"eps": math.inf}, "eps: expected a finite number"),
        ({"eps": None}, "eps: expected a finite number from 0, got None"),
        ({"eps": "0.1"}, "eps: expected a finite number from 0, got '0.1'"),
        ({"steps": 0}, "steps: expected a whole number from 1, got 0"),
        ({"steps": 1.5}, "steps: expected a whole number from 1, got 1.5"),
        ({"steps": True}, "steps: expected a whole number from 1, got True"),
        ({"step_ratio": -1.0}, "step_ratio: expected a finite number from 0"),
    ],
)
def test_an_attack_that_is_none_is_refused_when_it_is_made(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Attack(**{"norm": "linf", "eps": 0.1, **given})


def test_numbers_of_numpy_are_numbers() -> None:
    assert Attack("linf", np.float32(0.5), steps=np.int64(3)).steps == 3
