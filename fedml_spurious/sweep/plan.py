"""The runs of a sweep, the split files that they share, and the global models that they share."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import load_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.divergence_step import recording_of
from fedml_spurious.experiment.identity import global_identity
from fedml_spurious.experiment.inputs import splits_folder
from fedml_spurious.experiment.run_folder import RunFolder, config_text
from fedml_spurious.sweep.grid import Axis, Cell, as_json, cell_name, cells_of, plain

_ROOM = 24  # columns of a cell on a terminal of 80


@dataclass(frozen=True)
class Splits:
    """Split files that one or more runs read.

    Attributes:
        config: the configuration whose partition makes them.
        overrides: as for the runs.
        fl_seed: federated seed, which the partition may take as its own.
        folder: where they go.
        options: of the partition.
    """

    config: Path
    overrides: tuple[str, ...]
    fl_seed: int
    folder: Path
    options: Mapping[str, Any]


@dataclass(frozen=True)
class SweepRun:
    """One cell with one federated seed, which ``fedml-spurious run`` would run to the same results.

    Attributes:
        config: the configuration.
        overrides: ``section.key=value`` of the sweep, of the cell, and for seed and split files.
        cell: the values of the cell.
        fl_seed: the federated seed.
        folder: run folder.
        splits: split files that are made for it; None where the configuration names some.
    """

    config: Path
    overrides: tuple[str, ...]
    cell: Cell
    fl_seed: int
    folder: Path
    splits: Splits | None

    @property
    def name(self) -> str:
        """Cell and seed, for messages."""
        return f"{cell_name(self.cell)} fl{self.fl_seed}"

    @property
    def short(self) -> str:
        """Seed and cell, the values alone where it is long: there is little room behind a progress line."""
        named = cell_name(self.cell)
        values = ", ".join(map(plain, self.cell.values()))
        return f"fl{self.fl_seed} {named if len(named) <= _ROOM else values}"

    def settings(self) -> Settings:
        """Settings of the run."""
        return load_settings(self.config, self.overrides)

    def is_finished(self) -> bool:
        """Whether everything is there, of just this configuration."""
        # A run writes its LaTeX table after its results, and its report last; all are removed when its
        # configuration changes.
        settings, files = self.settings(), ["config.yaml", "results.csv", "table.tex"]
        if settings.experiment_args.report:
            files.append("report.html")
        if not all((self.folder / name).is_file() for name in files):
            return False
        return RunFolder(self.folder).config.read_text(encoding="utf-8") == config_text(settings)

    def command(self) -> str:
        """The command that runs it alone."""
        sets = "".join(f" --set {shlex.quote(item)}" for item in self.overrides)
        where = shlex.quote(str(self.folder))
        return f"fedml-spurious run --cf {shlex.quote(str(self.config))}{sets} --output {where} --resume"


def plan_runs(config: Path, overrides: Sequence[str], axes: Sequence[Axis], out: Path) -> list[SweepRun]:
    """Every cell with its first federated seed, then every cell with the next; all settings are checked.

    So a sweep that is stopped has a whole grid of some seeds.

    Args:
        config: the configuration.
        overrides: ``section.key=value`` for all cells.
        axes: of the grid.
        out: folder of the sweep.

    Raises:
        InputError: settings of a cell are wrong.
    """
    by_turn: dict[int, list[SweepRun]] = {}
    for cell in cells_of(axes):
        chosen = (*overrides, *(f"{key}={as_json(value)}" for key, value in cell.items()))
        try:
            settings = load_settings(config, chosen)
        except InputError as error:
            raise InputError(f"cell {cell_name(cell)}: {error}") from None
        if settings.comm_args.backend != "sp":
            raise InputError(
                f"comm_args.backend: is {settings.comm_args.backend}; a sweep runs every cell in one process "
                "and several cells at a time (--jobs), so set it to sp"
            )
        for turn, fl_seed in enumerate(settings.fl_seeds):
            by_turn.setdefault(turn, []).append(_plan_run(config, chosen, settings, cell, fl_seed, out))
    return [run for runs in by_turn.values() for run in runs]


def _plan_run(
    config: Path, overrides: tuple[str, ...], settings: Settings, cell: Cell, fl_seed: int, out: Path
) -> SweepRun:
    splits, own = (
        _splits(config, overrides, settings, fl_seed, out),
        [f"experiment_args.fl_seeds=[{fl_seed}]"],
    )
    if splits is not None:
        place = as_json(str(splits.folder))
        own += ["data_args.partition=null", "data_args.raw=null", f"data_args.data_cache_dir={place}"]
    folder = out / "runs" / cell_name(cell) / f"fl{fl_seed}"
    return SweepRun(config, (*overrides, *own), cell, fl_seed, folder, splits)


def _splits(
    config: Path, overrides: tuple[str, ...], settings: Settings, fl_seed: int, out: Path
) -> Splits | None:
    """Split files in a folder named by all that determines them; None where nothing has to be made."""
    chosen = settings.data_args
    if chosen.partition is None:
        return None
    options = chosen.partition.of(fl_seed).model_dump(mode="json")
    determined_by = as_json([chosen.dataset, options, chosen.raw])
    digest = hashlib.sha256(determined_by.encode()).hexdigest()[:16]
    folder = (out / "splits" / f"{chosen.dataset}-{digest}").resolve()
    return Splits(config, overrides, fl_seed, folder, options)


def by_global_model(runs: Sequence[SweepRun]) -> tuple[list[SweepRun], list[tuple[SweepRun, Path]]]:
    """Which runs train a global model, and which take it from one of those.

    Args:
        runs: whose split files are there; those that are finished come first.

    Returns:
        The first run of every global model and of every recording that is made while it trains; and the
        others, each with the folder of its first.
    """
    first: dict[object, SweepRun] = {}
    others = []
    for run in runs:
        settings = run.settings()
        place = splits_folder(settings, RunFolder(run.folder), run.fl_seed)
        data = SplitFolder(place, name=settings.data_args.dataset, verify=False)
        identity = global_identity(settings, data, run.fl_seed)["sha256"]
        leader = first.setdefault((identity, recording_of(settings)), run)
        if leader is not run:
            others.append((run, leader.folder))
    return list(first.values()), others
