"""What a run costs on one CUDA GPU, and whether it gives the same bits there.

    PYTHONPATH=. python examples/benchmarks/gpu.py --out /tmp/gpu

Needs torch, numpy, click and this repository; neither FedML nor pydantic, so that it also runs where only
torch is. The samples are random: times do not depend on what the pictures show. Without a GPU, or with
``--quick``, everything runs at a small size within seconds; those times say nothing about a GPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from gpu_checks import same_means, same_sums, same_training, synchronisations
from gpu_graphs import replayed_steps
from gpu_times import copies, personalization, processes, rounds, step_times, sums
from gpu_work import CLIENTS, FULL, QUICK, Bench, Row, prepare_device

import fedml_spurious

_CHECKPOINT = "checkpoint, with fsync"


def extrapolation(bench: Bench) -> list[Row]:
    """Seconds of ``fedml_configs/mnist.yaml`` with one seed, from what was measured at MNIST size."""
    found = {name.removeprefix("mnist: "): s for name, s in bench.found.items() if name.startswith("mnist: ")}
    needed = ("round", "round over the host", _CHECKPOINT, "measure a client", "ours")
    missing = [name for name in needed if name not in found]
    if missing:
        return [{"what": f"skipped: {', '.join(missing)} not measured", "times": None, "each ms": None}]
    # JTT: one epoch, then five of 1,008 samples with the 2 % that break the correlation 50 times in each.
    errors = round(0.02 * 1008)
    jtt = found["ft"] * (1 + 5 * (1008 + 49 * errors) / 1008) / 5
    every = [
        ("measuring the global model: 21 rounds x 50 clients", 21 * 50, found["measure a client"]),
        ("budget: one try x 50 clients", 50, found["budget, one client"]),
        (
            "preparing clients: 2 passes (trials, then the second grid of ours) x 50",
            100,
            found["prepare a client"],
        ),
        ("ft, uw: 2 x 50", 100, found["ft"]),
        (f"jtt: 50, with {errors} errors x 50 in the second stage", 50, jtt),
        ("adv: 4 values x 50", 200, found["adv"]),
        ("ditto, l2: (2 + 4) values x 50", 300, found["l2"]),
        ("ours: (4 + 4 - 1) values x 50", 350, found["ours"]),
    ]
    rounds = {"one process": found["round"], "one process, over the host": found["round over the host"]}
    several = [f"{n} processes" for n in range(2, CLIENTS + 1)]
    rounds |= {kind: found[kind] for kind in several if kind in found}
    rows = []
    for kind, each in rounds.items():
        parts = [
            (f"500 rounds, {kind}", 500, each),
            (f"checkpoints, {kind}", math.ceil(500 * each / CHECKPOINT_SECONDS), found[_CHECKPOINT]),
        ]
        # The work on single clients is shared by the processes as rounds are; no better is known of it.
        gain = found["1 processes"] / each if kind in several else 1.0
        total = sum(n * s for _, n, s in parts) + sum(n * s for _, n, s in every) / gain
        what = f"TOTAL {kind}, with the parts below, {gain:.2f} times as fast"
        rows += [*(_part(*part) for part in parts), {"what": what, "times": 1, "each ms": None, "s": total}]
    return [*rows, *(_part(*part) for part in every)]


def _part(what: str, times: int, each: float) -> Row:
    return {"what": what, "times": times, "each ms": each * 1e3, "s": times * each}


# In the order in which they are done: what matters most comes first, where time is short.
ITEMS: dict[str, Callable[[Bench], list[Row]]] = {
    "1a exact sums: the same bits on CPU and device": same_sums,
    "1b means that lie between two numbers": same_means,
    "2 training: the same bits twice": same_training,
    "3 synchronisations within a step": synchronisations,
    "6a a round of 5 clients": rounds,
    "4 host and device time of a step": step_times,
    "7 processes that share a round": processes,
    "6b personalizing one client": personalization,
    "5a copies": copies,
    "9 a step as a CUDA graph": replayed_steps,
    "5b exact average of 5 clients": sums,
    "8 mnist.yaml, one seed": extrapolation,
}
CHECKPOINT_SECONDS = 10.0  # validation_args.checkpoint_seconds


def machine(device: torch.device) -> Row:
    """What the figures are of."""
    package = Path(fedml_spurious.__file__).parent
    sources = sorted((package / "learning").glob("*.py"))
    facts: Row = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "learning": hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest(),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cudnn"] = torch.backends.cudnn.version()
        facts["tf32"] = {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "cudnn": torch.backends.cudnn.allow_tf32,
        }
        facts["nvidia-smi"] = _nvidia_smi()
    return facts


def _nvidia_smi() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "not found"
    fields = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu,memory.used"
    command = [program, f"--query-gpu={fields}", "--format=csv"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    click.echo(f"\n{title}")
    for line in [names, *cells]:
        click.echo(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def chosen_device(name: str | None) -> str:
    """The device that is asked for, else a GPU where there is one."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise click.BadParameter("torch finds no CUDA GPU on this machine; leave --device out or give cpu")
    return name or ("cuda" if available else "cpu")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for gpu.json.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="Default: a GPU where there is one.")
@click.option("--quick", is_flag=True, help="A small size, in seconds; always so on the CPU.")
@click.option("--limit", default=480.0, show_default=True, help="Seconds after which nothing more is timed.")
@click.option("--repeats", default=5, show_default=True, help="Of every timing, after a warm-up.")
def main(out: Path, device: str | None, quick: bool, limit: float, repeats: int) -> None:
    """Check and time training on one GPU."""
    where = prepare_device(chosen_device(device))
    quick = quick or where.type == "cpu"
    if where.type == "cpu":
        torch.set_num_threads(1)  # small networks lose by more, and busy machines by far
    if quick:
        click.echo("small sizes: what follows shows that the checks run, not how fast a GPU is")
    bench = Bench(where, QUICK if quick else FULL, repeats=1 if quick else repeats, found={})
    out.mkdir(parents=True, exist_ok=True)
    found: Row = {"machine": machine(where), "quick": quick, "device": str(where), "items": {}}
    show("machine", [{"fact": name, "value": value} for name, value in found["machine"].items()])
    begin = time.perf_counter()
    for title, item in ITEMS.items():
        started = time.perf_counter()
        if started - begin > limit and item is not extrapolation:
            rows: list[Row] = [{"skipped": f"the limit of {limit:g} s was reached"}]
        else:
            try:
                rows = item(bench)
            except RuntimeError as error:  # what torch raises for all that a device refuses
                rows = [{"failed": f"{type(error).__name__}: {error}"}]
        took = time.perf_counter() - started
        show(f"{title} ({took:.0f} s)", rows)
        found["items"][title] = {"seconds": took, "rows": rows}
        (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    show("machine afterwards", [{"nvidia-smi": _nvidia_smi()}])
    click.echo(f"\n{time.perf_counter() - begin:.0f} s in all; written to {out / 'gpu.json'}")


if __name__ == "__main__":
    main()
