"""What a method keeps of fine-tuning's gain, and what it takes back of fine-tuning's rise in disparity.

One of the two alone says little: not personalizing at all takes back everything and keeps nothing,
fine-tuning keeps everything and takes back nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Sums of the same numbers in another order differ by less.
_NOTHING = 1e-9

Means = Mapping[str, float | None]
"""Averages by quantity, with ``acc_b`` and ``disparity``; None or absent: there is none."""


@dataclass(frozen=True)
class Shares:
    """A method between the global model (0 kept, 1 taken back) and fine-tuning (1 kept, 0 taken back).

    Attributes:
        kept: share of fine-tuning's gain in Acc_B over the global model that the method has; negative where
            it is less accurate than the global model. None where fine-tuning gained nothing.
        taken_back: share of fine-tuning's rise in disparity over the global model that the method has not;
            above 1 where it is less disparate than the global model. None where fine-tuning raised nothing.
    """

    kept: float | None
    taken_back: float | None


def shares(method: Means, fine_tuned: Means, reference: Means) -> Shares:
    """Where a method lies between the global model and fine-tuning.

    Args:
        method: averages of the method, over clients first and over seeds then: shares are of averages, and
            not averages of shares, whose denominators may be next to nothing on a single client or seed.
        fine_tuned: those of fine-tuning.
        reference: those of the global model.
    """
    gain = _difference(fine_tuned, reference, "acc_b")
    rise = _difference(fine_tuned, reference, "disparity")
    return Shares(
        kept=_share(_difference(method, reference, "acc_b"), gain),
        taken_back=_share(_difference(fine_tuned, method, "disparity"), rise),
    )


def _difference(first: Means, second: Means, quantity: str) -> float | None:
    one, other = first.get(quantity), second.get(quantity)
    return None if one is None or other is None else one - other


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or whole is None or whole < _NOTHING else part / whole
