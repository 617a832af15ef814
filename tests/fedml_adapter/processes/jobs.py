"""How tests start runs of several processes, wait for them with a limit, and look for what is left."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil
import quick_start
import torch
import yaml
from running import weights, without_time

LIMIT = 240.0  # a machine that is busy with other things takes minutes for what takes seconds
AS_USERS = [sys.executable, "-m", "fedml_spurious.cli", "run"]
# Imported by every Python process of a test before anything else: writes down what h5py is asked for, and
# what is read of the split files without h5py.
SPY = """
import os, posixpath, sys
import h5py

rank = os.environ.get("OMPI_COMM_WORLD_RANK")
if rank is not None:
    log = os.environ["SPY"] + rank
    record = lambda text: os.write(descriptor, (text + "\\n").encode())
    descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    inner = h5py.h5o.open  # what h5py's own objects call too

    def get(parent, name, *others, **options):
        record("group " + posixpath.join(h5py.h5i.get_name(parent).decode(), name.decode()))
        return inner(parent, name, *others, **options)

    h5py.h5o.open = get
    sys.addaudithook(lambda event, args: record(f"file {args[0]}")
        if event == "open" and str(args[0]).endswith(".h5") else None)
"""

QUICK = [sys.executable, quick_start.__file__, "fedml_spurious.cli", "run"]


class Job:
    """Processes of one run, started from one configuration.

    Args:
        config: the configuration.
        folder: folder of the run; its name finds the processes.
        command: what starts a process.
    """

    def __init__(self, config: dict[str, Any], folder: Path, command: Sequence[str] = QUICK) -> None:
        self.folder = folder
        self.command = command
        self.path = folder.parent / f"{folder.name}.yaml"
        config = config | {"experiment_args": {"report": False} | (config.get("experiment_args") or {})}
        self.path.write_text(yaml.safe_dump(config))
        self.started: list[subprocess.Popen[str]] = []

    def arguments(self, *options: str, config: Path | None = None) -> list[str]:
        return [*self.command, "--cf", str(config or self.path), "--output", str(self.folder), *options]

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        places = [environment.pop("PYTHONPATH", ""), os.environ["PYTHONPATH"]]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
        process = subprocess.Popen(
            list(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder.parent,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        )
        self.started.append(process)
        return process

    def mpirun(self, processes: int, *options: str, **environment: str) -> subprocess.Popen[str]:
        backend = ("--set", "comm_args.backend=MPI")
        return self.start([*mpirun(processes), *self.arguments(*backend, *options)], **environment)

    def grpc(self, silos: int, port: int, *options: str) -> list[subprocess.Popen[str]]:
        common = (
            "--set", "comm_args.backend=GRPC", "--set", "common_args.training_type=cross_silo",
            "--set", f"comm_args.silos={silos}", "--set", f"comm_args.grpc_base_port={port}", *options,
        )  # fmt: skip
        roles = ["server"] + ["client"] * silos
        return [
            self.start(self.arguments(*common, "--rank", str(rank), "--role", role))
            for rank, role in enumerate(roles)
        ]

    def ranks(self) -> dict[int, psutil.Process]:
        """The running processes that mpirun started, by rank."""
        found = {}
        for process in self.processes():
            try:
                rank = process.environ().get("OMPI_COMM_WORLD_RANK")
            except psutil.Error:
                continue
            if rank is not None:
                found[int(rank)] = process
        return found

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = str(self.folder) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if mine:
                found.append(process)
        return found

    def wait_for(self, event: str) -> None:
        """Until the run has noted an event."""
        deadline = time.monotonic() + LIMIT
        path = self.folder / "progress.jsonl"
        while not (path.exists() and f'"event": "{event}"' in path.read_text()):
            ended = [process for process in self.started if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"no {event}: {[process.communicate() for process in ended]}")
            time.sleep(0.02)

    def end(self, process: subprocess.Popen[str], limit: float = LIMIT) -> tuple[int, str]:
        """Exit status and everything that was printed; all is killed after the limit."""
        try:
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            self.clean_up()
            output, errors = process.communicate()
            raise AssertionError(f"still running after {limit} s:\n{output}{errors}") from None
        return process.returncode, output + errors

    def require_none_left(self, seconds: float = 5.0) -> None:
        """No process of this run may remain."""
        deadline = time.monotonic() + seconds
        while left := self.processes():
            if time.monotonic() > deadline:
                names = [" ".join(process.cmdline()) for process in left]
                self.clean_up()
                raise AssertionError(f"left over: {names}")
            time.sleep(0.05)

    def clean_up(self) -> None:
        for process in self.processes():
            process.kill()


def require_same_run(folder: Path, expected: Path) -> None:
    """Two runs have found the same rows, times aside, and the same bits of the global model."""
    rows = without_time(expected)
    assert rows, f"{expected} has no results to compare with"
    assert without_time(folder) == rows
    require_same_weights(weights(folder), weights(expected))


def require_same_weights(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert expected, "no weights to compare with"
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def groups_read(spy: Path, processes: int) -> dict[int, set[str]]:
    """The clients whose groups each rank has opened, with ``SPY`` in every process.

    No rank may have read a whole file, for a checksum or otherwise: that would go over the samples of others.
    """
    read = {rank: spy.with_name(f"{spy.name}{rank}").read_text().splitlines() for rank in range(processes)}
    assert not [line for lines in read.values() for line in lines if line.startswith("file")]
    return {
        rank: {line.split("/")[2] for line in lines if line.startswith("group /examples/")}
        for rank, lines in read.items()
    }


def mpirun(processes: int) -> list[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which("mpirun", path=path)
    assert program, "mpirun is missing: install the extra mpi"
    return [program, "--allow-run-as-root", "--oversubscribe", "-np", str(processes)]


_HELD: dict[int, IO[str]] = {}  # locks of this process, by the first of its ports


def free_ports(count: int) -> int:
    """The first of so many free ports in a row, which no tests that run beside these get until these end.

    Two that found the same ports would both listen, and each would get a part of the messages. Ports of a job
    that has ended are not free for a minute, so that the next job takes others.
    """
    places = range(20_000, 32_000, 97)  # above, the system gives ports to whoever connects
    start = os.getpid() % len(places)
    for first in (*places[start:], *places[:start]):
        if not _hold(first):
            continue
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def _hold(first: int) -> bool:
    """Keep a place for this process, until it ends."""
    if first not in _HELD:
        lock = (Path(tempfile.gettempdir()) / f"fedml_spurious_tests_port_{first}").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        _HELD[first] = lock
    return True
