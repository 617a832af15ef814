"""A whole run: data, global models, personal models, results."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.logs import log_file
from fedml_spurious.common.progress import stage
from fedml_spurious.common.scratch import hold_folder, scratch_folder
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.batchnorm_step import apply_batchnorm_policy
from fedml_spurious.experiment.federated_step import finished_rounds, train_global_model
from fedml_spurious.experiment.inputs import (
    check_data,
    open_data,
)
from fedml_spurious.experiment.personalization_step import describe_plan, personalize
from fedml_spurious.experiment.resume import check_folder
from fedml_spurious.experiment.run_folder import RunFolder, write_config
from fedml_spurious.experiment.tasks import Workers
from fedml_spurious.experiment.tracking import table_metrics, tracking
from fedml_spurious.results.joined_table import run_notes
from fedml_spurious.results.rows import MethodSummary, summarize, write_results
from fedml_spurious.results.run_table import show_table, write_table

logger = logging.getLogger(__name__)


# Brings up whoever works, and lets them go at the end; what it gives opens the data for them.
Hire = Callable[[], AbstractContextManager[Callable[[SplitFolder], Workers]]]


def run_experiment(
    settings: Settings, output: Path, *, resume: bool, console: Console, hire: Hire, device: torch.device
) -> None:
    """Do everything that a configuration asks for, except what an earlier process finished already.

    Args:
        settings: settings of the run.
        output: folder of the run; everything that is written is written there.
        resume: whether to continue a run that is there.
        console: where progress goes; the final table goes to standard output.
        hire: brings up whoever does the work: this process, or others.
        device: where this process keeps the global models.

    Raises:
        InputError: settings, data or folder are wrong; nothing was trained.
        RunError: writing failed; what was finished is kept.
    """
    with hold_folder(output):
        folder = check_folder(output, settings, resume=resume)
        try:
            with log_file(folder.log), scratch_folder(output), hire() as workers_for:
                summaries = _run(settings, folder, device, console, workers_for)
        except InputError:
            _leave_no_trace(folder)
            raise
        except OSError as error:
            raise RunError(
                f"{error.filename or output}: {error.strerror or error}. What was finished is kept; free "
                "space or permissions on that disk, then continue with --resume"
            ) from error
    show_table(_printer(), summaries, run_notes(output))
    console.print(f"Everything is in {output}", highlight=False, soft_wrap=True)


def _printer() -> Console:
    """Where the table goes."""
    # mpirun puts a terminal of no size in front of what may be a file.
    if sys.stdout.isatty() and os.get_terminal_size(sys.stdout.fileno()).columns:
        return Console()
    # In a file or a pipe no terminal sets the width, and wrapped cells are hard to read.
    return Console(width=110, force_terminal=False)


def _run(
    settings: Settings,
    folder: RunFolder,
    device: torch.device,
    console: Console,
    workers_for: Callable[[SplitFolder], Workers],
) -> list[MethodSummary]:
    data = open_data(settings, folder, console)
    clients = check_data(settings, data)
    workers = workers_for(data)
    write_config(folder, settings)
    folder.note("start", clients=len(clients), dataset=data.meta.name)
    console.print(describe_plan(settings, clients), highlight=False, soft_wrap=True)
    with tracking(settings, folder):
        averaged = _federated_step(settings, data, folder, workers, device, console)
        models = apply_batchnorm_policy(settings, data, folder, workers, averaged, console)
        results, last = personalize(settings, folder, workers, models, clients, console)
        write_results(folder.results_last, last)
        write_results(folder.results, results)
        summaries = summarize(results)
        write_table(folder.path, summaries, run_notes(folder.path))
        folder.note("table", **table_metrics(summaries))
    return summaries


def _leave_no_trace(folder: RunFolder) -> None:
    """Remove the folder of a run that was refused before it began, unless it holds finished splits."""
    if not folder.config.exists():
        folder.log.unlink(missing_ok=True)
        with suppress(OSError):
            folder.path.rmdir()


def _federated_step(
    settings: Settings,
    data: SplitFolder,
    folder: RunFolder,
    workers: Workers,
    device: torch.device,
    console: Console,
) -> dict[int, nn.Module]:
    """The global model of every federated seed."""
    done = sum(finished_rounds(folder, settings, seed) for seed in settings.fl_seeds)
    total = settings.train_args.comm_round * len(settings.fl_seeds)
    with stage(console, "Global model, rounds", total=total, done=done) as bar:
        return {
            seed: train_global_model(settings, data, folder, workers, fl_seed=seed, device=device, stage=bar)
            for seed in settings.fl_seeds
        }
