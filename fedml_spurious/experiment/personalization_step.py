"""What is personalized in a run, in which order: trials of coefficients first, then what they decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from fedml_spurious.common.progress import Stage, stage
from fedml_spurious.common.words import counted
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.budget import find_budgets
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.divergence_step import is_recorded
from fedml_spurious.experiment.identity import PersonalIdentities
from fedml_spurious.experiment.recordings import recorded_kinds
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.tasks import Personalize
from fedml_spurious.experiment.tuning import Tuner
from fedml_spurious.personalization import GLOBAL
from fedml_spurious.results.decisions import Decision
from fedml_spurious.results.rows import ClientResult

ClientsBySeed = Mapping[int, Sequence[str]]
"""Ids of the clients to personalize, by federated seed: partitions of their own may choose others."""


@dataclass(frozen=True)
class PersonalizationResults:
    """What the personalization step finds.

    Attributes:
        selected: rows of ``results.csv``: by method, the two seeds, and client.
        last: the same of the models after the last epoch, rows of ``results_last.csv``.
        decisions: what tuning decided, by method.
        plan: the work behind them, with the options that hold in it.
        store: where the parts of the results are.
    """

    selected: list[ClientResult]
    last: list[ClientResult]
    decisions: dict[str, Decision]
    plan: list[ResultKey]
    store: ResultStore


def personalize(
    run: RunContext, models: Mapping[int, nn.Module], clients: ClientsBySeed
) -> PersonalizationResults:
    """Tune, personalize and measure whatever is not finished.

    Args:
        run: the run, in whose folder every answer is kept at once.
        models: global models by federated seed.
        clients: ids of the clients by federated seed, ascending.

    Returns:
        All rows, in the order of ``results.csv``, and what tuning decided.
    """
    settings = run.settings
    # Silos keep their models for themselves, where the server does not see them.
    in_silos = settings.common_args.training_type == "cross_silo"
    budgets = find_budgets(run, models, clients)  # even if nothing is left to personalize
    store = ResultStore(
        run.folder,
        models=settings.personalization_args.save_models and not in_silos,
        trajectories=settings.trajectory_interval > 0,
        identities=PersonalIdentities(settings, run.data, budgets),
    )
    tuner = Tuner(settings, store, clients[settings.fl_seeds[0]])
    executor = _Executor(run, store, models, budgets)
    untuned = [_tuned(key, tuner) for key in _plan(settings, clients) if key.method not in tuner.grids]
    total = _total(settings, clients, tuner)
    with stage(run.console, "Personal models", total=total, done=0) as bar:
        # The first trials go together with all that needs no decision, so that a client is prepared once.
        first = [key for key in untuned if key.fl_seed == tuner.seeds[0]]
        everything = tuner.combinations(clients)
        first += [*tuner.references(), *(key for key in everything if key.fl_seed == tuner.seeds[0])]
        while trials := tuner.wanted():
            executor.do([*dict.fromkeys([*first, *trials])], bar)
            tuner.decide()
            first = []
        decisions = tuner.write()
        plan = [_tuned(key, tuner) for key in _plan(settings, clients)]
        executor.do([*dict.fromkeys([*plan, *everything])], bar)
    store.collect(plan)
    run.workers.collect_models(plan)
    selected, last = ([get(key) for key in plan] for get in (store.get, store.get_last))
    return PersonalizationResults(selected, last, decisions, plan, store)


def describe_plan(settings: Settings, clients: ClientsBySeed) -> str:
    """One line that says what a run consists of."""
    experiment, train = settings.experiment_args, settings.train_args
    methods = [name for name in settings.methods() if name != GLOBAL]
    smallest, largest = min(map(len, clients.values())), max(map(len, clients.values()))
    several = f"{smallest} to " if smallest < largest else ""
    pairs = len(settings.fl_seeds) * len(experiment.personalization_seeds)
    text = (
        f"Plan: {counted(len(settings.fl_seeds), 'global model')} of {counted(train.comm_round, 'round')}; "
        f"{several}{counted(largest, 'client')} x {counted(len(methods), 'method')} besides the global model "
        f"x {counted(pairs, 'pair of seeds')}"
    )
    if settings.own_partitions:
        text += ", every federated seed with a partition of its own"
    tuned = [name for name in methods if name in experiment.grids]
    if not tuned:
        return text
    text = f"{text}, after the choice of coefficients for {', '.join(tuned)}"
    if experiment.trials == "needed":
        return text
    grids = settings.grids()
    tried = sum(math.prod(map(len, grids[name].values())) for name in tuned)
    return f"{text}; all {tried} combinations of them are tried with all seeds"


def describe_recordings(settings: Settings, clients: ClientsBySeed) -> str:
    """What is recorded for figures beside the results, and what it costs; empty where nothing is."""
    kinds, parts = recorded_kinds(settings), []
    rounds = sum(is_recorded(settings, index) for index in range(settings.train_args.comm_round))
    if rounds:
        updates = rounds * len(settings.fl_seeds) * settings.train_args.client_num_per_round
        parts.append(f"divergence, {updates} local updates and {2 * updates} gradients more")
    if settings.trajectory_interval:
        every = f"{settings.trajectory_interval} batches" if settings.trajectory_interval > 1 else "batch"
        parts.append(f"trajectories, a measurement on all test samples after every {every}")
    if kinds:
        again = sum(key.method != GLOBAL for key in _plan(settings, clients))
        parts.append(f"{' and '.join(kinds)}, {again} fine-tunings more")
    return f"Recordings: {'; '.join(parts)}" if parts else ""


def _plan(settings: Settings, clients: ClientsBySeed) -> list[ResultKey]:
    """All final work of a run, in the order of ``results.csv``, without options."""
    seeds = settings.experiment_args.personalization_seeds
    return [
        ResultKey(method, fl_seed, p_seed, client)
        for method in settings.methods()
        for fl_seed in settings.fl_seeds
        for p_seed in ((None,) if method == GLOBAL else seeds)
        for client in clients[fl_seed]
    ]


def _tuned(key: ResultKey, tuner: Tuner) -> ResultKey:
    options = tuner.options(key.method, key.client)
    return ResultKey(key.method, key.fl_seed, key.p_seed, key.client, options)


def _total(settings: Settings, clients: ClientsBySeed, tuner: Tuner) -> int:
    """Number of different pieces of work, trials included; a chosen trial is final work too."""
    tuned = sum(1 for key in _plan(settings, clients) if key.method in tuner.grids)
    final = len(_plan(settings, clients)) - tuned
    others = tuned - len(tuner.grids) * len(tuner.clients)  # all but the tuned methods' first pair of seeds
    final += sum(1 for key in tuner.references() if key.method not in settings.methods())
    everything = tuner.combinations(clients)
    if everything:  # trials, and what the tuned methods end with, are among it
        return final + len(everything)
    return final + others + tuner.trials_per_client() * len(tuner.clients)


class _Executor:
    """Does what is not done yet, one global model after the other, and shows how far it is."""

    def __init__(
        self,
        run: RunContext,
        store: ResultStore,
        models: Mapping[int, nn.Module],
        budgets: Mapping[int, float],
    ) -> None:
        self.run, self.store, self.models, self.budgets = run, store, models, budgets
        self._shown: set[ResultKey] = set()

    def do(self, wanted: Sequence[ResultKey], bar: Stage) -> None:
        """Do this work."""
        for fl_seed, model in self.models.items():
            own = [key for key in wanted if key.fl_seed == fl_seed]
            if own:
                self._do_seed(fl_seed, model, own, bar)

    def _do_seed(self, fl_seed: int, model: nn.Module, wanted: Sequence[ResultKey], bar: Stage) -> None:
        eps = self.budgets[fl_seed]
        left = [key for key in wanted if not self.store.has(key)]
        finished = set(wanted) - set(left) - self._shown
        bar.skip(len(finished))
        self._shown |= finished
        if not left:
            return
        self.run.workers.use(model, fl_seed, f"fl{fl_seed}")
        # By client, so that its data and adversarial examples are made once for all methods and seeds.
        by_client = sorted(left, key=lambda key: key.client)
        for task, outcome in self.run.workers.do([Personalize(key, eps) for key in by_client]):
            key = task.key
            self.store.add(key, outcome)
            self._shown.add(key)
            details = {**vars(key), "options": key.values(), "seconds": outcome.result.seconds}
            details |= {"diverged": True} if outcome.result.diverged else {}
            self.run.folder.note("client", **details)
            options = " ".join(f"{name}={value}" for name, value in key.values().items())
            bar.advance(f"fl{fl_seed} client {key.client} {key.method} {options}")
