"""What figures read of run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedml_spurious.results.finished_run import FinishedRun, load_run
from fedml_spurious.results.paper import TITLES


def load_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """Read finished runs; a folder that is named twice is one run.

    Raises:
        InputError: a folder is no finished run.
    """
    different = {folder.resolve(): folder for folder in folders}
    return [load_run(folder) for folder in different.values()]


def partition_options(run: FinishedRun) -> Mapping[str, Any]:
    """Options of the partition that the run made; empty where it read split files that were there."""
    options = run.config.get("data_args", {}).get("partition")
    return options if isinstance(options, dict) else {}


def data_title(run: FinishedRun) -> str:
    """The paper's name of a run's data set; that of the small digits says that they are not MNIST."""
    if partition_options(run).get("source") == "digits":
        return "digits (scikit-learn)"
    return TITLES.get(run.dataset, run.dataset)
