"""Averaging against rational arithmetic and against FedML's own; sampling against its contract."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from fedml_spurious.learning.fedavg import (
    WeightedSum,
    average,
    copy_state,
    load_state,
    sample_clients,
    state_mismatch,
)


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(2))


def trained(seed: int, batches: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = model()
        for _ in range(batches):
            net(torch.rand(4, 3, 5, 5))
    return net


def test_weights_are_shares_of_samples() -> None:
    """(1 * 1 + 2 * 3 + 5 * 7) / 8 = 42 / 8, exact in binary."""
    updates = [(count, {"w": torch.tensor([value])}) for count, value in ((1, 1.0), (2, 3.0), (5, 7.0))]
    expected = Fraction(1 * 1 + 2 * 3 + 5 * 7, 8)
    assert average(updates)["w"].item() == float(expected)


def test_batchnorm_statistics_are_averaged_and_counters_stay_integers() -> None:
    first, second = trained(1, batches=3), trained(2, batches=7)
    state = average([(3, first.state_dict()), (1, second.state_dict())])
    for name in ("1.running_mean", "1.running_var", "0.weight"):
        expected = 0.75 * first.state_dict()[name].double() + 0.25 * second.state_dict()[name].double()
        torch.testing.assert_close(state[name].double(), expected, rtol=1e-6, atol=1e-7)
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert state["1.num_batches_tracked"].item() == 7


def test_the_clients_tensors_are_left_alone() -> None:
    """FedML's aggregation adds into the first client's dictionary."""
    updates = [(1, {"w": torch.ones(2)}), (3, {"w": torch.zeros(2)})]
    average(updates)["w"].fill_(9.0)
    assert updates[0][1]["w"].tolist() == [1.0, 1.0]
    assert updates[1][1]["w"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("grouping", [[[0, 1, 2, 3, 4]], [[4, 2], [0, 3, 1]], [[3], [1], [4, 0], [2]]])
def test_the_sum_is_exact_in_every_order_and_grouping(grouping: list[list[int]]) -> None:
    """Against rational arithmetic, on values for which plain double-precision sums depend on the order."""
    rng = np.random.default_rng(0)
    counts = [100_003, 7, 64, 501, 3]
    magnitudes = np.array([1.0, 1e-9, 1e6, -1e6, 1e-3])[:, None]
    values = (magnitudes * rng.standard_normal((5, 70_000))).astype(np.float32)
    values[3, 0] = -values[2, 0]
    whole = WeightedSum()
    for group in grouping:
        part = WeightedSum()
        for client in group:
            part.add(counts[client], {"w": torch.from_numpy(values[client]).view(7, 10_000)})
        whole.merge(part)
    actual = whole.mean()["w"].view(-1)
    for place in (0, 1, 31_999, 32_768, 69_999):
        exact = sum(
            Fraction(count) * Fraction(float(row[place])) for count, row in zip(counts, values, strict=True)
        )
        # One rounding of the exact sum, one of the quotient, one to single precision.
        assert actual[place].item() == float(np.float32(float(exact) / sum(counts)))


def test_parity_with_fedmls_own_aggregation() -> None:
    """FedML 0.9.6, FedMLAggOperator.agg with the FedAvg optimizer, on every floating-point entry."""
    from argparse import Namespace

    from fedml.core import FedMLAggOperator

    updates = [(count, copy_state(trained(count, batches=2))) for count in (11, 501, 64)]
    ours = average(updates)
    theirs = FedMLAggOperator.agg(
        Namespace(federated_optimizer="FedAvg"),
        [(count, {name: value.clone() for name, value in state.items()}) for count, state in updates],
    )
    compared = 0
    for name, value in ours.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-7)
            compared += 1
    assert compared == 8


@pytest.mark.parametrize("updates", [[], [(0, {"w": torch.ones(1)})]])
def test_nothing_to_average_is_refused(updates: list[tuple[int, dict[str, torch.Tensor]]]) -> None:
    with pytest.raises(ValueError, match="at least 1 sample"):
        average(updates)


def test_float_counters_from_fedml_become_integers_again() -> None:
    net = trained(0, batches=1)
    state = copy_state(net)
    state["1.num_batches_tracked"] = torch.tensor(79.99999)
    load_state(net, state)
    assert net.state_dict()["1.num_batches_tracked"].dtype == torch.int64
    assert net.state_dict()["1.num_batches_tracked"].item() == 80


def test_a_copied_state_does_not_follow_the_model() -> None:
    net = trained(0, batches=1)
    state = copy_state(net)
    with torch.no_grad():
        net[0].weight.add_(1.0)
    assert not torch.equal(state["0.weight"], net[0].weight)


def test_another_architecture_is_named() -> None:
    net = trained(0, batches=1)
    state = copy_state(net)
    state["0.weight"] = torch.zeros(2, 3, 4, 4)
    state["extra"] = state.pop("0.bias")
    problems = state_mismatch(net, state)
    assert "0.bias is missing" in problems
    assert "extra is not known" in problems
    assert "expected (2, 3, 2, 2)" in problems
    with pytest.raises(ValueError, match="another architecture"):
        load_state(net, state)


def test_sampling_is_without_replacement_and_addressed() -> None:
    draws = [sample_clients(3, index, total=50, per_round=5) for index in range(200)]
    assert all(len(set(draw)) == 5 and min(draw) >= 0 and max(draw) < 50 for draw in draws)
    assert draws[7] == sample_clients(3, 7, total=50, per_round=5)
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
