"""Choosing coefficients by validation accuracy (appendix C.2), with the reasons kept.

A method's coefficients are chosen one after the other, in the order of its grid. Those that are not chosen
yet have the smallest value of their grid. Everything is tried with the first pair of seeds of the run, and
the choice holds for all seeds; where these have partitions of their own, for the clients of the others too,
of which nothing was tried. Only validation samples are looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedml_spurious.common.storage import write_json
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.personalization import GLOBAL
from fedml_spurious.personalization.options import MethodSettings, TuningRule
from fedml_spurious.results.decisions import (
    ClientDecision,
    Coefficient,
    Decision,
    SeedPair,
    Trial,
    TuningStep,
)
from fedml_spurious.results.method_names import BASELINE

RULES: dict[TuningRule, str] = {
    "largest_harmless": "the largest value whose validation accuracy is not below that of {reference}",
    "most_accurate": "the value with the highest validation accuracy; of equals the smallest",
}

_REFERENCES = {
    "smallest": "the smallest value",
    "global": "the global model",
    "gain": "the global model and {share:.0%} of what fine-tuning gains over it",
}


@dataclass(frozen=True)
class Reference:
    """What no larger coefficient may fall below.

    Attributes:
        name: of what it is.
        correct: validation samples that it classifies correctly; not whole where it lies between two models.
        count: validation samples.
    """

    name: str
    correct: float
    count: int

    @property
    def val_acc(self) -> float:
        """Validation accuracy, pooled over the clients."""
        return self.correct / self.count


def choose(
    rule: TuningRule, trials: Sequence[Trial], tolerance: float, reference: Reference | None = None
) -> tuple[Coefficient, str]:
    """Choose a coefficient.

    Args:
        rule: a key of ``RULES``.
        trials: the values of the grid in ascending order, at least one; one that diverged is never chosen
            while there are others.
        tolerance: by how much the validation accuracy may fall below the reference, in [0, 1]; only for
            ``largest_harmless``.
        reference: what ``largest_harmless`` compares with; the smallest value of the grid where absent.

    Returns:
        The value and the reason.
    """
    if not trials[0].count:
        return trials[0].value, "the method does not apply: the smallest value"
    sound = [trial for trial in trials if not trial.diverged]
    if not sound:
        return trials[0].value, "the training diverges with every value: the smallest"
    if rule == "most_accurate":
        best = max(sound, key=lambda trial: (trial.correct, -trial.value))
        return best.value, f"the highest validation accuracy, {best.val_acc:.4f}"
    compared = reference or Reference(f"{sound[0].value:g}", sound[0].correct, sound[0].count)
    # In counts, so that a tolerance of one sample is not lost to rounding.
    needed = compared.correct - tolerance * compared.count
    harmless = [trial for trial in sound if trial.correct >= needed - 1e-9]
    allowed = f" minus {tolerance:g}" if tolerance else ""
    limit = f"{compared.val_acc:.4f} of {compared.name}{allowed}"
    if not harmless:
        worst = f"{sound[0].value:g} has {sound[0].val_acc:.4f}"
        return sound[0].value, f"no value does without harm: {worst}, below the {limit}"
    chosen = harmless[-1]
    if chosen is trials[-1]:
        return chosen.value, f"the largest of the grid; not below the {limit}"
    worse = next(trial for trial in trials if trial.value > chosen.value)
    if worse.diverged:
        return chosen.value, f"the training diverges with {worse.value:g}"
    return chosen.value, f"{worse.value:g} has {worse.val_acc:.4f}, below the {limit}"


class Tuner:
    """Tells what has to be tried next, and decides when it is done.

    Args:
        settings: settings of the run.
        store: finished work; decisions are derived from it, so that nothing is tried twice.
        clients: ids of the clients that are personalized with the first federated seed.
    """

    def __init__(self, settings: Settings, store: ResultStore, clients: Sequence[str]) -> None:
        self.settings, self.store, self.clients = settings, store, tuple(clients)
        self._places = {client: place for place, client in enumerate(self.clients)}
        self.experiment = settings.experiment_args
        self.seeds = settings.fl_seeds[0], self.experiment.personalization_seeds[0]
        self.grids = settings.grids()
        # One decision for all clients, or one each.
        self._shared = self.experiment.tuning == "shared"
        self.groups = [self.clients] if self._shared else [(client,) for client in self.clients]
        # By method: the coefficients of every group that are chosen so far.
        self._chosen: dict[str, list[list[TuningStep]]] = {
            name: [[] for _ in self.groups] for name in self.grids
        }

    def trials_per_client(self) -> int:
        """Number of different trials of a client over all methods."""
        return sum(
            sum(len(values) for values in grid.values()) - (len(grid) - 1) for grid in self.grids.values()
        )

    def references(self) -> list[ResultKey]:
        """What coefficients are compared with besides each other."""
        return [self._reference_key(name, client) for name in self._compared() for client in self.clients]

    def combinations(self, clients: Mapping[int, Sequence[str]]) -> list[ResultKey]:
        """Every combination of the values of every grid, where all are to be tried, with all seeds.

        Args:
            clients: ids of the clients to personalize, by federated seed.
        """
        if self.experiment.trials == "needed":
            return []
        return [
            self._key(name, client, dict(zip(grid, values, strict=True)), (fl_seed, p_seed))
            for name, grid in self.grids.items()
            for values in itertools.product(*grid.values())
            for fl_seed, own in clients.items()
            for p_seed in self.experiment.personalization_seeds
            for client in own
        ]

    def _compared(self) -> tuple[str, ...]:
        """Methods that a coefficient is compared with."""
        if self.settings.compares_with_fine_tuning():
            return GLOBAL, BASELINE
        return (GLOBAL,) if self.grids and self.experiment.tuning_reference == "global" else ()

    def wanted(self) -> list[ResultKey]:
        """Trials of the next coefficient of every method, finished ones too; none when all is chosen."""
        return [
            self._key(name, client, options)
            for name, decided in self._chosen.items()
            for group, steps in zip(self.groups, decided, strict=True)
            for options in self._candidates(name, steps)
            for client in group
        ]

    def decide(self) -> None:
        """Choose the next coefficient of every method from finished trials."""
        for name, decided in self._chosen.items():
            for group, steps in zip(self.groups, decided, strict=True):
                if len(steps) < len(self.grids[name]):
                    steps.append(self._choose(name, group, steps))

    def options(self, method: str, client: str) -> MethodSettings | None:
        """All options of a method for a client: those that were chosen so far, the others as they are set."""
        options = self.settings.options(method)
        if options is None or method not in self.grids:
            return options
        index = 0 if self._shared else self._places[client]
        # The values are as the method's options take them; see Settings.grids.
        chosen = {step.coefficient: step.chosen for step in self._chosen[method][index]}
        return options.model_copy(update=chosen)

    def write(self) -> dict[str, Decision]:
        """Write ``tuning/<method>/decision.json`` for every method with a grid; the same by method."""
        decisions = {name: self._decision(name, decided) for name, decided in self._chosen.items()}
        for name, decision in decisions.items():
            write_json(self.store.folder.decision(name), decision.model_dump(mode="json"))
        return decisions

    def _candidates(self, name: str, steps: Sequence[TuningStep]) -> list[dict[str, Coefficient]]:
        grid = self.grids[name]
        if len(steps) == len(grid):
            return []
        options: dict[str, Coefficient] = {option: values[0] for option, values in grid.items()}
        options.update({step.coefficient: step.chosen for step in steps})
        coefficient = list(grid)[len(steps)]
        return [options | {coefficient: value} for value in grid[coefficient]]

    def _key(
        self, name: str, client: str, options: Mapping[str, float], seeds: tuple[int, int] | None = None
    ) -> ResultKey:
        own = self.settings.options(name)
        fl_seed, p_seed = seeds or self.seeds
        return ResultKey(name, fl_seed, p_seed, client, own and own.model_copy(update=dict(options)))

    def _choose(self, name: str, group: Sequence[str], steps: Sequence[TuningStep]) -> TuningStep:
        candidates = self._candidates(name, steps)
        coefficient = list(self.grids[name])[len(steps)]
        trials = tuple(self._trial(name, group, options, options[coefficient]) for options in candidates)
        rule = self.settings.tuning_rule(name)
        reference = self._reference(name, group, candidates[0])
        chosen, reason = choose(rule, trials, self.experiment.tuning_tolerance, reference)
        fixed = {option: value for option, value in candidates[0].items() if option != coefficient}
        return TuningStep(coefficient=coefficient, fixed=fixed, values=trials, chosen=chosen, reason=reason)

    def _trial(self, name: str, group: Sequence[str], options: Mapping[str, float], value: float) -> Trial:
        rows = [self.store.get(self._key(name, client, options)) for client in group]
        if any(row.diverged for row in rows):
            return Trial(value=value, correct=0, count=sum(row.n_val for row in rows), val_acc=None)
        scored = [(row.val_acc, row.n_val) for row in rows if row.val_acc is not None]
        return Trial.counted(value, sum(round(acc * n) for acc, n in scored), sum(n for _, n in scored))

    def _reference_key(self, name: str, client: str) -> ResultKey:
        p_seed = None if name == GLOBAL else self.seeds[1]
        return ResultKey(name, self.seeds[0], p_seed, client, self.settings.options(name))

    def _reference(self, name: str, group: Sequence[str], options: Mapping[str, float]) -> Reference | None:
        """What no larger coefficient may fall below, on the clients to which the method applies."""
        compared = self._compared()
        if not compared:
            return None
        rows_of = {client: self.store.get(self._key(name, client, options)) for client in group}
        clients = [client for client, row in rows_of.items() if row.val_acc is not None or row.diverged]
        rows = [[self.store.get(self._reference_key(one, client)) for client in clients] for one in compared]
        correct = [sum(round((row.val_acc or 0.0) * row.n_val) for row in found) for found in rows]
        count = sum(row.n_val for row in rows[0])
        gain = max(correct[-1] - correct[0], 0)  # none where the global model alone is compared with
        return Reference(self._reference_text(), correct[0] + self.experiment.tuning_share * gain, count)

    def _reference_text(self) -> str:
        return _REFERENCES[self.experiment.tuning_reference].format(share=self.experiment.tuning_share)

    def _decision(self, name: str, decided: Sequence[Sequence[TuningStep]]) -> Decision:
        shared = self._shared
        found = [
            ClientDecision(chosen={step.coefficient: step.chosen for step in steps}, trail=tuple(steps))
            for steps in decided
        ]
        fl_seed, p_seed = self.seeds
        rule = self.settings.tuning_rule(name)
        return Decision(
            method=name,
            rule=RULES[rule].format(reference=self._reference_text()),
            seeds=SeedPair(fl_seed=fl_seed, p_seed=p_seed),
            tolerance=self.experiment.tuning_tolerance if rule == "largest_harmless" else 0.0,
            scope="shared" if shared else "client",
            chosen=found[0].chosen if shared else None,
            trail=found[0].trail if shared else None,
            clients=None if shared else dict(zip(self.clients, found, strict=True)),
        )
