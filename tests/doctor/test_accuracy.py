"""What was foreseen, beside what a run took: time in seconds of the CPU, which neighbours change little.

Clocks on a wall are not read here: the cores are shared. docs/usage.md has what they showed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedml_spurious.config.file import shipped_configs

PROGRAM = Path(__file__).parent / "programs" / "measured.py"


def call(doing: str, output: str, *options: str, folder: Path, processes: int = 1) -> list[dict[str, Any]]:
    """What the processes of a call say."""
    command = [sys.executable, str(PROGRAM), doing, "quick.yaml", output, *options]
    start = [] if processes == 1 else mpirun(processes)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*start, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(path.read_text()) for path in folder.glob(f"{output}.*.json")]


def mpirun(processes: int) -> list[str]:
    program = Path(sys.executable).with_name("mpirun")
    return [str(program), "--allow-run-as-root", "--oversubscribe", "-np", str(processes)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the quickstart, shortened."""
    place = tmp_path_factory.mktemp("measured")
    config = yaml.safe_load(shipped_configs()["quickstart"].read_text(encoding="utf-8"))
    config["train_args"]["comm_round"] = 3
    config["personalization_args"] |= {"epochs": 2, "clients": ["0000", "0001", "0002"]}
    (place / "quick.yaml").write_text(yaml.safe_dump(config))
    return place


@pytest.fixture(scope="module")
def foreseen(folder: Path) -> dict[str, Any]:
    """Of one process, and of two over MPI."""
    (found,) = call("foresee", "foreseen", "sp", "MPI", folder=folder)
    return found


def require_within(span: dict[str, float], truth: float, ratio: float) -> None:
    assert span["low"] <= truth <= span["high"], (span, truth)
    assert span["middle"] / ratio <= truth <= span["middle"] * ratio, (span, truth)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_quickstart_takes_what_was_foreseen(folder: Path, foreseen: dict[str, Any]) -> None:
    (took,) = call("run", "alone", folder=folder)
    require_within(foreseen["sp"]["seconds"], took["seconds"], 1.5)
    require_within(foreseen["sp"]["memory"], took["peak"], 1.25)
    require_within(foreseen["sp"]["disk"], size_of(folder / "alone"), 1.25)


def test_two_processes_take_what_was_foreseen(folder: Path, foreseen: dict[str, Any]) -> None:
    """On one core, as the doctor was told: seconds of the run are then those of all processes."""
    took = call("run", "two", "--set", "comm_args.backend=MPI", folder=folder, processes=2)
    assert len(took) == 2
    require_within(foreseen["MPI"]["seconds"], sum(one["seconds"] for one in took), 1.5)
    require_within(foreseen["MPI"]["memory"], sum(one["peak"] for one in took), 1.25)
    require_within(foreseen["MPI"]["process"], max(one["peak"] for one in took), 1.25)
    require_within(foreseen["MPI"]["disk"], size_of(folder / "two"), 1.25)
