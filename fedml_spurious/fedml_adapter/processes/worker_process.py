"""Every rank but 0 of a run with several processes: a worker, or a silo with clients of its own."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.logs import LOG_FORMAT, log_to
from fedml_spurious.common.scratch import private_folder, scratch_folder
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.device import choose_device
from fedml_spurious.experiment.inputs import SplitsBySeed
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.fedml_adapter.processes.connecting import connect
from fedml_spurious.fedml_adapter.processes.handshake import describe_splits, introduce
from fedml_spurious.fedml_adapter.processes.job import Job
from fedml_spurious.fedml_adapter.processes.messages import Kind, Received, SilentError
from fedml_spurious.fedml_adapter.processes.ranks import Rank, silo_of_clients
from fedml_spurious.fedml_adapter.processes.situation import Situation, StoppedError
from fedml_spurious.fedml_adapter.processes.timing import STOP_TIMEOUT, WORKER_FLUSH_TIMEOUT

if TYPE_CHECKING:
    from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint

logger = logging.getLogger(__name__)

_BUFFERED = 100_000  # log records that are kept until rank 0 has found the run folder good


def run_worker(
    settings: Settings, output: Path, rank: Rank, situation: Situation, threads: int, job: Job
) -> None:
    """Do what rank 0 asks for until it is done.

    Args:
        settings: settings of the run.
        output: folder of the run; only ``logs``, and what a silo keeps for itself, are written there.
        rank: this process.
        situation: kept up to date, for messages.
        threads: CPU threads of this process.
        job: what the processes do.

    Raises:
        RunError: rank 0 ended the run, or is gone, or the work failed; rank 0 was told.
        InputError: the same for wrong input.
    """
    buffer = MemoryHandler(_BUFFERED, flushLevel=logging.CRITICAL + 1)
    # Before rank 0 has found the run folder good, nothing may be written there.
    with private_folder() as scratch, log_to(buffer):
        with scratch_folder(scratch):
            endpoint = connect(settings, rank)
            try:
                _serve_until_done(settings, output, rank, situation, threads, job, endpoint, buffer)
            except BaseException as error:
                situation.server_knows = _report(endpoint, error, situation.phase, log_path(output, rank))
                raise
            endpoint.finish()


def log_path(output: Path, rank: Rank) -> Path:
    """Log of a process in the run folder."""
    if rank.number == 0:
        return RunFolder(output).log
    return output / "logs" / f"rank{rank.number}.log"


def _serve_until_done(
    settings: Settings,
    output: Path,
    rank: Rank,
    situation: Situation,
    threads: int,
    job: Job,
    endpoint: Endpoint,
    buffer: MemoryHandler,
) -> None:
    # FedML takes seconds to import, which wrong input need not wait for.
    from fedml_spurious.fedml_adapter.processes.worker import Worker

    endpoint.post(0, Kind.HELLO, introduce(settings, threads, job.asked))
    order = _wait_for(Kind.OPEN, endpoint, settings)
    situation.members[0] = {"pid": order["pid"], "host": order["host"]}
    situation.phase = "opening the split files"
    _require_agreed(settings, order)
    data = _open_splits(settings, order)
    device = choose_device(_with_gpu(settings, rank))
    endpoint.post(0, Kind.READY, {"splits": describe_splits(data), "host": socket.gethostname()})
    _wait_for(Kind.GO, endpoint, settings)  # it has found the split files to be the same
    _require_own_clients(settings, order, data, rank)
    situation.phase = "opening its log"
    with _log_file(log_path(output, rank), buffer, quiet=settings.comm_args.backend == "MPI"):
        logger.info("rank %d: %s, %d threads", rank.number, device, torch.get_num_threads())
        own = None if order["clients"] is None else frozenset(order["clients"])
        silo_folder = None if own is None else output / "silos" / f"rank{rank.number}"
        worker = Worker(
            endpoint,
            settings,
            data,
            device,
            situation,
            own_clients=own,
            silo_folder=silo_folder,
            given=job.given,
            only=job.only,
        )
        worker.serve()
        endpoint.log_traffic()
        endpoint.stop_heartbeat()
        endpoint.post(0, Kind.BYE)
        endpoint.flush(WORKER_FLUSH_TIMEOUT)  # rank 0 ends without it too, and may be gone by now


def _wait_for(kind: Kind, endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    """Wait for the server's next message, which is to be of this kind, for as long as it is alive."""
    message: Received | None = None
    while message is None:
        message = endpoint.receive(at_most=settings.comm_args.start_timeout)
        if message is None and not endpoint.has_contact(0):
            raise InputError(
                f"rank 0, the server, was not reached within {settings.comm_args.start_timeout:g} s "
                "(comm_args.start_timeout); start it too, and compare the addresses"
            )
    if message.kind is Kind.STOP:
        raise StoppedError(message.content)
    if message.kind is not kind:
        raise RunError(f"rank 0 sent {message.kind} instead of {kind}; end all processes and start all again")
    return message.content


