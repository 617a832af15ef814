"""Averaging against rational arithmetic and against FedML's own."""

from __future__ import annotations

import math
from argparse import Namespace
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import torch
from fedml.core import FedMLAggOperator
from networks import trained

from fedml_spurious.learning.state_dicts import copy_state
from fedml_spurious.learning.weighted_sum import WeightedSum, average


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


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_clients_tensors_are_left_alone(kind: torch.dtype) -> None:
    """FedML's aggregation adds into the first client's dictionary."""
    updates = [(5, {"w": torch.ones(2, dtype=kind)}), (3, {"w": torch.zeros(2, dtype=kind)})]
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


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("first", [[2.0**60, 1.0], [1.0, 2.0**60]])
def test_what_the_partial_sums_rounded_away_is_in_the_sum_of_both(
    order: tuple[int, int], first: list[float]
) -> None:
    """2^60 + 1 has no double of its own: the 1 is in the tail of one part, and is all that is left."""
    parts = (WeightedSum(), WeightedSum())
    for value in first:
        parts[0].add(1, {"w": torch.tensor([value])})
    parts[1].add(1, {"w": torch.tensor([-(2.0**60)])})
    assert parts[0].tail["w"].item() == 1.0
    whole = WeightedSum()
    for index in order:
        whole.merge(parts[index])
    assert whole.mean()["w"].item() == float(np.float32(1 / 3))


@pytest.mark.parametrize("order", list(permutations([2.0**60, 1.0, -(2.0**60)])))
def test_an_average_of_all_at_once_rounds_nothing_away_either(order: tuple[float, ...]) -> None:
    """In double precision 2^60 + 1 - 2^60 is 0 or 1, by its order; in several pieces, transposed."""
    updates = [(1, {"w": torch.full((5, 14_000), value).t()}) for value in order]
    mean = average(updates)["w"]
    assert mean.shape == (14_000, 5)
    assert mean.unique().tolist() == [float(np.float32(1 / 3))]


def test_an_average_of_all_at_once_has_the_bits_of_the_sum() -> None:
    """Every type that a network holds, zeros with signs among them."""
    rng = torch.Generator().manual_seed(0)
    exponents = torch.randint(-9, 9, (40_000,), generator=rng)
    updates: list[tuple[int, dict[str, torch.Tensor]]] = [
        (
            count,
            {
                "w": torch.randn(40_000, generator=rng) * 10.0**exponents,
                "zeros": torch.tensor([-0.0, 0.0]),
                "complex": torch.randn(3, 2, generator=rng, dtype=torch.complex64),
                "half": torch.randn(7, generator=rng).half(),
                "counter": torch.tensor(count),
            },
        )
        for count in (501, 3, 100_003)
    ]
    total = WeightedSum()
    for count, state in updates[::-1]:
        total.add(count, state)
    summed, averaged = total.mean(), average(updates)
    assert list(averaged) == ["w", "zeros", "complex", "half", "counter"]
    for name, value in averaged.items():
        assert value.dtype == summed[name].dtype == updates[0][1][name].dtype
        assert value.numpy().tobytes() == summed[name].numpy().tobytes(), name


@pytest.mark.parametrize("spread", [20, 27, 28, 29, 30, 31, 60])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_an_average_of_all_at_once_rounds_once_however_far_weights_are_apart(
    spread: int, kind: torch.dtype
) -> None:
    """Against rational arithmetic, on both sides of the spread from which sums in double precision round."""
    rng = torch.Generator().manual_seed(spread)
    large = (1 + torch.rand(2000, generator=rng)).to(kind)
    small = (large.flip(0) * 2.0**-spread).to(kind)
    updates = [(3, {"w": large}), (5, {"w": small}), (3, {"w": -large})]
    found = average(updates)["w"]
    for place in range(0, 2000, 97):
        exact = sum(count * Fraction(float(state["w"][place])) for count, state in updates)
        assert found[place].item() == float(torch.tensor(float(exact) / 11).to(kind))


def test_an_average_of_all_at_once_hands_on_what_is_no_number() -> None:
    odd = torch.tensor([1.0, math.nan, math.inf, 2.0**-149, 0.0])
    found = average([(1, {"w": odd}), (1, {"w": torch.ones(5)})])["w"]
    assert found[[0, 3, 4]].tolist() == [1.0, 0.5, 0.5]
    assert not found[[1, 2]].isfinite().any()


def test_parity_with_fedmls_own_aggregation() -> None:
    """FedML 0.9.6, FedMLAggOperator.agg with the FedAvg optimizer, on every floating-point entry."""
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


@pytest.mark.parametrize(("updates", "got"), [([], "none"), ([(0, {"w": torch.ones(1)})], "count 0")])
def test_nothing_to_average_is_refused(updates: list[tuple[int, dict[str, torch.Tensor]]], got: str) -> None:
    expected = f"^expected at least one client, each with at least 1 sample; got {got}$"
    with pytest.raises(ValueError, match=expected):
        average(updates)


def test_tensors_may_lie_in_memory_as_they_like() -> None:
    """The last channel first, as GPUs like it, on one client and not on the other, in either order."""
    first, second = (torch.arange(120.0).view(2, 3, 4, 5) * factor for factor in (1, 8))
    turned = first.to(memory_format=torch.channels_last)
    assert not turned.is_contiguous()
    for updates in ([(1, turned), (3, second)], [(3, second), (1, turned)]):
        mean = average([(count, {"w": value}) for count, value in updates])["w"]
        assert torch.equal(mean, first * (1 + 3 * 8) / 4)


def test_clients_of_different_sizes_are_not_averaged() -> None:
    """Also where one has a piece of a sum more, 2^15 values, and agrees with the other before it."""
    with pytest.raises(ValueError, match="longer"):
        average([(1, {"w": torch.zeros(1 << 15)}), (1, {"w": torch.zeros((1 << 15) + 1)})])
