"""A worker trains and personalizes as the server asks it to; a silo is a worker with clients of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import RunError
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import SplitsBySeed, initial_network
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import TaskRunner
from fedml_spurious.fedml_adapter.arguments import fedml_arguments
from fedml_spurious.fedml_adapter.dataset import fedml_dataset
from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.fedml_adapter.processes.messages import Kind, Received
from fedml_spurious.fedml_adapter.processes.situation import Situation, StoppedError
from fedml_spurious.fedml_adapter.processes.wire import from_plain, sum_to_plain, to_plain
from fedml_spurious.fedml_adapter.simulator import train_client
from fedml_spurious.fedml_adapter.trainer import SpuriousTrainer
from fedml_spurious.learning.state_dicts import State, load_state, named_state
from fedml_spurious.learning.weighted_sum import WeightedSum

logger = logging.getLogger(__name__)


class Worker:
    """Trains, and does tasks, until the server says that the run is done.

    Args:
        endpoint: this process's end of the communication.
        settings: settings of the run.
        data: client split files by federated seed.
        device: where to compute.
        situation: kept up to date, for messages.
        own_clients: the clients of this silo; None where all clients are everyone's.
        silo_folder: where a silo keeps the personal models of its clients; None where they go to the server.
        given: what this process was asked for beside the settings; see :class:`TaskRunner`.
        only: kinds of tasks that this process was started for; where there are none, all work of a run.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        data: SplitsBySeed,
        device: torch.device,
        situation: Situation,
        *,
        own_clients: frozenset[str] | None = None,
        silo_folder: Path | None = None,
        given: object = None,
        only: tuple[type, ...] = (),
    ) -> None:
        self.only = only
        self.endpoint, self.settings, self.data, self.device = endpoint, settings, data, device
        self.situation, self.own_clients = situation, own_clients
        store = None if silo_folder is None else ResultStore(RunFolder(silo_folder))
        # Of any seed: the network of every seed is the same, and weights are sent before it is used.
        self.model = initial_network(settings, next(iter(data.values())), 0).to(device)
        self.runner = TaskRunner(settings, data, device, store, given)
        self._weights: tuple[str, State] = ("", {})
        self._datasets: dict[SplitFolder, list[Any]] = {}
        self._in_use: int | None = None  # the federated seed for which the model in use was taken

    def serve(self) -> None:
        """Do what is asked for until the server says that the run is done.

        Raises:
            SilentError: the server was silent for too long.
            RunError: the server ended the run, or asks for what this process was not started for.
        """
        while True:
            message = self.endpoint.receive()
            assert message is not None
            if message.kind is Kind.FINISH:
                return
            if message.kind is Kind.STOP:
                raise StoppedError(message.content)
            if self.only and message.kind is not Kind.TASK:
                raise RunError(f"the server sent {message.kind}, which is no part of this command")
            if message.kind is Kind.COLLECT:
                self.situation.phase = "collecting its models"
                self._collect(from_plain(message.content["plan"]))
                continue
            self._receive_weights(message)
            if message.kind is Kind.TRAIN:
                self.endpoint.post(0, Kind.TRAINED, self._train(**_without_weights(message)))
            elif message.kind is Kind.TASK:
                answer = self._do(**_without_weights(message))
                self.endpoint.post(0, Kind.ANSWER, {"answer": to_plain(answer)})
            else:
                raise RunError(f"the server sent {message.kind}, which a worker does not expect")

    def _receive_weights(self, message: Received) -> None:
        name, state = message.content["weights"], message.content["state"]
        if state is not None:
            there = {key: value.to(self.device) for key, value in from_plain(state).items()}
            self._weights, self._in_use = (name, there), None
        if self._weights[0] != name:
            raise RunError("the server did not send the weights that its message is about")

    def _train(self, *, fl_seed: int, round: int, clients: Sequence[int]) -> dict[str, Any]:
        """Train some clients of a round, one after the other, and add up their models."""
        data = self.data[fl_seed]
        args = fedml_arguments(self.settings, fl_seed=fl_seed, num_clients=len(data.client_ids))
        args.round_idx = round
        args.backend = "sp"  # no runner of FedML's is waiting: errors are raised, and sums are ours
        self.situation.phase = f"training, seed fl{fl_seed}, round {round}"
        _, _, _, _, counts, train_loaders, test_loaders, _ = self._dataset(data)
        trainer = SpuriousTrainer(self.model, args)
        total, losses = WeightedSum(), []
        self._in_use = None  # training changes the model that tasks look at
        with data.sealed():
            for client in clients:
                self._require_own(data.client_ids[client])
                loaders = train_loaders[client], test_loaders[client]
                _, start = self._weights
                train_client(trainer, client, start, loaders, counts[client], self.device, args)
                total.add(counts[client], named_state(self.model))
                losses.append(trainer.last_loss)
        return {"sum": sum_to_plain(total), "losses": losses}

    def _dataset(self, data: SplitFolder) -> list[Any]:
        """FedML's view of a federation, made once."""
        if data not in self._datasets:
            self._datasets[data] = fedml_dataset(
                data,
                data.client_ids,
                batch_size=self.settings.train_args.batch_size,
                cache=self.runner.cache,
            )
        return self._datasets[data]

    def _do(self, *, fl_seed: int, task: dict[str, Any]) -> Any:
        wanted = from_plain(task)
        if self.only and not isinstance(wanted, self.only):
            raise RunError(f"the server asked for {type(wanted).__name__}, which is no part of this command")
        self._require_own(wanted.client)
        self.situation.phase = wanted.describe()
        if self._in_use != fl_seed:
            load_state(self.model, self._weights[1])
            self.runner.use(self.model, fl_seed)
            self._in_use = fl_seed
        return self.runner.run(wanted)

    def _collect(self, plan: Sequence[ResultKey]) -> None:
        """Give the final ones of the models that are kept here the names that they have in a run folder."""
        for key in plan:
            self._require_own(key.client)
        if self.runner.silo_store is not None:
            self.runner.silo_store.collect_models(plan)

    def _require_own(self, client: str) -> None:
        if self.own_clients is not None and client not in self.own_clients:
            raise RunError(f"the server asked for client {client}, which is not of this silo")


def _without_weights(message: Received) -> dict[str, Any]:
    return {name: item for name, item in message.content.items() if name not in ("weights", "state")}
