"""What has to be done for single clients, and who does it: this process, or others.

A run hands out tasks and puts the answers together; it reads no sample itself. Tasks and answers are plain
data, so that they can travel. A kind of task is a dataclass that is registered with ``travels``, says in
words what it does, and does it; no other module knows the kinds.

Sums over clients are made in the order of the clients, never in the order in which answers come, so that the
number of processes changes no result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from data_partition.split_files.folder import SplitFolder, share_seal
from fedml_spurious.common.blame import users_code
from fedml_spurious.common.errors import DivergedError, MethodError, RunError
from fedml_spurious.common.travelling import travels
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.client import ClientStep, client_model
from fedml_spurious.experiment.result_key import Outcome, ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.learning.attacks import SuccessCount, count_successes
from fedml_spurious.learning.batchnorm import LayerSums, layer_sums
from fedml_spurious.learning.client_data import (
    ClientSource,
    Labelled,
    SampleCache,
    load_test_data,
    load_training_data,
)
from fedml_spurious.learning.fedavg import Round
from fedml_spurious.learning.metrics import Evaluation, evaluate
from fedml_spurious.learning.modes import frozen


class Task(Protocol):
    """Something to do with the samples of one client and the global model in use."""

    @property
    def client(self) -> str:
        """Id of the client."""

    def describe(self) -> str:
        """What it does, in words, for messages."""

    def run(self, runner: TaskRunner) -> Any:
        """Do it where the client's samples are, and answer with plain data or types that travel."""


@runtime_checkable
class KnowsAnswer(Protocol):
    """A task that tells an answer which it cannot have; whoever gives one is not this program."""

    def problem(self, answer: object) -> str:
        """What is wrong with an answer, in words; empty where nothing is."""


TaskT = TypeVar("TaskT", bound=Task)
GivenT = TypeVar("GivenT")


@travels
@dataclass(frozen=True)
class CountFooled:
    """Attack the training samples that the global model classifies correctly (budget rule, appendix C.2).

    Attributes:
        client: id of the client.
        eps: budget of the attack.
    """

    client: str
    eps: float

    def describe(self) -> str:
        """See :class:`Task`."""
        return f"choice of the attack's budget, client {self.client}"

    def run(self, runner: TaskRunner) -> SuccessCount:
        """Count those that are fooled, among the first ``attack_args.budget_samples``."""
        settings = runner.settings.attack_args
        train = runner.training_samples(self.client)
        with runner.data.sealed():
            model = client_model(runner.settings, runner.model, train)
        limit = settings.budget_samples or len(train)
        with runner.data.sealed():
            return count_successes(model, train.x[:limit], train.y[:limit], settings.attack(self.eps))


@travels
@dataclass(frozen=True)
class BatchNormSums:
    """Sum what reaches a BatchNorm layer of the global model; sums and a count leave the client.

    Attributes:
        client: id of the client.
        layer: name of the layer.
    """

    client: str
    layer: str

    def describe(self) -> str:
        """See :class:`Task`."""
        return f"recalibration of the BatchNorm statistics, client {self.client}"

    def run(self, runner: TaskRunner) -> LayerSums:
        """Sum over all training samples."""
        train = runner.training_samples(self.client)
        with runner.data.sealed():
            return layer_sums(runner.model, self.layer, train.x)


@travels
@dataclass(frozen=True)
class MeasureGlobal:
    """Measure the global model on a client's two test sets; nothing may be selected by the answer."""

    client: str

    def describe(self) -> str:
        """See :class:`Task`."""
        return f"measurement of the global model, client {self.client}"

    def run(self, runner: TaskRunner) -> tuple[Evaluation, Evaluation]:
        """Counts on the biased and on the bias-conflicting test set."""
        with runner.data.unsealed():
            tests = load_test_data(runner.data, self.client, runner.device, runner.cache)
        with frozen(runner.model):  # once for both
            return (
                evaluate(runner.model, tests.biased.x, tests.biased.y),
                evaluate(runner.model, tests.conflicting.x, tests.conflicting.y),
            )


@travels
@dataclass(frozen=True)
class Personalize:
    """Personalize one client by one method, and measure.

    Attributes:
        key: what to do.
        eps: budget of the attack.
    """

    key: ResultKey
    eps: float

    @property
    def client(self) -> str:
        """Id of the client."""
        return self.key.client

    def describe(self) -> str:
        """See :class:`Task`."""
        key = self.key
        seeds = f"fl{key.fl_seed}" + ("" if key.p_seed is None else f", p{key.p_seed}")
        return f"personalization, client {key.client}, method {key.method}, seeds {seeds}"

    def run(self, runner: TaskRunner) -> Outcome:
        """Personalize from the global model in use."""
        outcome = runner.client_step(self.key.client, self.key.fl_seed, self.eps).run(self.key)
        return runner.keep_model(self.key, outcome)


