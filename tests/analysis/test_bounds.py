"""Lemma 1, Lemma 2 and Theorem 3 where every term is known.

They hold on random instances, and are equalities on an instance made so that every step of the proofs is one:
a bound that lost a factor or a term is another number there.
"""

from __future__ import annotations

import math

import pytest
import torch
from quadratic_losses import Quadratic, random_symmetric
from torch import Tensor

from fedml_spurious.analysis.bounds import (
    Shift,
    assumption_1,
    lemma_1,
    lemma_2,
    loss_disparity,
    theorem_3,
)

SAMPLES, ROBUST, SPURIOUS = 6, 3, 4
SPURIOUS_MASK = torch.tensor([False] * ROBUST + [True] * SPURIOUS)
SMOOTHNESS, EPS = 0.7, 0.25


def random_instance(seed: int) -> tuple[Quadratic, Quadratic, Tensor, Shift]:
    """Two losses, samples and a shift, along which the personal loss is concave: Assumption 1 holds."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    size = ROBUST + SPURIOUS
    x, natural = draw(SAMPLES, size), draw(SAMPLES, size).tanh() * SPURIOUS_MASK
    g, p = (
        Quadratic(x, draw(SAMPLES, size), random_symmetric(SAMPLES, size, SMOOTHNESS, rng)) for _ in range(2)
    )
    bend = torch.einsum("bi,bij,bj->b", natural, p.curvature, natural)
    concave = torch.where((bend > 0)[:, None, None], -p.curvature, p.curvature)
    return g, Quadratic(x, p.slope, concave), x, Shift(natural, SPURIOUS_MASK)


def tight_instance(
    *, theta_g: float, theta: float, gamma: float
) -> tuple[Quadratic, Quadratic, Tensor, Shift]:
    """One sample whose shift is 1 at every spurious feature, along which the spurious gradients point.

    The curvatures are the extreme ones along the attack and none along the shift where ``theta_g`` is 0.
    """
    robust, spurious = torch.zeros(2, ROBUST + SPURIOUS, dtype=torch.float64)
    robust[0] = 1
    spurious[SPURIOUS_MASK] = SPURIOUS**-0.5

    def gradient(angle: float, size: float) -> Tensor:
        return size * (math.cos(angle) * robust + math.sin(angle) * spurious)[None]

    slope_g, slope_p = gradient(theta_g, 1.5), gradient(theta_g + theta, 1.5 / gamma)
    along = slope_g.T @ slope_g / slope_g.square().sum()
    x = torch.ones(1, ROBUST + SPURIOUS, dtype=torch.float64)
    bend = SMOOTHNESS * along[None] if theta_g == 0 else torch.zeros_like(along)[None]
    shift = Shift(SPURIOUS_MASK.double()[None], SPURIOUS_MASK)
    return Quadratic(x, slope_g, -bend), Quadratic(x, slope_p, bend), x, shift


@pytest.mark.parametrize("seed", range(50))
def test_they_hold_on_random_instances(seed: int) -> None:
    g, p, x, shift = random_instance(seed)
    assumed, first = assumption_1(p, x, shift), lemma_1(g, p, x, shift)
    assert assumed.left == first.left == loss_disparity(p, x, shift)
    assert assumed.left <= assumed.right
    assert first.left <= first.right
    second = lemma_2(g, p, x, eps=EPS, smoothness=SMOOTHNESS)
    assert (second.lower <= second.transferability).all()
    assert (second.transferability <= second.upper).all()
    third = theorem_3(g, p, x, shift, eps=EPS, smoothness=SMOOTHNESS)
    assert third.left == first.left <= third.right
    assert first.right <= third.right  # its proof bounds the right side of Lemma 1


@pytest.mark.parametrize(("theta_g", "theta"), [(0.0, 0.4), (0.3, 0.0)])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_lemma_1_is_an_equality_where_its_steps_are(theta_g: float, theta: float, gamma: float) -> None:
    found = lemma_1(*tight_instance(theta_g=theta_g, theta=theta, gamma=gamma))
    # By hand: the personal gradient has the spurious part 1.5 / gamma * sin, along (1, ..., 1) / sqrt(d_s).
    by_hand = SPURIOUS**0.5 * 1.5 / gamma * math.sin(theta_g + theta)
    assert found.left == pytest.approx(by_hand, rel=1e-12)
    assert found.right == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("sign", [-1, 1])
def test_lemma_2_is_an_equality_where_the_curvatures_are_extreme(sign: int) -> None:
    g, p, x, _ = tight_instance(theta_g=0.0, theta=0.6, gamma=0.8)
    turned = [Quadratic(one.x0, one.slope, -sign * one.curvature) for one in (g, p)]
    found = lemma_2(*turned, x, eps=EPS, smoothness=SMOOTHNESS)
    reached = found.upper if sign > 0 else found.lower
    torch.testing.assert_close(found.transferability, reached, rtol=0, atol=1e-12)
    by_hand = EPS * 1.5 * (1 - math.cos(0.6) / 0.8)
    assert (found.upper + found.lower).item() / 2 == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_theorem_3_is_an_equality_where_its_steps_are(gamma: float) -> None:
    """At 45 degrees, where sin + cos is sqrt(2), and a global model that entangles nothing."""
    instance = tight_instance(theta_g=0.0, theta=math.pi / 4, gamma=gamma)
    found = theorem_3(*instance, eps=EPS, smoothness=SMOOTHNESS)
    assert found.right == pytest.approx(found.left, rel=1e-12)
    assert found.left == pytest.approx(SPURIOUS**0.5 * 1.5 / gamma * 0.5**0.5, rel=1e-12)


def test_theorem_3_grows_with_the_entanglement_by_the_smallest_gamma() -> None:
    """Two samples: the term of theta_g by hand, which is 0 in the equality."""
    g, p, x, shift = tight_instance(theta_g=0.3, theta=0.2, gamma=2.0)
    both = [
        Quadratic(x.repeat(2, 1), one.slope.repeat(2, 1), one.curvature.repeat(2, 1, 1)) for one in (g, p)
    ]
    slope = both[1].slope * torch.tensor([[1.0], [4.0]], dtype=torch.float64)  # gamma is 2 and 0.5
    p_two = Quadratic(both[1].x0, slope, both[1].curvature)
    shift_two = Shift(shift.natural.repeat(2, 1), shift.spurious)
    found = theorem_3(both[0], p_two, x.repeat(2, 1), shift_two, eps=EPS, smoothness=0.0)
    transferability = 1.5 * (1 - math.cos(0.2) * (1 / 2 + 1 / 0.5) / 2)
    by_hand = SPURIOUS**0.5 * (((math.sin(0.3) + 2**0.5) / 0.5 - 1) * 1.5 + transferability)
    assert found.right == pytest.approx(by_hand, rel=1e-12)


def test_a_perturbation_of_a_robust_feature_is_refused() -> None:
    with pytest.raises(ValueError, match="spurious features alone, each by at most 1"):
        Shift(torch.ones(1, ROBUST + SPURIOUS), SPURIOUS_MASK)
    with pytest.raises(ValueError, match="spurious features alone, each by at most 1"):
        Shift(1.5 * SPURIOUS_MASK.double()[None], SPURIOUS_MASK)
