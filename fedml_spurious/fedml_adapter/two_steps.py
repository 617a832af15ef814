"""Which round of FedML does what, when the personalization step follows the federated one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import choose_clients, require_samples
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.fedml_adapter.arguments import personalization_rounds, require_an_end, settings_of
from fedml_spurious.learning.attacks import BudgetSearch, SuccessCount, find_budget
from fedml_spurious.learning.client_data import ClientSource
from fedml_spurious.personalization import GLOBAL

Counts = Mapping[str, Mapping[float, SuccessCount]]
Step = Literal["federated", "budget", "personalization"]


class TwoSteps:
    """The rounds of a run: FedAvg, one round for the attack's budget where a rule finds it, personalization.

    Args:
        args: FedML's arguments; ``comm_round`` counts all rounds.
        data: the clients' samples.

    Attributes:
        settings: settings of the run, with the rounds of FedAvg alone.
        clients: ids of the clients that are personalized.
        fl_seed: seed of the federated step.
        federated_rounds: rounds of FedAvg, which come first.

    Raises:
        InputError: settings are wrong, ask for what one round cannot do, or FedML leaves a client out.
    """

    def __init__(self, args: Any, data: ClientSource) -> None:
        require_an_end(args)
        self.settings: Settings = _at_home(_require_possible(settings_of(args), int(args.comm_round)), data)
        self.data = data
        self.fl_seed = self.settings.fl_seeds[0]
        self.clients = _clients(data, self.settings.personalization_args.clients)
        self.federated_rounds = int(args.comm_round) - personalization_rounds(args)
        self._last = int(args.comm_round) - 1
        _require_all_assigned(args, self)

    def step(self, round_index: int) -> Step:
        """What a round is for."""
        if round_index < self.federated_rounds:
            return "federated"
        return "personalization" if round_index >= self._last else "budget"

    def keys(self, client: str) -> list[ResultKey]:
        """All that is done for a client: every method with every seed of the personalization step."""
        seeds = self.settings.experiment_args.personalization_seeds
        return [
            ResultKey(method, self.fl_seed, p_seed, client, self.settings.options(method))
            for method in self.settings.methods()
            for p_seed in ((None,) if method == GLOBAL else seeds)
        ]

    def plan(self) -> list[ResultKey]:
        """The keys of all clients in the order of ``results.csv``."""
        columns = zip(*(self.keys(client) for client in self.clients), strict=True)
        return [key for column in columns for key in column]

    def budget(self, counts: Counts) -> BudgetSearch:
        """The attack's budget, by the rule or as it is set (appendix C.2).

        Args:
            counts: what the clients counted.

        Raises:
            InputError: a client is missing.
        """
        self.require_all(counts, "counted how often the attack succeeds")
        attack = self.settings.attack_args

        def rate(eps: float) -> float:
            return sum((_at(counts[client], eps) for client in self.clients), SuccessCount(0, 0)).rate

        if attack.budget == "fixed":
            found = rate(attack.eps)
            in_range = attack.success_low <= found <= attack.success_high
            return BudgetSearch(attack.eps, ((attack.eps, found),), in_range)
        low, high = attack.success_low, attack.success_high
        return find_budget(rate, start=attack.eps, shrink=attack.shrink, low=low, high=high)

    def require_all(self, found: Mapping[str, Any], done: str) -> None:
        """Make sure that every client that is personalized is there.

        Raises:
            InputError: one is missing; the text names it.
        """
        missing = [client for client in self.clients if client not in found]
        if missing:
            raise InputError(
                f"client {missing[0]} never {done}: FedML assigned it to no process in that round; set "
                f"client_num_per_round to client_num_in_total ({len(self.data.client_ids)}), or leave it out "
                "of personalization_args.clients"
            )


def _at_home(settings: Settings, data: ClientSource) -> Settings:
    """The settings with the folder that the samples are really from."""
    if not isinstance(data, SplitFolder):
        return settings
    found = settings.data_args.model_copy(update={"data_cache_dir": str(data.folder)})
    return settings.model_copy(update={"data_args": found})


def _require_possible(settings: Settings, comm_round: int) -> Settings:
    """Refuse what the rounds of FedML cannot do, and count those of FedAvg alone."""
    if settings.experiment_args.grids:
        raise InputError(
            "FedML args: experiment_args.grids: coefficients are chosen by `fedml-spurious run`; put the "
            "chosen ones into personalization_args.<method>"
        )
    if settings.personalization_args.batchnorm == "recalibrate":
        raise InputError(
            "FedML args: personalization_args.batchnorm: recalibrate takes a message for every layer, which "
            "FedML's rounds do not have; use aggregate or local, or `fedml-spurious run`"
        )
    extra = 1 if settings.attack_args.budget == "fixed" else 2
    if comm_round < extra:
        what = "one for the attack's budget and one for personalization" if extra == 2 else "personalization"
        raise InputError(f"FedML args: comm_round: is {comm_round}, and counts the rounds of {what} too")
    # Without rounds of FedAvg the global model is from elsewhere; the settings have no word for that.
    federated = max(comm_round - extra, 1)
    train = settings.train_args.model_copy(update={"comm_round": federated})
    return settings.model_copy(update={"train_args": train})


def _clients(data: ClientSource, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    if isinstance(data, SplitFolder):
        return choose_clients(data, wanted)
    clients = wanted or data.client_ids
    for client in clients:
        require_samples(data, client, ("train", "val", "test"), data.name)
    return tuple(sorted(clients))


def _at(counts: Mapping[float, SuccessCount], eps: float) -> SuccessCount:
    # A client counts until its attack fools no sample, and smaller budgets fool none either.
    return counts.get(eps) or SuccessCount(0, next(iter(counts.values())).correct)


def _require_all_assigned(args: Any, steps: TwoSteps) -> None:
    """Refuse a run in which FedML's own draw leaves a client out of the rounds that need it."""
    total, per_round = int(args.client_num_in_total), int(args.client_num_per_round)
    if str(getattr(args, "backend", "sp")) == "sp" or per_round >= total:
        return  # our simulator takes all clients in these rounds
    for index in range(steps.federated_rounds, int(args.comm_round)):
        drawn = np.random.RandomState(index).choice(range(total), per_round, replace=False)
        assigned = {steps.data.client_ids[client] for client in drawn}
        steps.require_all(dict.fromkeys(assigned), "takes part in personalization")
