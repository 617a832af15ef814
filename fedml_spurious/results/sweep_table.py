"""The runs of a sweep as one table: a row per cell, seeds, method, options, epoch and client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_csv, read_json, write_csv, write_json
from fedml_spurious.results.folders import SWEEP_INDEX
from fedml_spurious.results.rows import COLUMNS, ClientResult, Epoch, parse_row
from fedml_spurious.results.stored_rows import StoredRow, stored_rows

INDEX, TABLE = SWEEP_INDEX, "sweep.csv"
_KINDS = ("epoch", "final", "options", "splits")
_FINAL = {True: "1", False: "0"}


@dataclass(frozen=True)
class SweptRun:
    """A run of a sweep.

    Attributes:
        folder: its folder, below that of the sweep.
        cell: value by key of the grid.
    """

    folder: str
    cell: Mapping[str, Any]


@dataclass(frozen=True)
class SweptRow:
    """A stored row with the values of its cell, as text.

    Attributes:
        cell: value by key of the grid.
        stored: the row.
        source: its run, for messages.
    """

    cell: Mapping[str, str]
    stored: StoredRow
    source: str


def write_index(out: Path, keys: Sequence[str], runs: Sequence[SweptRun]) -> None:
    """Write which runs a sweep has, finished or not, beside those that it had before.

    Args:
        out: folder of the sweep.
        keys: of the grid.
        runs: the runs.

    Raises:
        InputError: the folder holds a sweep over other keys.
    """
    path, earlier = out / INDEX, list[dict[str, Any]]()
    if path.exists():
        index = read_json(path, "keys", "runs")
        before, earlier = index["keys"], index["runs"]
        if sorted(before) != sorted(keys):
            raise InputError(
                f"{out}: holds a sweep over {', '.join(before) or 'seeds alone'}, this one is over "
                f"{', '.join(keys) or 'seeds alone'}; give another --out"
            )
    content = [{"folder": run.folder, "cell": dict(run.cell)} for run in runs]
    new = {_what(run) for run in content}
    kept = [run for run in earlier if _what(run) not in new]
    write_json(path, {"keys": list(keys), "runs": [*kept, *content]})


def _what(run: Mapping[str, Any]) -> tuple[str, str]:
    """Cell and seed of a run, in whatever order the keys were given."""
    return json.dumps(run["cell"], sort_keys=True, default=str), Path(run["folder"]).name


def join_sweep(out: Path) -> dict[str, str]:
    """Write ``sweep.csv`` of whatever the runs of a sweep have stored so far.

    Returns:
        What is wrong with runs whose files are broken, by their folder; their rows are left out.

    Raises:
        InputError: there is no sweep.
    """
    index = read_json(out / INDEX, "keys", "runs")
    rows, problems = list[dict[str, Any]](), dict[str, str]()
    for run in index["runs"]:
        try:
            rows += list(_rows(out, run["folder"], run["cell"]))
        except InputError as error:
            problems[run["folder"]] = str(error)
    write_csv(out / TABLE, ["run", *index["keys"], *_KINDS, *COLUMNS], rows)
    return problems


def _rows(out: Path, folder: str, cell: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in cell.items()}
    for stored in stored_rows(out / folder):
        kinds = (stored.epoch, _FINAL[stored.final], stored.options, stored.splits)
        yield {"run": folder, **values, **dict(zip(_KINDS, kinds, strict=True)), **vars(stored.row)}


def read_sweep(path: Path) -> list[SweptRow]:
    """Read the table of a sweep.

    Args:
        path: the table, or the folder of the sweep.

    Raises:
        InputError: it is absent, or no such table.
    """
    path = path / TABLE if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the table of a sweep (fedml-spurious sweep)")
    return [_swept(path, row) for row in read_csv(path)]


def _swept(path: Path, row: Mapping[str, str]) -> SweptRow:
    known = {"run", *_KINDS, *COLUMNS}
    if not known <= row.keys() or row["epoch"] not in ("selected", "last"):
        raise InputError(f"{path}: is no table of a sweep; expected {TABLE} of fedml-spurious sweep")
    result: ClientResult = parse_row(path, row)
    epoch: Epoch = "selected" if row["epoch"] == "selected" else "last"
    stored = StoredRow(result, row["options"], epoch, row["final"] == _FINAL[True], row["splits"])
    cell = {key: value for key, value in row.items() if key not in known}
    return SweptRow(cell, stored, f"{path} ({row['run']})")
