"""Finished run folders, and which of them belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_json
from fedml_spurious.common.yaml_files import read_sections
from fedml_spurious.results.decisions import Decision, coefficients_text, read_decisions
from fedml_spurious.results.method_names import GLOBAL, SELECTED_BY
from fedml_spurious.results.paper import TITLES
from fedml_spurious.results.rows import ClientResult, read_results

# What may differ between runs that are joined: it does not change what a number is of.
_FREE = (
    ("common_args",),
    ("comm_args",),
    ("device_args",),
    ("experiment_args",),
    ("tracking_args",),
    ("validation_args",),
    ("data_args", "data_cache_dir"),
    ("data_args", "partition"),  # the fingerprint of the data is compared instead
    ("data_args", "raw"),
    ("train_args", "client_num_in_total"),
    ("personalization_args", "save_models"),
    ("personalization_args", "trajectory_interval"),
)
_SHOWN = 8
_TUNING = ("tuning", "tuning_tolerance", "tuning_reference")
_Part = tuple[str, int, int | None]


@dataclass(frozen=True)
class FinishedRun:
    """A run folder with results.

    Attributes:
        path: the folder.
        config: content of ``config.yaml``.
        results: rows of ``results.csv``.
        decisions: what tuning decided, by method.
        fingerprint: SHA-256 of the split files; None where the folder does not tell.
    """

    path: Path
    config: Mapping[str, Any]
    results: tuple[ClientResult, ...]
    decisions: Mapping[str, Decision]
    fingerprint: str | None

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.results[0].dataset

    def parts(self) -> dict[_Part, dict[str, ClientResult]]:
        """Rows by method and seeds, then by client."""
        found: dict[_Part, dict[str, ClientResult]] = {}
        for row in self.results:
            found.setdefault((row.method, row.fl_seed, row.p_seed), {})[row.client] = row
        return found

    def options(self, method: str) -> dict[str, float]:
        """Options of a method that the configuration gives."""
        section = self.config.get("personalization_args", {}).get(method) or {}
        return {name: value for name, value in section.items() if isinstance(value, (int, float))}


@dataclass(frozen=True)
class DatasetRuns:
    """All runs of one data set.

    Attributes:
        dataset: name of the data set.
        runs: the runs.
        results: rows of all of them, in the order of our table.
    """

    dataset: str
    runs: tuple[FinishedRun, ...]
    results: tuple[ClientResult, ...]

    def methods(self) -> list[str]:
        """Names of the methods, in the order of our table."""
        return list(dict.fromkeys(row.method for row in self.results))

    def coefficients(self, method: str) -> str:
        """The coefficients of a method, and whether they were tuned; empty where it has none."""
        having = [run for run in self.runs if method in {row.method for row in run.results}]
        decisions = [run.decisions[method] for run in having if method in run.decisions]
        return coefficients_text(decisions, having[0].options(method))


def load_run(path: Path) -> FinishedRun:
    """Read a run folder.

    Raises:
        InputError: there is no such folder, it is no run, the run is unfinished or a file is broken.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give folders of finished runs (--output of a run)")
    if not (path / "config.yaml").is_file():
        raise InputError(f"{path}: is no run folder, it has no config.yaml; give folders of finished runs")
    if not (path / "results.csv").is_file():
        raise InputError(
            f"{path}: the run is unfinished, it has no results.csv; finish it with --resume and the "
            "configuration that it was started with"
        )
    config = _read_config(path / "config.yaml")
    results = tuple(read_results(path / "results.csv"))
    _require_whole(FinishedRun(path, config, results, {}, None))
    grids = config.get("experiment_args", {}).get("grids") or {}
    tuned = [method for method in grids if method in {row.method for row in results}]
    return FinishedRun(path, config, results, read_decisions(path, tuned), _fingerprint(path))


def _read_config(path: Path) -> Mapping[str, Any]:
    content = read_sections(path)
    experiment = content.get("experiment_args", {})
    for key in ("methods", "fl_seeds", "personalization_seeds"):
        if not isinstance(experiment.get(key, []), list):
            raise InputError(
                f"{path}: experiment_args.{key}: expected a list, got {experiment[key]!r}; expected the "
                "configuration that a run wrote"
            )
    return content


def _fingerprint(path: Path) -> str | None:
    for found in sorted(path.glob("global/fl*/identity.json")):
        determined_by = read_json(found, "determined_by")["determined_by"]
        if isinstance(determined_by, dict) and "data" in determined_by:
            return str(determined_by["data"])
        raise InputError(
            f"{found}: is broken; expected what determined the global model. Take the run folder from where "
            "it was written"
        )
    return None


