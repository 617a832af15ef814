"""Times several sides of one claim beside each other: a process each, taken in turn, warmed up, repeated.

A side has a process of its own because the allocator's settings are of the process. All processes stay alive
and wait while another one works, so that whatever changes on the machine meanwhile meets all sides alike.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
BUSY = 0.5  # load per core from which times say little


@dataclass(frozen=True)
class Side:
    """One way to do the work of a claim.

    Attributes:
        name: as the table has it.
        make: ``module:function`` beside this file, which makes the work: a function without arguments.
        options: for ``make``.
        threads: CPU threads.
        allocator: whether glibc keeps freed memory, as in our runs.
    """

    name: str
    make: str
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    allocator: bool = True


class Process:
    """A side, at work when it is asked to be."""

    def __init__(self, side: Side) -> None:
        paths = [str(HERE.parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
        variables = {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": str(side.threads),
            "FEDML_SPURIOUS_ALLOCATOR": "ours" if side.allocator else "system",
        }
        self.side = side
        self._child = subprocess.Popen(
            [sys.executable, str(HERE / "serve.py"), side.make, json.dumps(side.options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | variables,
        )

    def work(self) -> dict[str, Any]:
        """Have the work done once: its seconds, and what the side says of itself."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write("go\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline()
        if not answer:
            raise click.ClickException(f"{self.side.name}: the process ended with {self._child.wait()}")
        return json.loads(answer)  # type: ignore[no-any-return]

    def end(self) -> None:
        """End the process."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(60)


def measure(sides: Sequence[Side], repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds of every side, taken in turn after a warm-up, with the medians and the ratios to the first."""
    processes = []
    try:
        for side in sides:
            processes.append(Process(side))
            processes[-1].work()  # the warm-up; one after the other, so that memory is claimed in peace
        answers = [[process.work() for process in processes] for _ in range(repeats)]
    finally:
        for process in processes:
            process.end()
    found: dict[str, dict[str, Any]] = {}
    for place, side in enumerate(sides):
        seconds = [row[place]["s"] for row in answers]
        found[side.name] = {
            "s": statistics.median(seconds),
            "from": min(seconds),
            "to": max(seconds),
            "threads": side.threads,
            "peak MB": max(row[place]["peak MB"] for row in answers),
        }
    first = next(iter(found.values()))["s"]
    return {name: {**row, "times as fast": first / row["s"]} for name, row in found.items()}


def machine() -> dict[str, Any]:
    """What the figures are of."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "load before": os.getloadavg()[0],
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def require_quiet(anyway: bool) -> None:
    """Refuse a machine that does something else.

    Raises:
        ClickException: it does.
    """
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > BUSY * cores and not anyway:
        raise click.ClickException(
            f"the machine is busy: a load of {load:.1f} on {cores} cores; wait, or give --anyway"
        )


def show(title: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a claim's table."""
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    cells = [["", *names], *([side, *(_cell(row.get(n)) for n in names)] for side, row in found.items())]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names) + 1)]
    click.echo(f"\n{title}")
    for line in cells:
        click.echo("  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
