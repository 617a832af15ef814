"""Claim (h): how long it takes until something happens.

python examples/benchmarks/claim_h_start.py --anyway
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

import click
from harness import HERE, require_quiet, show

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import fedml": ["-c", "import fedml"],
    "fedml-spurious --help": ["-m", "fedml_spurious.cli", "--help"],
    "fedml-spurious run --help": ["-m", "fedml_spurious.cli", "run", "--help"],
    "a mistake in a configuration": [
        "-m", "fedml_spurious.cli", "run", "--cf", "quickstart", "--set", "train_args.epochs=0",
    ],
    "import fedml_spurious.experiment.run": ["-c", "import fedml_spurious.experiment.run"],
}  # fmt: skip


def measure_claim(repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds of every command, taken in turn after a warm-up."""
    paths = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments],
                env=os.environ | {"PYTHONPATH": paths},
                capture_output=True,
                check=False,
            )
            seconds[name].append(time.perf_counter() - begin)
    return {
        name: {"s": statistics.median(s[1:]), "from": min(s[1:]), "to": max(s[1:])}
        for name, s in seconds.items()
    }


@click.command()
@click.option("--repeats", default=5, show_default=True)
@click.option("--anyway", is_flag=True, help="Measure on a busy machine too.")
def main(repeats: int, anyway: bool) -> None:
    """Measure and print."""
    require_quiet(anyway)
    show("(h) start-up", measure_claim(repeats))


if __name__ == "__main__":
    main()
