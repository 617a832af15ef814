"""The divergence of predictions: in pieces, as the attack, to the same value."""

from __future__ import annotations

import pytest
import torch
from scipy.special import log_softmax, rel_entr
from torch import nn

from fedml_spurious.audit.client import divergence, log_predictions
from fedml_spurious.learning.attacks import ATTACK_BATCH


def test_it_is_the_mean_relative_entropy_and_holds_one_piece_at_a_time() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2 * ATTACK_BATCH + 3, 5, generator=generator, dtype=torch.float64)
    models = [nn.Linear(5, 3, dtype=torch.float64) for _ in range(2)]
    sizes: list[int] = []
    for model in models:
        model.weight.data = torch.randn(3, 5, generator=generator, dtype=torch.float64)
        model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    log_g, log_p = (log_predictions(model, x) for model in models)
    assert sizes == [ATTACK_BATCH, ATTACK_BATCH, 3] * 2
    g, p = (torch.tensor(log_softmax(model(x).detach().numpy(), axis=1)).exp().numpy() for model in models)
    assert divergence(log_g, log_p) == pytest.approx(rel_entr(g, p).sum(axis=1).mean(), rel=1e-12)
    assert divergence(log_g, log_g) == 0
