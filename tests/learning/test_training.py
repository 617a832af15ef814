"""The local training loop against a written-out Adam and the definition of batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedml_spurious.learning.modes import batchnorm_in_eval_mode
from fedml_spurious.learning.training import BatchNormMode, LocalTraining, minibatches, train_locally

CPU = torch.device("cpu")


@given(count=st.integers(1, 200), size=st.integers(1, 70))
def test_batches_cover_the_sequence_in_order_and_none_is_a_single_sample(count: int, size: int) -> None:
    sequence = np.random.default_rng(0).permutation(count)
    batches = minibatches(sequence, size)
    assert np.concatenate(batches).tolist() == sequence.tolist()
    sizes = [len(batch) for batch in batches]
    if count > 1 and size > 1:
        assert min(sizes) > 1
        assert max(sizes) <= size + 1
    assert all(length == size for length in sizes[:-1])


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (1008, 64, [64] * 15 + [48]),
        (129, 64, [64, 65]),
        (130, 64, [64, 64, 2]),
        (21, 8, [8, 8, 5]),
        (1, 8, [1]),
    ],
)
def test_batch_sizes_of_the_paper(count: int, size: int, expected: list[int]) -> None:
    """1,008 samples make 16 batches, 80 in 5 epochs (C.2); 129 would leave a single sample."""
    assert [len(batch) for batch in minibatches(np.arange(count), size)] == expected


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_updates_follow_adam_as_kingma_and_ba_print_it(decay: float) -> None:
    """Algorithm 1 of the Adam paper, with beta = (0.9, 0.999) and no amsgrad, on a scalar quadratic.

    Weight decay is the gradient of decay / 2 * w^2, as in torch.
    """
    target, rate = 3.0, 0.1
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
    w, m, v, expected = 1.0, 0.0, 0.0, []
    for t in range(1, 7):
        gradient = 2 * (w - target) + decay * w
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w -= rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
        expected.append(w)
    actual = [
        model.weight.item()
        for _ in train_locally(
            model,
            LocalTraining(epochs=2, batch_size=1, learning_rate=rate, weight_decay=decay),
            sequence=lambda epoch: np.arange(3),
            loss=lambda net, rows: (net.weight - target).square().sum(),
            noise=int,
            device=CPU,
        )
    ]
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_steps_are_numbered_and_see_the_rows_of_their_epoch() -> None:
    seen: list[list[int]] = []

    def loss(net: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows.tolist())
        assert net.training
        return net(torch.ones(1, 1)).sum()

    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))
    steps = []
    for step in train_locally(
        model,
        LocalTraining(2, 2),
        sequence=lambda epoch: np.arange(4) + 10 * epoch,
        loss=loss,
        noise=int,
        device=CPU,
    ):
        model.eval()  # an observer may evaluate between batches
        steps.append((step.epoch, step.batch, step.epoch_ends))
    assert seen == [[0, 1], [2, 3], [10, 11], [12, 13]]
    assert steps == [(1, 1, False), (1, 2, True), (2, 3, False), (2, 4, True)]


def test_what_a_network_draws_depends_on_the_batch_and_not_on_who_drew_before() -> None:
    """A dropout layer shows its draws; the caller's own are the same as without any training between."""
    dropout = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))

    def draws(noise: Callable[[int], int]) -> list[list[float]]:
        seen = []

        def loss(net: nn.Module, rows: torch.Tensor) -> torch.Tensor:
            seen.append(net[1](torch.ones(32)).tolist())
            return net(torch.ones(1, 1)).sum()

        steps = train_locally(
            dropout, LocalTraining(1, 1), sequence=lambda _: np.arange(3), loss=loss, noise=noise, device=CPU
        )
        for _ in steps:
            torch.rand(1)
        return seen

    torch.manual_seed(1)
    expected = torch.rand(4)[3:]
    torch.manual_seed(1)
    first = draws(lambda batch: 10 + batch)
    assert torch.equal(torch.rand(1), expected)
    assert draws(lambda batch: 10 + batch) == first
    assert draws(lambda batch: 11 + batch)[:2] == first[1:]
    assert first[0] != first[1]


def test_frozen_parameters_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    before = model[0].weight.clone()
    last = model[1].weight.clone()
    for _ in train_locally(
        model,
        LocalTraining(1, 1),
        sequence=lambda epoch: np.arange(2),
        loss=lambda net, rows: net(torch.ones(1, 2)).sum(),
        noise=int,
        device=CPU,
    ):
        pass
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(model[1].weight, last)


def test_batchnorm_in_eval_mode_moves_no_statistics_and_comes_back() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))
    model.train()
    mean = model[0].running_mean.clone()
    with batchnorm_in_eval_mode(model):
        model(torch.rand(8, 2) + 5)
        assert model[1].training
    assert torch.equal(model[0].running_mean, mean)
    assert model[0].training
    with pytest.raises(ValueError, match="feature"), batchnorm_in_eval_mode(model):
        raise ValueError("feature")
    assert model[0].training


@pytest.mark.parametrize(("mode", "moves"), [("frozen", False), ("batch", True)])
def test_frozen_batchnorm_normalises_by_running_statistics_and_trains_scale_and_shift(
    mode: BatchNormMode, moves: bool
) -> None:
    """Inputs of mean 5: under running statistics (mean 0, variance 1) they come out as they are."""
    model = nn.Sequential(nn.BatchNorm1d(2, eps=1e-12), nn.Dropout(0.0))
    x = torch.tensor([[4.0, 4.0], [6.0, 6.0]])
    out: list[torch.Tensor] = []

    def loss(net: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        assert net[1].training
        out.append(net(x).detach())
        return net(x).square().sum()

    training = LocalTraining(1, 2, batchnorm_mode=mode)
    for _ in train_locally(
        model, training, sequence=lambda _: np.arange(2), loss=loss, noise=int, device=CPU
    ):
        model.eval()
    torch.testing.assert_close(out[0], x - 5 if moves else x)
    assert torch.equal(model[0].running_mean, torch.zeros(2)) is not moves
    assert (model[0].num_batches_tracked == 0) is not moves
    assert not torch.equal(model[0].weight, torch.ones(2))
