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
        # By owner, so that a worker never looks through the clients of others; None owns where all do.
        self._owners = owners
        self._waiting: dict[int | None, dict[str, deque[TaskT]]] = {}
        self._held: dict[int, str] = {}
        for task in tasks:
            waiting = self._waiting.setdefault(None if owners is None else owners[task.client], {})
            waiting.setdefault(task.client, deque()).append(task)

    def __len__(self) -> int:
        return sum(len(tasks) for waiting in self._waiting.values() for tasks in waiting.values())

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def next_for(self, rank: int) -> TaskT | None:
        """The next task of a worker, or None where nothing is left that it could do."""
        waiting = self._waiting.get(None if self._owners is None else rank, {})
        client = self._client_for(rank, waiting)
        if client is None:
            return None
        self._held[rank] = client
        tasks = waiting[client]
        task = tasks.popleft()
        if not tasks:
            del waiting[client]
        return task

    def _client_for(self, rank: int, waiting: Mapping[str, deque[TaskT]]) -> str | None:
        if self._held.get(rank) in waiting:
            return self._held[rank]
        held = {client for other, client in self._held.items() if other != rank}
        free = next((client for client in waiting if client not in held), None)
        # Of clients that others hold, the one with the most left.
        return free or max(waiting, key=lambda client: len(waiting[client]), default=None)
