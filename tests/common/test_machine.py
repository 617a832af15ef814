"""Memory that is left, where a container has a limit."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import psutil
import pytest

from fedml_spurious.common.machine import free_memory, peak_memory, used_memory

TOP = Path("nowhere")  # as in a container, which does not see where it is


def test_without_cgroups_the_machines_memory_is_left(tmp_path: Path) -> None:
    assert free_memory(tmp_path, TOP) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_limit_leaves_what_it_does_not_use(version: int, tmp_path: Path) -> None:
    """Of 50 MB 30 are used, 10 of them by pages of files, which are given back."""
    names = {
        1: ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
        2: ("memory.max", "memory.current", "memory.stat", ""),
    }
    limit, usage, pages, prefix = names[version]
    (tmp_path / limit).parent.mkdir(exist_ok=True)
    (tmp_path / limit).write_text("50000000\n")
    (tmp_path / usage).write_text("30000000\n")
    (tmp_path / pages).write_text(f"anon 1\n{prefix}inactive_file 10000000\nslab 2\n")
    assert free_memory(tmp_path, TOP) == 30_000_000


@pytest.mark.parametrize(
    ("line", "folder", "limit", "usage"),
    [
        ("0::/jobs/step 7/task", "", "memory.max", "memory.current"),
        ("4:cpu,memory:/jobs/step 7/task", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
@pytest.mark.parametrize("limited", ["jobs", "jobs/step 7", "jobs/step 7/task"])
def test_the_limit_of_a_job_and_of_what_is_around_it_hold(
    limited: str, line: str, folder: str, limit: str, usage: str, tmp_path: Path
) -> None:
    """As Slurm and systemd limit a process: in a cgroup below the one at the top."""
    membership = tmp_path / "self"
    membership.write_text(f"9:name=systemd:/elsewhere\n{line}\n")
    place = tmp_path / folder / limited
    place.mkdir(parents=True)
    (place / limit).write_text("50000000\n")
    (place / usage).write_text("30000000\n")
    assert free_memory(tmp_path, membership) == 20_000_000
    membership.write_text("9:name=systemd:/elsewhere\n0::/\n")
    assert free_memory(tmp_path, membership) > 50_000_000


def test_the_name_of_a_cgroup_may_be_any_bytes(tmp_path: Path) -> None:
    membership, place = tmp_path / "self", tmp_path / os.fsdecode(b"jobs of Ren\xe9")
    membership.write_bytes(b"0::/jobs of Ren\xe9\n")
    place.mkdir()
    (place / "memory.max").write_text("50000000\n")
    (place / "memory.current").write_text("30000000\n")
    assert free_memory(tmp_path, membership) == 20_000_000


def test_a_container_without_a_limit_limits_nothing(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("30000000\n")
    assert free_memory(tmp_path, TOP) > 50_000_000


def test_the_peak_stays_where_memory_is_given_back() -> None:
    before = used_memory()
    with mmap.mmap(-1, 300_000_000) as taken:  # of its own; a heap may have been larger before
        for place in range(0, len(taken), mmap.PAGESIZE):
            taken[place] = 1
    assert peak_memory() >= before + 290_000_000
    assert used_memory() < before + 200_000_000
