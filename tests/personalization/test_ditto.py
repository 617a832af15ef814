"""Ditto against its gradient in closed form, and against the L2 term that has the same form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from client_views import batch_of, make, view
from torch import nn


@pytest.mark.parametrize("lam", [0.1, 1.0])
def test_its_gradient_is_that_of_cross_entropy_plus_lam_times_the_drift(lam: float) -> None:
    """For linear logits: X^T (softmax - onehot) / B + lam (w_p - w_g), written out."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3, bias=False)).double()
    batch = batch_of(view())
    w_g = torch.linspace(-1, 1, 324, dtype=torch.float64).view(3, 108)
    batch = replace(batch, x=batch.x.double(), w_g=(w_g,))
    make("ditto", lam=lam).loss(model, batch).backward()

    w_p, flat = model[1].weight.detach(), batch.x.flatten(start_dim=1)
    scores = (flat @ w_p.T).exp()
    probabilities = scores / scores.sum(dim=1, keepdim=True)
    residual = probabilities - torch.eye(3, dtype=torch.float64)[batch.y]
    expected = residual.T @ flat / len(flat) + lam * (w_p - w_g)
    torch.testing.assert_close(model[1].weight.grad, expected, rtol=1e-12, atol=1e-12)


def test_a_default_of_one_tenth() -> None:
    assert make("ditto").settings.lam == 0.1


def test_it_is_the_l2_term_with_half_the_coefficient() -> None:
    """lam / 2 = lam_l2, and 0.5 / 2 is exact; the proximal term of FedProx is the same with mu = lam."""
    given = view()
    ditto = make("ditto", lam=0.5).personalize(given).state
    proximal = make("l2", lam_l2=0.25).personalize(given).state
    assert all(torch.equal(ditto[key], proximal[key]) for key in ditto)


def test_more_pull_ends_nearer_to_the_global_model() -> None:
    given = view()
    distances = []
    for lam in (0.0, 1.0, 100.0):
        state = make("ditto", lam=lam).personalize(given).state
        weights = given.global_model.named_parameters()
        distances.append(sum(float((state[key] - w.detach()).square().sum()) for key, w in weights))
    assert distances[0] > distances[1] > distances[2] > 0
