"""What a trainer gives and takes is copied, whatever its habits; and FedML's hooks come in FedML's order."""

from __future__ import annotations

import copy
from argparse import Namespace
from collections import OrderedDict
from typing import Any

import pytest
import torch
from fedml.core import ClientTrainer
from fedml.ml.aggregator.default_aggregator import DefaultServerAggregator
from fedml.ml.trainer.my_model_trainer_classification import ModelTrainerCLS
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fedml_spurious.fedml_adapter import SpuriousAggregator, SpuriousTrainer
from fedml_spurious.fedml_adapter.simulator import SingleProcessSimulator
from fedml_spurious.fedml_adapter.snapshots import snapshot

CPU = torch.device("cpu")
MOVES = (1.0, 2.0, -1.0)


def arguments(**changes: Any) -> Namespace:
    values: dict[str, Any] = {
        "comm_round": 1, "epochs": 1, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0,
        "client_num_in_total": 3, "client_num_per_round": 3, "round_idx": 0, "dataset": "any",
        "client_optimizer": "sgd", "federated_optimizer": "FedAvg", "enable_wandb": False,
    }  # fmt: skip
    return Namespace(**(values | changes))


class OneWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


class Live(ClientTrainer):
    """Hands out its live tensors, as FedML's own trainers do; client k moves the weight by ``MOVES[k]``."""

    def get_model_params(self) -> Any:
        return self.model.cpu().state_dict()

    def set_model_params(self, model_parameters: Any) -> None:
        self.model.load_state_dict(model_parameters)

    def train(self, train_data: Any, device: Any, args: Any) -> None:
        with torch.no_grad():
            self.model.weight += MOVES[self.id]


class InPlace(Live):
    """Trains in the dictionary that it is given, which it keeps."""

    def get_model_params(self) -> Any:
        return self.params

    def set_model_params(self, model_parameters: Any) -> None:
        self.params = model_parameters

    def train(self, train_data: Any, device: Any, args: Any) -> None:
        self.params["weight"] += MOVES[self.id]


@pytest.mark.parametrize("aggregator", [DefaultServerAggregator, SpuriousAggregator])
@pytest.mark.parametrize("trainer", [Live, InPlace])
@pytest.mark.parametrize("rounds", [1, 3])
def test_clients_that_move_a_weight_are_averaged(trainer: Any, aggregator: Any, rounds: int) -> None:
    """1.0 becomes 2, 3 and 0, on the average 5/3; each round adds 2/3."""
    model, args = OneWeight(), arguments(comm_round=rounds)
    dataset = [
        3,
        3,
        None,
        None,
        dict.fromkeys(range(3), 1),
        dict.fromkeys(range(3)),
        dict.fromkeys(range(3)),
        1,
    ]
    both = trainer(model, args), aggregator(model, args)
    SingleProcessSimulator(args, CPU, dataset, model, *both).run()
    assert model.weight.item() == pytest.approx(1 + rounds * 2 / 3, abs=1e-6)


def clients() -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = torch.Generator().manual_seed(3)
    return [(torch.randn(n, 5, generator=rng), torch.arange(n) % 3) for n in (8, 4, 12)]


def linear() -> nn.Module:
    model = nn.Linear(5, 3)
    with torch.no_grad():
        model.weight.copy_(torch.arange(15.0).reshape(3, 5) / 10)
        model.bias.zero_()
    return model


def averaged_by_hand(rounds: int) -> dict[str, torch.Tensor]:
    """FedAvg with plain gradient descent (McMahan et al. 2017, Algorithm 1), in single precision."""
    weights = linear().state_dict()
    for _ in range(rounds):
        trained = []
        for x, y in clients():
            model = linear()
            model.load_state_dict(weights)
            for start in range(0, len(y), 4):
                loss = nn.functional.cross_entropy(model(x[start : start + 4]), y[start : start + 4])
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                with torch.no_grad():
                    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                        parameter -= 0.1 * gradient
            trained.append((len(y), model.state_dict()))
        weights = OrderedDict((name, sum(state[name] * (n / 24) for n, state in trained)) for name in weights)
    return weights


