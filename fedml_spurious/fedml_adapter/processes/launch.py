"""Starts this process's part of a command that has several, and makes sure that all of them end."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

import click
import torch

from fedml_spurious.common.advice import translated
from fedml_spurious.common.cli_errors import RUN_FAILED, WRONG_INPUT
from fedml_spurious.common.ends import how_it_ended
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.run import StartWorkers
from fedml_spurious.fedml_adapter.processes.job import Job
from fedml_spurious.fedml_adapter.processes.messages import SilentError
from fedml_spurious.fedml_adapter.processes.ranks import Rank, threads_of
from fedml_spurious.fedml_adapter.processes.server_process import remote_workers
from fedml_spurious.fedml_adapter.processes.situation import Situation, StoppedError, Terminated
from fedml_spurious.fedml_adapter.processes.timing import (
    ABORT_TIMEOUT,
    BLAME_DELAY,
    CLEAN_UP_TIMEOUT,
    MPIRUN_OUTPUT_DELAY,
)
from fedml_spurious.fedml_adapter.processes.worker_process import log_path, run_worker

TERMINATED = 128 + signal.SIGTERM


class Lead(Protocol):
    """What rank 0 does."""

    def __call__(self, *, start_workers: StartWorkers, device: torch.device) -> None:
        """Do it with the other processes as workers.

        Args:
            start_workers: brings up the workers.
            device: where this process keeps the global models.
        """


def run_rank(settings: Settings, output: Path, rank: Rank, job: Job, lead: Lead) -> None:
    """Do this process's part of a command; on any trouble it and all others end.

    Args:
        settings: settings of the run.
        output: folder of the run.
        rank: which process this is.
        job: what the processes do.
        lead: what it does as rank 0.
    """
    threads, parent = threads_of(settings, rank), os.getppid()
    torch.set_num_threads(threads)
    situation = Situation()
    _listen_for_the_end(settings, rank, situation, job, log_path(output, rank))
    try:
        with translated(job.words):
            if rank.number == 0:
                start_workers = partial(remote_workers, settings, rank, situation, threads, job)
                # The workers compute, each on a device of its own.
                lead(start_workers=start_workers, device=torch.device("cpu"))
            else:
                run_worker(settings, output, rank, situation, threads, job)
    except BaseException as error:  # noqa: BLE001  # whatever it is, no other process may wait for this one
        # A second end must not disturb this one; rank 0 has something to say first.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if rank.number else signal.SIG_IGN)
        status, text = _explain(error, settings, rank, situation, job)
        uses_mpi = settings.comm_args.backend == "MPI"
        mpi_worker = rank.number > 0 and uses_mpi
        if mpi_worker and (situation.server_knows or isinstance(error, InputError)):
            time.sleep(ABORT_TIMEOUT)  # rank 0 says the same, knows the exit status, and ends this process
        if text and not (mpi_worker and situation.server_knows):
            with suppress(OSError):  # the terminal may be gone
                click.echo(text, err=True)
        if uses_mpi and isinstance(error, Terminated) and os.getppid() != parent:
            # mpirun is gone. MPI ends whoever has lost a peer, so all wait until all have cleaned up.
            time.sleep(CLEAN_UP_TIMEOUT)
        elif mpi_worker and isinstance(error, Terminated):
            time.sleep(BLAME_DELAY)
        # Who sends SIGTERM under mpirun is mpirun, which gives all processes a moment to clean up.
        _end(status, abort=not isinstance(error, Terminated))


def _explain(
    error: BaseException, settings: Settings, rank: Rank, situation: Situation, job: Job
) -> tuple[int, str]:
    """Exit status and message of an error."""
    who, again = f"rank {rank.number}: " if rank.number else "", job.again(settings, rank)
    if isinstance(error, Terminated):
        return TERMINATED, ""
    if isinstance(error, KeyboardInterrupt):
        status, words = how_it_ended(error)
        return status, f"{words}. {again}"
    if isinstance(error, InputError) or (isinstance(error, StoppedError) and error.status == WRONG_INPUT):
        return WRONG_INPUT, f"Error: {who}{error}"
    if isinstance(error, SilentError):
        return RUN_FAILED, (
            f"Error: {who}{error} in {situation.phase} (comm_args.timeout): it was killed, it hangs, or the "
            f"network is down. {again}"
        )
    if isinstance(error, RunError):
        asked = job.request in str(error).lower()
        rest = f"  {job.command_for(settings, rank)}" if asked else again
        return RUN_FAILED, f"Error: {who}{error}\n{rest}"
    return RUN_FAILED, "".join(traceback.format_exception(error)) + f"{who}{again}"


def _listen_for_the_end(settings: Settings, rank: Rank, situation: Situation, job: Job, log: Path) -> None:
    """Explain what happened when mpirun, or somebody else, ends this process."""
    of_mpi = settings.comm_args.backend == "MPI"
    terminal = os.dup(2)

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        dead = situation.dead()
        if dead and situation.slept():
            pass  # they have waited for this process in vain, and have said so
        elif rank.number == 0 or (rank.number == 1 and dead) or not of_mpi:
            who = f"rank {rank.number} ended by SIGTERM in {situation.activity_of(rank.number)}"
            lost = [f"rank {other} died in {situation.activity_of(other)}" for other in dead]
            text = "; ".join(lost) if lost else who
            message = f"Error: {text}. {job.again(settings, rank)}\n"
            # Who ends mpirun itself never sees what it is sent then.
            if situation.members and log.exists():
                with suppress(OSError), log.open("a", encoding="utf-8") as stream:
                    stream.write(message)
            with suppress(OSError):  # the terminal may be gone
                os.write(terminal, message.encode())
                time.sleep(MPIRUN_OUTPUT_DELAY)
        raise Terminated("by SIGTERM")

    signal.signal(signal.SIGTERM, handle)
    if of_mpi and rank.number:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all ranks; rank 0 ends them


def _end(status: int, *, abort: bool) -> NoReturn:
    """End this process, whatever threads of the transport still wait for; over MPI all others too."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    if abort and "mpi4py.MPI" in sys.modules:
        # mpi4py is optional; in this process it is loaded.
        from mpi4py import MPI

        if MPI.Is_initialized() and not MPI.Is_finalized():
            MPI.COMM_WORLD.Abort(status)
    os._exit(status)
