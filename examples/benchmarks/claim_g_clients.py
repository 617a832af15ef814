"""Claim (g): 50, 500 and 5,000 tiny clients: the time of a piece of work, and the memory, as a run grows.

python examples/benchmarks/claim_g_clients.py --out /tmp/clients --anyway
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from harness import HERE, require_quiet, show

from data_partition.own import write_splits

SIZES = {"train": 8, "val": 2, "test": 2, "test_bc": 2}
CONFIG: dict[str, Any] = {
    "model_args": {"model": "cnn_28x28", "fc_width": 16},
    "train_args": {"client_num_per_round": 5, "comm_round": 4, "epochs": 1, "batch_size": 8},
    "validation_args": {"frequency_of_the_test": 4},
    "attack_args": {"budget": "fixed", "steps": 1, "budget_samples": 1},
    "device_args": {"threads": 1},
    "personalization_args": {"epochs": 1},
    "experiment_args": {"methods": ["global", "ft"]},
}


def make_splits(folder: Path, clients: int) -> None:
    """Split files of clients with a handful of random images each."""
    rng, names = np.random.default_rng(0), [split for split, count in SIZES.items() for _ in range(count)]
    count = clients * len(names)
    label = np.arange(count) % 2
    write_splits(
        folder,
        "tiny",
        image=rng.integers(0, 256, (count, 28, 28, 3), dtype=np.uint8),
        label=label,
        spurious=label ^ (np.array(names * clients) == "test_bc"),
        client=np.repeat(np.arange(clients), len(names)),
        split=names * clients,
        conflicting_groups=[(0, 1), (1, 0)],
    )


def run(out: Path, clients: int) -> dict[str, Any]:
    """A run over so many clients: seconds in all, of a round and of a piece, and the largest memory."""
    make_splits(out / "splits", clients)
    config = out / "config.yaml"
    data = {"dataset": "tiny", "data_cache_dir": str(out / "splits")}
    config.write_text(yaml.safe_dump(CONFIG | {"data_args": data}))
    command = [sys.executable, "-m", "fedml_spurious.cli", "run", "--cf", str(config), "--output"]
    paths = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    begin = time.perf_counter()
    with (out / "output.txt").open("wb") as output:
        started = subprocess.Popen(
            [*command, str(out / "run")],
            env=os.environ | {"PYTHONPATH": paths}, stdout=output, stderr=output,
        )  # fmt: skip
        # Of this child alone: the largest of all children so far may be of another run.
        _, status, used = os.wait4(started.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise click.ClickException(f"the run failed, see {out / 'output.txt'}")
    lines = (out / "run/progress.jsonl").read_text().splitlines()
    # Of fine-tuning alone: global and ft of a client stand beside each other.
    times = [line["time"] for line in map(json.loads, lines) if line["event"] == "client"]
    pieces = np.diff(times)
    half = len(pieces) // 2
    first, second = (statistics.mean(part) for part in (pieces[:half], pieces[half:]))
    return {
        "s": seconds,
        "ms a piece": statistics.mean(pieces) * 1e3,
        "second half / first": second / first,
        "peak MB": used.ru_maxrss / 1e3,
    }


def measure_claim(out: Path, numbers: tuple[int, ...] = (50, 500, 5000)) -> dict[str, dict[str, Any]]:
    """One run per number of clients."""
    return {f"{number} clients": run(out / str(number), number) for number in sorted(numbers)}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Empty folder for the runs.")
@click.option("--anyway", is_flag=True, help="Measure on a busy machine too.")
def main(out: Path, anyway: bool) -> None:
    """Measure and print."""
    require_quiet(anyway)
    show("(g) tiny clients, 4 rounds and ft", measure_claim(out))


if __name__ == "__main__":
    main()
