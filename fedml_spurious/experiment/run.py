"""A whole run: data, global models, personal models, results."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from rich.console import Console

from fedml_spurious.common.errors import RunError
from fedml_spurious.common.logs import log_file
from fedml_spurious.common.scratch import hold_folder, scratch_folder
from fedml_spurious.common.streams import take_loss
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.batchnorm_step import apply_batchnorm_policy
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.divergence_step import join_divergence
from fedml_spurious.experiment.federated_step import train_global_models
from fedml_spurious.experiment.inputs import SplitsBySeed, check_data, open_data
from fedml_spurious.experiment.personalization_step import (
    ClientsBySeed,
    describe_plan,
    describe_recordings,
    personalize,
)
from fedml_spurious.experiment.recordings import check_recordings, record
from fedml_spurious.experiment.resume import check_folder
from fedml_spurious.experiment.run_folder import RunFolder, write_config
from fedml_spurious.experiment.stored_parts import check_stored_parts
from fedml_spurious.experiment.tasks import Workers
from fedml_spurious.experiment.tracking import client_quantiles, require_tracking, table_metrics, tracking
from fedml_spurious.results.budgets import read_budgets
from fedml_spurious.results.dataset_table import DatasetTable
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.rows import write_results
from fedml_spurious.results.run_table import make_run_table, show_table, write_table
from fedml_spurious.results.text_tables import output_console

logger = logging.getLogger(__name__)


# Tells what a run that begins will cost, in one line; given its settings, data, clients and device.
Foretell = Callable[[Settings, SplitsBySeed, ClientsBySeed, torch.device], str]

# Starts the workers, and ends them when the run ends; what it gives opens the data for them.
StartWorkers = Callable[[], AbstractContextManager[Callable[[SplitsBySeed], Workers]]]


def run_experiment(
    settings: Settings,
    output: Path,
    *,
    resume: bool,
    console: Console,
    start_workers: StartWorkers,
    device: torch.device,
    foretell: Foretell | None = None,
) -> None:
    """Do everything that a configuration asks for, except what an earlier process finished already.

    Args:
        settings: settings of the run.
        output: folder of the run; everything that is written is written there.
        resume: whether to continue a run that is there.
        console: where progress goes; the final table goes to standard output.
        start_workers: brings up the workers: this process, or others.
        device: where this process keeps the global models.
        foretell: what a run that begins is said to cost; nothing is said where it is absent.

    Raises:
        InputError: settings, data or folder are wrong; nothing was trained.
        RunError: writing failed; what was finished is kept.
    """
    require_tracking(settings)
    with hold_folder(output):
        folder = check_folder(output, settings, resume=resume)
        if resume and not folder.is_begun():
            text = f"Nothing to continue in {output}: this is a new run"
            console.print(text, highlight=False, soft_wrap=True)
        try:
            with (
                log_file(folder.log) as begin_log,
                scratch_folder(output),
                start_workers() as workers_for,
            ):
                table = _run(settings, folder, device, console, workers_for, begin_log, foretell)
                _show(table, output, console)
                if settings.experiment_args.report:
                    _report(output, console)
        except OSError as error:
            raise RunError(
                f"{error.filename or output}: {error.strerror or error}. What was finished is kept; free "
                "space or permissions on that disk, then continue with --resume"
            ) from error
    console.print(f"Everything is in {output}", highlight=False, soft_wrap=True)


def _show(table: DatasetTable, output: Path, console: Console) -> None:
    show_table(output_console(), table)
    lost = take_loss()
    if lost:
        text = f"Standard output cannot be written ({lost}); the table is in {output / 'table.md'}"
        console.print(text, highlight=False, soft_wrap=True)


def _report(output: Path, console: Console) -> None:
    """Write the report of a finished run; one that fails takes nothing of the run away."""
    try:
        from fedml_spurious.report.page import write_report  # late: Matplotlib takes a second to import

        write_report([output])
    except Exception as error:  # whatever is wrong with a drawing, the results are whole
        logger.warning("The report failed", exc_info=True)
        reason = " ".join(str(error).split())
        text = (
            f"Warning: {output / 'report.html'} was not written ({type(error).__name__}: {reason}); the "
            f"results are whole, the traceback is in {output / 'run.log'}"
        )
        console.print(text, highlight=False, soft_wrap=True, markup=False)


def _run(
    settings: Settings,
    folder: RunFolder,
    device: torch.device,
    console: Console,
    workers_for: Callable[[SplitsBySeed], Workers],
    begin_log: Callable[[], None],
    foretell: Foretell | None,
) -> DatasetTable:
    data = open_data(settings, folder, console)
    clients = check_data(settings, data, device)
    check_recordings(settings, data)
    check_stored_parts(folder, settings, data, clients)
    workers = workers_for(data)
    # Everything was found good: from here on the folder is written.
    begin_log()
    # Of a run that goes on nobody knows how far it is, and its stages tell what is left of each.
    begins = not folder.is_begun()
    source = next(iter(data.values())).meta.options.get("source")
    write_config(folder, settings, source)
    # A client of one partition is another one than the client of that id in another.
    different = {splits: clients[fl_seed] for fl_seed, splits in data.items()}
    folder.note("start", clients=sum(map(len, different.values())), dataset=settings.data_args.dataset)
    estimate = foretell(settings, data, clients, device) if foretell is not None and begins else ""
    about = describe_plan(settings, clients), describe_recordings(settings, clients)
    for line in filter(None, (estimate, *about)):
        console.print(line, highlight=False, soft_wrap=True)
    run = RunContext(settings, data, folder, workers, console, device)
    with tracking(settings, folder):
        models = apply_batchnorm_policy(run, train_global_models(run))
        found = personalize(run, models, clients)
        join_divergence(run, models)
        record(run, found.store, models, clients, found.plan)
        write_results(folder.results_last, found.last)
        write_results(folder.results, found.selected)
        config = settings.model_dump(mode="json", exclude_none=True)
        budgets = read_budgets(folder.path)
        fingerprints = {fl_seed: splits.fingerprint for fl_seed, splits in data.items()}
        table = make_run_table(
            FinishedRun(
                folder.path,
                config,
                tuple(found.selected),
                found.decisions,
                budgets,
                fingerprints,
                source=source,
            )
        )
        write_table(folder.path, table)
        for pair, quantiles in enumerate(client_quantiles(found.selected)):
            folder.note("clients", pair=pair, **quantiles)
        folder.note("table", **table_metrics(table.summaries))
    return table
