"""The workers of a run with several processes, as the server sees them: it hands out, and collects."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from fedml_spurious.common.errors import RunError
from fedml_spurious.common.words import counted
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import SplitsBySeed
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.tasks import KnowsAnswer, Task, TaskT
from fedml_spurious.fedml_adapter.processes.hand_out import HandOut, share_clients
from fedml_spurious.fedml_adapter.processes.messages import Kind, Received
from fedml_spurious.fedml_adapter.processes.server import Server
from fedml_spurious.fedml_adapter.processes.wire import digest, from_plain, sum_from_plain, to_plain
from fedml_spurious.learning.fedavg import ExactAggregator, Round, Share, run_rounds
from fedml_spurious.learning.state_dicts import State, copy_state
from fedml_spurious.learning.weighted_sum import WeightedSum

logger = logging.getLogger(__name__)


class RemoteWorkers:
    """Other processes train and personalize; see :class:`fedml_spurious.experiment.tasks.Workers`.

    Args:
        server: the connection to the workers.
        settings: settings of the run.
        data: client split files by federated seed, of which only the description is read.
        owners: the rank that has each client's data; every rank has all of it where it is None.
    """

    def __init__(
        self, server: Server, settings: Settings, data: SplitsBySeed, owners: Mapping[str, int] | None
    ) -> None:
        self.server, self.settings, self.data, self.owners = server, settings, data, owners
        self.situation = server.situation
        self._weights: tuple[str, State] = ("", {})
        self._fl_seed = settings.fl_seeds[0]  # of the model in use
        self._at_rank: dict[int, str] = {}

    def train(
        self, fl_seed: int, model: nn.Module, *, start_round: int, after_round: Callable[[Round], None]
    ) -> None:
        """Run the rounds that are left: the workers train, this process averages."""
        train = self.settings.train_args
        finished_rounds = run_rounds(
            ExactAggregator(model),
            partial(self._train, fl_seed),
            rounds=range(start_round, train.comm_round),
            seed=fl_seed,
            total=len(self.data[fl_seed].client_ids),
            per_round=train.client_num_per_round,
        )
        for finished in finished_rounds:
            self.situation.phase = f"the measurement of round {finished.index}, seed fl{fl_seed}"
            after_round(finished)

    def _train(
        self, fl_seed: int, round_index: int, clients: Sequence[int], weights: State
    ) -> Iterator[Share[WeightedSum]]:
        """Have the clients of a round trained, every worker its share of them."""
        self.situation.phase = f"training, seed fl{fl_seed}, round {round_index}"
        self._set_weights(weights)
        shares = self._shares(fl_seed, clients)
        for rank, share in shares.items():
            content = {"fl_seed": fl_seed, "round": round_index, "clients": share}
            self._post(rank, Kind.TRAIN, content, self.situation.phase)
        for _ in shares:
            message = self.server.wait_for(Kind.TRAINED)
            self.situation.doing.pop(message.sender, None)
            share, losses = shares[message.sender], message.content["losses"]
            if len(losses) != len(share):
                problem = f"{len(losses)} for the losses of {counted(len(share), 'client')}"
                raise _wrong(message.sender, self.situation.phase, problem)
            yield Share(dict(zip(share, losses, strict=True)), sum_from_plain(message.content["sum"]))

    def _shares(self, fl_seed: int, clients: Sequence[int]) -> dict[int, list[int]]:
        data = self.data[fl_seed]
        ids = data.client_ids
        if self.owners is None:
            counts = {client: data.count(ids[client], "train") for client in clients}
            return share_clients(counts, self.server.ranks)
        shares: dict[int, list[int]] = {}
        for client in clients:
            shares.setdefault(self.owners[ids[client]], []).append(client)
        return shares

    def use(self, model: nn.Module, fl_seed: int, name: str) -> None:
        """Take the global model that the following tasks are about; it travels with a worker's first task."""
        self.situation.phase = f"work on the global model {name}"
        self._fl_seed = fl_seed
        self._set_weights(copy_state(model))

    def _set_weights(self, state: State) -> None:
        self._weights = digest(state), state

    def do(self, tasks: Sequence[TaskT]) -> Iterator[tuple[TaskT, Any]]:
        """Hand a task to every worker that is free, until all are done."""
        waiting: HandOut[TaskT] = HandOut(tasks, self.owners)
        idle = set(self.server.ranks)
        busy: dict[int, TaskT] = {}
        while waiting or busy:
            for rank in sorted(idle):
                task = waiting.next_for(rank)
                if task is not None:
                    content = {"fl_seed": self._fl_seed, "task": to_plain(task)}
                    self._post(rank, Kind.TASK, content, task.describe())
                    busy[rank] = task
                    idle.remove(rank)
            message = self.server.wait_for(Kind.ANSWER)
            self.situation.doing.pop(message.sender, None)
            idle.add(message.sender)
            task = busy.pop(message.sender)
            yield task, _answer(task, message)

    def collect_models(self, plan: Sequence[ResultKey]) -> None:
        """Tell every silo which of the models that it keeps are the final ones."""
        if self.owners is None or not self.settings.personalization_args.save_models:
            return
        for rank in self.server.ranks:
            own = [key for key in plan if self.owners[key.client] == rank]
            self.situation.doing[rank] = "collecting its models"
            self.server.post(rank, Kind.COLLECT, {"plan": to_plain(own)})

    def _post(self, rank: int, kind: Kind, content: dict[str, Any], doing: str) -> None:
        """Send work, with the weights that it is about where the rank has not got them yet."""
        name, state = self._weights
        known = self._at_rank.get(rank) == name
        self.situation.doing[rank] = doing
        self.server.post(rank, kind, content | {"weights": name, "state": None if known else to_plain(state)})
        self._at_rank[rank] = name


def _answer(task: Task, message: Received) -> Any:
    """What a worker answered, if it can be the answer."""
    try:
        answer = from_plain(message.content["answer"])
    except (LookupError, TypeError, ValueError) as error:
        raise _wrong(message.sender, task.describe(), f"{type(error).__name__}: {error}") from error
    problem = task.problem(answer) if isinstance(task, KnowsAnswer) else ""
    if problem:
        raise _wrong(message.sender, task.describe(), problem)
    return answer


def _wrong(rank: int, doing: str, problem: str) -> RunError:
    return RunError(
        f"rank {rank} in {doing}: its answer cannot be one ({problem}); see to it that it is started from "
        "the same program. What was finished is kept; continue with --resume"
    )
