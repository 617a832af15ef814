"""Disparity over the cells of a sweep, and where personalization brings a shortcut back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.resampled import Resampled, common_group, interval, resample
from fedml_spurious.results.rows import ClientResult
from fedml_spurious.results.sweep_table import SweptRow
from fedml_spurious.results.swept_rows import Cell, by_cell, of_epoch, own_clients

EXCEEDS = 0.05
"""Disparity from which on a model counts as biased here."""

DOUBLES = 2.0
"""Factor between a personal model's disparity and the global one's from which on it is brought back."""


@dataclass(frozen=True)
class PhasePoint:
    """One method in one cell.

    Attributes:
        cell: value by key of the grid, as text.
        method: name of the method.
        fl_seeds: number of federated seeds.
        clients: number of clients, those of all federated seeds together where they differ.
        disparity: average disparity.
        low: lower end of its interval.
        high: upper end.
        acc_b: average Acc_B.
        excess: disparity minus twice the global model's, or minus ``EXCEEDS`` where that is more; above 0
            where personalization brings the shortcut back. None for the global model.
        excess_low: lower end of its interval.
        excess_high: upper end.
    """

    cell: dict[str, str]
    method: str
    fl_seeds: int
    clients: int
    disparity: float
    low: float | None
    high: float | None
    acc_b: float
    excess: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None


def phase_points(rows: Sequence[SweptRow]) -> list[PhasePoint]:
    """Every method in every cell, of finished runs and the selected epoch, in the order of the rows."""
    final = [row for row in of_epoch(rows, "selected") if row.stored.final]
    return [point for cell, found in by_cell(final).items() for point in _cell_points(cell, found)]


def _cell_points(cell: Cell, rows: Sequence[SweptRow]) -> list[PhasePoint]:
    methods, own = _by_method(rows), own_clients(rows)
    group = common_group(list(methods.values()), own_clients=own)
    if group is None:
        return []
    gaps = {method: resample(found, "disparity", group) for method, found in methods.items()}
    clients = {(c, seed if own else None) for seed, ids in group.clients.items() for c in ids}
    points = []
    for method, found in methods.items():
        gap, excess = gaps[method], None
        if method != GLOBAL and GLOBAL in gaps:
            excess = _excess(gap, gaps[GLOBAL])
        low, high = interval(gap.draws)
        excess_low, excess_high = interval(excess.draws) if excess else (None, None)
        acc_b, beyond = resample(found, "acc_b", group).mean, excess.mean if excess else None
        points.append(
            PhasePoint(
                dict(cell), method, len(group.seeds), len(clients), gap.mean, low, high, acc_b, beyond,
                excess_low, excess_high,
            )
        )  # fmt: skip
    return points


def _by_method(rows: Sequence[SweptRow]) -> dict[str, list[ClientResult]]:
    """Final rows of one cell by method, whose clients may have options of their own.

    A method that applies to no client is left out.
    """
    found: dict[str, list[ClientResult]] = {}
    for row in rows:
        found.setdefault(row.stored.row.method, []).append(row.stored.row)
    return {method: own for method, own in found.items() if any(row.disparity is not None for row in own)}


def _excess(gap: Resampled, reference: Resampled) -> Resampled:
    def beyond(one: float, other: float) -> float:
        return one - max(DOUBLES * other, EXCEEDS)

    draws = gap.draws - (DOUBLES * reference.draws).clip(min=EXCEEDS)
    return Resampled(beyond(gap.mean, reference.mean), draws)
