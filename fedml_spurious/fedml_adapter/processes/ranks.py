"""Which of the processes of a run this one is, and what is its share of the machine and of the clients."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted
from fedml_spurious.config.settings import Settings
from fedml_spurious.fedml_adapter.processes.timing import ABORT_TIMEOUT

# Names of rank, size and size on this host, as Open MPI, MPICH and others give them.
_MPI_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
    # PMIx alone names no size; Slurm's srun, which starts processes by it, does.
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"),
    ("PMIX_RANK", "SLURM_NTASKS", "SLURM_TASKS_PER_NODE"),
)
_SLURM_COUNTS = re.compile(r"(\d+)(?:\(x(\d+)\))?")


@dataclass(frozen=True)
class Rank:
    """A process of a run.

    Attributes:
        number: from 0; 0 is the server.
        size: number of processes.
        on_host: number of them on this host.
    """

    number: int
    size: int
    on_host: int


def mpi_rank(environment: Mapping[str, str] = os.environ) -> Rank | None:
    """This process as ``mpirun`` or ``srun`` started it; None where neither did.

    Raises:
        InputError: what they say is no number, or only half of it is there.
    """
    for number, size, on_host in _MPI_VARIABLES:
        said = {name: environment.get(name, "").strip() for name in (number, size)}
        if not all(said.values()):
            continue
        rank, total = (_whole_number(name, text) for name, text in said.items())
        if not rank < total:
            raise InputError(f"{number} is {rank} and {size} is {total}; expected a rank below the size")
        return Rank(rank, total, _on_this_host(environment, on_host, total))
    if environment.get("PMIX_RANK", "").strip():
        raise InputError(
            "PMIX_RANK is set, but no variable tells how many processes there are; start them with mpirun or "
            "srun, or unset it for a single process"
        )
    return None


def _whole_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise InputError(
            f"{name}: expected a whole number, got {text!r}; start through mpirun or srun, or unset it"
        )
    return int(text)


def _on_this_host(environment: Mapping[str, str], name: str, total: int) -> int:
    """Number of processes on this host; all, where nobody says."""
    text = environment.get(name, "").strip()
    if not text:
        return total
    if not name.startswith("SLURM"):
        return max(1, _whole_number(name, text))
    # As in 2(x3),1: two on each of three hosts, one on the next.
    found = [_SLURM_COUNTS.fullmatch(part) for part in text.split(",")]
    counts = [int(one[1]) for one in found if one for _ in range(int(one[2] or 1))]
    host = environment.get("SLURM_NODEID", "0").strip()
    known = None not in found and host.isdecimal() and int(host) < len(counts)
    return max(1, counts[int(host)]) if known else total


@contextmanager
def rank_zero_speaks() -> Iterator[None]:
    """Under mpirun all ranks find the same mistake in the input; only rank 0 says so."""
    rank = mpi_rank()
    try:
        yield
    except InputError as error:
        if rank is None or rank.number == 0:
            raise
        time.sleep(ABORT_TIMEOUT)
        raise InputError(f"rank {rank.number}: {error}") from None


def find_rank(settings: Settings, number: int | None, role: str | None) -> Rank | None:
    """Which process of the run this is; None where the run has one process alone.

    Args:
        settings: settings of the run.
        number: what ``--rank`` says.
        role: what ``--role`` says.

    Raises:
        InputError: the process was not started as ``comm_args.backend`` needs it.
    """
    backend, started = settings.comm_args.backend, mpi_rank()
    if backend == "sp":
        _require_alone(started, number, role)
        return None
    if backend == "MPI":
        if number is not None or role is not None:
            raise InputError("--rank and --role belong to comm_args.backend GRPC; mpirun numbers by itself")
        return _require_size(settings, started)
    if started is not None and started.size > 1:
        raise InputError(
            "comm_args.backend: is GRPC, whose processes are started one by one with --rank and --role, not "
            "by mpirun; or set comm_args.backend=MPI"
        )
    return _grpc_rank(settings, number, role)


def _require_alone(started: Rank | None, number: int | None, role: str | None) -> None:
    if started is not None and started.size > 1:
        raise InputError(
            f"comm_args.backend: is sp, one process, but mpirun started {started.size}; add "
            "--set comm_args.backend=MPI, or run without mpirun"
        )
    if number is not None or role is not None:
        raise InputError(
            "--rank and --role: comm_args.backend is sp, one process; add --set comm_args.backend=GRPC, or "
            "leave them out"
        )


def _require_size(settings: Settings, started: Rank | None) -> Rank:
    if started is None or started.size < 2:
        count = (
            "neither mpirun nor srun started this process" if started is None else "mpirun started 1 process"
        )
        raise InputError(
            f"comm_args.backend: is MPI, which needs a server and at least one worker, but {count}; start it "
            "with `mpirun -np 3 fedml-spurious run ...`, or set comm_args.backend=sp"
        )
    silos = settings.comm_args.silo_count
    if settings.common_args.training_type == "cross_silo" and silos not in (None, started.size - 1):
        raise InputError(
            f"comm_args: names {counted(silos, 'silo')} and with the server needs {silos + 1} "
            f"processes, but mpirun "
            f"started {started.size}; start it with -np {silos + 1}"
        )
    return started


def _grpc_rank(settings: Settings, number: int | None, role: str | None) -> Rank:
    addresses = grpc_addresses(settings)
    if number is None or role is None:
        raise InputError(
            "comm_args.backend: is GRPC, whose processes are started one by one: give --rank 0 --role server "
            f"to one, and --rank 1 to --rank {len(addresses) - 1} with --role client to the others"
        )
    if not 0 <= number < len(addresses):
        raise InputError(f"--rank {number}: expected 0 to {len(addresses) - 1}, as comm_args has addresses")
    expected = "client" if number else "server"
    if role != expected:
        raise InputError(f"--role {role}: rank {number} is a {expected}; rank 0 is the server")
    hosts = [host for host, _ in addresses]
    return Rank(number, len(addresses), hosts.count(hosts[number]))


def grpc_addresses(settings: Settings) -> list[tuple[str, int]]:
    """Host and port of every rank.

    Raises:
        InputError: they are not given.
    """
    comm = settings.comm_args
    if comm.grpc_addresses is not None:
        return [(host, int(port)) for host, _, port in (item.rpartition(":") for item in comm.grpc_addresses)]
    if comm.silo_count is None:
        raise InputError(
            "comm_args: GRPC needs to know its processes: give silos (their number, all on this machine), "
            "silo_clients, or grpc_addresses (host:port of every rank, the server first)"
        )
    return [("127.0.0.1", comm.grpc_base_port + number) for number in range(comm.silo_count + 1)]


def require_free(host: str, port: int, rank: int) -> None:
    """Make sure that a rank can listen here.

    Args:
        host: an address of this machine.
        port: of the rank.
        rank: its number, for the message.

    Raises:
        InputError: the port is taken, or the address is not this machine's.
    """
    # GRPC lets two servers share a port and would give each a part of the messages.
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise InputError(
            f"comm_args: rank {rank} cannot listen on {host}:{port} ({error.strerror or error}); another "
            "process has the port, or this machine has not that address. Change grpc_base_port or "
            "grpc_addresses"
        ) from None


def threads_of(settings: Settings, rank: Rank) -> int:
    """CPU threads of a process: as set, also by ``OMP_NUM_THREADS``, else its share of its host's cores."""
    if settings.device_args.threads is not None:
        return settings.device_args.threads
    # A list is for nested parallelism; libgomp ignores what is no number too.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isascii() and wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    # A process that mpirun bound to some cores may use no others.
    return max(1, min(len(os.sched_getaffinity(0)), (os.cpu_count() or 1) // rank.on_host))


def silo_of_clients(settings: Settings, clients: Sequence[str], size: int) -> dict[str, int]:
    """The rank that owns each client: as ``comm_args.silo_clients`` says, else in turn.

    Args:
        settings: settings of the run.
        clients: ids of all clients, in order.
        size: number of processes, the server among them.

    Raises:
        InputError: a client is in no silo or in two, or does not exist, or a silo would have none.
    """
    silos = size - 1
    if len(clients) < silos:
        raise InputError(
            f"{counted(silos, 'silo')} cannot share {counted(len(clients), 'client')}; start fewer processes"
        )
    shares = settings.comm_args.silo_clients
    if shares is None:
        return {client: 1 + index % silos for index, client in enumerate(clients)}
    named = [client for share in shares for client in share]
    twice = sorted({client for client in named if named.count(client) > 1})
    problems = [
        f"client {client} is in two silos" for client in twice
    ] + [
        f"there is no client {client}" for client in named if client not in clients
    ] + [
        f"client {client} is in no silo" for client in clients if client not in named
    ]  # fmt: skip
    if problems:
        raise InputError(f"comm_args.silo_clients: {'; '.join(problems[:3])}; name every client once")
    return {client: 1 + index for index, share in enumerate(shares) for client in share}


def process_is_gone(pid: int, host: str) -> bool:
    """Whether a process on this host has ended; False of processes elsewhere, which nobody can know here."""
    if host != socket.gethostname() or not Path("/proc/self").exists():
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"  # dead, but nobody has asked for its exit status yet
