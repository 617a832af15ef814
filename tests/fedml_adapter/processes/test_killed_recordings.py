"""Recordings of a run that is killed (SIGKILL) and continued: the bytes of one that nobody disturbed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import LIMIT, Job, require_same_run
from running import Finished, invoke

PARTS = "personal/**/twins/*.json"
KINDS = ("divergence", "gamma", "twins", "trajectory")


@pytest.fixture
def job(recorded: Finished, tmp_path: Path) -> Iterator[Job]:
    config = recorded.config | {"device_args": {"threads": 1}}
    job = Job(config, tmp_path / "run")
    yield job
    job.clean_up()


def recordings(folder: Path) -> dict[str, bytes]:
    """Everything that was recorded, by its place: the tables, and the parts they are put together from."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (path.stem in KINDS or path.parent.name in KINDS)
    }


def wait_for_files(job: Job, pattern: str, more_than: int = 0) -> None:
    deadline = time.monotonic() + LIMIT
    while len([*job.folder.glob(pattern)]) <= more_than:
        assert all(process.poll() is None for process in job.started), "it ended before"
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.005)


def test_a_worker_and_then_a_whole_process_are_killed(job: Job, recorded: Finished) -> None:
    """Divergence and trajectories come over MPI, twins and gamma from two workers and two processes."""
    process = job.mpirun(3)
    wait_for_files(job, PARTS)
    job.ranks()[2].kill()
    status, output = job.end(process)
    assert status == 128 + signal.SIGKILL, output
    job.require_none_left()
    assert not (job.folder / "twins.csv").exists()
    before = len([*job.folder.glob(PARTS)])
    job.started.clear()
    process = job.start(job.arguments("--resume"))
    wait_for_files(job, PARTS, more_than=before)
    process.kill()
    assert job.end(process)[0] == -signal.SIGKILL
    assert not (job.folder / "twins.csv").exists()
    assert invoke(recorded.config, job.folder, "--resume").exit_code == 0
    expected = recordings(recorded.folder)
    assert {"divergence.csv", "gamma.csv", "twins.csv", "personal/ft/fl0_p0/trajectory.csv"} <= {*expected}
    assert recordings(job.folder) == expected
    require_same_run(job.folder, recorded.folder)
