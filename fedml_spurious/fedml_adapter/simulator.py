"""Single-process simulation that uses the trainer and the aggregator that it is given.

FedML 0.9.6's own single-process simulator takes both and uses neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from fedml.core import ClientTrainer, ServerAggregator
from torch import nn

from fedml_spurious.fedml_adapter.aggregator import SpuriousAggregator
from fedml_spurious.fedml_adapter.arguments import read_arguments
from fedml_spurious.fedml_adapter.snapshots import snapshot
from fedml_spurious.fedml_adapter.trainer import SpuriousTrainer
from fedml_spurious.learning.fedavg import Round, Share, run_rounds
from fedml_spurious.learning.state_dicts import clone_state

_Update = tuple[int, Any]  # number of training samples, and what the trainer's get_model_params gives


class SingleProcessSimulator:
    """Runs FedAvg rounds in this process; takes what FedML's ``SimulatorSingleProcess`` takes.

    Args:
        args: FedML's arguments.
        device: where clients train.
        dataset: FedML's list of eight.
        model: the global model; its weights are where training starts.
        client_trainer: any FedML trainer; ours where absent.
        server_aggregator: any FedML aggregator; ours where absent.
        start_round: first round to run, when an earlier process did those before it.
        after_round: called after every round.
    """

    def __init__(
        self,
        args: Any,
        device: torch.device,
        dataset: Sequence[Any],
        model: nn.Module,
        client_trainer: ClientTrainer | None = None,
        server_aggregator: ServerAggregator | None = None,
        *,
        start_round: int = 0,
        after_round: Callable[[Round], None] | None = None,
    ) -> None:
        self.args = args
        self.settings = read_arguments(args)
        self.device = device
        _, _, _, _, self.train_counts, self.train_loaders, self.test_loaders, _ = dataset
        self.trainer = SpuriousTrainer(model, args) if client_trainer is None else client_trainer
        self.aggregator = SpuriousAggregator(model, args) if server_aggregator is None else server_aggregator
        self.start_round = start_round
        self.after_round = after_round

    def run(self) -> None:
        """Run the rounds that are left; the aggregator holds the global model at the end."""
        end, per_round = self.settings.comm_round, self.settings.client_num_per_round
        # In the rounds that personalize, all clients are needed.
        federated = getattr(self.trainer, "federated_rounds", end)
        self._run(range(self.start_round, federated), per_round)
        self._run(range(max(self.start_round, federated), end), self.settings.client_num_in_total)

    def _run(self, rounds: range, per_round: int) -> None:
        finished_rounds = run_rounds(
            _FedMLAggregator(self.aggregator),
            self._train,
            rounds=self._told(rounds),
            seed=self.settings.random_seed,
            total=self.settings.client_num_in_total,
            per_round=per_round,
        )
        for finished in finished_rounds:
            if self.after_round is not None:
                self.after_round(finished)

    def _told(self, rounds: range) -> Iterator[int]:
        for index in rounds:
            self.args.round_idx = index  # where FedML's classes look for it
            yield index

    def _train(self, round_index: int, clients: Sequence[int], weights: Any) -> Iterator[Share[_Update]]:
        for client in clients:
            loaders = self.train_loaders[client], self.test_loaders[client]
            count = self.train_counts[client]
            train_client(self.trainer, client, weights, loaders, count, self.device, self.args)
            loss = getattr(self.trainer, "last_loss", None)
            yield Share({client: loss}, (count, _weights_of(self.trainer)))


class _FedMLAggregator:
    """Any aggregator of FedML's, with its hooks, as :func:`run_rounds` wants one."""

    def __init__(self, aggregator: ServerAggregator) -> None:
        self._aggregator = aggregator

    @property
    def model(self) -> nn.Module:
        return self._aggregator.model  # type: ignore[no-any-return]  # FedML has no types

    def weights(self) -> Any:
        return _weights_of(self._aggregator)

    def average(self, updates: Iterable[_Update]) -> None:
        kept, _ = self._aggregator.on_before_aggregation(list(updates))
        averaged = self._aggregator.on_after_aggregation(self._aggregator.aggregate(kept))
        self._aggregator.set_model_params(averaged)


def train_client(
    trainer: ClientTrainer,
    client: int,
    global_params: Any,
    loaders: tuple[Any, Any],
    count: int,
    device: torch.device,
    args: Any,
) -> None:
    """Train one client in the round ``args.round_idx`` as FedML's runners do, with its hooks in their order.

    What goes into the trainer is a copy: one that trains in the dictionary that it is given changes nobody
    else's.

    Args:
        trainer: any FedML trainer.
        client: index of the client.
        global_params: weights to start from.
        loaders: the client's training and test data.
        count: its number of training samples.
        device: where to train.
        args: FedML's arguments.
    """
    train_loader, test_loader = loaders
    trainer.set_id(client)
    trainer.update_dataset(train_loader, test_loader, count)
    # Ours copies what it is given.
    trainer.set_model_params(global_params if _is_ours(trainer) else snapshot(global_params))
    trainer.on_before_local_training(train_loader, device, args)
    trainer.train(train_loader, device, args)
    trainer.on_after_local_training(train_loader, device, args)


def _is_ours(owner: ClientTrainer | ServerAggregator) -> bool:
    """Whether weights go in and out of a trainer or an aggregator as we wrote it."""
    names = ("get_model_params", "set_model_params")
    return any(
        all(getattr(type(owner), name, None) is getattr(own, name) for name in names)
        for own in (SpuriousTrainer, SpuriousAggregator)
    )


def _weights_of(owner: ClientTrainer | ServerAggregator) -> Any:
    """A copy of the weights, because FedML's own classes hand out their live ones.

    Of our own classes it stays on the device: FedML alone needs the weights on the CPU.
    """
    return clone_state(owner.model) if _is_ours(owner) else snapshot(owner.get_model_params())
