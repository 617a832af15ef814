"""The programs that start a run on this machine, as they are to be typed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from fedml_spurious.common.machine import cores

_SECONDS = 10.0


def find_program(name: str) -> str | None:
    """What starts a program here: its name where it is on the PATH, else where it lies beside this Python.

    Returns:
        None where it is in neither place.
    """
    if shutil.which(name) is not None:
        return name
    beside_python = Path(sys.executable).with_name(name)
    return str(beside_python) if beside_python.is_file() else None


def mpirun_words(processes: int, threads: int) -> list[str]:
    """``mpirun`` with the options that it needs here to start so many processes on this machine.

    Open MPI refuses to run as root and to start more processes than there are cores, and binds each of two
    processes to one core; other implementations do none of this, and do not know its options.

    Args:
        processes: all of them.
        threads: CPU threads of each.
    """
    program = find_program("mpirun") or "mpirun"
    options = _of_open_mpi(processes, threads) if _is_open_mpi(program) else []
    return [program, *options, "-np", str(processes)]


def same_mpirun_words(processes: int, threads: int, on_host: int) -> list[str]:
    """The same for a process that ``mpirun`` has started, which starts no other one to find out.

    Args:
        processes: all of them.
        threads: CPU threads of each.
        on_host: how many of them are on this host.
    """
    # Processes under MPI are not to fork, the less so in a handler of signals.
    options = _of_open_mpi(on_host, threads) if "OMPI_COMM_WORLD_SIZE" in os.environ else []
    return [find_program("mpirun") or "mpirun", *options, "-np", str(processes)]


def _of_open_mpi(on_host: int, threads: int) -> list[str]:
    options = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    options += ["--oversubscribe"] if on_host > _slots() else []
    return options + (["--bind-to", "none"] if threads > 1 else [])


def _is_open_mpi(program: str) -> bool:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return "Open MPI" in said or "OpenRTE" in said


def _slots() -> int:
    """Processes that Open MPI starts by itself: one a core, however many threads that has."""
    return min(cores(), psutil.cpu_count(logical=False) or cores())
