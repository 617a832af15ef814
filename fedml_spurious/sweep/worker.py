"""What a process of a sweep does: make split files, or do one run."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from data_partition.registry import PARTITIONS
from fedml_spurious.common.checksums import require_unchanged
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.storage import link_or_copy, read_unchanged, write_bytes
from fedml_spurious.config.file import load_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.device import choose_device
from fedml_spurious.experiment.divergence_step import DIVERGENCE
from fedml_spurious.experiment.run import run_experiment
from fedml_spurious.experiment.run_folder import RunFolder, write_config
from fedml_spurious.fedml_adapter.local_workers import local_workers
from fedml_spurious.sweep.plan import Splits, SweepRun


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        problem: what went wrong, for a user; None where nothing did.
        defect: traceback of what is no mistake of the user's; else None.
    """

    problem: str | None = None
    defect: str | None = None


def _ended(do: Callable[[], None]) -> Ended:
    try:
        do()
    except (InputError, RunError) as error:
        return Ended(str(error))
    except Exception as error:  # noqa: BLE001  # the other cells must go on; the traceback is kept
        return Ended(f"{type(error).__name__}: {error}", traceback.format_exc())
    return Ended()


def make_splits(splits: Splits) -> Ended:
    """Make split files, unless they are there."""

    def make() -> None:
        chosen = load_settings(splits.config, splits.overrides).data_args
        if chosen.partition is not None:
            raw = Path(chosen.raw).expanduser() if chosen.raw else None
            options = chosen.partition.of(splits.fl_seed)
            PARTITIONS[chosen.dataset].build(options, raw=raw, out=splits.folder, workers=1)

    return _ended(make)


def do_run(run: SweepRun, leader: Path | None = None) -> Ended:
    """Do one run, or what is left of it.

    Args:
        run: the run.
        leader: folder of a run whose global model is this one's too.
    """

    def do() -> None:
        settings = run.settings()
        if leader is not None:
            _take_global_model(RunFolder(leader), RunFolder(run.folder), settings, run.fl_seed)
        device = choose_device(settings)
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            run_experiment(
                settings,
                run.folder,
                resume=True,
                console=Console(file=nowhere),
                start_workers=partial(local_workers, settings, device),
                device=device,
            )

    return _ended(do)


def _take_global_model(leader: RunFolder, folder: RunFolder, settings: Settings, fl_seed: int) -> None:
    source, target = leader.global_part(fl_seed), folder.global_part(fl_seed)
    # Without it the leader has failed, and this run trains a model itself.
    if (source / "model.pt").exists() and not (target / "model.pt").exists():
        if not folder.config.exists():  # a folder with a model and no configuration would be no run
            folder.path.mkdir(parents=True, exist_ok=True)
            write_config(folder, settings)
        for name in ("identity.json", "rounds.csv"):
            write_bytes(target / name, read_unchanged(source / name))
        for path in sorted((source / DIVERGENCE).glob("*.csv")):  # is recorded only while a model trains
            write_bytes(target / DIVERGENCE / path.name, read_unchanged(path))
        require_unchanged(source / "model.pt")
        link_or_copy(source / "model.pt", target / "model.pt")
