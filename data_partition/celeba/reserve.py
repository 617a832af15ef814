"""Which celebrities supply the clients of CelebA_S that have fixed group counts.

Celebrities stay on one client, so the wanted counts have to be composed of whole celebrities. The scarcest
group decides first: the celebrities with the most images of it (blond males: for tables 3 - 5 the 50 with the
most, 622 images for 615 wanted) are divided among the clients with as little waste as possible. Others, in
an order drawn with the seed, then fill what is still missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_partition.celeba.labels import GROUP_NAMES
from fedml_spurious.common import advice
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.common.words import counted

# How much more than the average need a celebrity has to bring to be taken, tried in this order. The first
# choice leaves most to chance, the last takes whoever brings most.
_PRESSURES = (1.0, 1.1, 1.25, 1.5, math.inf)
# First element of an address: addresses of different length would otherwise coincide where they end in 0.
RESERVE, DRAW = 1, 2
_MORE_SCARCE = 30  # celebrities tried beyond the fewest that hold enough of the scarcest group


@dataclass(frozen=True)
class Reserve:
    """Celebrities of the clients with fixed counts.

    Attributes:
        shares: positions in the supply of each client's celebrities, in increasing order.
        scarcest: the group that decided.
        num_scarce: celebrities taken because they have the most images of that group.
    """

    shares: list[IndexArray]
    scarcest: int
    num_scarce: int

    @property
    def positions(self) -> IndexArray:
        """All reserved positions, in increasing order."""
        return np.sort(np.concatenate(self.shares))


def _smaller() -> str:
    return f"Ask for fewer images with {advice.option('group_counts')}"


def reserve_identities(
    supply: IndexArray, demand: IndexArray, *, usual: int, limit: int, seed: int
) -> Reserve:
    """Choose whole celebrities that hold the wanted images.

    Args:
        supply: images of each celebrity and group, shape (I, 4).
        demand: images that each client wants of each group, shape (C, 4).
        usual: how many celebrities to take if they suffice, at most ``limit``.
        limit: how many to take otherwise.
        seed: of the order among equals.

    Returns:
        Disjoint celebrities for each client; together they hold at least ``demand`` of every group.

    Raises:
        InputError: there are too few images, or ``limit`` celebrities cannot hold them.
    """
    total, wanted = supply.sum(axis=0), demand.sum(axis=0)
    for group in np.flatnonzero(wanted > total):
        raise InputError(
            f"the fixed group counts want {counted(wanted[group], 'image')} of {GROUP_NAMES[group]}, "
            f"the images at "
            f"hand hold {total[group]:,}. {_smaller()}"
        )
    scarcest = int(np.argmax(wanted / np.maximum(total, 1)))
    for most in (usual, limit):
        reserve = _compose(supply, demand, scarcest, min(most, len(supply)), seed)
        if reserve is not None:
            return reserve
    images = ", ".join(f"{count:,} {name}" for name, count in zip(GROUP_NAMES, wanted, strict=True))
    raise InputError(
        f"{counted(limit, 'celebrity')} cannot hold the images that the fixed group counts want ({images}) "
        f"without one of them on two clients. {_smaller()}, or for fewer clients in all"
    )


def _compose(supply: IndexArray, demand: IndexArray, scarcest: int, limit: int, seed: int) -> Reserve | None:
    """Exactly ``limit`` celebrities that hold the wanted images, or None if none were found."""
    rng = generator(seed, Purpose.PARTITION_GROUPS, RESERVE)
    order = rng.permutation(len(supply))
    by_supply = order[np.argsort(-supply[order, scarcest], kind="stable")]
    wanted = demand[:, scarcest].sum()
    held = np.cumsum(supply[by_supply, scarcest])
    first = int(np.searchsorted(held, wanted)) + 1 if wanted else 0
    for num_scarce in range(first, min(limit, first + _MORE_SCARCE) + 1):
        candidates = rng.permutation(by_supply[:num_scarce])
        divided = divide(supply[candidates, scarcest], demand[:, scarcest])
        if divided is None:
            continue
        rest = order[~np.isin(order, candidates)]
        for pressure in _PRESSURES:
            shares = [candidates[items].tolist() for items in divided]
            if _fill(shares, rest, supply, demand, limit, pressure):
                return Reserve([np.sort(np.array(share, np.int64)) for share in shares], scarcest, num_scarce)
    return None


def divide(sizes: IndexArray, targets: IndexArray) -> list[npt.NDArray[np.intp]] | None:
    """Divide items among bins so that every bin reaches its target, wasting little.

    One bin after the other, the largest first, takes items whose sum exceeds its target by as little as the
    remaining items allow (a subset sum); the last bin takes all that remains.

    Args:
        sizes: size of each item, at least 0, shape (n,).
        targets: least sum of each bin, shape (C,).

    Returns:
        Item indices of each bin, disjoint; None if this rule finds no such division.
    """
    bins: list[npt.NDArray[np.intp]] = [np.empty(0, np.intp)] * len(targets)
    remaining = np.arange(len(sizes))
    for position, which in enumerate(np.argsort(-targets, kind="stable")):
        if position == len(targets) - 1:
            items = remaining if sizes[remaining].sum() >= targets[which] else None
        else:
            items = _smallest_sum(sizes, remaining, int(targets[which]))
        if items is None:
            return None
        bins[which] = items
        remaining = np.setdiff1d(remaining, items)
    return bins


def _smallest_sum(sizes: IndexArray, items: npt.NDArray[np.intp], target: int) -> npt.NDArray[np.intp] | None:
    """Items whose sum is the smallest that reaches ``target``; None if all of them do not reach it."""
    reached: dict[int, tuple[int, ...]] = {0: ()}  # sum -> the first items found with that sum
    for item in items.tolist():
        if target in reached:
            break
        for total, subset in list(reached.items()):
            if total < target:
                reached.setdefault(total + int(sizes[item]), (*subset, item))
    best = min((total for total in reached if total >= target), default=None)
    return None if best is None else np.array(reached[best], np.intp)


def _fill(
    shares: list[list[int]],
    rest: IndexArray,
    supply: IndexArray,
    demand: IndexArray,
    limit: int,
    pressure: float,
) -> bool:
    """Add celebrities of ``rest`` to the shares until nothing is missing and there are ``limit`` of them.

    The client that misses most goes first, and takes the first celebrity that brings at least ``pressure``
    times what a celebrity has to bring on average for the limit to suffice. When nothing is missing, those
    that are still to come go to the client with the fewest.

    Returns:
        False if ``limit`` celebrities are too few.
    """
    missing = np.stack([demand[client] - supply[share].sum(axis=0) for client, share in enumerate(shares)])
    missing = np.maximum(missing, 0)  # (C, 4)
    free = np.ones(len(rest), dtype=bool)
    slots = limit - sum(len(share) for share in shares)
    while missing.any():
        if slots == 0 or not free.any():
            return False
        client = int(np.argmax(missing.sum(axis=1)))
        useful = np.minimum(supply[rest], missing[client]).sum(axis=1) * free
        if useful.max() == 0:
            return False
        enough = min(pressure * missing.sum() / slots, useful.max())
        pick = int(np.argmax(useful >= enough))
        free[pick] = False
        slots -= 1
        shares[client].append(int(rest[pick]))
        missing[client] = np.maximum(missing[client] - supply[rest[pick]], 0)
    for spare in rest[free][:slots].tolist():
        min(shares, key=len).append(spare)
    return True
