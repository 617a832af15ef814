"""Tables of sweeps written by hand, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from finished_folders import client_row

from fedml_spurious.common.storage import write_csv
from fedml_spurious.results.rows import COLUMNS

KINDS = ("epoch", "final", "options", "splits")


class Wanted(NamedTuple):
    """What a value is asked for."""

    cell: tuple[Any, ...]
    method: str
    options: str
    fl_seed: int
    client: int
    epoch: str


def write_sweep(
    path: Path,
    values: Callable[[Wanted], tuple[float, float] | None],
    *,
    keys: tuple[str, ...] = (),
    cells: Iterable[tuple[Any, ...]] = ((),),
    variants: Mapping[str, Iterable[str]],
    fl_seeds: Iterable[int] = (0, 1),
    clients: int = 3,
) -> Path:
    """Write ``sweep.csv`` with Acc_B and Acc_BC as ``values`` says; None: the row is absent."""
    wanted = [
        Wanted(cell, method, one, fl_seed, client, epoch)
        for cell in cells
        for epoch in ("selected", "last")
        for fl_seed in fl_seeds
        for method, options in variants.items()
        for one in options
        for client in range(clients)
    ]
    rows = []
    for one in wanted:
        accuracies = values(one)
        if accuracies is not None:
            p_seed = None if one.method == "global" else 0
            row = client_row(one.method, f"{one.client:04}", *accuracies, fl_seed=one.fl_seed, p_seed=p_seed)
            kinds = dict(zip(KINDS, (one.epoch, 1, one.options, f"data{one.fl_seed}"), strict=True))
            rows.append({"run": "r", **dict(zip(keys, one.cell, strict=True)), **kinds, **vars(row)})
    write_csv(path, ["run", *keys, *KINDS, *COLUMNS], rows)
    return path
