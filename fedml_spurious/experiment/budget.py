"""The attack's budget for one global model, found once and kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_json, write_json
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.tasks import CountFooled, in_order
from fedml_spurious.learning.attacks import BudgetSearch, SuccessCount, find_budget

logger = logging.getLogger(__name__)


def choose_budget(run: RunContext, fl_seed: int, clients: Sequence[str]) -> float:
    """Apply the budget rule (appendix C.2) to the clients' training samples, or take the fixed budget.

    One budget serves all clients: only counts of fooled samples leave a client.

    Args:
        run: the run, whose workers use the global model already; ``budget.json`` beside the model is written,
            and used where it is there.
        fl_seed: seed of the global model.
        clients: ids of the clients that are personalized.

    Returns:
        The budget.

    Raises:
        InputError: what is stored there is broken, or was found on other clients.
    """
    path = run.folder.global_part(fl_seed) / "budget.json"
    if path.exists():
        return _stored_budget(path, clients)
    attack = run.settings.attack_args

    def success_rate(eps: float) -> float:
        counts = in_order(run.workers, [CountFooled(client, eps) for client in clients])
        return sum(counts, SuccessCount(0, 0)).rate

    if attack.budget == "fixed":
        rate = success_rate(attack.eps)
        in_range = attack.success_low <= rate <= attack.success_high
        found = BudgetSearch(attack.eps, ((attack.eps, rate),), in_range)
    else:
        found = find_budget(
            success_rate,
            start=attack.eps,
            shrink=attack.shrink,
            low=attack.success_low,
            high=attack.success_high,
        )
    if not found.in_range:
        logger.warning("%s: the attack's success rate is outside the wanted range: %s", path.parent, found)
    write_json(
        path,
        {"eps": found.eps, "in_range": found.in_range, "trail": found.trail, "clients": list(clients)},
    )
    return found.eps


def _stored_budget(path: Path, clients: Sequence[str]) -> float:
    stored = read_json(path, "eps")
    if stored.get("clients", list(clients)) != list(clients):  # older versions did not keep them
        raise InputError(
            f"{path}: the budget was found on other clients than those that are personalized now; give "
            "another --output"
        )
    return float(stored["eps"])
