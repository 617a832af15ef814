"""All claims of docs/performance.md in one go: a table each, and everything with the machine as JSON.

    python examples/benchmarks/all_claims.py --out /tmp/claims

Refuses a busy machine unless told otherwise (``--anyway``), and stops before a claim that it has no time for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import claim_abc_rounds
import claim_de_clients
import claim_f_experiment
import claim_g_clients
import claim_h_start
import click
from harness import machine, require_quiet, show

Found = dict[str, dict[str, Any]]


def claims(out: Path, repeats: int, small: bool) -> dict[str, Callable[[], Found]]:
    """What is measured, by title."""
    setting = "small" if small else None
    numbers = (3,) if small else (50, 500, 5000)
    rounds = partial(claim_abc_rounds.measure_claim, repeats=repeats, setting=setting)
    clients = partial(claim_de_clients.measure_claim, repeats=repeats, setting=setting)
    experiment = partial(claim_f_experiment.measure_claim, min(repeats, 2), setting or "f")
    return {
        "h start-up": partial(claim_h_start.measure_claim, repeats),
        "a round, 28x28, fc 4096, 2 x 1,008, batch 64": partial(rounds, "a"),
        "b round, 64x64, fc 4096, 3 x 21, batch 8, 2 epochs": partial(rounds, "b"),
        "c round, 64x64, fc 4096, 2 x 288, batch 64": partial(rounds, "c"),
        "d personalizing with ours, 64x64, 21 samples, 5 epochs": partial(clients, "d"),
        "e measuring 10 clients x 280": partial(clients, "e"),
        "f experiment, 10 clients, 12 rounds, 6 methods": experiment,
        "g tiny clients, 4 rounds and ft": partial(claim_g_clients.measure_claim, out / "clients", numbers),
    }


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Empty folder for claims.json.")
@click.option("--repeats", default=5, show_default=True, help="Of every timing, after a warm-up.")
@click.option("--limit", default=1200.0, show_default=True, help="Seconds after which no claim is begun.")
@click.option("--only", default="abcdefgh", show_default=True, help="Letters of the claims.")
@click.option("--small", is_flag=True, help="A small size, which shows that everything runs.")
@click.option("--anyway", is_flag=True, help="Measure on a busy machine too.")
def main(out: Path, repeats: int, limit: float, only: str, small: bool, anyway: bool) -> None:
    """Measure all claims."""
    require_quiet(anyway)
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": machine(), "small": small, "claims": {}}
    begin = time.perf_counter()
    for title, measure in claims(out, repeats, small).items():
        if title[0] not in only:
            continue
        if time.perf_counter() - begin > limit:
            click.echo(f"\n{title}: no time is left")
            continue
        found["claims"][title] = measure()
        show(title, found["claims"][title])
        (out / "claims.json").write_text(json.dumps(found, indent=1) + "\n")
    click.echo(f"\n{time.perf_counter() - begin:.0f} s; written to {out / 'claims.json'}")


if __name__ == "__main__":
    main()
