"""The attack's budget for one global model, found once and kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import write_json
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.identity import budget_identity
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import CountFooled, in_order
from fedml_spurious.learning.attacks import BudgetSearch, SuccessCount, find_budget
from fedml_spurious.learning.client_data import ClientSource
from fedml_spurious.results.budgets import read_budget

logger = logging.getLogger(__name__)


def choose_budget(run: RunContext, fl_seed: int, clients: Sequence[str]) -> float:
    """Apply the budget rule (appendix C.2) to the clients' training samples, or take the fixed budget.

    One budget serves all clients: only counts of fooled samples leave a client.

    Args:
        run: the run, whose workers use the global model already; ``budget.json`` beside the model is written.
        fl_seed: seed of the global model.
        clients: ids of the clients that are personalized.

    Returns:
        The budget.
    """
    path = run.folder.global_part(fl_seed) / "budget.json"
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
    content = {"eps": found.eps, "in_range": found.in_range, "trail": found.trail, "clients": list(clients)}
    found_for = budget_identity(run.settings, run.data[fl_seed], fl_seed)["sha256"]
    write_json(path, {**content, "found_for": found_for})
    return found.eps


def stored_budget(
    folder: RunFolder, settings: Settings, data: ClientSource, fl_seed: int, clients: Sequence[str]
) -> float | None:
    """The budget that was found before; None where there is none.

    Raises:
        InputError: what is stored is broken, or was found on other clients or with other settings.
    """
    path = folder.global_part(fl_seed) / "budget.json"
    if not path.exists():
        return None
    stored = read_budget(path)
    if stored.clients not in ((), tuple(clients)):  # older versions did not keep them
        raise InputError(
            f"{path}: the budget was found on other clients than those that are personalized now; give "
            "another --output"
        )
    if stored.found_for not in (None, budget_identity(settings, data, fl_seed)["sha256"]):
        raise InputError(
            f"{path}: the budget was found with other attack_args, data or global model; give another "
            "--output"
        )
    return stored.eps
