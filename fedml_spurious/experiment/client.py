"""The personalization step: every method from one global model, client by client."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import cached_property
from typing import Any

from torch import nn

from fedml_spurious.common.errors import DivergedError
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.result_key import Outcome, ResultKey
from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.batchnorm import recalibrated
from fedml_spurious.learning.client_data import (
    ClientSource,
    Labelled,
    SampleCache,
    TestData,
    TrainingData,
    load_test_data,
    load_training_data,
)
from fedml_spurious.learning.finite import require_finite_weights
from fedml_spurious.learning.metrics import Evaluation, evaluate
from fedml_spurious.learning.modes import frozen
from fedml_spurious.learning.state_dicts import copy_model, copy_state, load_state
from fedml_spurious.personalization.base import (
    AdversarialReference,
    ClientView,
    Observer,
    Personalized,
    Personalizer,
)
from fedml_spurious.personalization.returned import check_personalized, checked_reason
from fedml_spurious.results.averages import disparity
from fedml_spurious.results.rows import DIVERGED, ClientResult

logger = logging.getLogger(__name__)


def client_model(settings: Settings, model: nn.Module, train: Labelled) -> nn.Module:
    """The global model as a client has it: with statistics of its own where the BatchNorm policy says so.

    Args:
        settings: settings of the run.
        model: the global model; left as it is.
        train: the client's training samples.
    """
    own = settings.personalization_args.batchnorm == "local"
    return recalibrated(model, [train.x]) if own else model


class ClientStep:
    """Personalizes and measures one client from one global model.

    Args:
        settings: settings of the run.
        data: client split files.
        model: the global model; left as it is. Attack, methods and the row ``global`` take it as
            :func:`client_model` gives it.
        client: id of the client.
        eps: budget of the attack.
        fl_seed: seed of the global model.
        cache: keeps samples for the next step with this client; read from the files where it is absent.
    """

    def __init__(
        self,
        settings: Settings,
        data: ClientSource,
        model: nn.Module,
        client: str,
        *,
        eps: float,
        fl_seed: int,
        cache: SampleCache | None = None,
    ) -> None:
        self.settings, self.data, self.client = settings, data, client
        self.eps, self.fl_seed = eps, fl_seed
        device = next(model.parameters()).device
        self.attack: Attack = settings.attack_args.attack(eps)
        with data.sealed():
            self.training: TrainingData = load_training_data(data, client, device, cache)
            self.model = client_model(settings, model, self.training.train)
            self.adversarial = AdversarialReference(
                self.model, self.training.train, self.training.val, self.attack
            )
        # Held apart from what the methods get; see ClientView.
        self._tests: TestData = load_test_data(data, client, device, cache)

    @cached_property
    def _test_adv(self) -> Labelled:
        biased = self._tests.biased
        return Labelled(self.attack(self.model, biased.x, biased.y), biased.y)

    def run(self, key: ResultKey) -> Outcome:
        """Personalize as the work says, and measure.

        A personal model that diverges is an answer too: a row without measurements that says so.

        Raises:
            DivergedError: the outputs of the global model are not finite.
        """
        if key.options is None or key.p_seed is None:
            return _same(self._result(key, self.model, val_acc=self._val_accuracy(self.model)))
        method = self.settings.method_type(key.method)(key.options)
        rows: list[dict[str, Any]] = []
        started = time.perf_counter()
        with self.data.sealed():
            reason = checked_reason(method, method.not_applicable(self.view(key.p_seed)))
        if reason:
            logger.info("%s does not apply to client %s: %s", key.method, self.client, reason)
            return _same(self._result(key, None))
        try:
            personal = self.personalize(method, key.p_seed, self._observer(rows))
            seconds = round(time.perf_counter() - started, 3)
            return self._measured(key, method, personal, tuple(rows), seconds)
        except DivergedError as error:
            logger.warning(
                "%s diverged on client %s (fl%d p%d): %s",
                key.method, self.client, key.fl_seed, key.p_seed, error,
            )  # fmt: skip
            seconds = round(time.perf_counter() - started, 3)
            row = self._result(key, None, method=method, seconds=seconds)
            return _same(replace(row, selected_epoch=DIVERGED))

    def _measured(
        self,
        key: ResultKey,
        method: Personalizer[Any],
        personal: Personalized,
        trajectory: tuple[dict[str, Any], ...],
        seconds: float,
    ) -> Outcome:
        model = copy_model(self.model)

        def measured(found: Personalized) -> ClientResult:
            load_state(model, found.state)
            require_finite_weights(model, f"after epoch {found.selected_epoch}")  # of loops of the user's own
            return self._result(key, model, personal=found, method=method, seconds=seconds)

        last = measured(personal.last) if personal.last else None
        result = measured(personal)  # second, so that the model is the selected one from here on
        kept = self.settings.personalization_args.save_models
        state = copy_state(model) if kept else None
        return Outcome(result, last or result, trajectory, state, personal.details)

    def personalize(
        self, method: Personalizer[Any], p_seed: int, observe: Observer | None = None
    ) -> Personalized:
        """Personalize by a method, with the bias-conflicting test set sealed.

        Args:
            method: the method, which has to apply.
            p_seed: seed of the personalization step.
            observe: see :meth:`Personalizer.personalize`.

        Raises:
            MethodError: what the method gives is no personal model.
            DivergedError: its training diverged.
        """
        with self.data.sealed():
            found = method.personalize(self.view(p_seed), observe)
        check_personalized(method, found, self.model)
        return found

    def view(self, p_seed: int) -> ClientView:
        """What a method may see of the client, with a seed of the personalization step."""
        return ClientView(
            client=self.data.index(self.client),
            fl_seed=self.fl_seed,
            p_seed=p_seed,
            train=self.training.train,
            aligned=self.training.aligned,
            val=self.training.val,
            adversarial=self.adversarial,
            global_model=self.model,
            training=self.settings.fine_tuning(),
            initial=self._initial,
            selection_ties=self.settings.personalization_args.selection_ties,
        )

    def _initial(self) -> nn.Module:
        device = next(self.model.parameters()).device
        return initial_network(self.settings, self.data, self.fl_seed).to(device)

    def _observer(self, rows: list[dict[str, Any]]) -> Observer | None:
        interval = self.settings.trajectory_interval
        if not interval:
            return None

        def observe(model: nn.Module, epoch: int, batch: int) -> None:
            if batch % interval == 0:
                row = {"client": self.client, "epoch": epoch, "batch": batch}
                try:
                    rows.append(row | self.measure(model))
                except DivergedError as error:
                    raise DivergedError(f"{error} after batch {batch} (epoch {epoch})") from None

        return observe

    def measure(self, model: nn.Module) -> dict[str, float | None]:
        """Accuracies and losses on the test sets and the adversarial examples, as cells of a row."""
        with frozen(model):  # once for all three
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
        key: ResultKey,
        model: nn.Module | None,
        *,
        val_acc: float | None = None,
        personal: Personalized | None = None,
        method: Personalizer[Any] | None = None,
        seconds: float | None = None,
    ) -> ClientResult:
        cells = dict.fromkeys(("acc_b", "acc_bc", "disparity", "loss_b", "loss_bc", "acc_adv", "loss_adv"))
        if model is not None:
            cells |= self.measure(model)
        return ClientResult(
            dataset=self.data.name,
            method=key.method,
            fl_seed=key.fl_seed,
            p_seed=key.p_seed,
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


def _same(row: ClientResult) -> Outcome:
    return Outcome(row, row)


def accuracy_cells(biased: Evaluation, conflicting: Evaluation) -> dict[str, float | None]:
    """Cells of a row that both test sets determine."""
    return {
        "acc_b": biased.accuracy,
        "acc_bc": conflicting.accuracy,
        "disparity": disparity(biased.accuracy, conflicting.accuracy),
        "loss_b": biased.loss,
        "loss_bc": conflicting.loss,
    }
