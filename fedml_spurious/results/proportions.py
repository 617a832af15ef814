"""How sure an accuracy of few samples is, and a difference of two: score intervals of proportions."""

from __future__ import annotations

import math
from statistics import NormalDist

from fedml_spurious.common.arrays import FloatArray
from fedml_spurious.results.significance import LEVEL

Interval = tuple[float, float]
_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


def share_interval(share: float, count: int) -> Interval:
    """Wilson's score interval (1927) of a share of samples, at 95 %.

    Args:
        share: observed share, in [0, 1]; the mean of several models on the same samples is one too.
        count: number of samples, at least 1.

    Returns:
        Lower and upper end, in [0, 1].
    """
    spread = _Z * _Z / count
    center = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, center - half), min(1.0, center + half)


def difference_interval(first: float, first_count: int, second: float, second_count: int) -> Interval:
    """Newcombe's hybrid score interval (1998, method 10) of ``first - second``, at 95 %.

    The two sets of samples count as drawn independently. Where the second holds altered copies of the first,
    as with coloured images, the interval is on the wide side.

    Args:
        first: observed share, in [0, 1].
        first_count: number of samples behind it, at least 1.
        second: the other share.
        second_count: number of samples behind that.

    Returns:
        Lower and upper end, in [-1, 1].
    """
    low_1, high_1 = share_interval(first, first_count)
    low_2, high_2 = share_interval(second, second_count)
    difference = first - second
    return (
        difference - math.hypot(first - low_1, high_2 - second),
        difference + math.hypot(high_1 - first, second - low_2),
    )


def paired_interval(values: FloatArray, *, more_variance: float = 0.0) -> Interval:
    """Interval of the mean of paired differences of two answers to the same samples, at 95 %.

    Wald's interval after half a sample was added on each side and one in the middle, as Agresti and Min
    (2005) do for paired proportions: without these, few samples that all agree would leave no doubt at all.

    Args:
        values: a difference per sample, in [-2, 2], shape (N,), N at least 1.
        more_variance: of the mean, for what the samples do not tell.

    Returns:
        Lower and upper end.
    """
    count = len(values) + 2
    center = float(values.sum()) / count
    variance = (float((values * values).sum()) + 1) / count - center * center
    half = _Z * math.sqrt(variance / count + more_variance)
    return center - half, center + half