@pytest.mark.parametrize("aggregator", [DefaultServerAggregator, SpuriousAggregator])
def test_fedmls_own_trainer_gives_the_average_of_the_clients(aggregator: Any) -> None:
    """Without copies the global model is the last client's, bit for bit."""
    model, args = linear(), arguments(comm_round=2)
    loaders = {i: DataLoader(TensorDataset(x, y), batch_size=4) for i, (x, y) in enumerate(clients())}
    counts = {i: len(y) for i, (_, y) in enumerate(clients())}
    dataset = [24, 24, None, None, counts, loaders, loaders, 3]
    both = ModelTrainerCLS(model, args), aggregator(model, args)
    SingleProcessSimulator(args, CPU, dataset, model, *both).run()
    for name, value in averaged_by_hand(2).items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=1e-6)


class Recorded:
    """Writes down every hook of FedML's when it is called."""

    calls: list[str]

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in HOOKS:
            return found

        def noted(*given: Any) -> Any:
            self.calls.append(name)
            return found(*given)

        return noted


HOOKS = {
    "set_id", "update_dataset", "set_model_params", "get_model_params", "on_before_local_training", "train",
    "on_after_local_training", "test", "on_before_aggregation", "aggregate", "on_after_aggregation",
    "test_all",
}  # fmt: skip


def test_fedmls_hooks_are_called_where_fedml_calls_them() -> None:
    """In the order of FedML's cross-silo runner (``fedml_trainer.py``, ``fedml_aggregator.py``)."""

    class Trainer(Recorded, Live):
        def on_before_local_training(self, train_data: Any, device: Any, args: Any) -> None:
            seen.append(
                (self.id, self.local_train_dataset, self.local_test_dataset, self.local_sample_number)
            )

    class Aggregator(Recorded, DefaultServerAggregator):
        pass

    calls: list[str] = []
    seen: list[tuple[Any, ...]] = []
    model, args = OneWeight(), arguments(client_num_in_total=2, client_num_per_round=2)
    trainer, aggregator = Trainer(model, args), Aggregator(copy.deepcopy(model), args)
    trainer.calls = aggregator.calls = calls
    dataset = [3, 3, None, None, {0: 2, 1: 1}, {0: "a", 1: "b"}, {0: "ta", 1: "tb"}, 1]
    SingleProcessSimulator(args, CPU, dataset, model, trainer, aggregator).run()
    client = [
        "set_id", "update_dataset", "set_model_params", "on_before_local_training", "train",
        "on_after_local_training", "get_model_params",
    ]  # fmt: skip
    server = ["on_before_aggregation", "aggregate", "on_after_aggregation", "set_model_params"]
    assert calls == ["get_model_params", *client, *client, *server]
    assert seen == [(0, "a", "ta", 2), (1, "b", "tb", 1)]


def test_a_snapshot_shares_nothing_and_keeps_its_types() -> None:
    weight = torch.ones(2, requires_grad=True)
    given = OrderedDict(b=weight * 2, a=[torch.zeros(1), (1, "text")])
    copied = snapshot(given)
    assert type(copied) is OrderedDict
    assert list(copied) == ["b", "a"]
    assert not copied["b"].requires_grad
    with torch.no_grad():
        given["b"] += 1
        given["a"][0] += 1
    assert copied["b"].tolist() == [2, 2]
    assert copied["a"] == [torch.zeros(1), (1, "text")]


def test_cross_silo_runners_of_fedml_do_not_take_our_weights_for_many_models() -> None:
    """FedML asks ``type(params) is dict`` and then looks for the model of client 0 in it."""
    model, args = OneWeight(), arguments()
    trainer, aggregator = SpuriousTrainer(model, args), SpuriousAggregator(model, args)
    state = trainer.get_model_params()
    for params in (state, aggregator.get_model_params(), aggregator.aggregate([(1, state)])):
        assert type(params) is OrderedDict