def _require_agreed(settings: Settings, order: dict[str, Any]) -> None:
    """Make sure that this is a silo, and reads splits that rank 0 made, where its own settings say so."""
    in_silo = settings.common_args.training_type == "cross_silo"
    reads_made = settings.data_args.partition is not None
    if (order["clients"] is not None, order["made"] is not None) != (in_silo, reads_made):
        raise RunError("rank 0 asked for other split files or clients than the settings of this process name")


def _require_own_clients(settings: Settings, order: dict[str, Any], data: SplitsBySeed, rank: Rank) -> None:
    """Make sure that the clients of this silo are those that its own settings give to it."""
    if order["clients"] is None:
        return
    owners = silo_of_clients(settings, data[settings.fl_seeds[0]].client_ids, rank.size)
    own = sorted(client for client, owner in owners.items() if owner == rank.number)
    if list(order["clients"]) != own:
        raise RunError("rank 0 named other clients than the settings of this silo give to it")


def _open_splits(settings: Settings, order: dict[str, Any]) -> SplitsBySeed:
    """Open the split files of every federated seed, each folder once."""
    seeds = settings.fl_seeds
    places = order["made"] or [settings.data_args.data_cache_dir or ""] * len(seeds)
    opened = {place: _open_folder(place, order) for place in dict.fromkeys(places)}
    return {seed: opened[place] for seed, place in zip(seeds, places, strict=True)}


def _open_folder(place: str, order: dict[str, Any]) -> SplitFolder:
    made, folder = order["made"] is not None, Path(place).expanduser()
    if made and not folder.is_dir():
        raise InputError(
            f"{folder}: rank 0 made the splits there, and {socket.gethostname()} does not see them; make "
            "them on every host with `fedml-spurious partition` and name them in data_args.data_cache_dir"
        )
    # Checksums of whole files would read the samples of other silos; and what rank 0 made here, it knows.
    trusted = order["clients"] is not None or (made and order["host"] == socket.gethostname())
    opened = SplitFolder(folder, name=order["name"], verify=not trusted)
    if order["clients"] is not None:  # those of the others rank 0 has looked at
        opened.check(order["clients"])
    return opened


def _with_gpu(settings: Settings, rank: Rank) -> Settings:
    """The settings with this worker's GPU."""
    chosen = settings.device_args
    if chosen.worker_gpus is None:
        return settings
    gpu = chosen.worker_gpus[(rank.number - 1) % len(chosen.worker_gpus)]
    return settings.model_copy(update={"device_args": chosen.model_copy(update={"gpu_id": gpu})})


def _report(endpoint: Endpoint, error: BaseException, phase: str, log: Path) -> bool:
    """Tell rank 0 what went wrong here, unless it ended the run itself; whether it knows."""
    if isinstance(error, (StoppedError, SilentError)):
        return isinstance(error, StoppedError)
    if endpoint.backend == "MPI" and not isinstance(error, Exception):
        return False  # mpirun ends all processes, and gives them a second to clean up
    known = isinstance(error, (InputError, RunError))
    text = str(error) if known else f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, KeyboardInterrupt):
        text = "it was interrupted"
    status = 2 if isinstance(error, InputError) else 1
    named = str(log) if log.exists() else ""
    endpoint.post(0, Kind.FAILED, {"text": text, "exit": status, "phase": phase, "log": named})
    endpoint.flush(WORKER_FLUSH_TIMEOUT)
    try:
        return endpoint.receive(at_most=STOP_TIMEOUT) is not None
    except SilentError:
        return False


@contextmanager
def _log_file(path: Path, buffer: MemoryHandler, *, quiet: bool) -> Iterator[None]:
    """Send the log, from the start on, to a file; and where quiet, all output too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: the log cannot be written ({error.strerror or error}). Give an --output that may be "
            "written on every host"
        ) from error
    target = logging.StreamHandler(stream)
    target.setFormatter(logging.Formatter(LOG_FORMAT))
    buffer.setTarget(target)
    buffer.flushLevel = logging.NOTSET
    buffer.flush()
    with _output_to(stream.fileno()) if quiet else nullcontext():
        try:
            yield
        except BaseException:
            logger.exception("this process ends")
            raise
        finally:
            buffer.flush()
            buffer.setTarget(None)
            with suppress(OSError):  # a disk that is full has reported that where it mattered
                stream.close()


@contextmanager
def _output_to(descriptor: int) -> Iterator[None]:
    """Send what libraries print to a file; the terminal belongs to rank 0."""
    saved = [(number, os.dup(number)) for number in (1, 2)]
    for number, _ in saved:
        os.dup2(descriptor, number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
