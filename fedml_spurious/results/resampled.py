"""Averages over clients and seeds, with draws that say how sure they are; the same draws for all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedml_spurious.common.arrays import FloatArray
from fedml_spurious.results.rows import ClientResult
from fedml_spurious.results.significance import LEVEL, resampled_means, resampled_nested_means

Seeds = Mapping[int, tuple[int, ...]]
"""Personalization seeds by federated seed."""


@dataclass(frozen=True)
class Group:
    """The clients and seeds over which several methods are averaged alike.

    Attributes:
        seeds: personalization seeds by federated seed.
        clients: ids of clients that all have, by federated seed.
        own_clients: whether every federated seed has clients of its own, whatever their ids.
    """

    seeds: Seeds
    clients: Mapping[int, tuple[str, ...]]
    own_clients: bool

    @property
    def size(self) -> int:
        """Number of values that an average is of."""
        return sum(len(self.clients[seed]) * len(pairs) for seed, pairs in self.seeds.items())


@dataclass(frozen=True)
class Resampled:
    """An average, and what it is when clients and seeds are drawn again.

    Attributes:
        mean: the average.
        draws: of the resamples, shape (R,).
    """

    mean: float
    draws: FloatArray


def common_group(methods: Sequence[Sequence[ClientResult]], *, own_clients: bool) -> Group | None:
    """The clients that have a disparity by every method for all pairs of seeds; None where there are none.

    Pairs are those for which every method has one on any client.

    Args:
        methods: rows of each method. A row without a personalization seed stands beside every one.
        own_clients: whether every federated seed has clients of its own.
    """
    measured = [[row for row in rows if row.disparity is not None] for rows in methods]
    having = [{(row.fl_seed, row.client) for row in rows} for rows in measured]
    pairs = [{(row.fl_seed, row.p_seed) for row in rows} for rows in measured]
    shared = set.intersection(*having) if having else set()
    personal = [found for found in pairs if all(p_seed is not None for _, p_seed in found)]
    common = set.intersection(*personal) if personal else {(fl_seed, 0) for fl_seed, _ in shared}
    seeds = {
        fl_seed: tuple(sorted(p for seed, p in common if seed == fl_seed and p is not None))
        for fl_seed in sorted({seed for seed, _ in shared} & {seed for seed, _ in common})
    }
    cells = [{(row.fl_seed, row.p_seed, row.client) for row in rows} for rows in measured]
    whole = {
        (fl_seed, client)
        for fl_seed, client in shared
        if all(
            (fl_seed, None, client) in found or (fl_seed, p_seed, client) in found
            for found in cells
            for p_seed in seeds.get(fl_seed, ())
        )
    }
    clients = {fl: tuple(sorted(client for seed, client in whole if seed == fl)) for fl in seeds}
    if not own_clients and clients:
        of_all = tuple(sorted(set.intersection(*map(set, clients.values()))))
        clients = dict.fromkeys(clients, of_all)
    return Group(seeds, clients, own_clients) if seeds and all(clients.values()) else None


def resample(rows: Sequence[ClientResult], quantity: str, group: Group) -> Resampled:
    """Average a quantity over a group: every pair of seeds counts the same, and every client in it.

    Args:
        rows: of one method, with a value for all of the group.
        quantity: name of a column.
        group: the clients and seeds.
    """
    values = {(row.fl_seed, row.p_seed, row.client): getattr(row, quantity) for row in rows}
    tables = []
    for fl_seed, p_seeds in group.seeds.items():
        found = [
            [
                values.get((fl_seed, p_seed, client), values.get((fl_seed, None, client)))
                for client in group.clients[fl_seed]
            ]
            for p_seed in p_seeds
        ]
        tables.append(np.array(found, dtype=np.float64))  # (P_s, C_s)
    mean = float(np.concatenate([table.mean(axis=1) for table in tables]).mean())
    if group.own_clients:
        return Resampled(mean, resampled_nested_means(tables))
    fl_seeds = np.repeat(list(group.seeds), [len(table) for table in tables])
    return Resampled(mean, resampled_means(np.concatenate(tables), fl_seeds))


def interval(draws: FloatArray) -> tuple[float | None, float | None]:
    """Ends of the percentile interval; None where draws are not defined in more than its tails."""
    tail = (1 - LEVEL) / 2
    defined = draws[~np.isnan(draws)]
    if len(defined) < LEVEL * len(draws):
        return None, None
    low, high = (float(bound) for bound in np.quantile(defined, [tail, 1 - tail]))
    return low, high
