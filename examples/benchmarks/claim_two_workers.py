"""Claims (a) to (d) over MPI: two workers of one thread each, beside FedML in one process with two threads.

python examples/benchmarks/claim_two_workers.py a --anyway
"""

from __future__ import annotations

import atexit
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import claim_abc_rounds
import claim_de_clients
import click
import numpy as np
import processes
import yaml
from harness import Side, measure, require_quiet, show

from data_partition.own import write_splits
from fedml_spurious.learning.models import IMAGE_SIZES

WORKERS, ROUNDS = 2, 3


def rounds(setting: str, clients: int) -> Callable[[], dict[str, float]]:
    """Rounds of a run over MPI; the seconds of one, from the events of the run."""
    chosen = claim_abc_rounds.SETTINGS[setting]
    config: dict[str, Any] = {
        "model_args": {"model": chosen.network, "fc_width": chosen.fc_width},
        "train_args": {
            "client_num_per_round": clients, "comm_round": ROUNDS, "epochs": chosen.epochs,
            "batch_size": chosen.batch_size, "learning_rate": 1e-4,
        },
        "validation_args": {"frequency_of_the_test": ROUNDS},
        # What follows the rounds is not timed; a budget that is chosen takes longer than they do.
        "attack_args": {"budget": "fixed", "budget_samples": 1, "steps": 1},
        "experiment_args": {"methods": ["global"]},
    }  # fmt: skip
    sizes = {"train": chosen.samples, "val": 1, "test": 1, "test_bc": 1}

    def seconds(events: list[dict[str, Any]]) -> float:
        times = [event["time"] for event in events if event["event"] == "round"]
        return statistics.median(np.diff(times).tolist())

    return _run(config, clients, sizes, IMAGE_SIZES[chosen.network], seconds)


def personalization(setting: str, clients: int) -> Callable[[], dict[str, float]]:
    """Personalization with ``ours`` over MPI, with the measurement that belongs to it; the seconds of it."""
    chosen = claim_de_clients.SETTINGS[setting]
    config: dict[str, Any] = {
        "model_args": {"model": chosen.network, "fc_width": chosen.fc_width},
        "train_args": {
            "client_num_per_round": 1, "comm_round": 1, "epochs": 1, "batch_size": chosen.batch_size,
        },
        "personalization_args": {
            "epochs": chosen.epochs, "batch_size": chosen.batch_size, "learning_rate": 1e-4,
            "ours": {"lam_adv": claim_de_clients.LAM_ADV, "lam_l2": claim_de_clients.LAM_L2},
        },
        "attack_args": {"budget": "fixed", "eps": 0.031},
        "experiment_args": {"methods": ["global", "ours"]},
    }  # fmt: skip
    sizes = dict(zip(("train", "val", "test"), chosen.samples, strict=True)) | {"test_bc": 1}

    def seconds(events: list[dict[str, Any]]) -> float:
        trained = next(event["time"] for event in events if event["event"] == "round")
        return float(max(event["time"] for event in events if event["event"] == "client") - trained)

    return _run(config, clients, sizes, IMAGE_SIZES[chosen.network], seconds)


def _run(
    config: dict[str, Any],
    clients: int,
    sizes: dict[str, int],
    side: int,
    seconds: Callable[[list[dict[str, Any]]], float],
) -> Callable[[], dict[str, float]]:
    folder = Path(tempfile.mkdtemp(prefix="claim_two_workers_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # the side is asked for its work until then
    rng, names = np.random.default_rng(0), [split for split, count in sizes.items() for _ in range(count)]
    count = clients * len(names)
    label = np.arange(count) % 10
    write_splits(
        folder / "splits",
        "random",
        image=rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
        label=label,
        spurious=(label + (np.array(names * clients) == "test_bc")) % 10,
        client=np.repeat(np.arange(clients), len(names)),
        split=names * clients,
        conflicting_groups=[(label, (label + 1) % 10) for label in range(10)],
    )
    config["data_args"] = {"dataset": "random", "data_cache_dir": str(folder / "splits")}
    config["device_args"] = {"threads": 1}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))

    def work() -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            command = processes.command(folder / "run.yaml", Path(out) / "run", WORKERS)
            subprocess.run(command, check=True, capture_output=True)
            return {"s": seconds(processes.notes(Path(out) / "run"))}

    return work


def measure_claim(
    claim: str, repeats: int, clients: int = 4, setting: str | None = None, *, as_shipped: bool = False
) -> dict[str, dict[str, Any]]:
    """Seconds of the work of so many clients on all sides."""
    fedml, ours = "claim_abc_rounds:fedml", "claim_two_workers:rounds"
    if claim == "d":
        fedml, ours = "claim_de_clients:personalize_fedml", "claim_two_workers:personalization"
    options = {"setting": setting or claim, "clients": clients}
    sides = [
        Side("FedML, two threads", fedml, options, threads=2, allocator=False),
        Side("FedML, our allocator settings", fedml, options, threads=2),
        Side("ours, two workers", ours, options),
    ]
    if as_shipped:
        del sides[1]
    found = measure(sides, repeats)
    del found["ours, two workers"]["peak MB"]  # of the process that only waits
    return found


@click.command()
@click.argument("claim", type=click.Choice(["a", "b", "c", "d"]))
@click.option("--repeats", default=3, show_default=True)
@click.option("--clients", default=4, show_default=True, help="An even number, for two workers.")
@click.option("--as-shipped", is_flag=True, help="Without FedML on our allocator settings.")
@click.option("--anyway", is_flag=True, help="Measure on a busy machine too.")
def main(claim: str, repeats: int, clients: int, as_shipped: bool, anyway: bool) -> None:
    """Measure a claim and print its table.

    FedML's process keeps a model per client of a round: of 20 clients with 67 M parameters, 5.4 GB.
    """
    require_quiet(anyway)
    found = measure_claim(claim, repeats, clients, as_shipped=as_shipped)
    show(f"({claim}) {clients} clients over MPI", found)


if __name__ == "__main__":
    main()
