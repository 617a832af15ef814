"""``decision.json``: which coefficients a method got and why, as tuning writes it and tables read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.results.stored_models import read_stored
from fedml_spurious.results.text_tables import TextTable

# A whole number stays one: options such as JTT's multiplicity are integers.
Coefficient = int | float


class Trial(FrozenModel):
    """One value that was tried.

    Attributes:
        value: the value.
        correct: validation samples that the personal models classify correctly.
        count: validation samples; 0 where the method applies to none of the clients.
        val_acc: validation accuracy pooled over the clients, in [0, 1]; None where ``count`` is 0, or a model
            diverged.
    """

    value: Coefficient
    correct: int
    count: int
    val_acc: float | None

    @property
    def diverged(self) -> bool:
        """Whether a model of a client diverged with this value."""
        return self.count > 0 and self.val_acc is None

    @classmethod
    def counted(cls, value: Coefficient, correct: int, count: int) -> Trial:
        """A trial from the numbers of samples."""
        return cls(value=value, correct=correct, count=count, val_acc=correct / count if count else None)


class TuningStep(FrozenModel):
    """How one coefficient was chosen.

    Attributes:
        coefficient: name of the option.
        fixed: the method's other coefficients meanwhile.
        values: what was tried: every value of the grid, ascending.
        chosen: what was taken.
        reason: why not another one.
    """

    coefficient: str
    fixed: dict[str, Coefficient]
    values: tuple[Trial, ...]
    chosen: Coefficient
    reason: str


class ClientDecision(FrozenModel):
    """Decision for one client.

    Attributes:
        chosen: coefficients by name.
        trail: one step per coefficient, in the order in which they were chosen.
    """

    chosen: dict[str, Coefficient]
    trail: tuple[TuningStep, ...]


class SeedPair(FrozenModel):
    """Pair of seeds with which values were tried."""

    fl_seed: int
    p_seed: int


class Decision(FrozenModel):
    """``tuning/<method>/decision.json``.

    Attributes:
        method: name of the method.
        rule: how a value is chosen.
        seeds: pair of seeds with which values were tried.
        tolerance: by how much the validation accuracy might fall, in [0, 1].
        scope: ``shared``: one decision for all clients; ``client``: one each.
        chosen: coefficients by name; None where every client has its own.
        trail: one step per coefficient; None where every client has its own.
        clients: decisions by client; None where there is one for all.
    """

    method: str
    rule: str
    seeds: SeedPair
    tolerance: float
    scope: Literal["shared", "client"]
    chosen: dict[str, Coefficient] | None
    trail: tuple[TuningStep, ...] | None
    clients: dict[str, ClientDecision] | None = None

    def steps(self) -> dict[str, dict[str, TuningStep]]:
        """Steps by coefficient, then by client; the key of a shared decision is ``all``."""
        trails = {"all": self.trail or ()}
        if self.scope == "client":
            trails = {client: decision.trail for client, decision in (self.clients or {}).items()}
        found: dict[str, dict[str, TuningStep]] = {}
        for client, trail in trails.items():
            for step in trail:
                found.setdefault(step.coefficient, {})[client] = step
        return found


def read_decisions(folder: Path, methods: Sequence[str]) -> dict[str, Decision]:
    """Decisions of a run by method.

    Args:
        folder: the run folder.
        methods: names of the methods that the run tuned.

    Raises:
        InputError: a decision is missing or broken.
    """
    expected = "the decision that tuning stored"
    return {
        method: read_stored(folder / "tuning" / method / "decision.json", Decision, expected=expected)
        for method in methods
    }


def explain(decision: Decision) -> list[TextTable]:
    """One table per coefficient that says what was tried and why one value was taken."""
    return [
        _explain_shared(decision, next(iter(steps.values())))
        if decision.scope == "shared"
        else _explain_clients(decision, coefficient, steps)
        for coefficient, steps in decision.steps().items()
    ]


def _explain_shared(decision: Decision, step: TuningStep) -> TextTable:
    title = f"{decision.method}: {step.coefficient} = {step.chosen:g} ({step.reason}).\n{_rule(decision)}"
    if step.fixed:
        fixed = ", ".join(f"{name}={value:g}" for name, value in step.fixed.items())
        title += f" Meanwhile {fixed}."
    rows = [
        (f"{trial.value:g}", _accuracy(trial), "chosen" if trial.value == step.chosen else "")
        for trial in step.values
    ]
    return TextTable(title, (step.coefficient, "validation accuracy", ""), tuple(rows), last_left=True)


def _explain_clients(decision: Decision, coefficient: str, steps: Mapping[str, TuningStep]) -> TextTable:
    tried = sorted({trial.value for step in steps.values() for trial in step.values})
    rows = []
    for client, step in steps.items():
        accuracies = {trial.value: _accuracy(trial) for trial in step.values}
        cells = (accuracies.get(value, "") for value in tried)
        rows.append((client, *cells, f"{step.chosen:g}", step.reason))
    title = f"{decision.method}: {coefficient}, chosen for every client by itself, and validation accuracies"
    columns = ("client", *(f"{value:g}" for value in tried), "chosen", "because")
    return TextTable(f"{title}\n{_rule(decision)}", columns, tuple(rows), last_left=True)


def _rule(decision: Decision) -> str:
    seeds = decision.seeds
    tolerance = f" (tolerance {decision.tolerance:g})" if decision.tolerance else ""
    return f"Rule: {decision.rule}{tolerance}; tried with fl_seed {seeds.fl_seed} and p_seed {seeds.p_seed}."


def _accuracy(trial: Trial) -> str:
    return "N/A" if trial.val_acc is None else f"{trial.val_acc:.4f}"


def coefficients_text(decisions: Sequence[Decision], fixed: Mapping[str, float]) -> str:
    """The coefficients of one method, and whether they were tuned.

    Args:
        decisions: what tuning decided, one per run.
        fixed: options that the configuration gives.

    Returns:
        For example ``lam_adv=1 (tuned), multiplicity=50``; several values where runs or clients differ.
    """
    tuned: dict[str, set[float]] = {}
    for decision in decisions:
        for name, steps in decision.steps().items():
            tuned.setdefault(name, set()).update(step.chosen for step in steps.values())
    texts = {name: f"{value:g}" for name, value in fixed.items()}
    for name, values in tuned.items():
        texts[name] = f"{' or '.join(f'{value:g}' for value in sorted(values))} (tuned)"
    return ", ".join(f"{name}={text}" for name, text in texts.items())
