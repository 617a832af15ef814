"""Run folders written by hand, for tests of what reads them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from click.testing import CliRunner, Result

from fedml_spurious.cli import main
from fedml_spurious.common.storage import write_csv
from fedml_spurious.results.averages import disparity
from fedml_spurious.results.rows import ClientResult, read_results, write_results

EVERY_METHOD = ("global", "ft", "ditto", "uw", "jtt", "adv", "l2", "ours", "grad_align")

GRID: dict[str, Any] = {"grids": {"ours": {"lam_adv": [0.1, 1.0, 10.0]}}, "tuning": "shared"}

Values = Callable[[str, int, int, int], tuple[float, float] | None]
"""Acc_B and Acc_BC by method, fl_seed, p_seed and client; None is N/A."""


def write_run(
    folder: Path,
    values: Values,
    *,
    dataset: str = "colored_mnist",
    methods: Iterable[str] = ("global", "ft", "ours"),
    fl_seeds: Iterable[int] = (0,),
    p_seeds: Iterable[int] = (0,),
    clients: int = 4,
    sections: dict[str, dict[str, Any]] | None = None,
    data: str | Mapping[int, str] = "abc",
    last: Values | None = None,
) -> Path:
    """Write a run of which client k has 10 (k + 1) samples in every split.

    ``data`` is the fingerprint of the split files, or one for each federated seed. Without ``last`` it has no
    ``results_last.csv``, as runs of older versions.
    """
    methods, fl_seeds, p_seeds = list(methods), list(fl_seeds), list(p_seeds)
    config: dict[str, dict[str, Any]] = {
        "data_args": {"dataset": dataset, "data_cache_dir": str(folder)},
        "train_args": {"comm_round": 3},
        "personalization_args": {"epochs": 2, "jtt": {"multiplicity": 50}, "ours": {"lam_adv": 1.0}},
        "experiment_args": {"methods": methods, "fl_seeds": fl_seeds, "personalization_seeds": p_seeds},
    }
    for section, settings in (sections or {}).items():
        config[section] = config.get(section, {}) | settings
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    for name, cells in (("results.csv", values), ("results_last.csv", last)):
        if cells is not None:
            rows = [
                _row(dataset, method, fl_seed, p_seed, client, cells(method, fl_seed, p_seed or 0, client))
                for method in methods
                for fl_seed in fl_seeds
                for p_seed in ([None] if method == "global" else p_seeds)
                for client in range(clients)
            ]
            write_results(folder / name, rows)
    for fl_seed in fl_seeds:
        part = folder / "global" / f"fl{fl_seed}"
        part.mkdir(parents=True)
        found = data if isinstance(data, str) else data[fl_seed]
        (part / "identity.json").write_text(json.dumps({"determined_by": {"data": found}}))
    return folder


def client_row(
    method: str, client: str, acc_b: float | None, acc_bc: float | None, **more: Any
) -> ClientResult:
    """A row of ``results.csv`` with these accuracies; what is not given is some plain number."""
    values: dict[str, Any] = {
        "dataset": "d", "method": method, "fl_seed": 0, "p_seed": 0, "client": client,
        "n_train": 10, "n_val": 2, "n_test": 10, "n_test_bc": 10,
        "acc_b": acc_b, "acc_bc": acc_bc, "disparity": disparity(acc_b, acc_bc), "loss_b": 0.1,
        "loss_bc": 0.2, "acc_adv": 0.5, "loss_adv": 1.0, "val_acc": 1.0, "selected_epoch": 1,
        "eps": 0.031, "lam_adv": None, "lam_l2": None, "seconds": 1.25,
    }  # fmt: skip
    return ClientResult(**(values | more))


def _row(
    dataset: str, method: str, fl_seed: int, p_seed: int | None, client: int, cell: tuple[float, float] | None
) -> ClientResult:
    """Acc_Adv is 0.25, and 0.125 more with every federated seed."""
    size = 10 * (client + 1)
    return client_row(
        method, f"{client:04}", *(cell or (None, None)), dataset=dataset, fl_seed=fl_seed, p_seed=p_seed,
        n_train=size, n_val=size, n_test=size, n_test_bc=size,
        acc_adv=None if cell is None else 0.25 + 0.125 * fl_seed,
    )  # fmt: skip


def write_decision(folder: Path, method: str, **changes: Any) -> None:
    """Write ``decision.json`` as tuning does: lam_adv 1.0 of 0.1, 1 and 10, shared by the clients."""
    step = {
        "coefficient": "lam_adv",
        "fixed": {"lam_l2": 0.01},
        "values": [{"value": value, "correct": correct, "count": 20, "val_acc": correct / 20}
                   for value, correct in ((0.1, 19), (1.0, 18), (10.0, 10))],
        "chosen": 1.0,
        "reason": "10 lowers the validation accuracy, from 0.9500 to 0.5000",
    }  # fmt: skip
    decision = {
        "method": method,
        "rule": "the largest harmless",
        "seeds": {"fl_seed": 3, "p_seed": 7},
        "tolerance": 0.05,
        "scope": "shared",
        "chosen": {"lam_adv": 1.0},
        "trail": [step],
        "clients": None,
    }
    path = folder / "tuning" / method / "decision.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(decision | changes))


def write_audit(run: Path) -> None:
    """Write what an audit leaves: ``ft`` is more on every second client; of the rest nothing can be said."""
    reason = "the probe finds a rise of +0.123 [+0.012, +0.345], on both sides of 0.05"
    rows = []
    for row in read_results(run / "results.csv"):
        if row.method != "global":
            more = row.method == "ft" and int(row.client) % 2
            place = {name: getattr(row, name) for name in ("method", "fl_seed", "p_seed", "client")}
            rows.append(place | {"verdict": "more" if more else "cannot say", "reason": reason})
    write_csv(run / "audit.csv", tuple(rows[0]), rows)
    method = {
        "verdict": "cannot say", "reason": reason, "models": {"more": 1, "cannot say": 3},
        "change": {"value": 0.1, "low": 0.0, "high": 0.2},
    }  # fmt: skip
    summary = {"probe": "colour", "peers": False, "tolerance": 0.05, "absent": 0}
    methods = {row["method"]: method for row in rows}
    (run / "audit.json").write_text(json.dumps(summary | {"methods": methods}))


def table(*arguments: Path | str) -> Result:
    """What ``fedml-spurious table`` answers."""
    return CliRunner().invoke(main, ["table", *map(str, arguments)])


def rows_of(*arguments: Path | str) -> list[dict[str, str]]:
    """The joined table as CSV."""
    result = table(*arguments, "--format", "csv")
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.output)))


def drawn(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float]:
    seed = [EVERY_METHOD.index(method), fl_seed, p_seed, client]
    acc_b, acc_bc = np.random.default_rng(seed).uniform(0.5, 1, size=2)
    return float(acc_b), float(acc_bc)


def constant(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float] | None:
    """By hand: ``ft`` has a gap of 0.25, ``ours`` of 0.05 or 0.07 by federated seed."""
    if method == "uw":
        return None
    return {"global": (0.5, 0.5), "ft": (0.75, 0.5), "ours": (0.625, 0.575 - 0.02 * fl_seed)}[method]
