"""What several processes gain and cost: the same run alone, with one worker, and with two, over MPI.

    python examples/benchmarks/processes.py --out /tmp/processes

Prints wall times between the first and the last result (imports excluded), bytes and messages, whether the
results are the same, and how long a dead worker stays unnoticed. One thread per process; meant for a machine
that does nothing else.
"""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml

ROUNDS, WORKERS = 6, (1, 2)
EVENTS = ("start", "round", "client")
CONFIG: dict[str, Any] = {
    "data_args": {
        "dataset": "colored_mnist",
        "partition": {"source": "digits", "clients": 10, "classes_per_client": 5, "seed": 0},
    },
    "model_args": {"model": "cnn_28x28", "fc_width": 512},
    "train_args": {"client_num_per_round": 4, "comm_round": ROUNDS, "epochs": 5, "batch_size": 16},
    "validation_args": {"frequency_of_the_test": ROUNDS},
    "personalization_args": {"epochs": 5},
    "attack_args": {"budget": "fixed"},
    "device_args": {"threads": 1},
    "experiment_args": {"methods": ["global", "ft", "ours"]},
}


def command(config: Path, folder: Path, workers: int, *options: str) -> list[str]:
    """The command line of a run; no worker is a single process."""
    run = [sys.executable, "-m", "fedml_spurious.cli", "run", "--cf", str(config), "--output", str(folder)]
    if not workers:
        return [*run, *options]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    mpirun = [shutil.which("mpirun", path=path) or "mpirun", "--oversubscribe", "-np", str(workers + 1)]
    root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    return [*mpirun, *root, *run, "--set", "comm_args.backend=MPI", *options]


def notes(folder: Path) -> list[dict[str, Any]]:
    """Events of a run."""
    path = folder / "progress.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def seconds(folder: Path) -> dict[str, float]:
    """Wall time of the rounds and of the personalization."""
    times = {event: [note["time"] for note in notes(folder) if note["event"] == event] for event in EVENTS}
    trained = times["round"][-1]
    return {"training": trained - times["start"][0], "personalization": times["client"][-1] - trained}


def cpu_seconds() -> float:
    """CPU time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def results(folder: Path) -> list[dict[str, str]]:
    """All columns of ``results.csv`` but the time."""
    with (folder / "results.csv").open() as stream:
        return [{k: cell for k, cell in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def traffic(log: Path) -> str:
    """Messages and bytes that a rank sent, from its log."""
    found = re.findall(r"sent by rank \d+: (\{.*\})", log.read_text())
    return str(found[-1]) if found else "nothing logged"


def noticed(config: Path, folder: Path, number: int, options: Sequence[str]) -> float:
    """Seconds from a signal to worker 1 until mpirun has ended."""
    process = subprocess.Popen(
        command(config, folder, 2, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not any(note["event"] == "round" for note in notes(folder)):
        time.sleep(0.05)
    pid = int(re.findall(r"rank 1: process (\d+)", (folder / "run.log").read_text())[-1])
    sent = time.monotonic()
    os.kill(pid, number)
    process.wait(timeout=300)
    return time.monotonic() - sent


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Empty folder for the runs.")
def main(out: Path) -> None:
    """Measure and print."""
    out.mkdir(parents=True)
    config = out / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    found: dict[int, dict[str, float]] = {}
    for workers in (0, *WORKERS):
        folder = out / f"workers{workers}"
        before = cpu_seconds()
        subprocess.run(command(config, folder, workers), check=True, stdout=subprocess.DEVNULL)
        spent = cpu_seconds() - before
        found[workers] = seconds(folder)
        same = results(folder) == results(out / "workers0")
        times = ", ".join(f"{name} {value:.1f} s" for name, value in found[workers].items())
        click.echo(
            f"{workers} workers: {times}; {spent:.0f} s of CPU with imports; load {os.getloadavg()[0]:.1f}; "
            f"results the same as one process: {same}"
        )
        for log in [folder / "run.log", *sorted((folder / "logs").glob("*.log"))] if workers else []:
            click.echo(f"  {log.name}: {traffic(log)}")
    for name in found[0]:
        alone, one, two = (found[workers][name] for workers in (0, *WORKERS))
        click.echo(
            f"{name}: one worker takes {one / alone:.2f} of a single process; two workers are "
            f"{one / two:.2f} times as fast as one, efficiency {one / two / 2:.2f}"
        )
    for name, number, options in (
        ("killed (-9)", signal.SIGKILL, ()),
        ("stopped, comm_args.timeout 10", signal.SIGSTOP, ("--set", "comm_args.timeout=10")),
    ):
        took = noticed(config, out / f"signal{number}", number, options)
        click.echo(f"a worker {name}: everything ended after {took:.1f} s")


if __name__ == "__main__":
    main()
