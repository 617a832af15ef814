"""Accuracy and loss of a network against sums over single samples in Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedml_spurious.learning.metrics import EMPTY, EVALUATION_BATCH, Evaluation, evaluate


def network() -> nn.Sequential:
    """One that trains: eval mode drops nothing out and normalises by the running statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout()).double()
        net(3 + torch.rand(8, 3, dtype=torch.float64))
    return net


def test_an_evaluation_is_the_sum_over_single_samples() -> None:
    """More samples than fit into two batches; softmax, logarithm and largest logit by hand."""
    net = network()
    x = torch.rand(
        2 * EVALUATION_BATCH + 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    y = torch.arange(len(x)) % 4
    layer, norm = net[0], net[1]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    logits = ((x @ layer.weight.T + layer.bias - norm.running_mean) * scale + norm.bias).tolist()
    losses = [
        math.log(math.fsum(map(math.exp, row))) - row[label]
        for row, label in zip(logits, y.tolist(), strict=True)
    ]
    right = [row.index(max(row)) == label for row, label in zip(logits, y.tolist(), strict=True)]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    found = evaluate(net, x, y)
    assert (found.count, found.correct) == (len(x), sum(right))
    assert 0 < found.correct < len(x)
    assert found.loss_sum == pytest.approx(math.fsum(losses), rel=1e-12)
    assert found.accuracy == sum(right) / len(x)
    assert found.loss == pytest.approx(math.fsum(losses) / len(x), rel=1e-12)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_parts_are_pooled_by_their_counts() -> None:
    """2 of 8 and 1 of 2: 3 of 10, and not the mean of the shares."""
    pooled = Evaluation(8, 2, 4.0) + Evaluation(2, 1, 0.5)
    assert pooled == Evaluation(10, 3, 4.5)
    assert (pooled.accuracy, pooled.loss) == (0.3, 0.45)
    assert EMPTY + pooled == pooled


def test_no_sample_has_no_rate() -> None:
    """Also of a network that cannot tell how many values each of no images has."""

    def flat(x: torch.Tensor) -> torch.Tensor:
        return x.view(len(x), -1)

    assert evaluate(flat, torch.zeros(1, 3), torch.zeros(1).long()).count == 1
    found = evaluate(flat, torch.zeros(0, 3), torch.zeros(0).long())
    assert found == EMPTY == Evaluation(0, 0, 0.0)
    assert (found.accuracy, found.loss) == (None, None)


def test_every_image_needs_a_label() -> None:
    """A batch of images that finds no batch of labels is not left out."""
    x, y = torch.zeros(EVALUATION_BATCH + 1, 3, dtype=torch.float64), torch.zeros(EVALUATION_BATCH).long()
    with pytest.raises(ValueError, match="shorter"):
        evaluate(network(), x, y)
