"""Which process this is, its share of cores, GPUs and clients, and who does what next."""

from __future__ import annotations

from typing import Any

import pytest

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
    assert mpi_rank({}) is None


@pytest.mark.parametrize(
    ("cores", "usable", "on_host", "threads"),
    [(16, 16, 3, 5), (2, 2, 3, 1), (16, 1, 2, 1), (16, 8, 1, 8)],
)
def test_processes_share_the_cores_of_their_host(
    cores: int, usable: int, on_host: int, threads: int, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
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
