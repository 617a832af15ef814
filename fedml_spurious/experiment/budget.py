"""The attack's budget for a global model, found once and kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import count

from torch import nn

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.progress import Stage, stage
from fedml_spurious.common.storage import write_json
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.identity import budget_identity
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import CountFooled
from fedml_spurious.learning.attacks import BudgetSearch, SuccessCount, find_budget
from fedml_spurious.learning.client_data import ClientSource
from fedml_spurious.results.budgets import read_budget

logger = logging.getLogger(__name__)


def find_budgets(
    run: RunContext, models: Mapping[int, nn.Module], clients: Mapping[int, Sequence[str]]
) -> dict[int, float]:
    """The budget for every global model, found and stored where it is not there yet.

    Args:
        run: the run, in whose folder ``budget.json`` stands beside the model.
        models: global models by federated seed.
        clients: ids of the clients that are personalized, by federated seed.

    Returns:
        Budgets by federated seed.

    Raises:
        InputError: what is stored is broken, or was found on other clients or with other settings.
    """
    found = {}
    for fl_seed, model in models.items():
        ids = clients[fl_seed]
        stored = stored_budget(run.folder, run.settings, run.data[fl_seed], fl_seed, ids)
        if stored is None:
            run.workers.use(model, fl_seed, f"fl{fl_seed}")
            with stage(run.console, "Budget of the attack", total=len(ids), quiet=True) as bar:
                stored = _choose_budget(run, fl_seed, ids, bar)
        found[fl_seed] = stored
    return found


def _choose_budget(run: RunContext, fl_seed: int, clients: Sequence[str], bar: Stage) -> float:
    """Apply the budget rule (appendix C.2) to the clients' training samples, or take the fixed budget.

    One budget serves all clients: only counts of fooled samples leave a client.
    """
    path = run.folder.global_part(fl_seed) / "budget.json"
    attack = run.settings.attack_args
    tried = count()

    def success_rate(eps: float) -> float:
        # Nobody knows how many budgets will be tried; this one will.
        done = next(tried) * len(clients)
        bar.set(done, done + len(clients))
        total = SuccessCount(0, 0)
        for _, successes in run.workers.do([CountFooled(client, eps) for client in clients]):
            total += successes
            bar.advance(f"fl{fl_seed} eps {eps:.4g}")
        return total.rate

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
