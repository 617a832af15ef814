"""From settings to this process's end of the communication."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fedml_spurious.common.errors import InputError
from fedml_spurious.config.settings import Settings
from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.fedml_adapter.processes.ranks import Rank, grpc_addresses


def connect(settings: Settings, rank: Rank) -> Endpoint:
    """Open this process's end of the communication.

    Raises:
        InputError: the library of the backend is missing or does not fit, or the address cannot be used.
    """
    comm = settings.comm_args
    try:
        if comm.backend == "MPI":
            return _over_mpi(rank, comm.timeout)
        return _over_grpc(settings, rank, comm.timeout)
    except ImportError as error:
        extra = comm.backend.lower()
        raise InputError(
            f"comm_args.backend: {comm.backend} cannot be used ({error}); install what it needs with "
            f"pip install 'fedml_spurious[{extra}]'"
        ) from error


def _over_mpi(rank: Rank, timeout: float) -> Endpoint:
    from mpi4py import MPI

    from fedml_spurious.fedml_adapter.processes.mpi_link import MpiLink

    world = MPI.COMM_WORLD
    if world.Get_size() != rank.size:
        raise InputError(
            f"mpirun started {rank.size} processes, but mpi4py sees {world.Get_size()}: they belong to "
            "different MPI installations. Use the mpirun that `pip install 'fedml_spurious[mpi]'` brings"
        )
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise InputError("this MPI library has no support for threads (MPI_THREAD_MULTIPLE); use another one")
    parent = os.getppid()
    link = MpiLink(world, rank.number, rank.size)
    # A killed mpirun takes nobody along; its processes find themselves with another parent.
    return Endpoint(
        link,
        rank=rank.number,
        size=rank.size,
        backend="MPI",
        timeout=timeout,
        abandoned=lambda: os.getppid() != parent,
    )


def _over_grpc(settings: Settings, rank: Rank, timeout: float) -> Endpoint:
    from fedml_spurious.fedml_adapter.processes.grpc_link import GrpcLink

    link = GrpcLink(rank.number, grpc_addresses(settings), Path(tempfile.gettempdir()))
    return Endpoint(link, rank=rank.number, size=rank.size, backend="GRPC", timeout=timeout)
