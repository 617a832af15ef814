"""The alignment penalty against known angles, closed forms and finite differences."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from client_views import batch_of, make, view
from torch import Tensor, nn

from fedml_spurious.learning.modes import batchnorm_to_eval_mode
from fedml_spurious.learning.state_dicts import load_state
from fedml_spurious.personalization.base import ClientView
from fedml_spurious.personalization.gradient_alignment import input_gradients, misalignment


@pytest.mark.parametrize(("other", "expected"), [((5.0, 0.0), 0.0), ((0.0, 2.0), 1.0), ((-1e-6, 0.0), 2.0)])
def test_it_is_one_minus_the_cosine_whatever_the_lengths(other: tuple[float, float], expected: float) -> None:
    value = misalignment(torch.tensor([[1e-9, 0.0]]), torch.tensor([other]))
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_a_vanishing_gradient_adds_nothing_and_harms_nothing() -> None:
    gradient_p = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    gradient_g = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    value = misalignment(gradient_p, gradient_g)
    assert value.item() == pytest.approx(1 / 3)
    value.backward()
    assert torch.isfinite(gradient_p.grad).all()
    nothing = misalignment(torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3))
    nothing.backward()
    assert nothing.item() == 0


def test_input_gradients_of_linear_logits_in_closed_form() -> None:
    """grad_x CE = (softmax - onehot) W, for every sample by itself."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3)).double()
    batch = batch_of(view())
    x = batch.x.double()
    probabilities = model(x).softmax(dim=1)
    expected = (probabilities - torch.eye(3, dtype=torch.float64)[batch.y]) @ model[1].weight
    actual = input_gradients(model, x, batch.y, differentiable=False)
    torch.testing.assert_close(actual, expected.detach(), rtol=1e-12, atol=1e-12)


def penalty(given: ClientView, model: nn.Module, lam: float) -> tuple[float, Tensor]:
    """The part of the objective that is not cross-entropy, and its gradient in the last layer."""
    batch = batch_of(given)
    batch = replace(batch, x=batch.x.double(), f_g=copy.deepcopy(batch.f_g).double())
    grads, values = [], []
    for coefficient in (lam, 0.0):
        trained = copy.deepcopy(model).double().train()
        value = make("grad_align", lam=coefficient).loss(trained, batch)
        value.backward()
        values.append(value.item())
        grads.append(trained[4].weight.grad)
    return values[0] - values[1], grads[0] - grads[1]


def test_its_gradient_in_the_weights_agrees_with_finite_differences() -> None:
    given = view()
    model = copy.deepcopy(given.global_model).double()
    with torch.no_grad():
        model[4].weight.add_(0.3 * torch.linspace(-1, 1, 192).view(3, 64))
    value, gradient = penalty(given, model, 2.0)
    assert 0 < value < 4
    for index in [(0, 0), (1, 30), (2, 63)]:
        sides = []
        for step in (1e-5, -1e-5):
            moved = copy.deepcopy(model)
            with torch.no_grad():
                moved[4].weight[index] += step
            sides.append(penalty(given, moved, 2.0)[0])
        assert gradient[index].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("mode", ["frozen", "batch"])
def test_where_the_models_are_the_same_there_is_no_penalty(mode: str) -> None:
    given = view()
    batch = batch_of(given)
    same = given.global_model.train()
    if mode == "frozen":
        batchnorm_to_eval_mode(same)
    without = make("ft").loss(copy.deepcopy(same), batch)
    if mode == "batch":  # the penalty reads the running statistics, which the cross-entropy moves first
        given.global_model[1].momentum = 0.0
    with_term = make("grad_align", lam=5.0).loss(copy.deepcopy(same), batch)
    torch.testing.assert_close(with_term, without, rtol=0.0, atol=1e-5)


def test_training_with_it_keeps_the_input_gradients_nearer_to_the_global_ones() -> None:
    given = view(rate=0.02)

    def angle_term(state: dict[str, Tensor]) -> float:
        model = copy.deepcopy(given.global_model)
        load_state(model, state)
        cosines = []
        for x, y in zip(given.train.x, given.train.y, strict=True):
            pair = []
            for network in (model.eval(), given.global_model.eval()):
                image = x[None].clone().requires_grad_(True)
                nn.functional.cross_entropy(network(image), y[None]).backward()
                pair.append(image.grad.flatten())
            cosines.append(nn.functional.cosine_similarity(*pair, dim=0, eps=1e-30).item())
        given.global_model.zero_grad(set_to_none=True)
        return 1 - sum(cosines) / len(cosines)

    plain = angle_term(make("ft").personalize(given).state)
    assert angle_term(make("grad_align", lam=10.0).personalize(given).state) < 0.5 * plain


def test_the_penalty_moves_no_batchnorm_statistic() -> None:
    given = view()
    before = copy.deepcopy(given.global_model)
    assert before.training  # the global model is used in eval mode all the same
    with_term, without = copy.deepcopy(before), copy.deepcopy(before)
    make("grad_align").loss(with_term, batch_of(given)).backward()
    make("ft").loss(without, batch_of(given))
    assert torch.equal(with_term[1].running_mean, without[1].running_mean)
    assert torch.equal(given.global_model[1].running_mean, before[1].running_mean)
    assert given.global_model.training
    assert all(parameter.grad is None for parameter in given.global_model.parameters())
