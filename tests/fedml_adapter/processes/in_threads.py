"""A server and workers in threads of one process, over FedML's managers and a transport in memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from memory_transport import Mailboxes, MemoryTransport

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.settings import Settings
from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.fedml_adapter.processes.messages import Kind
from fedml_spurious.fedml_adapter.processes.ranks import silo_of_clients
from fedml_spurious.fedml_adapter.processes.remote_workers import RemoteWorkers
from fedml_spurious.fedml_adapter.processes.server import Server
from fedml_spurious.fedml_adapter.processes.situation import Situation
from fedml_spurious.fedml_adapter.processes.worker import Worker

CPU = torch.device("cpu")


@contextmanager
def remote(
    settings: Settings,
    splits: Path | Mapping[int, Path],
    workers: int,
    *,
    silos: bool,
    given: object = None,
    folder: Path | None = None,
) -> Iterator[tuple[RemoteWorkers, Endpoint]]:
    """A server in this thread and workers in others, each with split folders of its own.

    ``splits`` is the folder that the federated seeds share, or one for each; ``given`` is for tasks, and
    ``folder`` that of the run, where silos keep their models below it.
    """
    mailboxes: Mailboxes = {rank: queue.Queue() for rank in range(workers + 1)}
    ends = {
        rank: Endpoint(
            MemoryTransport(rank, mailboxes), rank=rank, size=workers + 1, backend="memory", timeout=60.0
        )
        for rank in mailboxes
    }
    places = splits if isinstance(splits, Mapping) else dict.fromkeys(settings.fl_seeds, splits)

    def opened() -> dict[int, SplitFolder]:
        return {fl_seed: SplitFolder(place) for fl_seed, place in places.items()}

    data = opened()
    owners = silo_of_clients(settings, data[0].client_ids, workers + 1) if silos else None

    def serve(rank: int) -> None:
        own = frozenset(client for client, owner in owners.items() if owner == rank) if owners else None
        kept = folder / "silos" / f"rank{rank}" if folder and own else None
        worker = Worker(
            ends[rank], settings, opened(), CPU, Situation(), own_clients=own, silo_folder=kept, given=given
        )
        # Only now: initial weights are drawn from torch's generator, which all threads share.
        ends[rank].post(0, Kind.HELLO)
        worker.serve()

    threads = [threading.Thread(target=serve, args=(rank,), daemon=True) for rank in range(1, workers + 1)]
    for thread in threads:
        thread.start()
    server = Server(ends[0], workers + 1, Situation())
    for _ in threads:
        server.wait_for(Kind.HELLO)
    yield RemoteWorkers(server, settings, data, owners), ends[0]
    for rank in server.ranks:
        server.post(rank, Kind.FINISH, {})
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    for end in ends.values():
        end.finish()
