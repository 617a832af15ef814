"""A run folder as far as it is: finished, or with what is there and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_csv, read_json
from fedml_spurious.common.words import counted
from fedml_spurious.results.budgets import Budget, read_budgets
from fedml_spurious.results.decisions import Decision, read_decisions
from fedml_spurious.results.finished_run import FinishedRun, fingerprints, load_run
from fedml_spurious.results.folders import data_source, require_run_folder
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.rows import ClientResult, read_results
from fedml_spurious.results.run_config import read_run_config


@dataclass(frozen=True)
class OpenRun:
    """A run, finished or not.

    Attributes:
        path: its folder.
        config: content of ``config.yaml``.
        environment: content of ``environment.json``; empty where it is not there, or not what the run wrote.
        finished: the run with its rows; where it is unfinished, with those that are there; None without any.
        decisions: what tuning decided, by method.
        budgets: the attack's budgets, by the folder of the global model, such as ``fl0``.
        rounds: rows of ``rounds.csv``, by the folder of the global model.
        missing: what the run lacks, a sentence each; empty where it is finished and whole.
    """

    path: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    finished: FinishedRun | None
    decisions: Mapping[str, Decision]
    budgets: Mapping[str, Budget]
    rounds: Mapping[str, list[dict[str, str]]]
    missing: tuple[str, ...]


def open_run(path: Path) -> OpenRun:
    """Read a run folder.

    Raises:
        InputError: there is no such folder, it is no run, or a file that decides a number is broken.
    """
    require_run_folder(path)
    environment, missing = _environment(path)
    rounds = {
        found.parent.name: read_csv(found, grows=True) for found in sorted(path.glob("global/fl*/rounds.csv"))
    }
    if (path / "results.csv").is_file():
        run = load_run(path)
        return OpenRun(path, run.config, environment, run, run.decisions, run.budgets, rounds, missing)
    config = read_run_config(path / "config.yaml")
    budgets = read_budgets(path)
    decided = [found.parent.name for found in sorted(path.glob("tuning/*/decision.json"))]
    decisions = read_decisions(path, decided)
    methods = _method_names(path, config)
    rows = _rows_so_far(path, methods)
    found, source = fingerprints(path), data_source(path, config)
    run_so_far = FinishedRun(path, config, rows, decisions, budgets, found, source=source) if rows else None
    unfinished = "The run is unfinished; continue it with --resume."
    missing = (unfinished, *_missing(config, rounds, methods, rows), *missing)
    return OpenRun(path, config, environment, run_so_far, decisions, budgets, rounds, missing)


def _environment(path: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The environment, and what is said where it is not what the run wrote: no number depends on it."""
    if not (path / "environment.json").is_file():
        return {}, ()
    try:
        return read_json(path / "environment.json"), ()
    except InputError:
        left_out = "versions, the machine and settings that are at their default are left out"
        return {}, (f"environment.json cannot be read, or was edited since the run wrote it; {left_out}.",)


def _rows_so_far(path: Path, methods: list[str]) -> tuple[ClientResult, ...]:
    """The rows of methods whose options are known: of trials nobody can say yet which will be taken."""
    found: list[ClientResult] = []
    for name in methods:
        parts = sorted(path.glob(f"personal/{name}/fl*/clients.csv"))
        if not parts:
            options = sorted(path.glob(f"personal/{name}/*/fl*/clients.csv"))
            parts = options if len({part.parent.parent for part in options}) == 1 else []
        for part in parts:
            # A kill may leave a client twice, of which the later holds, and rows in the order of work.
            rows = {row.client: row for row in read_results(part, grows=True)}
            found += [row for _, row in sorted(rows.items())]
    return tuple(found)


def _method_names(path: Path, config: Mapping[str, Any]) -> list[str]:
    """Methods in their order; one of the user's own has a name that only its folder tells."""
    asked = [str(name) for name in config.get("experiment_args", {}).get("methods", ())]
    named = [name for name in asked if ":" not in name]
    if len(named) == len(asked):
        return named
    return named + sorted({found.name for found in path.glob("personal/*")} - set(named))


def _missing(
    config: Mapping[str, Any],
    rounds: Mapping[str, list[dict[str, str]]],
    methods: list[str],
    rows: tuple[ClientResult, ...],
) -> list[str]:
    experiment = config.get("experiment_args", {})
    wanted = config.get("train_args", {}).get("comm_round", 0)
    fl_seeds = experiment.get("fl_seeds") or [config.get("common_args", {}).get("random_seed", 0)]
    texts = []
    for fl_seed in fl_seeds:
        done = len(rounds.get(f"fl{fl_seed}", ()))
        if done != wanted:
            texts.append(f"Global model fl{fl_seed}: {done} of {counted(wanted, 'round')}.")
    p_seeds = experiment.get("personalization_seeds") or [0]
    clients = {row.client for row in rows}
    for name in methods:
        pairs = len(fl_seeds) * (1 if name == GLOBAL else len(p_seeds))
        having = {(row.fl_seed, row.p_seed) for row in rows if row.method == name}
        done = sum(row.method == name for row in rows)
        if not done:
            texts.append(f"{name}: no client is finished with coefficients that are final.")
        elif len(having) < pairs or done < len(having) * len(clients):
            of = f"{len(having)} of {counted(pairs, 'pair of seeds')}"
            texts.append(f"{name}: {counted(done, 'row of clients')}, of {of}.")
    return texts
