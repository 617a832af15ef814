"""Images and trajectories of clients, the worst first, as many as there is room for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import SplitMeta
from fedml_spurious.common.errors import InputError
from fedml_spurious.report.clients import ClientRow, Explorer
from fedml_spurious.report.pictures import Strip, strips
from fedml_spurious.report.trajectories import Rows, Spark, make_spark, read_trajectories
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.rows import who

_MARKUP = 160
"""Bytes of the elements around an image or a trajectory."""
_LINE = 16
"""The same around a line of text."""


@dataclass(frozen=True)
class Extra:
    """What of a client is shown as far as the page stays small.

    Attributes:
        strips: its images.
        trajectories: how its accuracies went.
        audit: what the audit says of its personal models, with the reasons.
    """

    strips: tuple[Strip, ...] = ()
    trajectories: tuple[Spark, ...] = ()
    audit: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it takes in the page, about."""
        texts = [strip.source + 2 * strip.caption for strip in self.strips]
        texts += [spark.acc_b + spark.acc_bc + spark.text for spark in self.trajectories]
        return sum(len(text) + _MARKUP for text in texts) + sum(len(line) + _LINE for line in self.audit)


@dataclass(frozen=True)
class Splits:
    """Split files of one federated seed of a run.

    Attributes:
        folder: the open files; without images where these are another's, or gone.
        has_images: whether images may be read.
    """

    folder: SplitFolder
    has_images: bool


def open_splits(runs: DatasetRuns) -> dict[int, Splits]:
    """Split files by federated seed, as far as they are there.

    Silos keep their images: of their runs the description alone is read, which holds counts and maps.
    """
    opened: dict[Path, Splits | None] = {}
    found = {}
    for run in runs.runs:
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


def make_extras(
    runs: DatasetRuns, explorer: Explorer, splits: Mapping[int, Splits], room: int
) -> tuple[Extra, ...]:
    """What is shown of each client, in the order of the explorer's rows, until the room is used up.

    Args:
        runs: the runs of the data set.
        explorer: its clients.
        splits: split files by federated seed.
        room: bytes.

    Raises:
        InputError: a file is broken.
    """
    seeds: dict[tuple[str, int | None], tuple[int, int | None]] = {}
    for result in runs.results:
        if result.method != GLOBAL:
            seeds.setdefault(who(result, runs.own_clients), (result.fl_seed, result.p_seed))
    trajectories = _Trajectories(runs)
    found: list[Extra] = []
    for row in explorer.rows:
        fl_seed, p_seed = seeds.get((row.client, row.fl_seed), (row.fl_seed or 0, None))
        own = splits.get(fl_seed)
        images = strips(own.folder, row.client) if own and own.has_images else ()
        extra = Extra(images, trajectories.of(row, explorer.methods, fl_seed, p_seed), row.audit)
        room -= extra.size
        if room < 0:
            break
        found.append(extra)
    return (*found, *(Extra(),) * (len(explorer.rows) - len(found)))


class _Trajectories:
    """Reads every file once."""

    def __init__(self, runs: DatasetRuns) -> None:
        self._runs = runs
        self._read: dict[tuple[str, int, int | None], Rows] = {}

    def of(
        self, row: ClientRow, methods: tuple[str, ...], fl_seed: int, p_seed: int | None
    ) -> tuple[Spark, ...]:
        found = []
        for method in methods:
            rows = self._rows(method, fl_seed, p_seed).get(row.client, ())
            found.append(make_spark(method, rows))
        return tuple(line for line in found if line)

    def _rows(self, method: str, fl_seed: int, p_seed: int | None) -> Rows:
        key = (method, fl_seed, p_seed)
        if key not in self._read:
            several = (read_trajectories(run.path, *key) for run in self._runs.runs)
            self._read[key] = next((rows for rows in several if rows), {})
        return self._read[key]
