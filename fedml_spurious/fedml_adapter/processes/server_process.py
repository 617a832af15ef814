"""Rank 0 of a run with several processes: gathers the workers, opens the data, ends with all or with none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import SplitsBySeed
from fedml_spurious.experiment.tasks import Workers
from fedml_spurious.fedml_adapter.processes.connecting import connect
from fedml_spurious.fedml_adapter.processes.handshake import (
    describe_splits,
    introduce,
    require_equal,
    require_same_splits,
)
from fedml_spurious.fedml_adapter.processes.job import Job
from fedml_spurious.fedml_adapter.processes.messages import Kind
from fedml_spurious.fedml_adapter.processes.ranks import Rank, silo_of_clients
from fedml_spurious.fedml_adapter.processes.remote_workers import RemoteWorkers
from fedml_spurious.fedml_adapter.processes.server import Server
from fedml_spurious.fedml_adapter.processes.situation import Situation, Terminated
from fedml_spurious.fedml_adapter.processes.timing import BYE_TIMEOUT, STOP_FLUSH_TIMEOUT

logger = logging.getLogger(__name__)


@contextmanager
def remote_workers(
    settings: Settings, rank: Rank, situation: Situation, threads: int, job: Job
) -> Iterator[Callable[[SplitsBySeed], Workers]]:
    """Let the other processes of a run do its work.

    Args:
        settings: settings of the run.
        rank: this process, number 0.
        situation: kept up to date, for messages.
        threads: CPU threads of this process.
        job: what the processes do.

    Yields:
        Opens the split files everywhere and gives the workers.

    Raises:
        InputError: a worker is missing, was asked for something else, or has other settings, versions or
            split files.
        RunError: a worker failed.
    """
    endpoint = connect(settings, rank)
    situation.slept = endpoint.slept
    server = Server(endpoint, rank.size, situation)
    try:
        _gather(server, settings, introduce(settings, threads, job.asked))
        yield lambda data: _open(server, settings, data)
        _finish(server)
    except BaseException as error:
        _stop(server, error)
        raise


def _gather(server: Server, settings: Settings, mine: dict[str, Any]) -> None:
    """Wait for the workers and compare what they say with what rank 0 has."""
    members = server.situation.members
    deadline = time.monotonic() + settings.comm_args.start_timeout
    while len(members) < len(server.ranks):
        message = server.wait_at_most(max(deadline - time.monotonic(), 0.0), Kind.HELLO)
        if message is None:
            missing = [rank for rank in server.ranks if rank not in members]
            numbers = ", ".join(str(rank) for rank in missing)
            raise InputError(
                f"rank {numbers} did not report within {settings.comm_args.start_timeout:g} s "
                "(comm_args.start_timeout); start all processes, and look at what they print"
            )
        server.post(message.sender, Kind.ALIVE, {})  # from here on the worker hears that rank 0 is alive
        require_equal(mine, message.content, message.sender)
        members[message.sender] = message.content
    for rank, said in sorted(members.items()):
        logger.info("rank %d: process %d on %s", rank, said["pid"], said["host"])


def _open(server: Server, settings: Settings, data: SplitsBySeed) -> Workers:
    """Have the split files opened everywhere."""
    owners = None
    if settings.common_args.training_type == "cross_silo":
        # Silos have split files of their own, which all seeds share.
        owners = silo_of_clients(settings, data[settings.fl_seeds[0]].client_ids, len(server.ranks) + 1)
    server.situation.phase = "opening the split files"
    mine = introduce(settings, 0, {})
    # Splits that rank 0 made for the run are in its run folder; others are where each host has them.
    made = None
    if settings.data_args.partition is not None:
        made = [str(splits.folder.resolve()) for splits in data.values()]
    name = settings.data_args.dataset
    for rank in server.ranks:
        own = None if owners is None else sorted(client for client, owner in owners.items() if owner == rank)
        content = {"made": made, "name": name, "clients": own, "host": mine["host"], "pid": mine["pid"]}
        server.post(rank, Kind.OPEN, content)
    for _ in server.ranks:
        ready = server.wait_for(Kind.READY)
        require_same_splits(describe_splits(data), ready.content, ready.sender)
    for rank in server.ranks:
        server.post(rank, Kind.GO, {})
    return RemoteWorkers(server, settings, data, owners)


def _finish(server: Server) -> None:
    """Tell all workers that the run is done, and end the communication when all have said goodbye."""
    server.endpoint.log_traffic()
    server.endpoint.stop_heartbeat()
    for rank in server.ranks:
        server.post(rank, Kind.FINISH, {})
    for _ in server.ranks:
        server.wait_at_most(BYE_TIMEOUT, Kind.BYE)
    server.endpoint.finish()


def _stop(server: Server, error: BaseException) -> None:
    """Tell all workers that the run has failed, as far as they can still be reached."""
    if isinstance(error, Terminated) and server.endpoint.backend == "MPI":
        return  # mpirun ends all, and gives no time to talk
    code = 2 if isinstance(error, InputError) else 1
    why = "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
    for rank in server.ranks:
        server.post(rank, Kind.STOP, {"text": f"rank 0 ended the run: {why}", "exit": code})
    server.endpoint.flush(STOP_FLUSH_TIMEOUT)
