"""FedML's server aggregator with both steps: FedAvg, and then the rows of the personalization."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedml.core import ServerAggregator
from torch import nn

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import write_json, write_text
from fedml_spurious.experiment.identity import budget_identity, global_identity
from fedml_spurious.experiment.result_key import Outcome, ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.run_folder import RunFolder, write_config
from fedml_spurious.fedml_adapter.aggregator import SpuriousAggregator
from fedml_spurious.fedml_adapter.failures import Failures
from fedml_spurious.fedml_adapter.notes import Notes, separate, with_notes
from fedml_spurious.fedml_adapter.two_steps import TwoSteps
from fedml_spurious.learning.checkpoints import save_tensors
from fedml_spurious.learning.client_data import ClientSource
from fedml_spurious.learning.state_dicts import copy_state
from fedml_spurious.results.averages import client_mean
from fedml_spurious.results.budgets import read_budgets
from fedml_spurious.results.dataset_table import DatasetTable
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.folders import data_source
from fedml_spurious.results.rows import ClientResult, write_results
from fedml_spurious.results.run_table import make_run_table, write_table

logger = logging.getLogger(__name__)

_Updates = list[tuple[int, Mapping[str, Any]]]


class PersonalizingAggregator(ServerAggregator):  # type: ignore[misc]  # FedML has no types
    """Averages in the rounds of FedAvg; then keeps the global model and joins what the clients measured.

    Args:
        model: the global model.
        args: FedML's arguments, as :class:`PersonalizingTrainer` takes them.
        data: the clients' samples, of which names and numbers are read.
        federated: averages in the rounds of FedAvg; ours where absent.

    Attributes:
        failures: what went wrong, in this process or another.

    Raises:
        InputError: settings are wrong, or do not fit the data or FedML's runner.
    """

    def __init__(
        self, model: nn.Module, args: Any, data: ClientSource, *, federated: ServerAggregator | None = None
    ) -> None:
        super().__init__(model, args)
        self.steps = TwoSteps(args, data)
        self.failures = Failures(args)
        self.federated = SpuriousAggregator(model, args) if federated is None else federated
        if isinstance(self.federated, SpuriousAggregator):
            self.federated.failures = self.failures
        self._found = Notes()

    def get_model_params(self) -> Any:
        """The global weights; with what the clients counted, while they wait for it."""
        weights = self.federated.get_model_params()
        waiting = self._found.counts and not self._found.outcomes
        return with_notes(weights, Notes(counts=self._found.counts)) if waiting else weights

    def set_model_params(self, model_parameters: Mapping[str, Any]) -> None:
        """Take global weights, and join the clients' notes where FedML averaged them itself."""
        with self.failures.caught():
            weights, notes = separate(model_parameters)
            self._found += notes
            self.failures.hear(notes.failure)
            if not self.failures.text:
                self.federated.set_model_params(weights)

    def on_before_aggregation(self, raw_client_model_or_grad_list: _Updates) -> tuple[_Updates, list[int]]:
        """FedML's hook, of the federated aggregator."""
        if self._is_federated():
            kept, indices = self.federated.on_before_aggregation(raw_client_model_or_grad_list)
            return kept, indices
        return raw_client_model_or_grad_list, list(range(len(raw_client_model_or_grad_list)))

    def aggregate(self, raw_client_model_or_grad_list: _Updates) -> Any:
        """Average models, or join counts and rows; a budget's counts go back to the clients, rows do not."""
        with self.failures.caught():
            found = sum((separate(update)[1] for _, update in raw_client_model_or_grad_list), Notes())
            self.failures.hear(found.failure)
            if self._is_federated() and not self.failures.text:
                return self.federated.aggregate(raw_client_model_or_grad_list)
            self._found += found
            if not self.failures.text:
                weights = self.federated.get_model_params()
                return with_notes(weights, Notes(counts=found.counts))
        return with_notes(OrderedDict(copy_state(self.model)), Notes(failure=self.failures.text))

    def on_after_aggregation(self, aggregated_model_or_grad: Any) -> Any:
        """FedML's hook, of the federated aggregator."""
        if self._is_federated():
            return self.federated.on_after_aggregation(aggregated_model_or_grad)
        return aggregated_model_or_grad

    def test(self, test_data: Any, device: Any, args: Any) -> Any:
        """Measure the global model; see the federated aggregator."""
        with self.failures.caught():
            return self.federated.test(test_data, device, args)
        return None

    def test_all(self, train_data_local_dict: Any, test_data_local_dict: Any, device: Any, args: Any) -> bool:
        """Measure the global model in rounds of FedAvg; then log what the clients measured of their own."""
        with self.failures.caught():
            if self._is_federated():
                self.federated.test_all(train_data_local_dict, test_data_local_dict, device, args)
            for method, rows in self._rows_by_method().items():
                means = {name: client_mean([getattr(row, name) for row in rows]) for name in _MEASURES}
                logger.info("%s: %s over %d rows", method, means, len(rows))
        return True

    def results(self) -> list[ClientResult]:
        """The rows of ``results.csv``, in its order.

        Raises:
            InputError: something went wrong in some process, or a client took no part.
        """
        return [outcome.result for outcome in self._outcomes().values()]

    def write(self, folder: str | Path) -> DatasetTable:
        """Write a run folder: ``results.csv``, the tables, the global model, budget and configuration.

        Reports and tables read it as any other run. ``run --resume`` refuses it: FedML's rounds left no
        protocol in it, and the personal models stayed with the clients.

        Args:
            folder: new, or empty but for folders of clients (``folder`` of :class:`PersonalizingTrainer`).

        Returns:
            The table.

        Raises:
            InputError: as :meth:`results`, or the folder is not empty.
        """
        run, steps = RunFolder(Path(folder)), self.steps
        outcomes = self._outcomes()
        _require_empty(run.path)
        run.path.mkdir(parents=True, exist_ok=True)
        write_text(run.written_by_fedml, "Written by PersonalizingAggregator.write; cannot be resumed.\n")
        config = steps.settings.model_dump(mode="json", exclude_none=True)
        source = data_source(run.path, config)
        write_config(run, steps.settings, source)
        part = run.global_part(steps.fl_seed)
        found = global_identity(steps.settings, steps.data, steps.fl_seed)
        write_json(part / "identity.json", found)
        save_tensors(part / "model.pt", copy_state(self.model))
        budget = steps.budget(self._found.counts)
        found_budget: dict[str, Any] = {"eps": budget.eps, "in_range": budget.in_range, "trail": budget.trail}
        found_for = budget_identity(steps.settings, steps.data, steps.fl_seed)["sha256"]
        found_budget |= {"clients": list(steps.clients), "found_for": found_for}
        write_json(part / "budget.json", found_budget)
        store = ResultStore(run)
        for key, outcome in outcomes.items():
            store.add(key, outcome)
        store.collect(list(outcomes))
        rows = [outcome.result for outcome in outcomes.values()]
        write_results(run.results_last, [outcome.last for outcome in outcomes.values()])
        write_results(run.results, rows)
        prints = {steps.fl_seed: found["determined_by"]["data"]}
        budgets = read_budgets(run.path)
        table = make_run_table(FinishedRun(run.path, config, tuple(rows), {}, budgets, prints, source=source))
        write_table(run.path, table)
        return table

    def _is_federated(self) -> bool:
        return self.steps.step(int(self.args.round_idx)) == "federated"

    def _outcomes(self) -> dict[ResultKey, Outcome]:
        self.failures.check()
        self.steps.require_all(self._found.outcomes, "was personalized")
        found = {key: outcome for pairs in self._found.outcomes.values() for key, outcome in pairs}
        return {key: found[key] for key in self.steps.plan()}

    def _rows_by_method(self) -> dict[str, list[ClientResult]]:
        rows: dict[str, list[ClientResult]] = {}
        for pairs in self._found.outcomes.values():
            for key, outcome in pairs:
                rows.setdefault(key.method, []).append(outcome.result)
        return rows


def _require_empty(folder: Path) -> None:
    """Refuse a folder with anything but folders of clients in it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a new or empty folder")
    found = sorted(entry.name for entry in folder.glob("*") if not _is_of_a_client(entry))
    if found:
        raise InputError(f"{folder}: is not empty ({', '.join(found[:3])}); give a new or empty folder")


def _is_of_a_client(entry: Path) -> bool:
    return entry.is_dir() and {part.name for part in entry.iterdir()} <= {"personal"}


_MEASURES = ("acc_b", "acc_bc", "disparity")
