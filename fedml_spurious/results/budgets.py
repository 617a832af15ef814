"""``budget.json``: the attack's budget of a global model, as tables read it (appendix C.2)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.results.stored_models import read_stored


class Budget(FrozenModel):
    """``global/fl<seed>/budget.json``.

    Attributes:
        eps: the budget: largest change of a pixel, whose values are in [0, 1].
        in_range: whether the share of attacks that succeed with it is in the wanted range.
        trail: every budget that was tried and its share in [0, 1]; the last is the one that was taken.
        clients: ids of the clients on whose training samples it was found.
        found_for: SHA-256 of the global model's settings and the attack's; absent in older runs.
    """

    eps: float = Field(gt=0, allow_inf_nan=False)
    in_range: bool
    trail: tuple[tuple[float, float], ...] = Field(min_length=1)
    clients: tuple[str, ...] = ()
    found_for: str | None = None

    @property
    def success_rate(self) -> float:
        """Share of the attacks that succeed with the budget, in [0, 1]."""
        return self.trail[-1][1]


def read_budget(path: Path) -> Budget:
    """Read a ``budget.json``.

    Raises:
        InputError: it is broken, or is not what its run wrote.
    """
    return read_stored(path, Budget, expected="the attack's budget that a run stored")


def read_budgets(folder: Path) -> dict[str, Budget]:
    """Budgets of a run by the folder of the global model, such as ``fl0``.

    Args:
        folder: the run folder.

    Raises:
        InputError: a file is broken.
    """
    return {path.parent.name: read_budget(path) for path in sorted(folder.glob("global/fl*/budget.json"))}
