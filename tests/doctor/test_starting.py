"""Several processes: what they need, and the command that really starts them here."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from asking import ask, missing

from fedml_spurious.common import programs
from fedml_spurious.config.file import check_settings
from fedml_spurious.doctor import checks
from fedml_spurious.fedml_adapter.processes.job import Job
from fedml_spurious.fedml_adapter.processes.ranks import Rank


def test_several_processes_need_their_packages_and_mpirun(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = ask(tiny, tmp_path, "--set", "comm_args.backend=MPI")
    assert result.exit_code == 0, result.output
    assert re.search(r"It can be run: \S*mpirun .*-np 3 \S*fedml-spurious run ", result.output)
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    monkeypatch.setattr(programs.shutil, "which", lambda _: None)
    monkeypatch.setattr(programs.sys, "executable", "/nowhere/python")
    packages, mpi = missing(ask(tiny, tmp_path, "--set", "comm_args.backend=MPI"))
    assert "needs mpi4py; install what it needs with pip install 'fedml_spurious[mpi]'" in packages
    assert "no mpirun on the PATH; pip install 'fedml_spurious[mpi]' brings one" in mpi


def test_the_command_that_is_printed_starts_as_many_processes_here(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than there are cores, as whoever this is; each says its number instead of running."""
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "5")  # as under mpirun -np 5
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    result = ask(tiny, tmp_path, "--set", "comm_args.backend=MPI")
    assert result.exit_code == 0, result.output
    words = shlex.split(result.output.partition("It can be run: ")[2])
    program = next(place for place, word in enumerate(words) if word.endswith("fedml-spurious"))
    says = "import os; print('rank', os.environ['OMPI_COMM_WORLD_RANK'])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMPI_")}
    started = subprocess.run(
        [*words[:program], sys.executable, "-S", "-c", says], capture_output=True, text=True, env=environment
    )
    assert sorted(started.stdout.splitlines()) == [f"rank {rank}" for rank in range(5)], started.stderr


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("mpirun (Open MPI) 5.0.3", "--allow-run-as-root --oversubscribe --bind-to none -np 3"),
        ("mpirun (Open MPI) 4.1.4", "--allow-run-as-root --oversubscribe --bind-to none -np 3"),
        ("HYDRA build details:", "-np 3"),  # MPICH knows none of these
    ],
)
def test_mpirun_gets_the_options_that_it_knows_and_needs(
    version: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mpirun"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(programs.os, "geteuid", lambda: 0)
    monkeypatch.setattr(programs, "cores", lambda: 2)
    assert programs.mpirun_words(3, 2) == ["mpirun", *expected.split()]
    monkeypatch.setattr(programs.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(programs, "cores", lambda: 8)
    monkeypatch.setattr(programs.psutil, "cpu_count", lambda **_: 4)
    assert programs.mpirun_words(3, 1) == ["mpirun", "-np", "3"]


@pytest.mark.parametrize(
    ("variable", "user", "threads", "expected"),
    [
        ("OMPI_COMM_WORLD_SIZE", 0, 1, "--allow-run-as-root --oversubscribe -np 3"),
        ("OMPI_COMM_WORLD_SIZE", 1000, 2, "--oversubscribe --bind-to none -np 3"),
        ("PMI_SIZE", 0, 2, "-np 3"),  # MPICH, as above
    ],
)
def test_the_command_that_goes_on_has_the_same_options(
    variable: str, user: int, threads: int, expected: str, tiny: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "mpirun").write_text("#!/bin/sh\nexit 1\n")  # none is started under MPI
    (tmp_path / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv(variable, "3")
    monkeypatch.setattr(programs.os, "geteuid", lambda: user)
    monkeypatch.setattr(programs, "cores", lambda: 2)
    mpi = {"comm_args": {"backend": "MPI"}, "device_args": {"threads": threads}}
    settings, job = check_settings(tiny | mpi, source="test"), Job("fedml-spurious run --resume")
    assert job.command_for(settings, Rank(1, 3, 3)) == f"mpirun {expected} fedml-spurious run --resume"
    elsewhere = job.command_for(settings, Rank(1, 3, 1))  # on a host each
    assert "--oversubscribe" not in elsewhere


def test_every_process_of_grpc_has_its_command(tiny: dict[str, Any], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sets = ["comm_args.backend=GRPC", "comm_args.silos=2", f"comm_args.grpc_base_port={port}"]
    result = ask(tiny, tmp_path, *(part for one in sets for part in ("--set", one)))
    assert result.exit_code == 0, result.output
    ends = [line.partition(f"{tmp_path / 'run'} ")[2] for line in result.output.splitlines()[-3:]]
    roles = ("server", "client", "client")
    assert ends == [f"--rank {rank} --role {role}" for rank, role in enumerate(roles)]


def test_a_port_that_is_taken_is_said(tiny: dict[str, Any], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sets = ["comm_args.backend=GRPC", "comm_args.silos=1", f"comm_args.grpc_base_port={port}"]
        (line,) = missing(ask(tiny, tmp_path, *(part for one in sets for part in ("--set", one))))
    assert f"rank 0 cannot listen on 127.0.0.1:{port}" in line
    assert "Change grpc_base_port" in line


def test_one_process_of_many_speaks(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "5")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    result = ask(tiny, tmp_path, "--set", "comm_args.backend=MPI")
    assert (result.exit_code, result.output) == (0, "")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    assert " -np 5 " in ask(tiny, tmp_path, "--set", "comm_args.backend=MPI").output
