"""Which process this is, its share of cores, GPUs and clients, and who does what next."""

from __future__ import annotations

from typing import Any

import pytest

from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.tasks import CountFooled
from fedml_spurious.fedml_adapter.processes import ranks
from fedml_spurious.fedml_adapter.processes.hand_out import HandOut, share_clients
from fedml_spurious.fedml_adapter.processes.ranks import (
    Rank,
    grpc_addresses,
    mpi_rank,
    silo_of_clients,
    threads_of,
)
from fedml_spurious.fedml_adapter.processes.worker_process import _with_gpu


def settings(tiny: dict[str, Any], **sections: Any) -> Settings:
    return check_settings(tiny | sections, source="test")


def test_what_mpirun_says() -> None:
    open_mpi = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "5", "OMPI_COMM_WORLD_LOCAL_SIZE": "3"}
    assert mpi_rank(open_mpi) == Rank(2, 5, 3)
    assert mpi_rank({"PMI_RANK": "1", "PMI_SIZE": "4"}) == Rank(1, 4, 4)
    assert mpi_rank({"MV2_COMM_WORLD_RANK": "0", "MV2_COMM_WORLD_SIZE": "2"}) == Rank(0, 2, 2)
    assert mpi_rank({}) is None


SRUN = {"PMIX_RANK": "3", "PMIX_NAMESPACE": "slurm.pmix.7.0", "SLURM_PROCID": "3"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_STEP_NUM_TASKS": "4"}, Rank(3, 4, 4)),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "9"}, Rank(3, 4, 4)),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": ""}, Rank(3, 4, 4)),
        (
            {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_NODEID": "1"},
            Rank(3, 4, 2),
        ),
        (
            {"SLURM_STEP_NUM_TASKS": "7", "SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_NODEID": "3"},
            Rank(3, 7, 1),
        ),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "?", "SLURM_NODEID": "1"}, Rank(3, 4, 4)),
        # Open MPI under srun knows better.
        (
            {"SLURM_NTASKS": "2", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "3"},
            Rank(0, 3, 3),
        ),
    ],
)
def test_what_srun_says_through_pmix(variables: dict[str, str], expected: Rank) -> None:
    assert mpi_rank(SRUN | variables) == expected


def test_a_batch_script_of_slurm_is_one_process() -> None:
    """Slurm sets these in the script itself, which srun did not start."""
    assert mpi_rank({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}) is None


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD", "MV2_COMM_WORLD", "PMI"])
@pytest.mark.parametrize(
    ("rank", "size", "expected"),
    [
        ("", "", None),
        (" ", "2", None),
        ("", "2", None),
        ("1", "", None),
        ("x", "2", "expected a whole number, got 'x'"),
        ("0", "-1", "expected a whole number, got '-1'"),
        ("1.5", "2", "expected a whole number, got '1.5'"),
        ("2", "2", "expected a rank below the size"),
        ("\N{ARABIC-INDIC DIGIT ONE}", "2", "expected a whole number"),
    ],
)
def test_odd_variables_are_no_traceback(name: str, rank: str, size: str, expected: str | None) -> None:
    variables = {f"{name}_RANK": rank, f"{name}_SIZE": size}
    if expected is None:
        assert mpi_rank(variables) is None
        return
    with pytest.raises(InputError, match=expected):
        mpi_rank(variables)


def test_a_rank_without_any_size_is_refused() -> None:
    with pytest.raises(InputError, match="PMIX_RANK is set, but no variable tells how many processes"):
        mpi_rank({"PMIX_RANK": "0"})


