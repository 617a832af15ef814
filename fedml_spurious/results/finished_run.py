"""A finished run: what it measured, what tuning decided, and how it was configured."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedml_spurious.common.checksums import remedy, require_unchanged
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_json
from fedml_spurious.results.budgets import Budget, read_budgets
from fedml_spurious.results.decisions import Decision, read_decisions
from fedml_spurious.results.folders import data_source, require_run_folder
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.paper import DIGITS, TITLES
from fedml_spurious.results.rows import RESULT_FILES, ClientResult, Epoch, read_results
from fedml_spurious.results.run_config import read_run_config

Part = tuple[str, int, int | None]
"""Method, fl_seed and p_seed."""


@dataclass(frozen=True)
class FinishedRun:
    """A run with results, read from its folder or just made.

    Attributes:
        path: its folder.
        config: content of ``config.yaml``.
        results: rows of ``results.csv``, or of ``results_last.csv``, at least one, in its order.
        decisions: what tuning decided, by method.
        budgets: the attack's budgets, by the folder of the global model, such as ``fl0``.
        fingerprints: SHA-256 of the split files, by federated seed; empty where nothing tells.
        epoch: of which epoch the results are.
        source: which of several data sets of one name it is, such as ``digits``; None where nothing tells.
    """

    path: Path
    config: Mapping[str, Any]
    results: tuple[ClientResult, ...]
    decisions: Mapping[str, Decision]
    budgets: Mapping[str, Budget]
    fingerprints: Mapping[int, str] = field(default_factory=dict)
    epoch: Epoch = "selected"
    source: str | None = None

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.results[0].dataset

    @property
    def title(self) -> str:
        """The paper's name of the data set, where it has one; the small digits are not MNIST."""
        if self.dataset == "colored_mnist" and self.source == "digits":
            return DIGITS
        return TITLES.get(self.dataset, self.dataset)

    def options(self, method: str) -> dict[str, float]:
        """Options of a method that the configuration gives."""
        section = self.config.get("personalization_args", {}).get(method) or {}
        return {name: value for name, value in section.items() if isinstance(value, (int, float))}


def load_run(path: Path, epoch: Epoch = "selected") -> FinishedRun:
    """Read a run folder.

    Raises:
        InputError: there is no such folder, it is no run, the run is unfinished or a file is broken.
    """
    require_run_folder(path, "finished runs")
    if not (path / "results.csv").is_file():
        raise InputError(
            f"{path}: the run is unfinished, it has no results.csv; finish it with --resume and the "
            "configuration that it was started with"
        )
    file = path / RESULT_FILES[epoch]
    if not file.is_file():
        raise InputError(
            f"{path}: has no {file.name}; an older version made this run, and kept the selected epoch alone. "
            "Leave --epoch out, or make the run again with another --output"
        )
    require_unchanged(path / "config.yaml")
    config = read_run_config(path / "config.yaml")
    results = tuple(read_results(file))
    found = fingerprints(path)
    shared = len(set(found.values())) <= 1
    _require_whole(file, config, results, shared_clients=shared)
    grids = config.get("experiment_args", {}).get("grids") or {}
    tuned = [method for method in grids if method in {row.method for row in results}]
    decisions = read_decisions(path, tuned)
    budgets, source = read_budgets(path), data_source(path, config)
    return FinishedRun(path, config, results, decisions, budgets, found, epoch, source)


def fingerprints(path: Path) -> dict[int, str]:
    """What every global model of the run says of its split files."""
    fingerprints = {}
    for found in sorted(path.glob("global/fl*/identity.json")):
        determined_by = read_json(found, "determined_by")["determined_by"]
        fl_seed = found.parent.name.removeprefix("fl")
        if not (isinstance(determined_by, dict) and "data" in determined_by and fl_seed.isdecimal()):
            raise InputError(
                f"{found}: is broken; expected what determined the global model; {remedy(found)}"
            )
        fingerprints[int(fl_seed)] = str(determined_by["data"])
    return fingerprints


def _require_whole(
    path: Path, config: Mapping[str, Any], results: Sequence[ClientResult], *, shared_clients: bool
) -> None:
    """Make sure that the results are those of one data set and all that the configuration asks for."""
    datasets = {row.dataset for row in results}
    expected = config.get("data_args", {}).get("dataset")
    if datasets != {expected}:
        named = ", ".join(sorted(datasets)) or "no rows"
        raise InputError(
            f"{path}: has {named}, but config.yaml is of {expected}; finish the run with --resume, which "
            "writes it again"
        )
    parts = by_part(results)
    if sum(map(len, parts.values())) != len(results):
        raise InputError(
            f"{path}: has two rows for one method, seeds and client; write it again with --resume"
        )
    for part, found in parts.items():
        clients = {row.client for row in results if shared_clients or row.fl_seed == part[1]}
        for client in sorted(clients - found.keys()):
            raise InputError(
                f"{path}: has no row of client {client} for {part_text(part)}; write it again with --resume"
            )
    lacking = _first_lacking(config, parts.keys())
    if lacking:
        raise InputError(
            f"{path}: the run is unfinished, its configuration asks for {lacking}, which is not there; "
            "finish it with --resume"
        )


def _first_lacking(config: Mapping[str, Any], parts: Collection[Part]) -> str:
    """What the configuration asks for and the results lack; empty where nothing is lacking."""
    asked = list(config.get("experiment_args", {}).get("methods", ()))
    methods = {part[0] for part in parts}
    # A method of one's own is named module:Class here and by a name that only its class knows there.
    missing = [name for name in asked if ":" not in name and name not in methods]
    if missing:
        return str(missing[0])
    seeds = _seed_pairs(config)
    lacking = [
        (name, *pair)
        for name in methods
        for pair in ({(fl, None) for fl, _ in seeds} if name == GLOBAL else seeds)
        if (name, *pair) not in parts
    ]
    if lacking:
        return part_text(min(lacking, key=str))
    return "a method" if len(methods) < len(asked) else ""


def _seed_pairs(config: Mapping[str, Any]) -> set[tuple[int, int]]:
    experiment = config.get("experiment_args", {})
    fl_seeds = experiment.get("fl_seeds") or [config.get("common_args", {}).get("random_seed", 0)]
    return {(fl, p) for fl in fl_seeds for p in experiment.get("personalization_seeds", [0])}


def part_text(part: Part) -> str:
    """A method and its seeds in words."""
    method, fl_seed, p_seed = part
    return f"{method} with fl_seed {fl_seed}" + ("" if p_seed is None else f" and p_seed {p_seed}")


def by_part(results: Iterable[ClientResult]) -> dict[Part, dict[str, ClientResult]]:
    """Rows by method and seeds, then by client."""
    found: dict[Part, dict[str, ClientResult]] = {}
    for row in results:
        found.setdefault((row.method, row.fl_seed, row.p_seed), {})[row.client] = row
    return found
