"""The loss terms against closed forms and float64 references."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedml_spurious.learning.losses import adversarial_disagreement, l2_distance, log_one_minus_softmax


def test_disagreement_of_two_classes_by_hand() -> None:
    """p = (3/4, 1/4), g = (1/2, 1/2): per class -[g ln p + (1 - g) ln(1 - p)] = -(ln 3/4 + ln 1/4) / 2."""
    logits = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    z_g = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    expected = -(math.log(0.75) + math.log(0.25))
    assert math.isclose(adversarial_disagreement(logits, z_g).item(), expected, rel_tol=1e-12)


@given(seed=st.integers(0, 500), classes=st.integers(2, 12), scale=st.floats(0.1, 4))
@settings(max_examples=40, deadline=None)
def test_disagreement_equals_torchs_binary_cross_entropy(seed: int, classes: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(5, classes, generator=generator, dtype=torch.float64)
    z_g = torch.randn(5, classes, generator=generator, dtype=torch.float64).softmax(dim=1)
    reference = torch.nn.functional.binary_cross_entropy(logits.softmax(dim=1), z_g, reduction="sum") / 5
    torch.testing.assert_close(adversarial_disagreement(logits, z_g), reference, rtol=1e-9, atol=1e-12)


def test_it_is_smallest_where_the_models_agree_and_has_no_gradient_there() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.3]], dtype=torch.float64, requires_grad=True)
    z_g = logits.detach().softmax(dim=1)
    value = adversarial_disagreement(logits, z_g)
    (gradient,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0.0, atol=1e-12)
    for other in torch.randn(20, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)):
        assert adversarial_disagreement(other, z_g) >= value


def test_nothing_flows_into_the_global_model() -> None:
    logits_g = torch.tensor([[1.0, 2.0]], requires_grad=True)
    logits_p = torch.tensor([[2.0, 1.0]], requires_grad=True)
    adversarial_disagreement(logits_p, logits_g.softmax(dim=1)).backward()
    assert logits_g.grad is None
    assert logits_p.grad is not None
    assert logits_p.grad.abs().sum() > 0


def test_a_gradient_step_lowers_the_disagreement() -> None:
    """With the sign that section 6.1 prints, the step would raise it."""
    logits = torch.tensor([[3.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    z_g = torch.tensor([[0.2, 0.7, 0.1]], dtype=torch.float64)
    before = adversarial_disagreement(logits, z_g)
    (gradient,) = torch.autograd.grad(before, logits)
    assert adversarial_disagreement(logits - 0.1 * gradient, z_g) < before


def test_certain_predictions_keep_a_finite_loss_and_gradient() -> None:
    """In float32 softmax(100) is exactly 1, and log(1 - softmax) computed directly is -inf."""
    logits = torch.tensor([[100.0, 0.0, 0.0]], requires_grad=True)
    z_g = torch.tensor([[0.0, 1.0, 0.0]])
    value = adversarial_disagreement(logits, z_g)
    value.backward()
    # ln p_2 = -100, ln(1 - p_1) = ln 2 - 100, ln(1 - p_3) = 0.
    torch.testing.assert_close(value, torch.tensor(200.0 - math.log(2.0)), rtol=1e-6, atol=0.0)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_log_one_minus_softmax_in_double_precision() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = (1 - logits.softmax(dim=1)).log()
    torch.testing.assert_close(log_one_minus_softmax(logits), expected, rtol=1e-10, atol=1e-12)


def test_l2_distance_and_its_gradient_in_closed_form() -> None:
    w_p = [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([[0.5]], requires_grad=True)]
    w_g = [torch.tensor([0.0, 4.0], requires_grad=True), torch.tensor([[1.0]], requires_grad=True)]
    value = l2_distance(w_p, w_g)
    assert value.item() == 1.0 + 4.0 + 0.25
    value.backward()
    for v, w in zip(w_p, w_g, strict=True):
        torch.testing.assert_close(v.grad, 2 * (v - w).detach())
        assert w.grad is None


def test_the_distance_of_networks_of_different_sizes_is_none() -> None:
    with pytest.raises(ValueError, match="shorter"):
        l2_distance([torch.ones(2), torch.ones(1)], [torch.zeros(2)])
