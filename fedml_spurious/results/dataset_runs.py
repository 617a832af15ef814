"""Runs of one data set, and whether they belong together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.results.decisions import coefficients_text
from fedml_spurious.results.finished_run import FinishedRun, by_part, part_text
from fedml_spurious.results.method_names import GLOBAL, SELECTED_BY
from fedml_spurious.results.paper import TITLES
from fedml_spurious.results.rows import ClientResult

# What may differ between runs that are joined: it does not change what a number is of.
_FREE = (
    ("analysis_args",),
    ("common_args",),
    ("comm_args",),
    ("device_args",),
    ("experiment_args",),
    ("tracking_args",),
    ("validation_args",),
    ("data_args", "data_cache_dir"),
    ("data_args", "partition"),  # the fingerprint of the data is compared instead
    ("data_args", "raw"),
    ("data_args", "cache_mb"),
    ("train_args", "client_num_in_total"),
    ("personalization_args", "save_models"),
    ("personalization_args", "trajectory_interval"),
)
_SHOWN = 8
_TUNING = ("tuning", "tuning_tolerance", "tuning_reference", "tuning_share")
_ORDER = {name: place for place, name in enumerate((GLOBAL, *SELECTED_BY))}


@dataclass(frozen=True)
class DatasetRuns:
    """Runs of one data set.

    Attributes:
        dataset: name of the data set.
        runs: the runs, at least one.
        results: rows of all of them, in the order of the table.
    """

    dataset: str
    runs: tuple[FinishedRun, ...]
    results: tuple[ClientResult, ...]

    @classmethod
    def of_one(cls, run: FinishedRun) -> DatasetRuns:
        """One run, whose table has the order of its results."""
        return cls(run.dataset, (run,), run.results)

    @property
    def own_clients(self) -> bool:
        """Whether every federated seed has clients of its own, whatever their ids: its split files differ."""
        return len({found for run in self.runs for found in run.fingerprints.values()}) > 1

    @property
    def title(self) -> str:
        """What the data set is called."""
        return self.runs[0].title

    def methods(self) -> list[str]:
        """Names of the methods, in the order of our table."""
        return sorted({row.method for row in self.results}, key=_place)

    def coefficients(self, method: str) -> str:
        """The coefficients of a method, and whether they were tuned; empty where it has none."""
        having = [run for run in self.runs if method in {row.method for row in run.results}]
        decisions = [run.decisions[method] for run in having if method in run.decisions]
        return coefficients_text(decisions, having[0].options(method))


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
    _require_one_kind(dataset, runs)
    rows = {(row.method, row.fl_seed, row.p_seed, row.client): row for run in runs for row in run.results}
    ordered = sorted(
        rows.values(), key=lambda row: (_place(row.method), row.fl_seed, row.p_seed or 0, row.client)
    )
    return DatasetRuns(dataset, tuple(runs), tuple(ordered))


def _place(method: str) -> tuple[int, str]:
    """Built-in methods in the order of our table, then others by name."""
    return _ORDER.get(method, len(_ORDER)), method


def _require_compatible(first: FinishedRun, second: FinishedRun) -> None:
    problems = [
        f"{'.'.join(key)}: {old!r} there, {new!r} here" for key, old, new in _differences(first, second)
    ]
    problems += _split_problems(first, second)
    ours, theirs = by_part(first.results), by_part(second.results)
    problems = problems or [
        f"{part_text(part)}: both have it, with different numbers"
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


def _split_problems(first: FinishedRun, second: FinishedRun) -> list[str]:
    """In what the split files and the clients differ that should not, in words."""
    old, new = first.fingerprints, second.fingerprints
    common = {row.fl_seed for row in first.results} & {row.fl_seed for row in second.results}
    shared = len({*old.values(), *new.values()}) <= 1
    compared, problems = old.keys() & new.keys(), []
    differing = sorted(seed for seed in compared if old[seed] != new[seed])
    if differing:
        problems.append(f"the split files of {_seeds(differing)} are not the same")
    # A run makes all its partitions alike, so that one seed in common tells of the others.
    elif not (shared or compared) and (_made_by(first) is None or _made_by(first) != _made_by(second)):
        problems.append(
            "the split files are not the same, nor made with the same data_args.partition but for its seed"
        )
    # Of partitions of their own only what both have can be compared.
    clients = [
        {
            (row.client, None if shared else row.fl_seed): (row.n_train, row.n_val, row.n_test, row.n_test_bc)
            for row in run.results
            if shared or row.fl_seed in common
        }
        for run in (first, second)
    ]
    if clients[0] != clients[1]:
        there, here = clients
        places = [place for place in there | here if there.get(place) != here.get(place)]
        seeds = sorted({seed for _, seed in places if seed is not None})
        whose = f" of {_seeds(seeds)}" if seeds else ""
        problems.append(f"the clients{whose}, or their numbers of samples, are not the same")
    return problems


def _seeds(seeds: Sequence[int]) -> str:
    return ", ".join(f"fl{seed}" for seed in seeds)


def _made_by(run: FinishedRun) -> tuple[Any, ...] | None:
    """What made a run's split files, but for the seed; None where the run did not make them."""
    section = run.config.get("data_args", {})
    options = section.get("partition")
    if not isinstance(options, dict):
        return None
    # Whether there are raw files decides between data sets of one name; where they lie does not matter.
    return {key: value for key, value in options.items() if key != "seed"}, section.get("raw") is None


def _require_one_kind(dataset: str, runs: Sequence[FinishedRun]) -> None:
    """Make sure that all federated seeds share their split files, or that no two of them do."""
    found = {seed: data for run in runs for seed, data in run.fingerprints.items()}
    if 1 < len(set(found.values())) < len(found):
        folders = ", ".join(str(run.path) for run in runs)
        by_data: dict[str, list[int]] = {}
        for seed, data in sorted(found.items()):
            by_data.setdefault(data, []).append(seed)
        shared = _seeds(next(seeds for seeds in by_data.values() if len(seeds) > 1))
        own = _seeds([seeds[0] for seeds in by_data.values() if len(seeds) == 1])
        others = f"{own} has its own" if own else "the others too"
        raise InputError(
            f"{folders} cannot be joined: of {dataset} {shared} share their split files, and {others}; give "
            "runs where all federated seeds share them, or none"
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
