"""Averages over clients and over seeds. Plain numbers: reading a table must not wait for torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def disparity(acc_b: float | None, acc_bc: float | None) -> float | None:
    """Accuracy disparity ``Acc_B - Acc_BC``, signed, in [-1, 1] (section 4); None where one is missing."""
    return None if acc_b is None or acc_bc is None else acc_b - acc_bc


def client_mean(values: Sequence[float | None]) -> float | None:
    """Mean over the clients that have a value; None where none has one."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def weighted_mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Mean over the clients that have a value and samples, weighted by their numbers of samples.

    Args:
        values: a value per client; None where it has none.
        weights: number of samples per client, as many as there are values.

    Returns:
        The mean; None where no client has both.
    """
    present = [(v, w) for v, w in zip(values, weights, strict=True) if v is not None and w > 0]
    total = sum(weight for _, weight in present)
    return sum(value * weight for value, weight in present) / total if total else None


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds, in the unit of the values.

    Attributes:
        mean: mean over the pairs of seeds.
        std: standard deviation (n - 1) over them; None for a single pair.
        count: number of pairs.
    """

    mean: float
    std: float | None
    count: int


def spread(values: Sequence[float | None]) -> Spread | None:
    """Mean and standard deviation of the values that are there; None where none is."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    deviation = statistics.stdev(present) if len(present) > 1 else None
    return Spread(statistics.fmean(present), deviation, len(present))
