"""What runs recorded for figures, as rows of numbers: trajectories, divergence, gamma and twins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_csv
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.rows import parse_cell

Row = Mapping[str, Any]
_TEXT = ("dataset", "method", "client", "layer", "kind")
_INTEGERS = (
    "fl_seed",
    "p_seed",
    "epoch",
    "batch",
    "selected",
    "sample",
    "images",
    "round",
    "overlap",
    "pairs",
)


def recording_option(kind: str) -> str:
    """The setting by which a run records this."""
    return f"analysis_args.record=[{kind}]"


def read_numbers(path: Path) -> list[dict[str, Any]]:
    """Rows of a recording; an empty cell is None.

    Raises:
        InputError: the file is broken.
    """
    try:
        return [
            {name: parse_cell(name, cell, text=_TEXT, integers=_INTEGERS) for name, cell in row.items()}
            for row in read_csv(path)
        ]
    except ValueError as error:
        raise InputError(
            f"{path}: broken table ({error}); remove it and continue the run with --resume"
        ) from None


def read_recording(run: FinishedRun, kind: str) -> list[dict[str, Any]]:
    """Rows of ``divergence.csv``, ``gamma.csv`` or ``twins.csv`` of a run.

    Raises:
        InputError: the run did not record it, or the file is broken.
    """
    path = run.path / f"{kind}.csv"
    if not path.is_file():
        raise InputError(lacking([str(run.path)], kind))
    return read_numbers(path)


def lacking(places: Iterable[str], kind: str) -> str:
    """What to say of runs that did not record something."""
    late = (
        "make the run again in another folder" if kind == "divergence" else "continue the run with --resume"
    )
    return (
        f"{', '.join(places)}: no {kind} recorded; {late} and --set '{recording_option(kind)}', beside "
        "what it was started with"
    )


def read_trajectories(run: FinishedRun, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of ``trajectory.csv`` of these methods of a run, all seeds, with the columns of the key.

    Raises:
        InputError: the run did not record the trajectory of one of them.
    """
    found = {(row.method, row.fl_seed, row.p_seed) for row in run.results}
    rows, without = [], []
    for method, fl_seed, p_seed in sorted((key for key in found if key[0] in methods), key=str):
        path = run.path / "personal" / method / f"fl{fl_seed}_p{p_seed}" / "trajectory.csv"
        if path.is_file():
            key = {"method": method, "fl_seed": fl_seed, "p_seed": p_seed}
            rows += [key | row for row in read_numbers(path)]
        else:
            without.append(method)
    if without:
        named = ", ".join(dict.fromkeys(without))
        raise InputError(lacking([f"{run.path} ({named})"], "trajectories"))
    return rows


def twins_note(runs: Sequence[FinishedRun]) -> str:
    """How models decide where shape and colour disagree, by method; empty where nothing is recorded."""
    rows = [row for run in runs if (run.path / "twins.csv").is_file() for row in read_recording(run, "twins")]
    chosen = [row for row in rows if row["selected"] and row["agree_color"] is not None]
    if not chosen:
        return ""
    parts = []
    for method in dict.fromkeys(row["method"] for row in chosen):
        own = [row for row in chosen if row["method"] == method]
        color, shape = (fmean(row[name] for row in own) for name in ("agree_color", "agree_shape"))
        parts.append(f"{'global model' if method == GLOBAL else method} {color:.0%} and {shape:.0%}")
    return (
        "Colour twins: test images in a colour that the client ties to another class get the class of the "
        f"colour and that of the shape in these shares (client means): {', '.join(parts)}."
    )
