"""What is kept of fine-tuning's gain and taken back of its rise in disparity, over all coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from fedml_spurious.results.method_names import BASELINE, GLOBAL
from fedml_spurious.results.resampled import Group, Resampled, common_group, interval, resample
from fedml_spurious.results.rows import ClientResult
from fedml_spurious.results.swept_rows import Variant

_NOTHING = 1e-9


@dataclass(frozen=True)
class Point:
    """A method with one set of options.

    Attributes:
        method: its name.
        options: its options.
        acc_b: average Acc_B.
        disparity: average disparity.
        kept: share of fine-tuning's gain in Acc_B; None where fine-tuning gains nothing.
        kept_interval: its ends.
        taken_back: share of fine-tuning's rise in disparity that it has not; None where that rises nothing.
        taken_back_interval: its ends.
    """

    method: str
    options: str
    acc_b: float
    disparity: float
    kept: float | None
    kept_interval: tuple[float | None, float | None]
    taken_back: float | None
    taken_back_interval: tuple[float | None, float | None]


@dataclass(frozen=True)
class Advantage:
    """How much less biased the best of one method is than the best of another, both keeping enough.

    Attributes:
        method: the one.
        options: its options with the lowest disparity among those that keep enough; None where none does.
        reference: the other.
        reference_options: likewise.
        level: share of fine-tuning's gain in Acc_B that both have to keep.
        difference: disparity of the reference minus that of the method, with these options; positive: the
            method is less biased. None where one of them has no such options.
        low: lower end of its interval, of these two options; that they were picked on the same clients is
            not in it.
        high: upper end.
    """

    method: str
    options: str | None
    reference: str
    reference_options: str | None
    level: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None


class Frontier:
    """All options of all methods on one data set, measured on the same clients and seeds.

    Args:
        rows: rows by method and options, of one epoch; ``global`` and ``ft`` among them.
        group: the clients and seeds that all of them have.
        diverged: on how many clients methods and options diverged that were left out for it.
    """

    def __init__(
        self,
        rows: Mapping[Variant, Sequence[ClientResult]],
        group: Group,
        diverged: Mapping[Variant, int] = MappingProxyType({}),
    ) -> None:
        self.group, self.diverged = group, diverged
        self.acc_b = {variant: resample(found, "acc_b", group) for variant, found in rows.items()}
        self.disparity = {variant: resample(found, "disparity", group) for variant, found in rows.items()}

    @classmethod
    def of(cls, rows: Mapping[Variant, Sequence[ClientResult]], *, own_clients: bool) -> Frontier | None:
        """The frontier; None where the global model or fine-tuning is missing, or nothing is in common.

        Methods that do not apply are left out, and options that diverged on any client, which would take that
        client from all others.
        """
        ends = {(GLOBAL, ""), (BASELINE, "")}
        diverged = {
            variant: len({(row.fl_seed, row.client) for row in found if row.diverged})
            for variant, found in rows.items()
            if variant not in ends and any(row.diverged for row in found)
        }
        applying = {
            variant: found
            for variant, found in rows.items()
            if variant not in diverged and any(row.disparity is not None for row in found)
        }
        if not ends <= applying.keys():
            return None
        group = common_group(list(applying.values()), own_clients=own_clients)
        return cls(applying, group, diverged) if group else None

    def points(self) -> list[Point]:
        """A point per method and options, in the order of the rows."""
        return [self._point(variant) for variant in self.acc_b]

    def _point(self, variant: Variant) -> Point:
        acc, gap = self.acc_b[variant], self.disparity[variant]
        kept = _share(acc, self.acc_b[GLOBAL, ""], self.acc_b[BASELINE, ""])
        risen = _share(gap, self.disparity[GLOBAL, ""], self.disparity[BASELINE, ""])
        taken_back = Resampled(1 - risen.mean, 1 - risen.draws) if risen else None
        return Point(
            *variant,
            acc_b=acc.mean,
            disparity=gap.mean,
            kept=kept.mean if kept else None,
            kept_interval=interval(kept.draws) if kept else (None, None),
            taken_back=taken_back.mean if taken_back else None,
            taken_back_interval=interval(taken_back.draws) if taken_back else (None, None),
        )

    def advantage(self, method: str, reference: str, level: float) -> Advantage:
        """Compare the best options of two methods; see :class:`Advantage`."""
        one, other = self._best(method, level), self._best(reference, level)
        options, theirs = one and one[1], other and other[1]
        if one is None or other is None:
            return Advantage(method, options, reference, theirs, level)
        ours, others = self.disparity[one], self.disparity[other]
        low, high = interval(others.draws - ours.draws)
        return Advantage(method, options, reference, theirs, level, others.mean - ours.mean, low, high)

    def _best(self, method: str, level: float) -> Variant | None:
        """The options of a method with the lowest disparity among those that keep enough."""
        start, end = self.acc_b[GLOBAL, ""].mean, self.acc_b[BASELINE, ""].mean
        needed = start + level * (end - start) - _NOTHING
        able = [v for v, acc in self.acc_b.items() if v[0] == method and acc.mean >= needed]
        return min(able, key=lambda variant: self.disparity[variant].mean, default=None)


def _share(value: Resampled, start: Resampled, end: Resampled) -> Resampled | None:
    """How far a value is on the way from start to end; None where there is no way."""
    if end.mean - start.mean < _NOTHING:
        return None
    whole = end.draws - start.draws
    draws = np.divide(
        value.draws - start.draws, whole, out=np.full_like(whole, np.nan), where=whole > _NOTHING
    )
    return Resampled((value.mean - start.mean) / (end.mean - start.mean), draws)
