"""Rows of sweeps and of single runs, whatever the folder is, by the cell that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.results.folders import require_run_folder
from fedml_spurious.results.rows import ClientResult, Epoch
from fedml_spurious.results.stored_rows import stored_rows
from fedml_spurious.results.sweep_table import INDEX, TABLE, SweptRow, read_sweep

Cell = tuple[tuple[str, str], ...]
"""Key of the grid and value, as text, in the order of the keys."""

Variant = tuple[str, str]
"""Method and its options, such as ``lam_l2=0.1``."""


def read_rows(paths: Sequence[Path]) -> list[SweptRow]:
    """Rows of sweeps (their folders, or their tables alone) and of run folders, finished or not.

    Raises:
        InputError: a path is neither, has no rows, or holds another experiment than the others.
    """
    rows = []
    for path in dict.fromkeys(paths):
        found = _read(path)
        if not found:
            raise InputError(f"{path}: has no finished client yet; run it first")
        rows += found
    _require_one_experiment(rows)
    return rows


def _read(path: Path) -> list[SweptRow]:
    if path.is_file() or (path / INDEX).is_file():
        return read_sweep(path)
    require_run_folder(path, f"runs or sweeps, or a {TABLE}")
    return [SweptRow({}, stored, str(path)) for stored in stored_rows(path)]


def _require_one_experiment(rows: Sequence[SweptRow]) -> None:
    """Refuse rows of which one would silently stand for another."""
    splits, found = dict[Any, SweptRow](), dict[Any, SweptRow]()
    for row in rows:
        stored, one = row.stored, row.stored.row
        place = (one.dataset, frozenset(row.cell.items()), one.fl_seed)
        if stored.splits:
            other = splits.setdefault(place, row)
            if other.stored.splits != stored.splits:
                raise InputError(
                    f"{other.source} and {row.source}: have other split files of {one.dataset} for federated "
                    f"seed {one.fl_seed}, so they are no results of one experiment; draw them apart"
                )
        key = (*place, stored.epoch, one.method, stored.options, one.p_seed, one.client)
        other = found.setdefault(key, row)
        if _numbers(other) != _numbers(row):
            raise InputError(
                f"{other.source} and {row.source}: have other numbers for {one.method} {stored.options} on "
                f"client {one.client} (fl{one.fl_seed}, {stored.epoch} epoch), so they are no results of one "
                "experiment; draw them apart"
            )


def _numbers(row: SweptRow) -> ClientResult:
    return replace(row.stored.row, seconds=None)  # two runs never take the same time


def of_epoch(rows: Sequence[SweptRow], epoch: Epoch) -> list[SweptRow]:
    """The rows of one epoch."""
    return [row for row in rows if row.stored.epoch == epoch]


def by_cell(rows: Sequence[SweptRow]) -> dict[Cell, list[SweptRow]]:
    """Rows by cell, in the order in which cells appear."""
    found: dict[Cell, list[SweptRow]] = {}
    for row in rows:
        found.setdefault(tuple(row.cell.items()), []).append(row)
    return found


def by_variant(rows: Sequence[SweptRow]) -> dict[Variant, list[ClientResult]]:
    """Rows of one cell by method and options, in the order in which they appear."""
    found: dict[Variant, list[ClientResult]] = {}
    for row in rows:
        found.setdefault((row.stored.row.method, row.stored.options), []).append(row.stored.row)
    return found


def own_clients(rows: Sequence[SweptRow]) -> bool:
    """Whether every federated seed has clients of its own: its split files differ."""
    return len({row.stored.splits for row in rows}) > 1
