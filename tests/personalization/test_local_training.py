"""Local training against a plain loop, and against the global model, which it must not know."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from client_views import initial_network, make, network, view
from torch import Tensor, nn

from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.learning.metrics import evaluate


def test_it_is_a_plain_training_loop_from_the_initial_weights() -> None:
    given = view(count=21, epochs=3, p_seed=4, client=2)
    model = initial_network().train()
    # The bias before BatchNorm has no gradient but rounding, which Adam magnifies: take the same kernels.
    optimizer = torch.optim.Adam(model.parameters(), lr=given.training.learning_rate, fused=True)
    best, best_accuracy = {}, -1.0
    for epoch in range(3):
        rows = generator(4, Purpose.PERSONAL_BATCHES, 0, 2, 0, epoch).permutation(21)
        for part in np.split(rows, [8, 16]):
            model.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(given.train.x[part]), given.train.y[part]).backward()
            optimizer.step()
        accuracy = float((model.eval()(given.val.x).argmax(dim=1) == given.val.y).double().mean())
        if accuracy >= best_accuracy:  # of epochs that tie the latest
            best, best_accuracy = copy.deepcopy(model.state_dict()), accuracy
    chosen = make("local").personalize(given)
    assert chosen.val_acc == best_accuracy
    for name, value in best.items():
        torch.testing.assert_close(chosen.state[name], value, rtol=1e-5, atol=1e-6)


def test_no_global_model_and_no_adversarial_example_changes_it() -> None:
    given = view()
    other = network()
    with torch.no_grad():
        for value in other.state_dict().values():
            value.add_(1)
    nothing = Labelled(torch.zeros_like(given.val.x), given.val.y)
    reference = SimpleNamespace(
        train_x=torch.zeros_like(given.train.x),
        train_z=torch.zeros_like(given.adversarial.train_z),
        val=nothing,
        global_val_accuracy=None,
    )
    strange = replace(given, global_model=other, adversarial=reference)
    expected, actual = make("local").personalize(given), make("local").personalize(strange)
    assert actual.selected_epoch == expected.selected_epoch
    assert all(torch.equal(actual.state[name], value) for name, value in expected.state.items())


def test_it_learns_and_has_its_own_number_of_epochs() -> None:
    """From scratch three epochs are too few where the fine-tuning is done; twenty are not."""
    given = view(count=60, epochs=3)
    ends: list[int] = []

    def observe(model: nn.Module, epoch: int, batch: int) -> None:
        ends.append(epoch)

    def train_accuracy(state: dict[str, Tensor]) -> float:
        model = initial_network()
        model.load_state_dict(state)
        return evaluate(model, given.train.x, given.train.y).accuracy or 0.0

    make("local", epochs=20).personalize(given, observe)
    assert max(ends) == 20
    chosen = make("local", epochs=20).personalize(replace(given, val=given.train))
    assert train_accuracy(chosen.state) > 0.95 > train_accuracy(initial_network().state_dict())
    ends.clear()
    make("local").personalize(given, observe)
    assert max(ends) == 3


def test_no_epochs_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        make("local", epochs=0)
