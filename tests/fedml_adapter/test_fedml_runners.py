"""Our classes in FedML's own runners, as the examples use them, against ``fedml-spurious run``."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import quick_start
import torch
import yaml
from running import invoke, without_time

from data_partition.colored_mnist import Options, build

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
PROGRAMS = Path(__file__).parent / "programs"
QUICK = (sys.executable, quick_start.__file__)


def environment(home: Path) -> dict[str, str]:
    places = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)}


def over_mpi(processes: int, home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert mpirun, "mpirun is missing: install the extra mpi"
    return subprocess.run(
        [mpirun, "--allow-run-as-root", "--oversubscribe", "-np", str(processes), *command],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=250,
    )


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def over_grpc(processes: int, home: Path, *command: str) -> list[tuple[int, str]]:
    """Exit status and output of every rank; FedML's clients look for the server once, so it starts first."""
    ports = free_ports(processes)
    table = home / "addresses.csv"
    rows = [f"{rank},{rank},127.0.0.1,{port}" for rank, port in enumerate(ports)]
    table.write_text("\n".join(["eid,rank,grpc_server_ip,grpc_server_port", *rows]) + "\n")
    running = []
    for rank in range(processes):
        running.append(
            subprocess.Popen(
                [*QUICK, *command, "--addresses", str(table), "--rank", str(rank)],
                cwd=home,
                env=environment(home),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        deadline = time.monotonic() + 120
        while rank == 0 and running[0].poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports[0])) == 0:
                    break
            time.sleep(0.1)
    try:
        return [(process.wait(timeout=200), process.communicate()[0]) for process in running]
    finally:
        for process in running:
            process.kill()


def configuration(example: str, splits: Path, **changes: Any) -> dict[str, Any]:
    """The configuration of an example, smaller."""
    content: dict[str, Any] = yaml.safe_load((EXAMPLES / example / "fedml_config.yaml").read_text())
    content["data_args"]["data_cache_dir"] = str(splits)
    content["model_args"]["fc_width"] = 8
    content["train_args"] |= {"comm_round": 2, "client_num_in_total": 2, "client_num_per_round": 2}
    content["spurious_args"]["attack_args"] |= {"steps": 2, "eps": 0.3}
    for section, values in changes.items():
        content[section] |= values
    return content


@pytest.fixture(scope="module")
def two_clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As few processes as show something: each imports FedML, which takes seconds."""
    folder = tmp_path_factory.mktemp("two_clients")
    options = Options(
        source="digits", clients=2, classes_per_client=3, limit=120, bias_conflicting_fraction=0.2, seed=1
    )
    build(options, raw=None, out=folder)
    return folder


@pytest.fixture(scope="module")
def reference(two_clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "run"
    content = configuration("fedml_mpi", two_clients, comm_args={"backend": "sp"})
    result = invoke(content, folder)
    assert result.exit_code == 0, result.output
    return folder


def require_same(found: Path, reference: Path) -> None:
    for name in ("results.csv", "results_last.csv"):
        assert without_time(found, name) == without_time(reference, name)
    assert (found / "table.csv").read_bytes() == (reference / "table.csv").read_bytes()
    own, other = (
        torch.load(folder / "global/fl0/model.pt", weights_only=True) for folder in (found, reference)
    )
    floats = [name for name, value in own.items() if value.is_floating_point()]
    assert all(torch.equal(own[name], other[name]) for name in floats)


def test_simulation_over_mpi(two_clients: Path, reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(configuration("fedml_mpi", two_clients)))
    train = str(EXAMPLES / "fedml_mpi" / "train.py")
    finished = over_mpi(3, tmp_path, sys.executable, train, "--cf", str(path), "--output", "out")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    require_same(tmp_path / "out", reference)
    assert "ours" in finished.stdout


def test_cross_silo_over_grpc(two_clients: Path, reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(configuration("fedml_cross_silo", two_clients)))
    train = str(EXAMPLES / "fedml_cross_silo" / "train.py")
    finished = over_grpc(3, tmp_path, train, "--cf", str(path), "--output", "out")
    assert [status for status, _ in finished] == [0] * 3, finished
    require_same(tmp_path / "out", reference)


def test_the_lines_of_the_page_in_a_program_with_plain_loaders(two_clients: Path, tmp_path: Path) -> None:
    """Cross-silo over MPI; the methods here need no group labels, which plain loaders do not have."""
    content = configuration("fedml_mpi", two_clients, comm_args={"backend": "sp"})
    content["spurious_args"] |= {
        "personalization_args": {"epochs": 5, "ours": {"lam_adv": 1.0, "lam_l2": 0.1}},
        "attack_args": {"eps": 0.031},
    }
    expected = tmp_path / "command"
    assert invoke(content, expected).exit_code == 0
    program = str(PROGRAMS / "lines_of_the_page.py")
    finished = over_mpi(3, tmp_path, *QUICK, program, str(two_clients), "out")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    require_same(tmp_path / "out", expected)


@pytest.mark.parametrize("runner", ["MPI", "GRPC"])
def test_an_error_on_one_rank_ends_all(runner: str, splits: Path, tmp_path: Path) -> None:
    """A client with another network: one message that names the tensors, and nobody waits."""
    program = str(PROGRAMS / "wrong_network.py")
    if runner == "MPI":
        finished = over_mpi(2, tmp_path, *QUICK, program, "MPI", str(splits))
        assert finished.returncode == 2, finished.stdout + finished.stderr
        assert finished.stderr.count("Error: the global weights do not fit the model") == 1
        return
    for status, output in over_grpc(2, tmp_path, program, "GRPC", str(splits)):
        assert status == 2, output
        assert output.count("Error: the global weights do not fit the model") == 1


def test_fedmls_own_classes_in_its_runner_give_the_average_of_the_clients(tmp_path: Path) -> None:
    """Their live tensors do no harm there, because messages are copies; and ours take part with them."""
    finished = over_mpi(3, tmp_path, *QUICK, str(PROGRAMS / "fedmls_own.py"))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert found["weight"].item() == pytest.approx(2 + 1 / 3, abs=1e-6)  # (10 * 2 + 20 * 2.5) / 30