def _require_whole(run: FinishedRun) -> None:
    """Make sure that the results are those of one data set and all that the configuration asks for."""
    path = run.path / "results.csv"
    datasets = {row.dataset for row in run.results}
    expected = run.config.get("data_args", {}).get("dataset")
    if datasets != {expected}:
        named = ", ".join(sorted(datasets)) or "no rows"
        raise InputError(
            f"{path}: has {named}, but config.yaml is of {expected}; finish the run with --resume, which "
            "writes it again"
        )
    parts = run.parts()
    if sum(map(len, parts.values())) != len(run.results):
        raise InputError(
            f"{path}: has two rows for one method, seeds and client; write it again with --resume"
        )
    clients = {row.client for row in run.results}
    for part, found in parts.items():
        for client in sorted(clients - found.keys()):
            raise InputError(
                f"{path}: has no row of client {client} for {_part_text(part)}; write it again with --resume"
            )
    experiment = run.config.get("experiment_args", {})
    methods = list(experiment.get("methods", ()))
    # A method of one's own is named module:Class here and by a name that only its class knows there.
    missing = [name for name in methods if ":" not in name and name not in {part[0] for part in parts}]
    seeds = _seed_pairs(run.config)
    lacking = [
        (name, *pair)
        for name in {part[0] for part in parts}
        for pair in ({(fl, None) for fl, _ in seeds} if name == GLOBAL else seeds)
        if (name, *pair) not in parts
    ]
    if missing or lacking or len({part[0] for part in parts}) < len(methods):
        first = missing[0] if missing else _part_text(min(lacking, key=str)) if lacking else "a method"
        raise InputError(
            f"{path}: the run is unfinished, its configuration asks for {first}, which is not there; finish "
            "it with --resume"
        )


def _seed_pairs(config: Mapping[str, Any]) -> set[tuple[int, int]]:
    experiment = config.get("experiment_args", {})
    fl_seeds = experiment.get("fl_seeds") or [config.get("common_args", {}).get("random_seed", 0)]
    return {(fl, p) for fl in fl_seeds for p in experiment.get("personalization_seeds", [0])}


def _part_text(part: tuple[Any, ...]) -> str:
    method, fl_seed, p_seed = part
    return f"{method} with fl_seed {fl_seed}" + ("" if p_seed is None else f" and p_seed {p_seed}")


def join_runs(runs: Sequence[FinishedRun]) -> list[DatasetRuns]:
    """Put runs of one data set together.

    Args:
        runs: at least one.

    Returns:
        One entry per data set: the paper's first and in its order, then others as they come.

    Raises:
        InputError: runs of one data set differ in what matters, or have different numbers for the same.
    """
    by_dataset: dict[str, list[FinishedRun]] = {name: [] for name in TITLES}
    for run in runs:
        by_dataset.setdefault(run.dataset, []).append(run)
    return [_join(name, found) for name, found in by_dataset.items() if found]


def _join(dataset: str, runs: Sequence[FinishedRun]) -> DatasetRuns:
    for index, run in enumerate(runs):
        for other in runs[:index]:
            _require_compatible(other, run)
    order = {name: place for place, name in enumerate((GLOBAL, *SELECTED_BY))}
    rows = {(row.method, row.fl_seed, row.p_seed, row.client): row for run in runs for row in run.results}
    ordered = sorted(
        rows.values(),
        key=lambda row: (
            order.get(row.method, len(order)), row.method, row.fl_seed, row.p_seed or 0, row.client,
        ),
    )  # fmt: skip
    return DatasetRuns(dataset, tuple(runs), tuple(ordered))


def _require_compatible(first: FinishedRun, second: FinishedRun) -> None:
    problems = [
        f"{'.'.join(key)}: {old!r} there, {new!r} here" for key, old, new in _differences(first, second)
    ]
    fingerprints = {first.fingerprint, second.fingerprint} - {None}
    if len(fingerprints) > 1:
        problems.append("the split files are not the same")
    clients = [
        {row.client: (row.n_train, row.n_val, row.n_test, row.n_test_bc) for row in run.results}
        for run in (first, second)
    ]
    if clients[0] != clients[1]:
        problems.append("the clients, or their numbers of samples, are not the same")
    ours, theirs = first.parts(), second.parts()
    problems = problems or [
        f"{_part_text(part)}: both have it, with different numbers"
        for part in sorted(ours.keys() & theirs.keys(), key=str)
        if not _same_numbers(ours[part].values(), theirs[part].values())
    ]
    if problems:
        more = len(problems) - _SHOWN
        listed = [*problems[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise InputError(
            "\n  ".join([f"{first.path} (there) and {second.path} (here) cannot be joined:", *listed])
            + f"\nBoth are runs of {first.dataset}; give runs that differ in methods and seeds alone"
        )


def _same_numbers(first: Iterable[ClientResult], second: Iterable[ClientResult]) -> bool:
    timeless = [{replace(row, seconds=None) for row in rows} for rows in (first, second)]
    return timeless[0] == timeless[1]


def _differences(first: FinishedRun, second: FinishedRun) -> list[tuple[tuple[str, ...], Any, Any]]:
    common = {row.method for row in first.results} & {row.method for row in second.results}
    old, new = _what_matters(first, common), _what_matters(second, common)
    return [
        (key, old.get(key, "absent"), new.get(key, "absent"))
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "absent") != new.get(key, "absent")
    ]


def _what_matters(run: FinishedRun, methods: set[str]) -> dict[tuple[str, ...], Any]:
    """Settings that must agree: not those of methods that only one of the runs has."""
    flat: dict[tuple[str, ...], Any] = {
        (section, key): value
        for section, values in run.config.items()
        for key, value in values.items()
        if (section,) not in _FREE and (section, key) not in _FREE
    }
    # A section of a method is the only value there that is a mapping.
    kept = {key: value for key, value in flat.items() if not isinstance(value, dict) or key[1] in methods}
    experiment = run.config.get("experiment_args", {})
    grids = {name: grid for name, grid in (experiment.get("grids") or {}).items() if name in methods}
    if grids:
        kept[("experiment_args", "grids")] = grids
        kept |= {("experiment_args", key): experiment.get(key) for key in _TUNING}
    return kept
