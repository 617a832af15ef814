"""Why a coefficient was chosen: the decisions that a run stored, read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fedml_spurious.common.errors import InputError
from fedml_spurious.results.text_tables import TextTable


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Value(_Stored):
    """One value that was tried.

    Attributes:
        value: the value.
        val_acc: validation accuracy with it; None where the method applies to no client.
    """

    value: float
    val_acc: float | None


class TuningStep(_Stored):
    """How one coefficient was chosen.

    Attributes:
        coefficient: name of the option.
        fixed: the method's other coefficients meanwhile.
        values: what was tried.
        chosen: what was taken.
        reason: why not another one.
    """

    coefficient: str
    fixed: dict[str, float]
    values: list[Value]
    chosen: float
    reason: str


class ClientDecision(_Stored):
    """Decision for one client.

    Attributes:
        chosen: coefficients by name.
        trail: one step per coefficient.
    """

    chosen: dict[str, float]
    trail: list[TuningStep]


class SeedPair(_Stored):
    """Pair of seeds with which values were tried."""

    fl_seed: int
    p_seed: int


class Decision(_Stored):
    """``tuning/<method>/decision.json``.

    Attributes:
        method: name of the method.
        rule: how a value is chosen.
        seeds: pair of seeds with which values were tried.
        tolerance: by how much the validation accuracy might fall.
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
    chosen: dict[str, float] | None
    trail: list[TuningStep] | None
    clients: dict[str, ClientDecision] | None = None

    def steps(self) -> dict[str, dict[str, TuningStep]]:
        """Steps by coefficient, then by client; the key of a shared decision is ``all``."""
        trails = {"all": self.trail or []}
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
    return {method: _read_decision(folder / "tuning" / method / "decision.json") for method in methods}


def _read_decision(path: Path) -> Decision:
    try:
        return Decision.model_validate_json(path.read_bytes())
    except OSError as error:
        problem = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"
    raise InputError(
        f"{path}: cannot be read ({problem}); expected the decision that tuning stored. Continue the run "
        "with --resume, which writes it again"
    )


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
        title += f" Meanwhile {options_text(step.fixed)}."
    rows = [
        (f"{tried.value:g}", _accuracy(tried), "chosen" if tried.value == step.chosen else "")
        for tried in step.values
    ]
    return TextTable(title, (step.coefficient, "validation accuracy", ""), tuple(rows), last_left=True)


def _explain_clients(decision: Decision, coefficient: str, steps: Mapping[str, TuningStep]) -> TextTable:
    tried = sorted({value.value for step in steps.values() for value in step.values})
    rows = []
    for client, step in steps.items():
        accuracies = {value.value: _accuracy(value) for value in step.values}
        cells = (accuracies.get(value, "") for value in tried)
        rows.append((client, *cells, f"{step.chosen:g}", step.reason))
    title = f"{decision.method}: {coefficient}, chosen for every client by itself, and validation accuracies"
    columns = ("client", *(f"{value:g}" for value in tried), "chosen", "because")
    return TextTable(f"{title}\n{_rule(decision)}", columns, tuple(rows), last_left=True)


def _rule(decision: Decision) -> str:
    seeds = decision.seeds
    tolerance = f" (tolerance {decision.tolerance:g})" if decision.tolerance else ""
    return f"Rule: {decision.rule}{tolerance}; tried with fl_seed {seeds.fl_seed} and p_seed {seeds.p_seed}."


def _accuracy(tried: Value) -> str:
    return "N/A" if tried.val_acc is None else f"{tried.val_acc:.4f}"


def options_text(options: Mapping[str, float]) -> str:
    """Options as ``name=value, name=value``."""
    return ", ".join(f"{name}={value:g}" for name, value in options.items())


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
