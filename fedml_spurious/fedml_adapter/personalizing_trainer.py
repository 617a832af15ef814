"""FedML's client trainer with both steps: FedAvg, and then the personalization of its client."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fedml.core import ClientTrainer
from torch import nn

from fedml_spurious.experiment.result_key import Outcome, ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import CountFooled, Personalize, TaskRunner
from fedml_spurious.fedml_adapter.arguments import averaged_by_fedml
from fedml_spurious.fedml_adapter.failures import Failures
from fedml_spurious.fedml_adapter.notes import Notes, separate, to_be_averaged, with_notes
from fedml_spurious.fedml_adapter.trainer import SpuriousTrainer, client_of, collect
from fedml_spurious.fedml_adapter.two_steps import Counts, TwoSteps
from fedml_spurious.learning.attacks import SuccessCount
from fedml_spurious.learning.client_data import ClientSource, load_test_data
from fedml_spurious.learning.metrics import Evaluation, evaluate
from fedml_spurious.learning.state_dicts import load_state


class PersonalizingTrainer(ClientTrainer):  # type: ignore[misc]  # FedML has no types
    """Trains in the rounds of FedAvg, and personalizes its client in the last round.

    What it sends in the last round are the unchanged global weights and metrics; the personal model stays
    here. Methods, attack, losses and selection are those of ``fedml-spurious run``, to the bit.

    Args:
        model: the network.
        args: FedML's arguments with ``personalization_args``, ``attack_args`` and ``experiment_args``.
        data: the clients' samples: a ``SplitFolder``, or :class:`LoaderData` of a FedML data list.
        federated: trains in the rounds of FedAvg, on the same model; ours where absent.
        folder: where the personal models are kept as ``personal/<method>/.../models/<client>.pt``, with their
            rows; nowhere where absent.

    Attributes:
        personal_model: the client's model by the last method and seed that apply; None before.
        failures: what went wrong, in this process or another.

    Raises:
        InputError: settings are wrong, or do not fit the data or FedML's runner.
    """

    def __init__(
        self,
        model: nn.Module,
        args: Any,
        data: ClientSource,
        *,
        federated: ClientTrainer | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(model, args)
        self.steps = TwoSteps(args, data)
        self.federated_rounds = self.steps.federated_rounds
        self.failures = Failures(args)
        self.federated = SpuriousTrainer(model, args) if federated is None else federated
        if isinstance(self.federated, SpuriousTrainer):
            self.federated.failures = self.failures
        self.personal_model: nn.Module | None = None
        self._store = None if folder is None else ResultStore(RunFolder(Path(folder)))
        self._given: Mapping[str, Any] = {}
        self._notes: Notes | None = None
        self._counts: Counts = {}
        self._client = ""

    def set_id(self, trainer_id: int) -> None:
        """Tell both steps whose turn it is."""
        super().set_id(trainer_id)
        self.federated.set_id(trainer_id)

    def update_dataset(
        self, local_train_dataset: Any, local_test_dataset: Any, local_sample_number: int
    ) -> None:
        """Tell both steps what the client has."""
        super().update_dataset(local_train_dataset, local_test_dataset, local_sample_number)
        self.federated.update_dataset(local_train_dataset, local_test_dataset, local_sample_number)

    def set_model_params(self, model_parameters: Mapping[str, Any]) -> None:
        """Take the global model, and what the clients counted of the attack."""
        with self.failures.caught():
            self._given, notes = separate(model_parameters)
            self._counts, self._notes = notes.counts or self._counts, None
            self.failures.hear(notes.failure)
            if not self.failures.text:
                self.federated.set_model_params(self._given)

    def get_model_params(self) -> Any:
        """The client's weights in rounds of FedAvg; then the unchanged global ones, with metrics."""
        if self.failures.text:
            return with_notes(self._given, Notes(failure=self.failures.text))
        federated = self._notes is None
        weights = self.federated.get_model_params() if federated else self._given
        notes = self._notes or Notes()
        if averaged_by_fedml(self.args):
            return to_be_averaged(weights, notes)
        return weights if federated else with_notes(weights, notes)

    def on_before_local_training(self, train_data: Any, device: Any, args: Any) -> None:
        """FedML's hook, of the federated trainer."""
        if self._is_federated(args):
            self.federated.on_before_local_training(train_data, device, args)

    def on_after_local_training(self, train_data: Any, device: Any, args: Any) -> None:
        """FedML's hook, of the federated trainer."""
        if self._is_federated(args):
            self.federated.on_after_local_training(train_data, device, args)

    def train(self, train_data: Iterable[Any], device: torch.device, args: Any) -> None:
        """Do what the round ``args.round_idx`` is for.

        Args:
            train_data: the client's loader, which also tells whose it is.
            device: where to train.
            args: FedML's arguments; only ``round_idx`` is read.
        """
        with self.failures.caught():
            if self.failures.text:
                return
            step = self.steps.step(int(args.round_idx))
            if step == "federated":
                self.federated.train(train_data, device, args)
                return
            self._client = self._client_of(train_data)
            runner = self._runner(device)
            if self._client not in self.steps.clients:
                self._notes = Notes()
            elif step == "budget":
                self._notes = Notes(counts={self._client: self._count(runner)})
            else:
                self._notes = self._personalize(runner)

    @property
    def last_loss(self) -> float | None:
        """Mean training loss of the client in a round of FedAvg; None in other rounds."""
        return getattr(self.federated, "last_loss", None) if self._notes is None else None

    def test(self, test_data: Iterable[Any], device: torch.device, args: Any) -> Any:
        """Counts of the personal model, under FedML's names; of the federated trainer's before there is one.

        Returns:
            ``test_correct``, ``test_total``, ``test_loss`` (a sum) on the loader, and the same with
            ``test_bc`` on the client's bias-conflicting test set.
        """
        with self.failures.caught():
            if self.personal_model is None:
                return self.federated.test(test_data, device, args)
            model = self.personal_model.to(device)
            biased = evaluate(model, *collect(test_data, device))
            tests = load_test_data(self.steps.data, self._client, device)
            conflicting = evaluate(model, tests.conflicting.x, tests.conflicting.y)
            return _counts("test", biased) | _counts("test_bc", conflicting)
        return None

    def _is_federated(self, args: Any) -> bool:
        return not self.failures.text and self.steps.step(int(args.round_idx)) == "federated"

    def _client_of(self, loader: Any) -> str:
        source = self.steps.data
        index_of = getattr(source, "index_of", lambda _: None)
        index = index_of(loader)
        return source.client_ids[client_of(loader, self.id) if index is None else index]

    def _runner(self, device: torch.device) -> TaskRunner:
        # Models are asked for, because the last one stays here as personal_model.
        own = self.steps.settings.personalization_args.model_copy(update={"save_models": True})
        settings = self.steps.settings.model_copy(update={"personalization_args": own})
        load_state(self.model, self._given)
        runner = TaskRunner(settings, {self.steps.fl_seed: self.steps.data}, device)
        runner.use(self.model.to(device), self.steps.fl_seed)
        return runner

    def _count(self, runner: TaskRunner) -> dict[float, SuccessCount]:
        """How many samples the attack fools, for the budgets that the rule may try."""
        attack = self.steps.settings.attack_args
        counts: dict[float, SuccessCount] = {}
        eps = attack.eps
        while True:
            counts[eps] = runner.run(CountFooled(self._client, eps))
            if attack.budget == "fixed" or not counts[eps].fooled:
                return counts
            eps *= attack.shrink

    def _personalize(self, runner: TaskRunner) -> Notes:
        counts: dict[str, Any] = {}
        if self.steps.settings.attack_args.budget == "fixed":
            counts[self._client] = self._count(runner)
            eps = self.steps.settings.attack_args.eps
        else:
            eps = self.steps.budget(self._counts).eps
        outcomes = []
        for key in self.steps.keys(self._client):
            outcome: Outcome = runner.run(Personalize(key, eps))
            outcomes.append((key, self._keep(key, outcome)))
        return Notes(counts, {self._client: tuple(outcomes)})

    def _keep(self, key: ResultKey, outcome: Outcome) -> Outcome:
        """Keep the personal model here; give what may leave."""
        if self._store is not None:
            self._store.add(key, outcome)
            self._store.collect_models([key])
        if outcome.state is not None:
            self.personal_model = copy.deepcopy(self.model)
            load_state(self.personal_model, outcome.state)
        return replace(outcome, state=None)


def _counts(name: str, found: Evaluation) -> dict[str, float]:
    return {f"{name}_correct": found.correct, f"{name}_total": found.count, f"{name}_loss": found.loss_sum}
