"""The personalization step: every method from one global model, client by client."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fedml_spurious.attacks import Attack, BudgetSearch, SuccessCount, count_successes, find_budget
from fedml_spurious.clients import TestData, TrainingData, load_test_data, load_training_data
from fedml_spurious.config import Settings
from fedml_spurious.fedavg import load_state
from fedml_spurious.federated_step import accuracy_cells, save_tensors
from fedml_spurious.metrics import evaluate
from fedml_spurious.personalization import GLOBAL
from fedml_spurious.personalization.base import (
    AdversarialReference,
    ClientTask,
    Labelled,
    Observer,
    Personalized,
    Personalizer,
    make_adversarial_reference,
)
from fedml_spurious.results import ClientResult, read_results, write_results
from fedml_spurious.run_folder import RunFolder
from fedml_spurious.splits import SplitFolder
from fedml_spurious.storage import read_csv, write_csv

logger = logging.getLogger(__name__)

TRAJECTORY_COLUMNS = (
    "client", "epoch", "batch", "acc_b", "acc_bc", "disparity", "loss_b", "loss_bc", "acc_adv", "loss_adv",
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """One method with one pair of seeds for one client.

    Attributes:
        method: name of the method.
        fl_seed: seed of the global model.
        p_seed: seed of the personalization; None for the global model as it is.
        client: id of the client.
    """

    method: str
    fl_seed: int
    p_seed: int | None
    client: str


def choose_budget(
    settings: Settings, data: SplitFolder, model: nn.Module, clients: Sequence[str], device: torch.device
) -> BudgetSearch:
    """Apply the budget rule (appendix C.2) to the clients' training samples, or take the fixed budget.

    One budget serves all clients: only counts of fooled samples would leave a client.
    """
    attack = settings.attack_args
    parts = []
    with data.sealed():
        for client in clients:
            train = load_training_data(data, client, device).train
            limit = attack.budget_samples or len(train)
            parts.append(Labelled(train.x[:limit], train.y[:limit]))

    def success_rate(eps: float) -> float:
        total = SuccessCount(0, 0)
        for part in parts:
            total += count_successes(model, part.x, part.y, attack.attack(eps))
        return total.rate

    if attack.budget == "fixed":
        rate = success_rate(attack.eps)
        in_range = attack.success_low <= rate <= attack.success_high
        return BudgetSearch(attack.eps, ((attack.eps, rate),), in_range)
    return find_budget(
        success_rate,
        start=attack.eps,
        shrink=attack.shrink,
        low=attack.success_low,
        high=attack.success_high,
    )


class ClientStep:
    """Personalizes and measures one client from one global model.

    Args:
        settings: settings of the run.
        data: client split files.
        model: the global model; left as it is.
        client: id of the client.
        eps: budget of the attack.
        fl_seed: seed of the global model.
    """

    def __init__(
        self,
        settings: Settings,
        data: SplitFolder,
        model: nn.Module,
        client: str,
        *,
        eps: float,
        fl_seed: int,
    ) -> None:
        self.settings, self.data, self.model, self.client = settings, data, model, client
        self.eps, self.fl_seed = eps, fl_seed
        device = next(model.parameters()).device
        self.attack: Attack = settings.attack_args.attack(eps)
        with data.sealed():
            self.training: TrainingData = load_training_data(data, client, device)
            self.adversarial: AdversarialReference = make_adversarial_reference(
                model, self.training.train, self.training.val, self.attack
            )
        # Held apart from what the methods get; see ClientTask.
        self._tests: TestData = load_test_data(data, client, device)
        biased = self._tests.biased
        self._test_adv = Labelled(self.attack(model, biased.x, biased.y), biased.y)

    def run(self, work: Work, folder: RunFolder) -> ClientResult:
        """Do one piece of work and store its result, trajectory and model."""
        part = folder.personal_part(work.method, work.fl_seed, work.p_seed)
        method = self.settings.methods()[work.method]
        if method is None or work.p_seed is None:
            return self._result(work, self.model, val_acc=self._val_accuracy(self.model))
        task = self._task(work.p_seed)
        rows: list[dict[str, Any]] = []
        started = time.perf_counter()
        with self.data.sealed():
            reason = method.not_applicable(task)
            personal = None if reason else method.personalize(task, self._observer(rows))
        seconds = time.perf_counter() - started
        if personal is None:
            logger.info("%s does not apply to client %s: %s", work.method, self.client, reason)
            return self._result(work, None)
        model = copy.deepcopy(self.model)
        load_state(model, personal.state)
        if rows:
            _append_trajectory(part, self.client, rows)
        if self.settings.personalization_args.save_models:
            state = {name: value.cpu() for name, value in personal.state.items()}
            save_tensors(part / "models" / f"{self.client}.pt", state)
        return self._result(work, model, personal=personal, method=method, seconds=round(seconds, 3))

    def _task(self, p_seed: int) -> ClientTask:
        return ClientTask(
            client=self.data.client_ids.index(self.client),
            fl_seed=self.fl_seed,
            p_seed=p_seed,
            train=self.training.train,
            aligned=self.training.aligned,
            val=self.training.val,
            adversarial=self.adversarial,
            global_model=self.model,
            training=self.settings.fine_tuning(),
        )

    def _observer(self, rows: list[dict[str, Any]]) -> Observer | None:
        interval = self.settings.personalization_args.trajectory_interval
        if not interval:
            return None

        def observe(model: nn.Module, epoch: int, batch: int) -> None:
            if batch % interval == 0:
                row = {"client": self.client, "epoch": epoch, "batch": batch}
                rows.append(row | self._measure(model))

        return observe

    def _measure(self, model: nn.Module) -> dict[str, float | None]:
        biased = evaluate(model, self._tests.biased.x, self._tests.biased.y)
        conflicting = evaluate(model, self._tests.conflicting.x, self._tests.conflicting.y)
        adversarial = evaluate(model, self._test_adv.x, self._test_adv.y)
        return accuracy_cells(biased, conflicting) | {
            "acc_adv": adversarial.accuracy,
            "loss_adv": adversarial.loss,
        }

    def _val_accuracy(self, model: nn.Module) -> float | None:
        return evaluate(model, self.training.val.x, self.training.val.y).accuracy

    def _result(
        self,
        work: Work,
        model: nn.Module | None,
        *,
        val_acc: float | None = None,
        personal: Personalized | None = None,
        method: Personalizer[Any] | None = None,
        seconds: float | None = None,
    ) -> ClientResult:
        cells = dict.fromkeys(("acc_b", "acc_bc", "disparity", "loss_b", "loss_bc", "acc_adv", "loss_adv"))
        if model is not None:
            cells |= self._measure(model)
        return ClientResult(
            dataset=self.data.meta.name,
            method=work.method,
            fl_seed=work.fl_seed,
            p_seed=work.p_seed,
            client=self.client,
            n_train=self.data.count(self.client, "train"),
            n_val=self.data.count(self.client, "val"),
            n_test=self.data.count(self.client, "test"),
            n_test_bc=self.data.count(self.client, "test_bc"),
            **cells,
            val_acc=personal.val_acc if personal else val_acc,
            selected_epoch=personal.selected_epoch if personal else None,
            eps=self.eps,
            lam_adv=getattr(method.settings, "lam_adv", None) if method else None,
            lam_l2=getattr(method.settings, "lam_l2", None) if method else None,
            seconds=seconds,
        )


def _append_trajectory(part: Any, client: str, rows: list[dict[str, Any]]) -> None:
    path = part / "trajectory.csv"
    # A kill between trajectory and result leaves rows of a client that is done again.
    before = [row for row in read_csv(path) if row["client"] != client] if path.exists() else []
    write_csv(path, TRAJECTORY_COLUMNS, [*before, *rows])


class ResultStore:
    """Finished rows of a run: one ``clients.csv`` per method and pair of seeds.

    Args:
        folder: the run folder.
        plan: all work of the run.
    """

    def __init__(self, folder: RunFolder, plan: Sequence[Work]) -> None:
        self.folder = folder
        self._parts: dict[tuple[str, int, int | None], dict[str, ClientResult]] = {}
        for work in plan:
            key = (work.method, work.fl_seed, work.p_seed)
            if key not in self._parts:
                path = folder.personal_part(*key) / "clients.csv"
                rows = read_results(path) if path.exists() else []
                self._parts[key] = {row.client: row for row in rows}

    def has(self, work: Work) -> bool:
        """Whether this work is done."""
        return work.client in self._parts[work.method, work.fl_seed, work.p_seed]

    def add(self, work: Work, result: ClientResult) -> None:
        """Store a result at once."""
        key = (work.method, work.fl_seed, work.p_seed)
        rows = self._parts[key]
        rows[work.client] = result
        path = self.folder.personal_part(*key) / "clients.csv"
        write_results(path, [rows[client] for client in sorted(rows)])

    def get(self, work: Work) -> ClientResult:
        """The result of finished work."""
        return self._parts[work.method, work.fl_seed, work.p_seed][work.client]


def plan_work(settings: Settings, clients: Sequence[str]) -> list[Work]:
    """All work of a run, in the order of ``results.csv``: by method, the two seeds, and client."""
    seeds = settings.experiment_args.personalization_seeds
    return [
        Work(method, fl_seed, p_seed, client)
        for method in settings.methods()
        for fl_seed in settings.fl_seeds
        for p_seed in ((None,) if method == GLOBAL else seeds)
        for client in clients
    ]
