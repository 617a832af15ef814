"""What figures read of run folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedml_spurious.results.finished_run import FinishedRun, load_run
from fedml_spurious.results.sweep_table import SweptRow
from fedml_spurious.results.swept_rows import read_rows


@dataclass(frozen=True)
class _Kept:
    """What was read in a block of :func:`read_once`.

    Attributes:
        runs: finished runs by folder.
        rows: what is stored in runs and sweeps.
    """

    runs: dict[Path, FinishedRun] = field(default_factory=dict)
    rows: dict[tuple[Path, ...], list[SweptRow]] = field(default_factory=dict)


_kept: ContextVar[_Kept | None] = ContextVar("_kept", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Let figures that are drawn inside the block read a run once; its files must not change meanwhile."""
    token = _kept.set(_Kept())
    try:
        yield
    finally:
        _kept.reset(token)


def load_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """Read finished runs; a folder that is named twice is one run.

    Raises:
        InputError: a folder is no finished run.
    """
    different = {folder.resolve(): folder for folder in folders}
    kept = (_kept.get() or _Kept()).runs
    for resolved, folder in different.items():
        if resolved not in kept:
            kept[resolved] = load_run(folder)
    return [kept[resolved] for resolved in different]


def load_rows(paths: Sequence[Path]) -> list[SweptRow]:
    """What :func:`fedml_spurious.results.swept_rows.read_rows` gives of runs and of sweeps."""
    kept, key = (_kept.get() or _Kept()).rows, tuple(paths)
    if key not in kept:
        kept[key] = read_rows(paths)
    return kept[key]


def partition_options(run: FinishedRun) -> Mapping[str, Any]:
    """Options of the partition that the run made; empty where it read split files that were there."""
    options = run.config.get("data_args", {}).get("partition")
    return options if isinstance(options, dict) else {}


def data_title(run: FinishedRun) -> str:
    """The paper's name of a run's data set; that of the small digits says that they are not MNIST."""
    return run.title


def is_centralized(run: FinishedRun) -> bool:
    """Whether there is one client alone, which trains in every round: all data are in one place."""
    clients = run.config.get("train_args", {}).get("client_num_in_total")
    return bool(1 in (clients, partition_options(run).get("clients")))


def map_title(run: FinishedRun) -> str:
    """Whether the clients share a colour map; the name of the folder where the run's settings do not tell.

    Of images that are not coloured these do not tell: groups of images are dealt to their clients.
    """
    options = partition_options(run)
    if not options or not run.dataset.startswith("colored_"):
        return run.path.name
    divergence = options.get("map_divergence", 1.0)
    if divergence in (0, 1):
        return "one shared map" if divergence == 0 else "a map for each client"
    return f"maps that differ in {divergence:.0%} of the classes"
