"""Whatever is computed, an infinity or NaN in it is noticed there, and named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedml_spurious.common.errors import DivergedError
from fedml_spurious.learning.attacks import pgd
from fedml_spurious.learning.batchnorm import LayerSums, replace_statistics
from fedml_spurious.learning.fedavg import ExactAggregator, Share, run_rounds
from fedml_spurious.learning.finite import first_not_finite
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.state_dicts import State
from fedml_spurious.learning.training import LocalTraining, train_locally
from fedml_spurious.learning.weighted_sum import WeightedSum

CPU = torch.device("cpu")


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_the_first_tensor_that_is_not_finite_is_named(bad: float, kind: torch.dtype) -> None:
    largest = torch.finfo(kind).max
    tensors = {
        "count": torch.tensor(3),
        "flag": torch.tensor([True]),
        "empty": torch.empty(0),
        "large": torch.tensor([largest, -largest], dtype=kind),
    }
    assert first_not_finite(tensors) == ""
    assert first_not_finite({}) == ""
    spoilt = {"a": torch.tensor([[0.0, bad]], dtype=kind), "b": torch.tensor(bad)}
    assert first_not_finite(tensors | spoilt) == "a"


Loss = Callable[[nn.Module, Tensor], Tensor]


@pytest.mark.parametrize(
    ("epochs", "loss", "expected"),
    [
        # The sixth batch is the second one of epoch 2.
        (
            3,
            lambda net, rows: net.weight.sum() * (math.nan if 12 in rows else 1.0),
            r"nan in batch 6 \(epoch 2\)",
        ),
        # A finite loss with an infinite gradient: the square root of 0, in the last batch.
        (
            1,
            lambda net, rows: (net.weight * (6 not in rows)).square().sum().sqrt(),
            r"weight holds .* not finite after epoch 1",
        ),
        # Finite gradients whose squares are not.
        (
            1,
            lambda net, rows: net.weight.sum() * 1e30,
            r"gradients of weight are too large for Adam in epoch 1",
        ),
    ],
)
def test_training_stops_at_the_end_of_the_epoch_that_diverges(epochs: int, loss: Loss, expected: str) -> None:
    model = nn.Linear(2, 1, bias=False)
    steps = train_locally(
        model,
        LocalTraining(epochs=epochs, batch_size=2),
        sequence=lambda epoch: np.arange(8) + 10 * epoch,
        loss=loss,
        noise=int,
        device=CPU,
    )
    done = []
    with pytest.raises(DivergedError, match=expected):
        done.extend(step.batch for step in steps)
    assert done == ([1, 2, 3, 4, 5, 6, 7] if "batch 6" in expected else [1, 2, 3])


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_measurement_of_outputs_that_are_not_finite_is_none(bad: float) -> None:
    """Also where the loss is finite: the wrong class of the second sample has -inf."""
    logits = torch.tensor([[0.0, 1.0], [bad, 2.0]])
    with pytest.raises(DivergedError, match=r"^the network's outputs are not finite$"):
        evaluate(lambda x: logits, torch.zeros(2, 1), torch.tensor([0, 1]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_along_a_gradient_that_is_not_finite_is_none(norm: str) -> None:
    """The root has no finite slope at 0, where the first step starts; later steps are elsewhere."""

    def roots(x: Tensor) -> Tensor:
        return torch.stack([x.sum(dim=1).sqrt(), torch.zeros(len(x))], dim=1)

    with pytest.raises(DivergedError, match=r"^the gradients of the loss in the images are not finite$"):
        pgd(roots, torch.zeros(1, 2), torch.tensor([1]), norm=norm, eps=0.1, step_size=0.1, steps=3)


def test_statistics_of_values_that_are_not_finite_are_none() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    with pytest.raises(DivergedError, match="BatchNorm layer 0"):
        replace_statistics(model, "0", LayerSums(4, (1.0, math.inf), (1.0, math.inf)))


@pytest.mark.parametrize(("loss", "weight"), [(math.nan, 1.0), (1.0, math.inf)])
def test_a_trainer_of_ones_own_that_diverges_is_noticed_in_its_round(loss: float, weight: float) -> None:
    model = nn.Linear(1, 1, bias=False)

    def train(index: int, clients: Sequence[int], weights: State) -> Iterator[Share[WeightedSum]]:
        total = WeightedSum()
        total.add(1, {"weight": torch.full((1, 1), weight if index == 2 else 1.0)})
        yield Share(
            {client: loss if index == 2 and client == clients[-1] else None for client in clients}, total
        )

    rounds = run_rounds(ExactAggregator(model), train, rounds=range(4), seed=0, total=3, per_round=2)
    finished = []
    with pytest.raises(DivergedError, match="round 2"):
        finished.extend(done.index for done in rounds)
    assert finished == [0, 1]
