"""The split files that finished runs were made on, as far as they are still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import SplitMeta
from fedml_spurious.common.errors import InputError
from fedml_spurious.results.finished_run import FinishedRun


@dataclass(frozen=True)
class Splits:
    """Split files of one federated seed of a run.

    Attributes:
        folder: the open files; without images where these are another's, or gone.
        has_images: whether images may be read.
    """

    folder: SplitFolder
    has_images: bool


def open_splits(runs: Sequence[FinishedRun]) -> dict[int, Splits]:
    """Split files by federated seed, as far as they are there.

    Silos keep their images: of their runs the description alone is read, which holds counts and maps.
    """
    opened: dict[Path, Splits | None] = {}
    found = {}
    for run in runs:
        for fl_seed, folder in _folders(run).items():
            if folder not in opened:
                opened[folder] = _open(folder, run)
            if (splits := opened[folder]) is not None:
                found[fl_seed] = splits
    return found


def _folders(run: FinishedRun) -> dict[int, Path]:
    fl_seeds = sorted({row.fl_seed for row in run.results})
    data = run.config.get("data_args", {})
    if data.get("data_cache_dir"):
        return dict.fromkeys(fl_seeds, Path(data["data_cache_dir"]).expanduser())
    has_own = (data.get("partition") or {}).get("seed", 0) is None
    return {seed: run.path / "data" / f"fl{seed}" if has_own else run.path / "data" for seed in fl_seeds}


def _open(folder: Path, run: FinishedRun) -> Splits | None:
    in_silos = run.config.get("common_args", {}).get("training_type") == "cross_silo"
    for has_images in (False,) if in_silos else (True, False):
        try:
            return Splits(SplitFolder(folder, name=run.dataset, verify=False, files=has_images), has_images)
        except InputError:  # gone, as where a run was copied without its data
            continue
    return None


def metas_of(splits: Mapping[int, Splits]) -> dict[int, SplitMeta]:
    """Descriptions of the split files by federated seed."""
    return {fl_seed: one.folder.meta for fl_seed, one in splits.items()}
