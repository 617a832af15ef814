"""Whole runs under mpirun, against the same run in one process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import AS_USERS, Job, require_same_run, require_same_weights
from running import invoke, weights


@pytest.fixture
def config(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["device_args"] = {"threads": 1}
    tiny["experiment_args"] |= {"personalization_seeds": [0, 1]}
    tiny["personalization_args"] |= {"save_models": True, "trajectory_interval": 2}
    return tiny


def test_one_round_with_three_workers_equals_one_process(config: dict[str, Any], tmp_path: Path) -> None:
    """FedML's own simulation never ends with one round, and has one worker for every client of a round."""
    config["train_args"]["comm_round"] = 1
    alone = tmp_path / "alone"
    assert invoke(config, alone).exit_code == 0
    job = Job(config, tmp_path / "mpi")
    status, output = job.end(job.mpirun(4))
    assert status == 0, output
    require_same(job.folder, alone)
    require_tidy(job, output, alone, workers=(1, 2, 3))


def test_seeds_with_partitions_of_their_own_and_one_worker_equal_one_process(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """With the processes that users start."""
    partition = {"source": "digits", "clients": 4, "classes_per_client": 3, "limit": 240, "seed": None}
    config["data_args"] = {"dataset": "colored_mnist", "partition": partition}
    config["train_args"]["comm_round"] = 1
    config["personalization_args"] = {"epochs": 1, "batchnorm": "recalibrate"}
    config["experiment_args"] = {"methods": ["global", "ours"], "fl_seeds": [0, 1]}
    alone = tmp_path / "alone"
    assert invoke(config, alone).exit_code == 0
    job = Job(config, tmp_path / "mpi", AS_USERS)
    status, output = job.end(job.mpirun(2))
    assert status == 0, output
    require_same_run(job.folder, alone)
    require_same_weights(weights(job.folder, 1), weights(alone, 1))
    require_tidy(job, output, alone, workers=(1,))


def require_tidy(job: Job, output: str, alone: Path, workers: tuple[int, ...]) -> None:
    """Rank 0 alone is on the terminal, everybody's log is in the run folder, and nothing else is left."""
    job.require_none_left()
    assert output.count("Everything is in") == 1
    assert not re.search("INFO|WARNING", output)
    assert {path.name for path in (job.folder / "logs").iterdir()} == {f"rank{rank}.log" for rank in workers}
    assert "fedml" in (job.folder / "run.log").read_text()
    left = {path.name for path in job.folder.iterdir()} - {path.name for path in alone.iterdir()}
    assert left == {"logs"}


def require_same(folder: Path, alone: Path) -> None:
    require_same_run(folder, alone)
    assert (folder / "global/fl0/rounds.csv").read_bytes() == (alone / "global/fl0/rounds.csv").read_bytes()
    models, trajectories = ([*alone.glob(f"personal/**/{name}")] for name in ("*.pt", "trajectory.csv"))
    # Two methods and two seeds, with the options of their names beside them, for four clients.
    assert len(models) >= 2 * 2 * 4
    assert len(trajectories) >= 2 * 2
    for path in models:
        mine, theirs = (
            torch.load(item / path.relative_to(alone), weights_only=True) for item in (folder, alone)
        )
        require_same_weights(mine, theirs)
    for path in trajectories:
        assert (folder / path.relative_to(alone)).read_bytes() == path.read_bytes()
    notes = [json.loads(line)["event"] for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert notes.count("client") == 4 * 5