class TaskRunner:
    """Runs tasks in a process that can read the clients' samples; holds one model and one client at a time.

    Args:
        settings: settings of the run.
        data: client split files by federated seed.
        device: where to compute.
        silo_store: where a silo keeps the personal models of its clients; None where they may leave.
        given: what this process was asked for beside the settings, for :meth:`given`.

    Attributes:
        cache: samples that were used last, as bytes.
    """

    def __init__(
        self,
        settings: Settings,
        data: Mapping[int, ClientSource],
        device: torch.device,
        silo_store: ResultStore | None = None,
        given: object = None,
    ) -> None:
        share_seal([source for source in data.values() if isinstance(source, SplitFolder)])
        self.settings, self.splits, self.device = settings, data, device
        self.silo_store, self._given = silo_store, given
        self.cache = SampleCache(settings.data_args.cache_mb)
        self._in_use: tuple[nn.Module, int] | None = None
        self._step: tuple[tuple[str, int, float], ClientStep] | None = None

    @property
    def model(self) -> nn.Module:
        """The global model that tasks are about."""
        return self._require_use()[0]

    @property
    def data(self) -> ClientSource:
        """The client split files of its federated seed."""
        return self.splits[self._require_use()[1]]

    @property
    def files(self) -> SplitFolder:
        """The same, for tasks that read its description too; samples that come from loaders have none."""
        data = self.data
        if not isinstance(data, SplitFolder):
            raise ValueError(f"{data.name} has no split files")
        return data

    def given(self, kind: type[GivenT]) -> GivenT:
        """What this process was asked for beside the settings, which no message can change.

        Raises:
            ValueError: it was asked for nothing of this kind.
        """
        if not isinstance(self._given, kind):
            raise ValueError(f"this process was given no {kind.__name__}")
        return self._given

    def _require_use(self) -> tuple[nn.Module, int]:
        if self._in_use is None:
            raise ValueError("no global model is in use; call use() first")
        return self._in_use

    def use(self, model: nn.Module, fl_seed: int) -> None:
        """Take the global model of a federated seed for the following tasks; it is not changed."""
        self._in_use, self._step = (model, fl_seed), None

    def run(self, task: Task) -> Any:
        """Do a task.

        Raises:
            DivergedError: the global model's outputs are not finite; a personal model's are an answer.
            RunError: a network or a method of the user's own fails, or returns something that is none.
        """
        try:
            with users_code(task.describe()):
                return task.run(self)
        except MethodError as error:
            raise RunError(
                f"{task.describe()}: {error}. What was finished is kept; mend it, then continue with --resume"
            ) from None
        except DivergedError as error:
            raise DivergedError(
                f"{task.describe()}: {error}: the global model diverged. Lower train_args.learning_rate (is "
                f"{self.settings.train_args.learning_rate:g}), and give another --output"
            ) from None

    def training_samples(self, client: str) -> Labelled:
        """The client's training samples; its bias-conflicting test set is sealed while they are read."""
        with self.data.sealed():
            return load_training_data(self.data, client, self.device, self.cache).train

    def client_step(self, client: str, fl_seed: int, eps: float) -> ClientStep:
        """The client's data and adversarial examples; kept until another client's are asked for."""
        key = (client, fl_seed, eps)
        if self._step is None or self._step[0] != key:
            self._step = None  # frees the old ones before the new ones are made
            step = ClientStep(
                self.settings, self.data, self.model, client, eps=eps, fl_seed=fl_seed, cache=self.cache
            )
            self._step = (key, step)
        return self._step[1]

    def keep_model(self, key: ResultKey, outcome: Outcome) -> Outcome:
        """What may leave of an outcome: in a silo its model is stored, and only metrics go on."""
        if self.silo_store is None or outcome.state is None:
            return outcome
        self.silo_store.add(key, outcome)
        return replace(outcome, state=None)


class Workers(Protocol):
    """The workers of a run: this process, or others."""

    def train(
        self, fl_seed: int, model: nn.Module, *, start_round: int, after_round: Callable[[Round], None]
    ) -> None:
        """Run the FedAvg rounds that are left, in place.

        Args:
            fl_seed: seed of the federated step.
            model: the global model after ``start_round`` rounds; the final one at the end.
            start_round: first round to run.
            after_round: called after every round; may call :meth:`use` and :meth:`do`.
        """

    def use(self, model: nn.Module, fl_seed: int, name: str) -> None:
        """Take the global model that the following tasks are about.

        Args:
            model: the model; not changed until the tasks are done.
            fl_seed: its federated seed, on whose split files the tasks are done.
            name: what it is, for messages.
        """

    def do(self, tasks: Sequence[TaskT]) -> Iterator[tuple[TaskT, Any]]:
        """Do tasks, those of one client standing together, and yield each with its answer, in any order."""

    def collect_models(self, plan: Sequence[ResultKey]) -> None:
        """Put the personal models that never left a worker where the table's are.

        Args:
            plan: keys of the final results, with the options that hold in them.
        """


def in_order(workers: Workers, tasks: Sequence[Task]) -> list[Any]:
    """Do tasks, each different, and give their answers in the order of the tasks."""
    answers = dict(workers.do(tasks))
    return [answers[task] for task in tasks]
