"""From settings to this process's end of the communication.

FedML is imported here when a run connects: it takes seconds, which wrong input need not wait for, and it logs
meanwhile, which belongs in the run's log. The libraries of MPI and GRPC are optional.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted
from fedml_spurious.config.settings import Settings
from fedml_spurious.fedml_adapter.processes.handshake import is_introduction
from fedml_spurious.fedml_adapter.processes.ranks import Rank, grpc_addresses

if TYPE_CHECKING:
    from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
    from fedml_spurious.fedml_adapter.processes.grpc_transport import GrpcTransport
    from fedml_spurious.fedml_adapter.processes.mpi_transport import MpiTransport


def connect(settings: Settings, rank: Rank) -> Endpoint:
    """Open this process's end of the communication.

    Raises:
        InputError: the library of the backend is missing or does not fit, or the address cannot be used.
    """
    # See the docstring of this module.
    from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint

    comm, parent = settings.comm_args, os.getppid()
    try:
        transport = _mpi_transport(rank) if comm.backend == "MPI" else _grpc_transport(settings, rank)
    except ImportError as error:
        extra = comm.backend.lower()
        raise InputError(
            f"comm_args.backend: {comm.backend} cannot be used ({error}); install what it needs with "
            f"pip install 'fedml_spurious[{extra}]'"
        ) from error
    return Endpoint(
        transport,
        rank=rank.number,
        size=rank.size,
        backend=comm.backend,
        timeout=comm.timeout,
        # A killed mpirun takes nobody along; its processes find themselves with another parent.
        is_hello=is_introduction,
        abandoned=lambda: comm.backend == "MPI" and os.getppid() != parent,
    )


def _mpi_transport(rank: Rank) -> MpiTransport:
    # mpi4py is optional.
    from mpi4py import MPI

    # It needs mpi4py too.
    from fedml_spurious.fedml_adapter.processes.mpi_transport import MpiTransport

    world = MPI.COMM_WORLD
    if world.Get_size() != rank.size:
        raise InputError(
            f"mpirun started {counted(rank.size, 'process')}, but mpi4py sees {world.Get_size()}: they "
            f"belong to "
            "different MPI installations. Use the mpirun that `pip install 'fedml_spurious[mpi]'` brings"
        )
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise InputError("this MPI library has no support for threads (MPI_THREAD_MULTIPLE); use another one")
    return MpiTransport(world, rank.number, rank.size)


def _grpc_transport(settings: Settings, rank: Rank) -> GrpcTransport:
    # grpcio is optional.
    from fedml_spurious.fedml_adapter.processes.grpc_transport import GrpcTransport

    return GrpcTransport(rank.number, grpc_addresses(settings), Path(tempfile.gettempdir()))
