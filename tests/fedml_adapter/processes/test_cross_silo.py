"""Silos read their own clients and nobody else's, over MPI and over GRPC."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jobs import SPY, Job, free_ports, groups_read, require_same_run, require_same_weights
from running import invoke

from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings
from fedml_spurious.fedml_adapter.processes.ranks import silo_of_clients


@pytest.fixture
def config(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["common_args"] = {"training_type": "cross_silo"}
    tiny["device_args"] = {"threads": 1}
    tiny["personalization_args"] |= {"save_models": True}
    tiny["comm_args"] = {"backend": "MPI", "silo_clients": [["0002"], ["0003", "0000", "0001"]]}
    return tiny


@pytest.fixture
def alone(config: dict[str, Any], tmp_path: Path) -> Path:
    single = config | {"common_args": {}, "comm_args": {}}
    folder = tmp_path / "alone"
    assert invoke(single, folder).exit_code == 0
    return folder


def test_silos_over_mpi_read_their_own_clients_only(
    config: dict[str, Any], alone: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SPY)
    job = Job(config, tmp_path / "run")
    status, output = job.end(job.mpirun(3, PYTHONPATH=str(tmp_path), SPY=str(tmp_path / "spy")))
    assert status == 0, output
    require_same(job.folder, alone)
    assert groups_read(tmp_path / "spy", 3) == {0: set(), 1: {"0002"}, 2: {"0000", "0001", "0003"}}
    job.require_none_left()
    # Personal models stay where the samples are.
    assert not list(job.folder.glob("personal/**/*.pt"))
    kept = {rank: {path.stem for path in job.folder.glob(f"silos/rank{rank}/**/*.pt")} for rank in (1, 2)}
    assert kept == {1: {"0002"}, 2: {"0000", "0001", "0003"}}


def test_silos_over_grpc_with_a_server_that_has_no_samples(
    config: dict[str, Any], alone: Path, splits: Path, tmp_path: Path
) -> None:
    description = tmp_path / "description"
    description.mkdir()
    shutil.copy(splits / "colored_mnist_meta.json", description)
    port = free_ports(3)
    config["comm_args"] |= {"backend": "GRPC", "grpc_base_port": port}
    job = Job(config, tmp_path / "run")
    here = ("--set", f"data_args.data_cache_dir={description}")
    server = job.start(job.arguments(*here, "--rank", "0", "--role", "server"))
    silos = [job.start(job.arguments("--rank", str(rank), "--role", "client")) for rank in (1, 2)]
    job.wait_for("round")
    # On the loopback interface and on no other.
    addresses = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for process in job.processes()
        for connection in process.net_connections()
        if connection.status == "LISTEN"
    }
    assert addresses == {("127.0.0.1", port + rank) for rank in range(3)}
    for process in (server, *silos):
        status, output = job.end(process)
        assert status == 0, output
    require_same(job.folder, alone)
    job.require_none_left()


def require_same(folder: Path, alone: Path) -> None:
    require_same_run(folder, alone)
    assert (folder / "global/fl0/rounds.csv").read_bytes() == (alone / "global/fl0/rounds.csv").read_bytes()
    # The silos' models have the names that they have in one process, also those that the table is about.
    kept = {Path(*path.relative_to(folder).parts[2:]): path for path in folder.glob("silos/**/*.pt")}
    assert {*kept} == {path.relative_to(alone) for path in alone.glob("personal/**/*.pt")}
    assert Path("personal/ours/fl0_p0/models/0002.pt") in kept
    for name, path in kept.items():
        mine, theirs = (torch.load(item, weights_only=True) for item in (path, alone / name))
        require_same_weights(mine, theirs)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([["0000", "0001"], ["0001", "0002", "0003"]], "client 0001 is in two silos"),
        ([["0000", "0001"], ["0002", "0003", "0009"]], "there is no client 0009"),
        ([["0000", "0001"], ["0002"]], "client 0003 is in no silo"),
    ],
)
def test_every_client_is_in_one_silo(shares: list[list[str]], message: str, config: dict[str, Any]) -> None:
    config["comm_args"]["silo_clients"] = shares
    with pytest.raises(InputError, match=message):
        silo_of_clients(check_settings(config, source="test"), ["0000", "0001", "0002", "0003"], 3)


@pytest.mark.parametrize(
    ("comm", "message"),
    [
        ({"backend": "sp"}, "cross_silo needs comm_args.backend MPI or GRPC"),
        ({"silos": 3}, "numbers of silos differ: silos names 3, silo_clients names 2"),
        ({"grpc_addresses": ["127.0.0.1:1", "0.0.0.0:2", "127.0.0.1:3"]}, "grpc_network=true"),
        ({"grpc_addresses": ["127.0.0.1", "127.0.0.1:2"]}, "grpc_addresses.0"),
        (
            {"grpc_addresses": ["127.0.0.1:1", "127.0.0.1:65536", "127.0.0.1:3"]},
            "grpc_addresses.1: expected host:port with a port from 1 to 65535",
        ),
        ({"grpc_addresses": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:2"]}, "two ranks have 127.0.0.1:2"),
    ],
)
def test_wrong_settings_are_named(comm: dict[str, Any], message: str, config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message):
        check_settings(config | {"comm_args": config["comm_args"] | comm}, source="test")


def test_rank_and_role_must_fit(config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config | {"comm_args": {"backend": "GRPC", "silos": 2}}))
    for options, message in (
        ((), "give --rank 0 --role server"),
        (("--rank", "3", "--role", "client"), "expected 0 to 2"),
        (("--rank", "1", "--role", "server"), "rank 1 is a client"),
    ):
        result = invoke(yaml.safe_load(path.read_text()), tmp_path / "run", *options)
        assert result.exit_code == 2
        assert message in result.output
