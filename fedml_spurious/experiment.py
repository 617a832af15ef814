"""A whole run: data, global models, personal models, results."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from fedml_spurious.batchnorm_step import apply_batchnorm_policy
from fedml_spurious.clients import choose_clients, require_samples
from fedml_spurious.comparison import run_notes
from fedml_spurious.config import Settings
from fedml_spurious.data_source import open_data
from fedml_spurious.errors import InputError, RunError
from fedml_spurious.federated_step import finished_rounds, train_global_model
from fedml_spurious.network import global_model
from fedml_spurious.personal_plan import describe_plan, personalize
from fedml_spurious.progress import stage
from fedml_spurious.results import MethodSummary, summarize, write_results
from fedml_spurious.run_folder import RunFolder, check_folder, hold_folder, scratch_folder, write_config
from fedml_spurious.splits import SplitFolder
from fedml_spurious.table import show_table, write_table
from fedml_spurious.tasks import LocalWorkers, Workers
from fedml_spurious.tracking import table_metrics, tracking

logger = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

# Brings up whoever works, and lets them go at the end; what it gives opens the data for them.
Hire = Callable[[], AbstractContextManager[Callable[[SplitFolder], Workers]]]


def run_experiment(
    settings: Settings, output: Path, *, resume: bool, console: Console, hire: Hire | None = None
) -> None:
    """Do everything that a configuration asks for, except what an earlier process finished already.

    Args:
        settings: settings of the run.
        output: folder of the run; everything that is written is written there.
        resume: whether to continue a run that is there.
        console: where progress goes; the final table goes to standard output.
        hire: brings up other processes that do the work; this process does it where absent.

    Raises:
        InputError: settings, data or folder are wrong; nothing was trained.
        RunError: writing failed; what was finished is kept.
    """
    # Other processes compute on devices of their own.
    device = choose_device(settings) if hire is None else torch.device("cpu")
    hire = hire or partial(_work_alone, settings, device)
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


@contextmanager
def _work_alone(settings: Settings, device: torch.device) -> Iterator[Callable[[SplitFolder], Workers]]:
    yield lambda data: LocalWorkers(settings, data, device)


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
        results = personalize(settings, folder, workers, models, clients, console)
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


def choose_device(settings: Settings) -> torch.device:
    """The device that the settings ask for, with the threads and the determinism that go with it.

    Raises:
        InputError: a GPU is asked for that is not there.
    """
    chosen = settings.device_args
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    if not chosen.using_gpu:
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if chosen.gpu_id >= count:
        found = f"{count} GPUs, numbered from 0" if count else "no CUDA GPU"
        raise InputError(
            f"device_args.using_gpu: GPU {chosen.gpu_id} is asked for, but torch finds {found} on this "
            "machine; set device_args.using_gpu=false or another gpu_id"
        )
    # The same bytes on the same GPU need deterministic kernels; cuBLAS reads this before its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    return torch.device("cuda", chosen.gpu_id)


def check_data(settings: Settings, data: SplitFolder) -> tuple[str, ...]:
    """Check that the settings fit the data.

    Returns:
        Ids of the clients to personalize.

    Raises:
        InputError: numbers of clients, classes or image sizes do not fit, or a needed split is empty.
    """
    found, train = len(data.client_ids), settings.train_args
    if train.client_num_in_total not in (None, found):
        raise InputError(
            f"train_args.client_num_in_total: is {train.client_num_in_total}, but {data.meta.name} has "
            f"{found} clients; set it to {found} or leave it out"
        )
    if train.client_num_per_round > found:
        raise InputError(
            f"train_args.client_num_per_round: is {train.client_num_per_round}, but {data.meta.name} has "
            f"{found} clients; set it to {found} or less"
        )
    for client in data.client_ids:
        require_samples(data, client, ("train",))
    global_model(settings, data, 0)  # refuses networks that do not fit the images
    return choose_clients(data, settings.personalization_args.clients)


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


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Send all log messages, FedML's and warnings among them, to a file instead of the terminal."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    with log_to(handler):
        yield


@contextmanager
def log_to(handler: logging.Handler) -> Iterator[None]:
    """Send all log messages, FedML's and warnings among them, to one handler."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    # A log that cannot be written must not print tracebacks; what matters is written elsewhere and raises.
    loud, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = loud
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)
        with suppress(OSError):  # as for what could not be written to it
            handler.close()
