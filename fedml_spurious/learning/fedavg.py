"""Federated averaging (McMahan et al. 2017, Algorithm 1), without FedML.

:func:`run_rounds` is the algorithm. Where clients train is not its business: it is given a function that has
some clients trained, in this process or in others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from torch import nn

from fedml_spurious.common.errors import DivergedError
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.learning.finite import require_finite_weights
from fedml_spurious.learning.state_dicts import State, copy_state, load_state
from fedml_spurious.learning.weighted_sum import WeightedSum

UpdateT = TypeVar("UpdateT")
_UpdateT = TypeVar("_UpdateT", contravariant=True)


@dataclass(frozen=True)
class Share(Generic[UpdateT]):
    """Some clients of a round, trained.

    Attributes:
        losses: mean training loss of each of them, by client index; None where the trainer keeps none.
        update: their models, as the aggregator takes them: summed, or one by one.
    """

    losses: Mapping[int, float | None]
    update: UpdateT


@dataclass(frozen=True)
class Round:
    """A finished round.

    Attributes:
        index: from 0.
        clients: indices of the clients that trained.
        losses: mean training loss of each of them; None where the trainer keeps none.
        model: the global model after the round; not to be changed.
    """

    index: int
    clients: tuple[int, ...]
    losses: tuple[float | None, ...]
    model: nn.Module


class Aggregator(Protocol[_UpdateT]):
    """Holds the global model, and averages the clients' models into it."""

    @property
    def model(self) -> nn.Module:
        """The global model."""

    def weights(self) -> State:
        """The global weights, which training does not change."""

    def average(self, updates: Iterable[_UpdateT]) -> None:
        """Make the clients' average the global model."""


class ExactAggregator:
    """Averages weighted by numbers of training samples, summed exactly; see :class:`WeightedSum`.

    Args:
        model: the global model, changed in place.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def weights(self) -> State:
        """The global weights, copied to the CPU."""
        return copy_state(self.model)

    def average(self, updates: Iterable[WeightedSum]) -> None:
        """Merge partial sums over clients as they come, in any order, and load the mean.

        The first of them grows by the others: a copy of it would take as long as adding another.
        """
        sums = iter(updates)
        total = next(sums, WeightedSum())
        for partial in sums:
            total.merge(partial)
        load_state(self.model, total.mean())


def run_rounds(
    aggregator: Aggregator[UpdateT],
    train: Callable[[int, Sequence[int], State], Iterable[Share[UpdateT]]],
    *,
    rounds: Iterable[int],
    seed: int,
    total: int,
    per_round: int,
) -> Iterator[Round]:
    """Run FedAvg: in every round sample clients, have them trained, and average their models.

    Args:
        aggregator: holds the global model, which is where training starts.
        train: has clients trained. Gets the index of the round, the clients and the global weights, and
            yields all of the clients in shares, in any order.
        rounds: indices of the rounds to run; not from 0 where earlier ones were run before.
        seed: seed of the federated step.
        total: number of clients.
        per_round: clients that train in a round.

    Yields:
        Every round when it is finished; the next one begins when the caller asks for it.

    Raises:
        DivergedError: a client's loss or the average is not finite.
    """
    for index in rounds:
        clients = sample_clients(seed, index, total=total, per_round=per_round)
        losses: dict[int, float | None] = {}
        shares = train(index, clients, aggregator.weights())
        aggregator.average(_updates(shares, losses))
        _require_finite(index, losses, aggregator.model)
        yield Round(index, tuple(clients), tuple(losses[client] for client in clients), aggregator.model)


def _require_finite(index: int, losses: Mapping[int, float | None], model: nn.Module) -> None:
    """Whoever trains notices this earlier, unless it is a trainer of the user's own."""
    for client, loss in sorted(losses.items()):
        if loss is not None and not math.isfinite(loss):
            raise DivergedError(f"round {index}, client {client}: the training loss is {loss}")
    require_finite_weights(model, f"when the clients of round {index} are averaged")


def _updates(shares: Iterable[Share[UpdateT]], losses: dict[int, float | None]) -> Iterator[UpdateT]:
    """The clients' models, none of which is kept here; their losses are filled in."""
    for share in shares:
        losses.update(share.losses)
        yield share.update


def sample_clients(seed: int, round_index: int, *, total: int, per_round: int) -> list[int]:
    """Choose the clients of a round uniformly without replacement.

    Args:
        seed: the federated seed; other seeds see other clients.
        round_index: from 0.
        total: number of clients.
        per_round: number of clients to choose, at most ``total``.

    Returns:
        Ascending client indices.
    """
    rng = generator(seed, Purpose.CLIENT_SAMPLING, round_index)
    return [int(index) for index in np.sort(rng.choice(total, per_round, replace=False))]
