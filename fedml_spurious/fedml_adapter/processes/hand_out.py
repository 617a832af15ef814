"""Which worker gets which client."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Generic

from fedml_spurious.experiment.tasks import TaskT


def share_clients(counts: Mapping[int, int], ranks: Sequence[int]) -> dict[int, list[int]]:
    """Spread the clients of a round over workers so that all have about as many samples.

    The largest client goes first, each to the worker with the least so far.

    Args:
        counts: training samples by client.
        ranks: the workers.

    Returns:
        Clients by worker, ascending; workers without any are left out.
    """
    loads = dict.fromkeys(ranks, 0)
    shares: dict[int, list[int]] = {}
    for client in sorted(counts, key=lambda client: (-counts[client], client)):
        rank = min(ranks, key=lambda rank: (loads[rank], rank))
        loads[rank] += counts[client]
        shares.setdefault(rank, []).append(client)
    return {rank: sorted(share) for rank, share in shares.items()}


class HandOut(Generic[TaskT]):
    """Tasks that wait for a worker, by client: a worker keeps the client whose data it holds.

    When no other client is left, a free worker helps with a client that another one holds.

    Args:
        tasks: the tasks.
        owners: the rank that has each client's data; every rank has all of it where it is None.
    """

    def __init__(self, tasks: Sequence[TaskT], owners: Mapping[str, int] | None) -> None:
        self.owners = owners
        self._waiting: dict[str, deque[TaskT]] = {}
        self._held: dict[int, str] = {}
        for task in tasks:
            self._waiting.setdefault(task.client, deque()).append(task)

    def __len__(self) -> int:
        return sum(len(tasks) for tasks in self._waiting.values())

    def next_for(self, rank: int) -> TaskT | None:
        """The next task of a worker, or None where nothing is left that it could do."""
        client = self._client_for(rank)
        if client is None:
            return None
        self._held[rank] = client
        tasks = self._waiting[client]
        task = tasks.popleft()
        if not tasks:
            del self._waiting[client]
        return task

    def _client_for(self, rank: int) -> str | None:
        if self._held.get(rank) in self._waiting:
            return self._held[rank]
        mine = [c for c in self._waiting if self.owners is None or self.owners[c] == rank]
        held = {client for other, client in self._held.items() if other != rank}
        free = [client for client in mine if client not in held]
        # Of clients that others hold, the one with the most left.
        return free[0] if free else max(mine, key=lambda client: len(self._waiting[client]), default=None)
