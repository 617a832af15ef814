"""What travels in FedML's messages: weights, and beside them counts, rows of results, and what went wrong."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fedml_spurious.experiment.result_key import Outcome, ResultKey
from fedml_spurious.learning.attacks import SuccessCount
from fedml_spurious.learning.weighted_sum import WeightedSum

NOTES = "fedml_spurious.notes"
"""Name of the notes among the weights."""

_WEIGHTS = "fedml_spurious.weights"


@dataclass(frozen=True)
class Notes:
    """Notes of some clients.

    FedML's MPI simulation averages whatever it is sent, as the sum of ``value * count / total``, and its
    cross-silo runner moves it to a device: notes stay what they are, and the sum of notes is all of them.

    Attributes:
        counts: by client, how many samples the attack fools, by its budget.
        outcomes: by client, what became of its personalization.
        failure: what went wrong somewhere, in words; empty where nothing did.
    """

    counts: Mapping[str, Mapping[float, SuccessCount]] = field(default_factory=dict)
    outcomes: Mapping[str, tuple[tuple[ResultKey, Outcome], ...]] = field(default_factory=dict)
    failure: str = ""

    def __add__(self, other: Notes) -> Notes:
        return Notes(
            {**self.counts, **other.counts},
            {**self.outcomes, **other.outcomes},
            self.failure or other.failure,
        )

    def __mul__(self, count: float) -> Notes:
        return self

    def __truediv__(self, total: float) -> Notes:
        return self

    def to(self, device: Any) -> Notes:
        """The same; see above."""
        return self


class SummedModel:
    """A client's weights for FedML's MPI simulation, which asks no aggregator and averages by itself.

    It makes the sum of ``value * count / total`` in the type of what it is sent, and rounds on the way. Means
    often lie half way between two floating-point numbers, so that last bits would differ from those of the
    exact sum that our aggregator makes, in double precision too. The sum of these objects is that sum.

    Args:
        state: the weights.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._state = state
        self._sum = WeightedSum()

    def __mul__(self, count: int) -> SummedModel:
        summed = SummedModel({})
        summed._sum.add(int(count), self._state)
        return summed

    def __truediv__(self, total: int) -> SummedModel:
        return self  # the sum knows how many samples it is of

    def __iadd__(self, other: SummedModel) -> SummedModel:
        self._sum.merge(other._sum)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as weights, not as a sum."""
        return SummedModel, (self.weights(),)

    def weights(self) -> Mapping[str, Tensor]:
        """The weights, or their average where some were summed."""
        return self._sum.mean() if self._sum.count else self._state


def to_be_averaged(weights: Mapping[str, Any], notes: Notes) -> OrderedDict[str, Any]:
    """A message of both for FedML's MPI simulation."""
    return OrderedDict([(_WEIGHTS, SummedModel(weights)), (NOTES, notes)])


def separate(params: Mapping[str, Any]) -> tuple[OrderedDict[str, Any], Notes]:
    """The weights and the notes of a message, which is left as it is."""
    if _WEIGHTS in params:
        return OrderedDict(params[_WEIGHTS].weights()), params[NOTES]
    weights = OrderedDict((name, value) for name, value in params.items() if name != NOTES)
    return weights, params.get(NOTES, Notes())


def with_notes(weights: Mapping[str, Any], notes: Notes) -> OrderedDict[str, Any]:
    """A message of both."""
    return OrderedDict(weights, **{NOTES: notes})
