"""How sure a difference of two methods' disparities is: a bootstrap paired over clients and seeds.

Where all federated seeds share one partition, clients cross seeds and both are drawn. Where every federated
seed has a partition of its own, its clients are its own too, whatever their ids: federated seeds are drawn,
and within each its clients and its personalization seeds.

Percentile intervals of few units are too narrow. In simulations with 3 x 3 seeds the 95 % interval covered
the truth in about 94 % of the cases where most of the variation was among 50 clients, in about 91 % where
clients and seeds had equal shares, and in about 75 % where it was among 3 federated seeds or 3 clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fedml_spurious.common.arrays import FloatArray, IndexArray
from fedml_spurious.common.seeds import Purpose, generator

_ByClient = Mapping[str, float]
_PairOfSeeds = tuple[_ByClient, _ByClient, int]  # the disparities of both methods, and the federated seed

Disparities = Mapping[tuple[int, int | None], _ByClient]
"""Disparity of a method, in [-1, 1], by (fl_seed, p_seed) and client; p_seed None: the same for every one."""

RESAMPLES = 10_000
LEVEL = 0.95
FEW_CLIENTS = 10
"""Below this many clients a table says that its intervals are too narrow."""
FEW_FL_SEEDS = 5
"""The same of federated seeds."""
_AT_ONCE = 1 << 22
"""Numbers that are drawn or multiplied at once; 32 MB."""
_SEED = 0
_FL_SEEDS, _P_SEEDS, _CLIENTS = range(3)


@dataclass(frozen=True)
class Difference:
    """Disparity of one method minus that of another, averaged over clients and pairs of seeds; in [-2, 2].

    Attributes:
        mean: the difference; positive: the first method is the more biased.
        low: lower end of the 95 % percentile interval; None where there is one pair and one client.
        high: upper end.
        clients: number of clients that were compared: those with bias-conflicting samples.
        pairs: number of pairs of seeds that both methods have.
        fl_seeds: number of different federated seeds among them.
    """

    mean: float
    low: float | None
    high: float | None
    clients: int
    pairs: int
    fl_seeds: int


def compare(method: Disparities, reference: Disparities, *, own_clients: bool = False) -> Difference | None:
    """Compare two methods on the clients and pairs of seeds that both have.

    Args:
        method: disparities of a method.
        reference: disparities of the method that it is compared with.
        own_clients: whether every federated seed has clients of its own, whatever their ids.

    Returns:
        ``method`` minus ``reference``; None where they have no client or no pair in common.
    """
    pairs = [(method.get(pair, method.get((pair[0], None))), pair) for pair in sorted(reference, key=_order)]
    common = [(found, reference[pair], pair[0]) for found, pair in pairs if found is not None]
    if own_clients:
        return _compare_nested(common)
    table = _differences([(found, other) for found, other, _ in common])
    if not table.size:
        return None
    fl_seeds = np.array([fl_seed for *_, fl_seed in common])
    low, high = _interval(resampled_means(table, fl_seeds)) if table.size > 1 else (None, None)
    different = len(np.unique(fl_seeds))
    return Difference(float(table.mean()), low, high, table.shape[1], len(common), different)


def _compare_nested(common: Sequence[_PairOfSeeds]) -> Difference | None:
    by_seed: dict[int, list[tuple[_ByClient, _ByClient]]] = {}
    for found, other, fl_seed in common:
        by_seed.setdefault(fl_seed, []).append((found, other))
    tables = [table for pairs in by_seed.values() if (table := _differences(pairs)).size]
    if not tables:
        return None
    mean = float(np.concatenate([table.mean(axis=1) for table in tables]).mean())
    several = sum(table.size for table in tables) > 1
    low, high = _interval(resampled_nested_means(tables)) if several else (None, None)
    pairs, clients = (sum(table.shape[axis] for table in tables) for axis in (0, 1))
    return Difference(mean, low, high, clients, pairs, len(tables))


def _differences(pairs: Sequence[tuple[_ByClient, _ByClient]]) -> FloatArray:
    """Differences of every pair of seeds and of every client that all pairs have, shape (P, C)."""
    if not pairs:
        return np.empty((0, 0))
    clients = sorted(set.intersection(*(found.keys() & other.keys() for found, other in pairs)))
    return np.array([[found[client] - other[client] for client in clients] for found, other in pairs])


def _interval(means: FloatArray) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = (float(bound) for bound in np.quantile(means, [tail, 1 - tail]))
    return low, high


def _order(pair: tuple[int, int | None]) -> tuple[int, int]:
    return pair[0], -1 if pair[1] is None else pair[1]


def resampled_means(table: FloatArray, fl_seeds: IndexArray, resamples: int = RESAMPLES) -> FloatArray:
    """Means of a table whose clients and seeds are drawn again, with replacement.

    Clients cross seeds: a drawn client counts with all its pairs. Seeds are drawn in two steps, since the
    draws of the personalization step differ between global models: federated seeds first, then, for every
    federated seed that was drawn, as many of its personalization seeds as it has.

    Args:
        table: a value per pair of seeds and client, shape (P, C).
        fl_seeds: federated seed of every pair, shape (P,).
        resamples: how often everything is drawn, R.

    Returns:
        Means, shape (R,). The same shape of experiment gets the same draws, whichever methods it compares.
    """
    weights = _pair_counts(tuple(fl_seeds.tolist()), resamples)  # (R, P)
    clients = _client_counts(table.shape[1], resamples)
    totals = (clients.sums(table) * weights).sum(axis=1)
    means: FloatArray = totals / (weights.sum(axis=1) * table.shape[1])
    return means


class _Counts:
    """How often each of ``size`` things is drawn in ``size`` draws, again and again.

    Args:
        rng: gives the draws.
        size: number of things.
        times: how often all are drawn, N.
    """

    def __init__(self, rng: np.random.Generator, size: int, times: int) -> None:
        rows, share = max(1, _AT_ONCE // size), np.full(size, 1 / size)
        self._blocks = []
        for start in range(0, times, rows):
            counts = rng.multinomial(size, share, size=min(rows, times - start))
            # 10,000 draws of 5,000 clients are 400 MB as numbers of 64 bits.
            self._blocks.append(counts.astype(np.min_scalar_type(counts.max())))

    def sums(self, table: FloatArray) -> FloatArray:
        """Sums over what is drawn, shape (N, P), of a table with a value per thing, shape (P, size)."""
        sums = [block.astype(np.float64) @ table.T for block in self._blocks]
        return np.concatenate([np.empty((0, len(table))), *sums])


# All methods of a table share the draws, which take longer than what is done with them.
@lru_cache(maxsize=2)
def _client_counts(size: int, resamples: int) -> _Counts:
    """How often each of ``size`` clients is drawn in every resample."""
    return _Counts(generator(_SEED, Purpose.BOOTSTRAP, _CLIENTS), size, resamples)


@lru_cache(maxsize=2)
def _pair_counts(fl_seeds: tuple[int, ...], resamples: int) -> FloatArray:
    """How often each pair of seeds is drawn, shape (R, P)."""
    different, place, sizes = np.unique(fl_seeds, return_inverse=True, return_counts=True)
    share = np.full(len(different), 1 / len(different))
    drawn = generator(_SEED, Purpose.BOOTSTRAP, _FL_SEEDS).multinomial(len(different), share, size=resamples)
    rng = generator(_SEED, Purpose.BOOTSTRAP, _P_SEEDS)
    counts = np.empty((resamples, len(fl_seeds)))
    for column, size in enumerate(sizes):
        counts[:, place == column] = rng.multinomial(drawn[:, column] * size, np.full(size, 1 / size))
    return counts


def resampled_nested_means(tables: Sequence[FloatArray], resamples: int = RESAMPLES) -> FloatArray:
    """Means of federated seeds with clients of their own, everything drawn again with replacement.

    As many federated seeds are drawn as there are. For every one that was drawn, each time anew, as many of
    its clients as it has, and crossing them as many of its personalization seeds. Every pair of seeds counts
    the same, as in the mean itself.

    Args:
        tables: of every federated seed, a value per personalization seed and client, shape (P_s, C_s).
        resamples: how often everything is drawn, R.

    Returns:
        Means, shape (R,). The same shape of experiment gets the same draws, whichever methods it compares.
    """
    shapes = tuple((table.shape[0], table.shape[1]) for table in tables)
    totals, drawn_pairs = np.zeros(resamples), np.zeros(resamples)
    for table, (place, pairs, clients) in zip(tables, _nested_counts(shapes, resamples), strict=True):
        sums = (clients.sums(table) * pairs).sum(axis=1) / table.shape[1]  # (N,)
        totals += np.bincount(place, sums, minlength=resamples)
        drawn_pairs += np.bincount(place, minlength=resamples) * table.shape[0]
    means: FloatArray = totals / drawn_pairs
    return means


# As above.
@lru_cache(maxsize=2)
def _nested_counts(
    shapes: tuple[tuple[int, int], ...], resamples: int
) -> list[tuple[IndexArray, FloatArray, _Counts]]:
    """For every federated seed, a row for every time N that it is drawn in all the resamples.

    Returns:
        By federated seed: the resample, shape (N,), how often each of its personalization seeds is drawn
        there, shape (N, P_s), and how often each of its C_s clients is.
    """
    share = np.full(len(shapes), 1 / len(shapes))
    drawn = generator(_SEED, Purpose.BOOTSTRAP, _FL_SEEDS).multinomial(len(shapes), share, size=resamples)
    p_rng, client_rng = (generator(_SEED, Purpose.BOOTSTRAP, kind) for kind in (_P_SEEDS, _CLIENTS))
    found = []
    for column, (p_seeds, clients) in enumerate(shapes):
        place = np.repeat(np.arange(resamples), drawn[:, column])
        pairs = p_rng.multinomial(p_seeds, np.full(p_seeds, 1 / p_seeds), size=len(place)).astype(np.float64)
        found.append((place, pairs, _Counts(client_rng, clients, len(place))))
    return found
