"""The rounds of FedAvg against averages worked out by hand; sampling against its contract."""

from __future__ import annotations

import json
import operator
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedml_spurious.learning.fedavg import ExactAggregator, Round, Share, run_rounds, sample_clients
from fedml_spurious.learning.state_dicts import State
from fedml_spurious.learning.weighted_sum import WeightedSum

# One weight w, from 0. Client k has SAMPLES[k] samples, and its training adds k + 1 to w.
SAMPLES = (1, 2, 5)

WITHOUT_FEDML = """
import json, sys
import test_fedavg

model = test_fedavg.one_weight()
found = [finished.model.weight.item() for finished in test_fedavg.run(model, rounds=range(3), per_round=3)]
fedml = [name for name in sys.modules if name.partition(".")[0] == "fedml"]
print(json.dumps({"weights": found, "fedml": fedml}))
"""


def one_weight() -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model


def train(round_index: int, clients: Sequence[int], weights: State) -> Iterator[Share[WeightedSum]]:
    """Every client a share of its own, the last one first."""
    for client in reversed(clients):
        partial = WeightedSum()
        partial.add(SAMPLES[client], {"weight": weights["weight"] + client + 1})
        yield Share({client: 10.0 * round_index + client}, partial)


def run(model: nn.Module, *, rounds: range, per_round: int) -> Iterator[Round]:
    return run_rounds(
        ExactAggregator(model), train, rounds=rounds, seed=4, total=len(SAMPLES), per_round=per_round
    )


def test_fedavg_runs_without_fedml() -> None:
    """Every round adds (1 * 1 + 2 * 2 + 5 * 3) / 8 = 20 / 8 to the weight, exact in binary."""
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_FEDML],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(finished.stdout) == {"weights": [2.5, 5.0, 7.5], "fedml": []}


def test_the_sampled_clients_are_trained_from_the_model_of_the_round_before() -> None:
    """The weight after rounds 2 to 5 of two clients each, with fractions and Python's own sums."""
    model = one_weight()
    expected = Fraction(0)
    for finished in run(model, rounds=range(2, 6), per_round=2):
        clients = sample_clients(4, finished.index, total=3, per_round=2)
        counts = [SAMPLES[client] for client in clients]
        models = [expected + client + 1 for client in clients]
        expected = sum(map(operator.mul, counts, models), Fraction(0)) / sum(counts)
        assert finished.clients == tuple(clients)
        # In the order of the clients, though the shares came in another one.
        assert finished.losses == tuple(10.0 * finished.index + client for client in clients)
        assert finished.model is model
        assert model.weight.item() == pytest.approx(float(expected), rel=1e-6)
    assert finished.index == 5


def test_a_round_begins_when_it_is_asked_for() -> None:
    """What is done with a finished round sees its model, not a later one's."""
    model = one_weight()
    rounds = run(model, rounds=range(2), per_round=3)
    assert model.weight.item() == 0
    next(rounds)
    assert model.weight.item() == 2.5
    assert [finished.index for finished in rounds] == [1]
    assert model.weight.item() == 5.0


def test_clients_may_be_trained_one_by_one_or_summed_before() -> None:
    """One share of all clients and one share each give the same bits."""

    def together(round_index: int, clients: Sequence[int], weights: State) -> Iterator[Share[WeightedSum]]:
        shares = list(train(round_index, clients, weights))
        total, losses = WeightedSum(), {}
        for share in shares:
            total.merge(share.update)
            losses.update(share.losses)
        yield Share(losses, total)

    models = {kind: one_weight() for kind in (train, together)}
    for kind, model in models.items():
        nn.init.constant_(model.weight, 0.1)
        options = {"seed": 4, "total": 3, "per_round": 2}
        found = list(run_rounds(ExactAggregator(model), kind, rounds=range(5), **options))
        assert len(found) == 5
    assert torch.equal(models[train].weight, models[together].weight)


def test_sampling_is_without_replacement_and_addressed() -> None:
    draws = [sample_clients(3, index, total=50, per_round=5) for index in range(200)]
    assert all(len(set(draw)) == 5 and min(draw) >= 0 and max(draw) < 50 for draw in draws)
    # CLIENT_SAMPLING is 2 in every published result.
    expected = np.random.default_rng(np.random.SeedSequence([3, 2, 7])).choice(50, 5, replace=False)
    assert draws[7] == sorted(expected.tolist())
    assert draws != [sample_clients(4, index, total=50, per_round=5) for index in range(200)]
    # Each client is drawn Binomial(200, 0.1) times: 20 on average, standard deviation 4.2.
    counts = np.bincount(np.concatenate(draws), minlength=50)
    assert counts.min() >= 20 - 4.5 * 4.25
    assert counts.max() <= 20 + 4.5 * 4.25


def test_sampling_leaves_the_global_generator_alone() -> None:
    np.random.seed(5)  # noqa: NPY002 - the global generator is what is watched
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    sample_clients(0, 0, total=10, per_round=3)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