@pytest.mark.parametrize(
    ("variable", "threads"),
    [("4", 4), ("3,2", 3), (" 2 ", 2), ("", 5), ("0", 5), ("-1", 5), ("many", 5), (None, 5)],
)
def test_the_threads_that_the_user_asks_of_openmp_are_taken(
    variable: str | None, threads: int, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(ranks.os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    no_threads = settings(tiny, device_args={})
    assert threads_of(no_threads, Rank(1, 9, 3)) == threads
    assert threads_of(settings(tiny, device_args={"threads": 7}), Rank(1, 9, 3)) == 7


@pytest.mark.parametrize(
    ("cores", "usable", "on_host", "threads"),
    [(16, 16, 3, 5), (2, 2, 3, 1), (16, 1, 2, 1), (16, 8, 1, 8)],
)
def test_processes_share_the_cores_of_their_host(
    cores: int, usable: int, on_host: int, threads: int, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(ranks.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(ranks.os, "sched_getaffinity", lambda _: set(range(usable)))
    assert threads_of(settings(tiny), Rank(1, 9, on_host)) == threads
    assert threads_of(settings(tiny, device_args={"threads": 7}), Rank(1, 9, on_host)) == 7


@pytest.mark.parametrize(
    ("gpus", "expected"), [(None, [3, 3, 3, 3]), ([0, 1], [0, 1, 0, 1]), ([2], [2, 2, 2, 2])]
)
def test_workers_have_one_gpu_each_or_share_one(
    gpus: list[int] | None, expected: list[int], tiny: dict[str, Any]
) -> None:
    device: dict[str, Any] = {"using_gpu": True, "gpu_id": 3}
    chosen = settings(tiny, device_args=device | ({} if gpus is None else {"worker_gpus": gpus}))
    found = [_with_gpu(chosen, Rank(number, 5, 5)).device_args.gpu_id for number in range(1, 5)]
    assert found == expected


def test_addresses_of_grpc(tiny: dict[str, Any]) -> None:
    local = settings(tiny, comm_args={"backend": "GRPC", "silos": 2, "grpc_base_port": 9000})
    assert grpc_addresses(local) == [("127.0.0.1", 9000), ("127.0.0.1", 9001), ("127.0.0.1", 9002)]
    named = {"backend": "GRPC", "grpc_addresses": ["a.org:1", "b.org:2"], "grpc_network": True}
    assert grpc_addresses(settings(tiny, comm_args=named)) == [("a.org", 1), ("b.org", 2)]


def test_silos_share_the_clients_in_turn_or_as_told(tiny: dict[str, Any]) -> None:
    clients = ["a", "b", "c"]
    assert silo_of_clients(settings(tiny), clients, 3) == {"a": 1, "b": 2, "c": 1}
    told = settings(tiny, comm_args={"backend": "MPI", "silo_clients": [["c"], ["a", "b"]]})
    assert silo_of_clients(told, clients, 3) == {"c": 1, "a": 2, "b": 2}


def test_the_clients_of_a_round_are_spread_by_their_samples() -> None:
    # The largest first, each to the worker with the least: 50 | 30, 10, 10, then 9 to the first.
    shares = share_clients({4: 50, 7: 10, 8: 30, 9: 10, 11: 9}, [1, 2])
    assert shares == {1: [4, 11], 2: [7, 8, 9]}
    assert share_clients({3: 5}, [1, 2, 3]) == {1: [3]}


def test_a_worker_keeps_its_client_and_helps_when_no_other_is_left() -> None:
    tasks = [CountFooled(client, eps) for client in "abc" for eps in (1.0, 2.0, 3.0)]
    out = HandOut(tasks, None)
    first = [(rank, out.next_for(rank)) for rank in (1, 2, 1, 1, 1, 1, 1, 2, 1)]
    got = [(rank, task.client, task.eps) for rank, task in first if task]
    assert got == [
        (1, "a", 1.0), (2, "b", 1.0), (1, "a", 2.0), (1, "a", 3.0), (1, "c", 1.0), (1, "c", 2.0),
        (1, "c", 3.0), (2, "b", 2.0), (1, "b", 3.0),
    ]  # fmt: skip
    assert not out
    assert out.next_for(1) is None


def test_a_task_goes_to_the_silo_of_its_client() -> None:
    out = HandOut([CountFooled("a", 1.0), CountFooled("b", 1.0)], {"a": 2, "b": 2})
    assert out.next_for(1) is None
    assert out.next_for(2) == CountFooled("a", 1.0)
