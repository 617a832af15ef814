"""Several hosts: network namespaces with an address, a loopback interface and a host name of their own.

They share the file system, as the hosts of a cluster do. Needs root and the command ``ip``.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import Job, mpirun, require_same_run
from running import invoke

HOSTS = ("fsp0", "fsp1", "fsp2")
TIMEOUT = 5.0

# Takes the place of ssh: runs the command in the namespace that has the name of the host.
AGENT = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
host=$1; shift
exec ip netns exec "$host" unshare -u bash -c "hostname $host; $*"
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def inside(host: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", host, *command]


@pytest.fixture
def hosts() -> Iterator[None]:
    """Three hosts with the addresses 10.93.0.1 to 3; the first has the switch."""
    if os.getuid() or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("network namespaces need root, ip and unshare")
    try:
        ip("netns", "add", HOSTS[0])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr!r}")
    try:
        connect()
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)
            shutil.rmtree(f"/etc/netns/{host}", ignore_errors=True)


def connect() -> None:
    for host in HOSTS[1:]:
        ip("netns", "add", host)
    names = "".join(f"10.93.0.{number} {host}\n" for number, host in enumerate(HOSTS, start=1))
    for host in HOSTS:
        folder = Path("/etc/netns") / host
        folder.mkdir(parents=True)
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + names)
        ip("-n", host, "link", "set", "lo", "up")
    ip("-n", HOSTS[0], "link", "add", "switch0", "type", "bridge")
    ip("-n", HOSTS[0], "addr", "add", "10.93.0.1/24", "dev", "switch0")
    ip("-n", HOSTS[0], "link", "set", "switch0", "up")
    for number, host in enumerate(HOSTS[1:], start=2):
        port, card = f"port{number}", f"card{number}"
        ip("link", "add", port, "netns", HOSTS[0], "type", "veth", "peer", "name", card, "netns", host)
        ip("-n", HOSTS[0], "link", "set", port, "master", "switch0", "up")
        ip("-n", host, "addr", "add", f"10.93.0.{number}/24", "dev", card)
        ip("-n", host, "link", "set", card, "up")


@pytest.fixture
def config(tiny: dict[str, Any]) -> dict[str, Any]:
    return tiny | {"device_args": {"threads": 1}}


@pytest.mark.usefixtures("hosts")
def test_mpi_over_three_hosts_equals_one_process(config: dict[str, Any], tmp_path: Path) -> None:
    assert invoke(config, tmp_path / "alone").exit_code == 0
    agent = tmp_path / "agent.sh"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    job = Job(config, tmp_path / "run")
    slots = ",".join(f"{host}:1" for host in HOSTS)
    command = [
        *mpirun(3), "--prtemca", "plm", "ssh", "--prtemca", "plm_ssh_agent", str(agent), "--host", slots,
        "--map-by", "ppr:1:node:oversubscribe", *job.arguments("--set", "comm_args.backend=MPI"),
    ]  # fmt: skip
    first = inside(HOSTS[0], "unshare", "-u", "bash", "-c", f'hostname {HOSTS[0]}; exec "$@"', "bash")
    status, output = job.end(job.start([*first, *command]))
    assert status == 0, output
    log = (job.folder / "run.log").read_text()
    assert "rank 1: process" in log
    assert f"on {HOSTS[1]}\n" in log
    assert f"on {HOSTS[2]}\n" in log
    require_same_run(job.folder, tmp_path / "alone")


@pytest.mark.usefixtures("hosts")
def test_a_cut_cable_ends_silos_over_grpc_on_both_sides(config: dict[str, Any], tmp_path: Path) -> None:
    config = copy.deepcopy(config)
    config["common_args"] = {"training_type": "cross_silo"}
    config["train_args"] |= {"comm_round": 2000}
    addresses = [f"10.93.0.{number}:8890" for number in (1, 2, 3)]
    config["comm_args"] = {
        "backend": "GRPC", "grpc_addresses": addresses, "grpc_network": True, "timeout": TIMEOUT,
    }  # fmt: skip
    job = Job(config, tmp_path / "run")
    processes = [
        job.start(inside(host, *job.arguments("--rank", str(rank), "--role", "client" if rank else "server")))
        for rank, host in enumerate(HOSTS)
    ]
    job.wait_for("round")
    cut = time.monotonic()
    ip("-n", HOSTS[0], "link", "set", "port3", "down")
    outputs = []
    for process in processes:
        status, output = job.end(process, 60)
        assert status == 1, output
        outputs.append(output)
    assert time.monotonic() - cut < TIMEOUT + 30  # TCP by itself would wait for a quarter of an hour
    assert "rank 2 gave no sign of life" in outputs[0]
    assert "rank 0 ended the run: rank 2 gave no sign of life" in outputs[1]
    assert "rank 0 was silent" in outputs[2]
    job.require_none_left()
