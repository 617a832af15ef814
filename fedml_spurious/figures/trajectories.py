"""Series over fine-tuning batches: means over clients and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedml_spurious.common.errors import InputError
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.recordings import Row, read_trajectories

FloatArray = npt.NDArray[np.float64]


def joined_trajectories(runs: DatasetRuns, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of all runs of a data set that have one of the methods.

    Raises:
        InputError: no run has one of the methods, or one that has it did not record its trajectory.
    """
    missing = [method for method in methods if method not in runs.methods()]
    if missing:
        raise InputError(
            f"{', '.join(str(run.path) for run in runs.runs)}: has no {', '.join(missing)}; add it to "
            "experiment_args.methods and continue with --resume"
        )
    rows = []
    for run in runs.runs:
        own = {row.method for row in run.results}
        rows += read_trajectories(run, [method for method in methods if method in own])
    return rows


def clients_over_batches(rows: Sequence[Row], name: str) -> tuple[list[int], FloatArray]:
    """A quantity of one method over batches, a line per client and pair of seeds.

    A client that has fewer batches stays at its last value, so that the mean is over the same clients
    everywhere.

    Args:
        rows: of one method.
        name: column of ``trajectory.csv``.

    Returns:
        The batches, and values of shape (lines, batches); clients without a value are left out.

    Raises:
        InputError: no client has a value.
    """
    lines: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in rows:
        if row[name] is not None:
            key = (row["fl_seed"], row["p_seed"], row["client"])
            lines.setdefault(key, {})[row["batch"]] = row[name]
    if not lines:
        raise InputError(
            f"nothing to draw: no client has {name} in its trajectory, as where no client has "
            "bias-conflicting test samples"
        )
    batches = sorted({batch for line in lines.values() for batch in line})
    return batches, np.array([_filled(line, batches) for line in lines.values()]).reshape(-1, len(batches))


def _filled(line: Mapping[int, float], batches: Sequence[int]) -> list[float]:
    last, filled = line[min(line)], []
    for batch in batches:
        last = line.get(batch, last)
        filled.append(last)
    return filled


def correlation(one: FloatArray, other: FloatArray) -> float | None:
    """Pearson's correlation; None for fewer than three pairs, or where one does not vary."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])
